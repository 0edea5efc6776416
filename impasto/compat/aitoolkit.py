"""Settings files of ai-toolkit, after its public examples: the base, the adapter, what is saved and drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from impasto.compat import aitoolkit_data, aitoolkit_learning
from impasto.compat.nested import count, lay
from impasto.compat.recipe import Base, Recipe, Result
from impasto.compat.translating import Desk, as_number, tidy
from impasto.errors import ConfigError, Problem

KIND = "a settings file of ai-toolkit"
TRAINERS = ("sd_trainer", "ui_trainer", "diffusion_trainer", "custom_sd_trainer")
ARCHITECTURES: Mapping[str, Base] = {
    "sd1": "sd",
    "sd15": "sd",
    "sd2": "sd",
    "sdxl": "sdxl",
    "sd3": "sd3",
    "flux": "flux",
}
SWITCHES: Mapping[str, Base] = {"is_flux": "flux", "is_xl": "sdxl", "is_v3": "sd3", "is_v2": "sd"}
PRECISIONS = {"bf16": "bf16", "bfloat16": "bf16", "fp16": "fp16", "float16": "fp16", "fp32": "fp32", "float32": "fp32",
              "float": "fp32"}  # fmt: skip
FEW_BITS = {"qfloat8": "fp8", "float8": "fp8", "qint8": "int8", "nf4": "nf4"}
KINDS = {"lora": "lora", "lokr": "lokr", "locon": "lora", "dora": "lora"}
BLOCKS = {"transformer.single_transformer_blocks": "single_blocks", "transformer.transformer_blocks": "double_blocks"}
"""Blocks of FLUX.1 in diffusers' names, and in those that adapters are saved under."""


def is_one(values: Mapping[str, Any]) -> bool:
    """Whether a table of settings is one of ai-toolkit."""
    inner = values.get("config")
    return "job" in values and isinstance(inner, dict) and "process" in inner


def read(values: Mapping[str, Any], name: str) -> Recipe:
    """Its values by their names within the first process."""
    job = values["config"]
    listed = job["process"] if isinstance(job["process"], list) else [job["process"]]
    processes = [each for each in listed if isinstance(each, dict)]
    kind = str(processes[0].get("type", "")) if processes else "none"
    if kind not in TRAINERS:
        fix = f"give a file whose process is one of {', '.join(TRAINERS)}"
        raise ConfigError(Problem("E-IMP-003", f"a process of type {kind} does not train an adapter", name, fix))
    first = dict(processes[0])
    recipe = Recipe(name, KIND, _base(first), "ai-toolkit")
    for at, more in enumerate(processes[1:], 1):
        why = "one file of settings is one run: give this process a file of its own"
        recipe.settled.append(Result(f"process[{at}]", str(more.get("type", "")), "lost", reason=why))
    lay(recipe, {"config": {key: value for key, value in job.items() if key != "process"}})
    lay(recipe, {key: value for key, value in values.items() if key != "config"})
    lay(recipe, first)
    return recipe


def _base(process: Mapping[str, Any]) -> Base:
    model = process.get("model")
    if not isinstance(model, dict):
        return "sd"
    if named := model.get("arch"):
        return ARCHITECTURES.get(str(named).casefold(), "other")
    for switch, base in SWITCHES.items():
        if model.get(switch) is True:
            return base
    others = [name for name, on in model.items() if name.startswith("is_") and on is True]
    return "other" if others else "sd"


def model(desk: Desk) -> None:
    """Which base, held how."""
    if path := desk.text("model.name_or_path"):
        desk.put("model.name_or_path", ("model.path", path))
    if path := desk.text("model.vae_path"):
        desk.put("model.vae_path", ("model.vae_path", path))
    for name in ("model.arch", *(f"model.{each}" for each in SWITCHES)):
        if desk.recipe.base == "other":
            desk.lost(name, "bases of this family cannot be trained here")
        desk.same(name, "told from the weights themselves")
    if desk.recipe.base == "other":
        desk.difference("the base", "lost", "bases of this family cannot be trained here")
    if held := PRECISIONS.get(desk.text("train.dtype") or ""):
        desk.put("train.dtype", ("model.precision", held))
    for switch, kind, key in (("quantize", "qtype", "quantize"), ("quantize_te", "qtype_te", "quantize_text_encoder")):
        said = desk.text(f"model.{kind}")
        if desk.flag(f"model.{switch}"):
            few = FEW_BITS.get(said or "qfloat8")
            if few is None:
                desk.lost(f"model.{kind}", "there is no such way to hold weights here; 8 bits stand in")
            why = "" if said in FEW_BITS else "8 bits"
            desk.put(f"model.{switch}", (f"model.{key}", few or "fp8"), why=why)
        desk.same(f"model.{switch}", "off")
        desk.same(f"model.{kind}", "with the switch above")
    if desk.flag("train.gradient_checkpointing"):
        desk.put("train.gradient_checkpointing", ("model.gradient_checkpointing", True))
    desk.same("train.gradient_checkpointing", "off")
    if re.fullmatch(r"cpu|mps|cuda(:\d+)?", desk.text("device") or ""):
        device = desk.text("device")
        desk.put("device", *([] if device == "cuda" else [("device.name", device)]))


