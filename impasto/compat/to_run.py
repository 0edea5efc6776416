"""How long, what is saved, what is drawn, what a file says of itself."""

from __future__ import annotations

import re

from impasto.compat.recipe import Base
from impasto.compat.tables import NEAREST_SAMPLER, SAMPLERS
from impasto.compat.to_model import PRECISIONS
from impasto.compat.translating import Desk, as_number, tidy
from impasto.families.card import usual_guidance

MOST_HELD_OUT = 0.5
"""What validation.share may be."""


def length(desk: Desk) -> None:
    """Epochs go before steps."""
    epochs = desk.whole("max_train_epochs")
    if epochs:
        desk.put("max_train_epochs", ("train.epochs", epochs))
        desk.same("max_train_steps", "max_train_epochs goes before it")
    elif desk.has("epoch"):
        why = "steps are counted from the real buckets"
        desk.put("epoch", ("train.epochs", desk.whole("epoch")), why=why, quirks=["Q-G2"])
        desk.same("max_train_steps", "0: counted from the epochs")
    elif desk.has("max_train_steps"):
        desk.put("max_train_steps", ("train.steps", desk.whole("max_train_steps")), plain=True)
    elif desk.trains:
        desk.set("train.steps", 1600, "not in the file: the usual value there")
    if (count := desk.whole("gradient_accumulation_steps")) and count > 0:
        desk.put("gradient_accumulation_steps", ("train.accumulate", count))
    if desk.has("seed"):
        desk.put("seed", ("train.seed", desk.whole("seed")), plain=True)
    elif desk.trains:
        desk.difference("seed", "better", "0, so that a run can be repeated; there, unset means another each time")
    stop = desk.number("stop_text_encoder_training")
    if stop:
        if not 0 < stop < 100:
            desk.lost(
                "stop_text_encoder_training", "-1 and 100 leave it as it is" if stop > 0 else "set unet only there"
            )
        else:
            why = "kohya_ss knows this setting, and does not pass it on"
            pair = ("train.text_encoder_until", stop / 100)
            desk.put("stop_text_encoder_training", pair, why=why, quirks=["Q-S5"])
    _together(desk)
    gpus = desk.text("launch.gpu_ids")
    if gpus and re.fullmatch(r"\d+", gpus):
        desk.put("launch.gpu_ids", ("device.name", f"cuda:{gpus}"))


def _together(desk: Desk) -> None:
    """Several GPUs: there, each takes a batch of its own; here, they share what the settings say."""
    count = desk.whole("launch.num_processes")
    if count and count > 1:
        why = f"train with --nproc {count}: the GPUs share a step, which there had a batch for each"
        desk.put("launch.num_processes", ("train.accumulate", count * (desk.get("train.accumulate") or 1)), why=why)
    if minutes := desk.number("ddp_timeout"):
        desk.put("ddp_timeout", ("device.rank_timeout", 60.0 * minutes), plain=True)
    if desk.flag("deepspeed"):
        _shared(desk, desk.whole("zero_stage") or 2)


def _shared(desk: Desk, stage: int) -> None:
    """DeepSpeed's third stage splits the base; what the others split is small where an adapter is trained."""
    held = desk.get("model.quantize") or desk.get("model.blocks_to_swap")
    if stage < 3 or held:
        why = f"stage {stage} splits what an adapter has little of" if stage < 3 else "the base is held in less already"
        desk.better("deepspeed", why)
        desk.better("zero_stage", "as for --deepspeed")
        return
    desk.put("deepspeed", ("device.shard_base", True), ("save.proof", "off"))
    desk.better("zero_stage", "the base is split, all else is small")


