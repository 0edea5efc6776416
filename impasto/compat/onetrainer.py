"""Settings files of OneTrainer, after its public documentation: the base, how long, what is saved and drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from impasto.compat import onetrainer_adapter, onetrainer_data, onetrainer_learning
from impasto.compat.nested import count, folder_and_name, lay
from impasto.compat.recipe import Base, Recipe
from impasto.compat.translating import Desk, as_number, tidy

KIND = "a settings file of OneTrainer"
SIGNS = ("model_type", "base_model_name", "concept_file_name", "output_model_destination", "learning_rate_scheduler")
BASES: Mapping[str, Base] = {
    "STABLE_DIFFUSION_15": "sd",
    "STABLE_DIFFUSION_20": "sd",
    "STABLE_DIFFUSION_20_BASE": "sd",
    "STABLE_DIFFUSION_21": "sd",
    "STABLE_DIFFUSION_21_BASE": "sd",
    "STABLE_DIFFUSION_XL_10_BASE": "sdxl",
    "STABLE_DIFFUSION_3": "sd3",
    "STABLE_DIFFUSION_35": "sd3",
    "FLUX_DEV_1": "flux",
}
OLDER: Mapping[str, str] = {
    "train_unet": "unet.train",
    "unet_learning_rate": "unet.learning_rate",
    "unet_weight_dtype": "unet.weight_dtype",
    "train_text_encoder": "text_encoder.train",
    "train_text_encoder_2": "text_encoder_2.train",
    "text_encoder_learning_rate": "text_encoder.learning_rate",
    "text_encoder_2_learning_rate": "text_encoder_2.learning_rate",
    "text_encoder_weight_dtype": "text_encoder.weight_dtype",
    "text_encoder_2_weight_dtype": "text_encoder_2.weight_dtype",
    "train_unet_epochs": "unet.stop_training_after",
    "train_text_encoder_epochs": "text_encoder.stop_training_after",
    "train_text_encoder_2_epochs": "text_encoder_2.stop_training_after",
    "vae_weight_dtype": "vae.weight_dtype",
    "optimizer": "optimizer.optimizer",
    "weight_decay": "optimizer.weight_decay",
    "save_after": "save_every",
    "save_after_unit": "save_every_unit",
    "lora_layers": "layer_filter",
    "lora_layer_preset": "layer_filter_preset",
}
"""Names in older files, and what they are called by now."""

PLAIN = {"FLOAT_32": "fp32", "FLOAT32": "fp32", "FLOAT_16": "fp16", "BFLOAT_16": "bf16", "TFLOAT_32": "fp32"}
FEW_BITS = {"FLOAT_8": "fp8", "INT_8": "int8", "NFLOAT_4": "nf4"}
SAMPLERS = {"DDIM": "ddim", "EULER": "euler", "DPMPP": "dpm++2m"}
MINUTES = {"SECOND": 1 / 60, "MINUTE": 1.0, "HOUR": 60.0}


def is_one(values: Mapping[str, Any]) -> bool:
    """Whether a table of settings is one of OneTrainer."""
    return "training_method" in values or len(values.keys() & set(SIGNS)) >= 3


def read(values: Mapping[str, Any], name: str) -> Recipe:
    """Its values by their whole names."""
    base = BASES.get(str(values.get("model_type", "")).removesuffix("_INPAINTING"), "other")
    recipe = Recipe(name, KIND, base, "onetrainer")
    lay(recipe, values, older={old: new for old, new in OLDER.items() if not isinstance(values.get(old), dict)})
    return recipe


def model(desk: Desk) -> None:
    """Which base, held how."""
    kind = desk.text("model_type") or ""
    if desk.recipe.base == "other":
        desk.lost("model_type", "bases of this family cannot be trained here")
    elif kind.endswith("_INPAINTING"):
        desk.lost("model_type", "inpainting bases cannot be trained here")
    desk.same("model_type", "told from the weights themselves")
    desk.same("training_method", "an adapter")
    if path := desk.text("base_model_name"):
        desk.put("base_model_name", ("model.path", path))
    if path := desk.text("vae.model_name"):
        desk.put("vae.model_name", ("model.vae_path", path))
    for name, value in (("force_v_prediction", "v"), ("force_epsilon_prediction", "epsilon")):
        if desk.flag(name):
            desk.put(name, ("model.prediction", value))
    _precision(desk)
    skip = desk.whole("text_encoder_layer_skip")
    if skip and desk.recipe.base == "sd":
        desk.put("text_encoder_layer_skip", ("model.clip_skip", skip + 1), why="counted from the end: 1 is the last")
    elif skip:
        desk.lost("text_encoder_layer_skip", "such a base always reads the layer before the last")
    for name in ("text_encoder_layer_skip", "text_encoder_2_layer_skip"):
        if desk.has(name) and not desk.whole(name):
            desk.same(name, "0: none")
    kind = (desk.text("gradient_checkpointing") or "").casefold()
    if kind in ("true", "on") or desk.peek("gradient_checkpointing") is True:
        desk.put("gradient_checkpointing", ("model.gradient_checkpointing", True))
    elif kind == "cpu_offloaded":
        desk.set("model.gradient_checkpointing", True)
        desk.lost("gradient_checkpointing", "on, but what it remembers stays in the GPU's memory")
    elif kind in ("false", "off") or not desk.peek("gradient_checkpointing"):
        desk.same("gradient_checkpointing", "off")
    if device := re.fullmatch(r"(cpu|mps|cuda(:\d+)?)", desk.text("train_device") or ""):
        desk.put("train_device", *([] if device[0] == "cuda" else [("device.name", device[0])]))


def _precision(desk: Desk) -> None:
    held = PLAIN.get(desk.text("train_dtype") or "")
    if held:
        why = "TF32 is used where PyTorch is told to" if desk.text("train_dtype") == "TFLOAT_32" else ""
        desk.put("train_dtype", ("model.precision", held), why=why)
    usual = desk.text("weight_dtype")
    denoiser = _denoiser(desk)
    of_base = f"{denoiser}.weight_dtype"
    if desk.text(of_base) in (None, "NONE"):
        desk.same(of_base, "as weight_dtype")
        of_base = "weight_dtype"
    _held(desk, of_base, "model.quantize", held, "")
    encoders = [f"{each}.weight_dtype" for each in onetrainer_adapter.encoders(desk)]
    said = {each: usual if desk.text(each) in (None, "NONE") else desk.text(each) for each in encoders}
    for each in encoders[:-1]:  # the last one is the largest
        if desk.has(each) and said[each] == said[encoders[-1]]:
            desk.same(each, "as the largest text encoder")
        elif desk.has(each):
            desk.lost(each, "all text encoders are held alike here: as the largest one is")
    for each in encoders[-1:]:
        _held(desk, each, "model.quantize_text_encoder", held, "model.text_encoder_precision")
    kind = PLAIN.get(desk.text("vae.weight_dtype") or "")
    if kind and kind != "fp32":
        desk.put("vae.weight_dtype", ("model.vae_precision", kind))
    elif kind:
        desk.same("vae.weight_dtype", "as by default")
    desk.same("weight_dtype", "the parts say it themselves")


def _held(desk: Desk, name: str, few: str, computed: str | None, plain: str) -> None:
    """How the weights of a part are held: in few bits, or plainly."""
    kind = desk.text(name)
    if kind is None:
        return
    if kind in FEW_BITS:
        desk.put(name, (few, FEW_BITS[kind]))
    elif kind == "NONE":
        desk.same(name, "as weight_dtype")
    elif PLAIN.get(kind) == (computed or PLAIN.get(kind)):
        desk.same(name, "held in what it computes in")
    elif plain and kind in PLAIN:
        desk.put(name, (plain, PLAIN[kind]))
    elif kind in PLAIN:
        desk.lost(name, f"a base is held in what it computes in, {computed}")
    else:
        desk.lost(name, "there is no such way to hold weights here")


def _denoiser(desk: Desk) -> str:
    return "transformer" if desk.recipe.base in ("flux", "sd3") else "unet"


def length(desk: Desk) -> None:
    """How long, how large a step."""
    if desk.has("epochs"):
        desk.put("epochs", ("train.epochs", desk.whole("epochs")))
    if (many := desk.whole("gradient_accumulation_steps")) and many > 1:
        desk.put("gradient_accumulation_steps", ("train.accumulate", many))
    elif many:
        desk.same("gradient_accumulation_steps", "1: none")


def saving(desk: Desk) -> None:
    """Where the adapter goes, in which precision, how often it is written."""
    if path := desk.text("output_model_destination"):
        folder, name = folder_and_name(path)
        plain = re.sub(r'[/\\\x00-\x1f<>:"|?*]+', "-", name)[:100].strip(" .")
        pairs = [("name", plain)] if plain else []
        pairs += [("output.folder", folder)] if folder else []
        desk.put("output_model_destination", *pairs)
        if folder:
            desk.comments["output", "folder"] = "each run has its own folder in that one"
    if kind := PLAIN.get(desk.text("output_dtype") or ""):
        desk.put("output_dtype", ("save.precision", kind))
    kind = desk.text("output_model_format") or ""
    if kind == "CKPT":
        desk.better("output_model_format", "safetensors always: the older forms can run code")
    elif kind == "SAFETENSORS":
        desk.same("output_model_format", "always")
    _every(desk, "save_every", "save")
    if not desk.get("save"):
        _every(desk, "backup_after", "save")
    for name in ("backup_after", "backup_after_unit"):
        desk.same(name, "each save also writes what is needed to go on")
    if (many := desk.whole("rolling_backup_count")) and desk.flag("rolling_backup"):
        desk.put("rolling_backup_count", ("save.keep_checkpoints", max(2, many)))
    for name in ("rolling_backup", "rolling_backup_count"):
        desk.same(name, "the newest are kept: save.keep_checkpoints")


def _every(desk: Desk, name: str, section: str) -> None:
    """An interval: a number and its unit."""
    many, unit = desk.number(name), (desk.text(f"{name}_unit") or "").upper()
    if not unit or many is None:
        return
    if unit == "NEVER" or not many:
        desk.same(name, "never")
    elif unit in ("EPOCH", "STEP"):
        desk.put(name, (f"{section}.every_{unit.casefold()}s", max(1, int(many))))
    elif unit in MINUTES and section == "save":
        desk.put(name, ("save.every_minutes", tidy(many * MINUTES[unit])))
    elif unit == "ALWAYS":
        desk.put(name, (f"{section}.every_steps", 1))
    else:
        desk.lost(name, f"by {unit.casefold()}s: steps and epochs are counted here")
    desk.same(f"{name}_unit", f"with {name}")


def previews(desk: Desk) -> None:
    """What is drawn, and when."""
    made = [one for at in range(count(desk, "samples")) if (one := _prompt(desk, f"samples[{at}]."))]
    if made:
        desk.set("preview.prompts", made)
        _every(desk, "sample_after", "preview")
        first = not desk.flag("sample_skip_first")
        desk.put("sample_skip_first", ("preview.at_start", first))
    for name in ("sample_after", "sample_after_unit", "sample_skip_first"):
        desk.same(name, "there is nothing to draw")


def _prompt(desk: Desk, at: str) -> dict[str, Any] | None:
    if desk.has(f"{at}enabled") and not desk.flag(f"{at}enabled"):
        for name in [each for each in desk.recipe.args if each.startswith(at)]:
            desk.same(name, "not enabled")
        return None
    desk.same(f"{at}enabled", "drawn")
    one: dict[str, Any] = {"text": desk.text(f"{at}prompt") or ""}
    desk.done(f"{at}prompt", "same", "", settings=["preview.prompts.text"])
    if words := desk.text(f"{at}negative_prompt"):
        one["negative"] = words
    desk.same(f"{at}negative_prompt", "as preview.prompts.negative")
    for side in ("width", "height"):
        if size := desk.whole(f"{at}{side}"):
            one[side] = max(64, size // 8 * 8)
            desk.done(f"{at}{side}", "same", "", settings=[f"preview.prompts.{side}"])
    if desk.flag(f"{at}random_seed"):
        desk.better(f"{at}random_seed", "the same noise each time, so that pictures can be compared")
    elif (seed := desk.whole(f"{at}seed")) is not None and seed >= 0:
        one["seed"] = seed
        desk.done(f"{at}seed", "same", "", settings=["preview.prompts.seed"])
    desk.same(f"{at}random_seed", "off")
    desk.same(f"{at}seed", "not read with random_seed")
    if steps := desk.whole(f"{at}diffusion_steps"):
        one["steps"] = min(1000, steps)
        desk.done(f"{at}diffusion_steps", "same", "", settings=["preview.prompts.steps"])
    scale = desk.number(f"{at}cfg_scale")
    if scale is not None and desk.recipe.base == "flux":
        desk.lost(f"{at}cfg_scale", "whether the base is told it, or words are followed so much, is not documented")
    elif scale is not None:
        one["guidance"] = tidy(as_number(scale))
        desk.done(f"{at}cfg_scale", "same", "", settings=["preview.prompts.guidance"])
    sampler = desk.text(f"{at}noise_scheduler")
    if desk.recipe.base in ("flux", "sd3"):
        one["sampler"] = "euler"
        desk.same(f"{at}noise_scheduler", "euler, for bases of this kind")
    elif sampler in SAMPLERS:
        one["sampler"] = SAMPLERS[sampler]
        desk.done(f"{at}noise_scheduler", "same", "", settings=["preview.prompts.sampler"])
    elif sampler:
        one["sampler"] = "dpm++2m" if sampler.startswith("DPM") else "euler"
        desk.lost(f"{at}noise_scheduler", f"{one['sampler']} stands in: the nearest without further dice")
    return one


CHAPTERS = (model, length, onetrainer_data.data, onetrainer_adapter.adapter, *onetrainer_learning.CHAPTERS, saving,
            previews)  # fmt: skip