def adapter(desk: Desk) -> None:
    """Its kind, sizes and layers."""
    said = (desk.text("network.type") or "lora").casefold()
    kind = KINDS.get(said, "")
    if not kind:
        desk.lost("network.type", f"{said} is not here; this is a plain LoRA")
        kind = "lora"
    if desk.has("network.type"):
        pairs: list[tuple[str, Any]] = [("adapter.kind", kind)]
        desk.put("network.type", *pairs, *([("adapter.decompose", True)] if said == "dora" else []))
    else:
        desk.set("adapter.kind", kind)
    whole = kind == "lokr" and desk.flag("network.lokr_full_rank")
    if whole:
        desk.put("network.lokr_full_rank", ("adapter.full_matrix", True))
    for name, key in (("linear", "rank"), ("linear_alpha", "alpha")):
        number = desk.number(f"network.{name}")
        if whole:
            desk.same(f"network.{name}", "has no effect with whole second factors")
        elif number:
            desk.put(f"network.{name}", (f"adapter.{key}", tidy(number)))
    convolves = desk.recipe.base in ("sd", "sdxl")
    for name, key in (("conv", "conv_rank"), ("conv_alpha", "conv_alpha")):
        number = desk.number(f"network.{name}")
        if number and convolves and (key == "conv_rank" or desk.get("adapter.conv_rank")):
            desk.put(f"network.{name}", (f"adapter.{key}", tidy(number)))
        desk.same(f"network.{name}", "none" if convolves else "a transformer has no convolutions to adapt")
    if (factor := desk.whole("network.lokr_factor")) and factor > 0 and kind == "lokr":
        desk.put("network.lokr_factor", ("adapter.factor", factor))
    for name in ("lokr_factor", "lokr_full_rank"):
        desk.same(f"network.{name}", "-1: as equal as possible" if kind == "lokr" else "not for this kind of adapter")
    if share := desk.number("network.dropout"):
        desk.put("network.dropout", ("adapter.dropout", share))
    if path := desk.text("network.pretrained_lora_path"):
        desk.put("network.pretrained_lora_path", ("adapter.start.path", path))
    for part, key in (("train_unet", "unet"), ("train_text_encoder", "text_encoder")):
        if desk.has(f"train.{part}") and not desk.flag(f"train.{part}"):
            desk.put(f"train.{part}", (f"adapter.targets.{key}", False))
        elif part == "train_text_encoder" and desk.recipe.base in ("flux", "sd3"):
            desk.lost(f"train.{part}", "which of the text encoders are trained is not documented; here, all of them")
        desk.same(f"train.{part}", "as by default")
    if desk.recipe.base != "other" and all(each.name != "train.train_text_encoder" for each in desk.results):
        why = "not in the file, and what that means is not documented; here it is trained"
        desk.difference("train.train_text_encoder", "lost", why)
    _rules(desk)


def _rules(desk: Desk) -> None:
    """Layers by parts of their names, where those are whole kinds of blocks of FLUX.1."""
    left_out = desk.several("network.network_kwargs.ignore_if_contains")
    only = desk.several("network.network_kwargs.only_if_contains")
    rules: list[dict[str, Any]] = []
    why = "layers have other names here: see `impasto layers` and write adapter.rules"
    names = [_block(str(each)) for each in left_out]
    if names and all(names) and desk.recipe.base == "flux":
        rules += [{"match": each, "skip": True} for each in names]
        desk.done("network.network_kwargs.ignore_if_contains", "same", "", settings=["adapter.rules"])
    elif names:
        desk.lost("network.network_kwargs.ignore_if_contains", why)
    names = [_block(str(each)) for each in only]
    if names in (["single_blocks_"], ["double_blocks_"]) and desk.recipe.base == "flux":
        rules.append({"match": "double_blocks_" if names == ["single_blocks_"] else "single_blocks_", "skip": True})
        desk.done("network.network_kwargs.only_if_contains", "same", "", settings=["adapter.rules"])
    elif names:
        desk.lost("network.network_kwargs.only_if_contains", why)
    for name in ("ignore_if_contains", "only_if_contains"):
        desk.same(f"network.network_kwargs.{name}", "none")
    if rules:
        desk.set("adapter.rules", rules)