def saving(desk: Desk) -> None:
    """Where, how often, how many."""
    for name, key in (("output_name", "name"), ("output_dir", "output.folder"), ("metadata_title", "output.title"),
                      ("metadata_author", "output.author"), ("training_comment", "output.comment")):  # fmt: skip
        if desk.text(name):
            desk.put(name, (key, desk.text(name)))
    for name in ("description", "license", "tags", "trigger_phrase", "usage_hint", "preprocessor"):
        value: object = desk.text(f"metadata_{name}")
        if value and desk.known(f"output.{name}"):
            value = [each.strip() for each in str(value).split(",")] if name == "tags" else value
            desk.put(f"metadata_{name}", (f"output.{name}", value), plain=True)
    if desk.flag("no_metadata") and desk.known("output.metadata"):
        desk.put("no_metadata", ("output.metadata", "least"), plain=True)
    if name := desk.get("name"):
        plain = re.sub(r'[/\\\x00-\x1f<>:"|?*]+', "-", str(name))[:100].strip(" .")
        if plain != name:
            desk.set("name", plain, f"{name!r} cannot be the name of a file everywhere")
    kind = desk.text("save_model_as")
    if kind and kind != "safetensors":
        desk.better("save_model_as", "safetensors always: the older forms can run code")
    elif kind:
        desk.same("save_model_as", "always")
    if kind := desk.text("save_precision"):
        desk.put("save_precision", ("save.precision", PRECISIONS.get(kind, kind)), plain=True)
    elif desk.exact and desk.trains:
        desk.set("save.precision", "fp32", "as where nothing is said there")
    for name, key in (("save_every_n_epochs", "every_epochs"), ("save_every_n_steps", "every_steps")):
        if desk.whole(name):
            desk.put(name, (f"save.{key}", desk.whole(name)))
    if (ratio := desk.whole("save_n_epoch_ratio")) and ratio > 0:
        epochs = desk.get("train.epochs")
        as_there = ("save.every_epochs", max(1, epochs // ratio)) if desk.exact and epochs else None
        desk.put("save_n_epoch_ratio", as_there or ("save.files", ratio), plain=as_there is not None)
    _kept(desk)
    if desk.text("resume"):
        desk.lost(
            "resume", "what sd-scripts saved to go on from cannot be read; `impasto resume` goes on with runs of here"
        )


def _kept(desk: Desk) -> None:
    every = desk.whole("save_every_n_steps") or desk.get("save.every_steps") or 1
    for last, key, least in (("", "keep", 1), ("_state", "keep_checkpoints", 2)):
        by_epoch, by_step = f"save_last_n_epochs{last}", f"save_last_n_steps{last}"
        if count := desk.whole(by_epoch):
            desk.put(by_epoch, (f"save.{key}", max(least, count)))
        elif count := desk.whole(by_step):
            why = f"a number of files; there, {count} is a distance in steps"
            pair = (f"save.{key}", max(least, count // every + 1))
            desk.put(by_step, pair, why=why, quirks=["Q-S3"])


def previews(desk: Desk) -> None:
    """What is drawn, and when. Epochs go before steps."""
    usual = desk.text("sample_sampler")
    prompts = [_prompt(each, usual, desk.recipe.base) for each in desk.recipe.prompts]
    made = [prompt for prompt, _ in prompts]
    if desk.has("sample_prompts") and made:
        desk.put("sample_prompts", ("preview.prompts", made), plain=True)
        for number, (_, remarks) in enumerate(prompts):
            for key, said in remarks.items():
                desk.comments["preview", "prompts", number, key] = said
                outcome = "lost" if key == "text" else "better"
                desk.difference(f"prompt {number + 1}", outcome, said)  # type: ignore[arg-type]
        desk.same("sample_sampler", "with the prompts")
    elif desk.has("sample_prompts"):
        desk.same("sample_prompts", "there is no prompt in it")
    for name in ("sample_every_n_epochs", "sample_every_n_steps"):
        count = desk.whole(name)
        if not made and count:
            desk.lost(name, "there are no prompts, or they are not here")
        elif count and count > 0 and not desk.get("preview.every_epochs"):
            desk.put(name, (f"preview.every_{name.rsplit('_', 1)[1]}", count))
        elif count:
            desk.same(name, "sample_every_n_epochs goes before it" if count > 0 else "off")
    if made:
        first = desk.flag("sample_at_first")
        desk.set("preview.at_start", first)
        desk.same("sample_at_first", "as preview.at_start")
    elif desk.has("sample_at_first"):
        desk.same("sample_at_first", "there is nothing to draw")
    if desk.has("sample_sampler"):
        desk.same("sample_sampler", "there is nothing to draw")
    _held_out(desk)


def _held_out(desk: Desk) -> None:
    """Which pictures are measured, and when."""
    share = desk.number("validation_split")
    if share is None or not 0 < share <= 1:
        if desk.exact and desk.trains:
            desk.set("validation.share", 0.0, "there, none are held out")
        for name in ("validate_every_n_steps", "validate_every_n_epochs", "max_validation_steps"):
            if desk.has(name):
                desk.same(name, "nothing is held out there")
        return
    if share > MOST_HELD_OUT:
        desk.put("validation_split", ("validation.share", MOST_HELD_OUT), why="not more than half is held out here")
    else:
        desk.put("validation_split", ("validation.share", share))
    if steps := desk.whole("validate_every_n_steps"):
        desk.put("validate_every_n_steps", ("validation.every_steps", steps))


def _prompt(given: object, usual: str | None, base: Base) -> tuple[dict[str, object], dict[str, str]]:
    """One prompt and what is to be said of it."""
    assert isinstance(given, dict)
    made: dict[str, object] = {"text": str(given.get("prompt", ""))}
    remarks: dict[str, str] = {}
    if negative := given.get("negative_prompt"):
        made["negative"] = str(negative)
    for side in ("width", "height"):
        if given.get(side):
            made[side] = max(64, int(as_number(given[side])) // 8 * 8)
    if given.get("seed") not in (None, ""):
        made["seed"] = int(as_number(given["seed"]))
    made["steps"] = min(1000, max(1, int(as_number(given.get("sample_steps") or (20 if base == "flux" else 30)))))
    guidance = tidy(as_number(given.get("scale") or (1.0 if base == "flux" else 7.5)))
    if guidance != usual_guidance(base):
        made["guidance"] = guidance
    sampler = str(given.get("sample_sampler") or usual or ("euler" if base in ("flux", "sd3") else "ddim"))
    made["sampler"] = SAMPLERS.get(sampler) or NEAREST_SAMPLER.get(sampler, "euler")
    if sampler not in SAMPLERS:
        remarks["sampler"] = f"{sampler} is not here; the nearest without further dice"
    left = [name for name in ("controlnet_image", "cfg_trunc_ratio", "renorm_cfg", "flow_shift") if name in given]
    left += [str(each) for each in given.get("unknown", ())]
    if given.get("guidance_scale") and base == "flux":
        made["embedded_guidance"] = tidy(as_number(given["guidance_scale"]))
    elif given.get("guidance_scale"):
        left.append(f"guidance_scale {given['guidance_scale']}")
    if left:
        remarks["text"] = f"without {', '.join(left)}: not here"
    return made, remarks