def _block(name: str) -> str | None:
    """`transformer.single_transformer_blocks.7.` as `single_blocks_7_`; None for anything finer."""
    found = re.fullmatch(rf"({'|'.join(map(re.escape, BLOCKS))})\.?(\d+\.?)?", name)
    return f"{BLOCKS[found[1]]}_" + (f"{found[2].rstrip('.')}_" if found[2] else "") if found else None


def saving(desk: Desk) -> None:
    """Where the adapter goes, in which precision, how often it is written."""
    if name := desk.text("config.name"):
        plain = re.sub(r'[/\\\x00-\x1f<>:"|?*]+', "-", name)[:100].strip(" .")
        desk.put("config.name", ("name", plain), why="" if plain == name else "as a file can be called everywhere")
    if path := desk.text("training_folder"):
        desk.put("training_folder", ("output.folder", path))
    if held := PRECISIONS.get(desk.text("save.dtype") or ""):
        desk.put("save.dtype", ("save.precision", held))
    if every := desk.whole("save.save_every"):
        desk.put("save.save_every", ("save.every_steps", every))
    if many := desk.whole("save.max_step_saves_to_keep"):
        desk.put("save.max_step_saves_to_keep", ("save.keep", many))
    if word := desk.text("trigger_word"):
        desk.set("output.trigger_phrase", word, "only told of in the file: write it into the captions yourself")
        desk.lost("trigger_word", "it is put into captions that lack it there; here captions stay as they are written")


def previews(desk: Desk) -> None:
    """What is drawn, and when."""
    prompts = desk.peek("sample.prompts")
    given: list[dict[str, Any]] = [{"prompt": each} for each in prompts] if isinstance(prompts, list) else []
    desk.done("sample.prompts", "same", "", settings=["preview.prompts"] if given else [])
    for at in range(count(desk, "sample.samples")):
        one: dict[str, Any] = {}
        for name in [each for each in desk.recipe.args if each.startswith(f"sample.samples[{at}].")]:
            key = name.rpartition(".")[2]
            if key in ("prompt", "width", "height", "seed", "guidance_scale", "sample_steps", "neg"):
                one[key] = desk.text(name) if key in ("prompt", "neg") else desk.number(name)
                desk.done(name, "same", "", settings=["preview.prompts"])
        given.append(one)
    off = desk.flag("train.disable_sampling")
    made = [] if off else [_prompt(desk, each, at) for at, each in enumerate(given) if each.get("prompt")]
    if made:
        desk.set("preview.prompts", made)
        if every := desk.whole("sample.sample_every"):
            desk.put("sample.sample_every", ("preview.every_steps", every))
        desk.put("train.skip_first_sample", ("preview.at_start", not desk.flag("train.skip_first_sample")))
        if desk.recipe.base not in ("flux", "sd3") and desk.text("sample.sampler") not in (None, "ddim"):
            desk.lost("sample.sampler", "ddim stands in: the nearest without further dice")
        if desk.whole("sample.sample_start_step"):
            desk.lost("sample.sample_start_step", "pictures are drawn from the start on")
    if off:
        desk.put("train.disable_sampling")
    for name in [each for each in desk.recipe.args if each.startswith("sample.") and "[" not in each]:
        word = name.removeprefix("sample.")
        if word in ("sample_every", "sampler", "width", "height", "neg", "seed", "walk_seed", "guidance_scale",
                    "sample_steps", "sample_start_step"):  # fmt: skip
            desk.same(name, "as preview.prompts" if made else "there is nothing to draw")
    for name in ("train.skip_first_sample", "train.disable_sampling"):
        desk.same(name, "off, or there is nothing to draw")


def _prompt(desk: Desk, given: Mapping[str, Any], at: int) -> dict[str, Any]:
    def number(name: str) -> float | None:
        value = given.get(name)
        return desk.number(f"sample.{name}") if value is None else as_number(value)

    text = str(given["prompt"]).replace("[trigger]", desk.get("output.trigger_phrase") or "[trigger]")
    one: dict[str, Any] = {"text": text}
    if words := given.get("neg") or desk.text("sample.neg"):
        one["negative"] = str(words)
    for side in ("width", "height"):
        if size := number(side):
            one[side] = max(64, int(size) // 8 * 8)
    seed = number("seed")
    if seed is not None and seed >= 0:
        walks = given.get("seed") is None and desk.flag("sample.walk_seed")
        one["seed"] = int(seed) + (at if walks else 0)
    if steps := number("sample_steps"):
        one["steps"] = min(1000, max(1, int(steps)))
    scale = number("guidance_scale")
    if scale is not None:
        one["embedded_guidance" if desk.recipe.base == "flux" else "guidance"] = tidy(scale)
    one["sampler"] = "euler" if desk.recipe.base in ("flux", "sd3") else "ddim"
    return one


CHAPTERS = (model, aitoolkit_data.data, adapter, *aitoolkit_learning.CHAPTERS, saving, previews)
