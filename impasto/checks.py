"""Settings that are each right and cannot be right together, or ask for what is not there.

All of it is found without a model and without torch, before a run is made.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from impasto import checks_data
from impasto.adapters.config import Glora, Ia3
from impasto.checks_data import Found, like, real
from impasto.config import MODEL_NAMES, RunConfig
from impasto.data.config import Buckets
from impasto.errors import Problem
from impasto.families import hub
from impasto.optim.config import Adafactor, AdamW8bit, Library, ScheduleFree, Sgd
from impasto.optim.schedule_config import CosineRestarts, WarmupStableDecay
from impasto.settings.places import Key
from impasto.settings.source import Source, dotted, shown
from impasto.settings.suggest import nearest

SIDES = 8
"""Every known base needs sides that are multiples of this."""

HASTENED = ("lora", "lora-fa", "dylora")
"""The kinds of adapters that are plain LoRA in files; LoRA+ is defined for them."""

FACTOR_LEAST = 0.1
"""A learning rate up to this is probably no factor."""

_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}


def check(config: RunConfig, source: Source | None = None) -> list[Problem]:
    """All that keeps a run from starting as far as settings and folders tell."""
    source = source or Source()
    rules = (
        _name,
        _length,
        _layout,
        _learning,
        _installed,
        _sizes,
        _shown,
        checks_data.pictures,
        _model,
        _adapters,
        _output,
        _shared,
    )
    found = [each for rule in rules for each in rule(config)]
    return [Problem(code, what, source.place(key), _spelt(fix, key, source)) for code, key, what, fix in found]


def advice(config: RunConfig) -> list[Problem]:
    """What can be trained and is probably not meant: warnings, not refusals."""
    return [Problem(code, what, dotted(key), fix) for code, key, what, fix in _rates(config)]


def _spelt(fix: str, key: Key, source: Source) -> str:
    """The fix as it is written where the setting was given."""
    line = f"{key[-1]} = "
    on_command_line = source.from_command_line(key) and fix.startswith(line)
    return f"{dotted(key)}={fix.removeprefix(line)}" if on_command_line else fix


def check_together(configs: Sequence[RunConfig]) -> list[Problem]:
    """What keeps runs from being trained by one command: two may not have one folder."""
    seen: set[Path] = set()
    problems = []
    for config in configs:
        folder = run_folder(config)
        if folder in seen:
            what = f"two runs would live in {folder}"
            problems.append(Problem("E-CFG-035", what, "name", 'give each its own: name = "…"'))
        seen.add(folder)
    return problems


def run_folder(config: RunConfig) -> Path:
    """Where a run lives, whole."""
    return Path(os.path.abspath(config.output.folder.expanduser() / config.name))


def _name(config: RunConfig) -> Found:
    name = config.name
    stem = name.split(".")[0].rstrip(" ").upper()
    if stem in _DEVICES:
        yield "E-CFG-020", ("name",), f"{shown(name)} is the name of a device on Windows", f'name = "{name}-lora"'
    if name != name.strip() or name.endswith(".") or name.startswith("."):
        better = name.strip(" .") or "lora"
        yield "E-CFG-020", ("name",), f"{shown(name)} starts or ends with a dot or a space", f'name = "{better}"'
    if len(name.encode("utf-8", "replace")) > 200:
        yield "E-CFG-020", ("name",), "the name is too long for a file: over 200 bytes", "shorten it"


def _length(config: RunConfig) -> Found:
    steps, schedule = config.train.steps, config.optim.schedule
    if steps is None:
        return
    warmup = schedule.warmup if isinstance(schedule.warmup, int) else 0
    decay = schedule.decay if isinstance(schedule, WarmupStableDecay) and isinstance(schedule.decay, int) else 0
    key = ("optim", "schedule", "warmup")
    if warmup > steps:
        yield "E-CFG-021", key, f"a warm-up of {warmup} steps is longer than the run of {steps}", "warmup = 0.05"
    elif warmup + decay > steps:
        what = f"warm-up and decay ({warmup} + {decay} steps) are longer than the run of {steps}"
        yield "E-CFG-021", ("optim", "schedule", "decay"), what, "decay = 0.2"
    if isinstance(schedule, CosineRestarts) and schedule.cycles > steps:
        what = f"{schedule.cycles} cycles do not fit into {steps} steps"
        yield "E-CFG-021", ("optim", "schedule", "cycles"), what, "cycles = 1"


def _layout(config: RunConfig) -> Found:
    """diffusers' layout is for LoRA and DoRA."""
    adapter, key = config.adapter, ("save", "layout")
    if config.save.layout == "kohya":
        return
    if adapter.kind not in HASTENED or adapter.train_norm:
        other = "has norms" if adapter.train_norm else f"is of kind {adapter.kind}"
        what = f"diffusers' layout is for LoRA, and this adapter {other}, which only Kohya's layout can hold"
        yield "E-CFG-170", key, what, 'layout = "kohya"'


def _learning(config: RunConfig) -> Found:
    targets, optim = config.adapter.targets, config.optim
    if not targets.unet and not targets.text_encoder:
        what = "no part gets an adapter: nothing would be trained"
        yield "E-CFG-022", ("adapter", "targets", "unet"), what, "unet = true"
        return
    rates = {
        "unet": (targets.unet, optim.unet_learning_rate),
        "text_encoder": (targets.text_encoder, optim.text_encoder_learning_rate),
    }
    effective = [optim.learning_rate if rate is None else rate for used, rate in rates.values() if used]
    highest = [max(rate) if isinstance(rate, tuple) else rate for rate in effective]
    if not any(highest):
        what = "the learning rate of every trained part is 0: nothing would be learnt"
        yield "E-CFG-023", ("optim", "learning_rate"), what, "learning_rate = 1e-4"
    yield from _stopped_words(config)
    if config.adapter.train_norm and not _moves_the_denoiser(config):
        what = "norms are trained in the denoiser, which is left out: none would be"
        yield "E-CFG-143", ("adapter", "train_norm"), what, "train_norm = false, or train the denoiser too"
    yield from _waiting_blocks(config)
    yield from _recorded(config)
    if config.speed.products == "fp8" and config.model.quantize != "fp8":
        what = f"products in 8 bits need a base that is held so, and model.quantize is {config.model.quantize!r}"
        yield "E-CFG-178", ("speed", "products"), what, 'model.quantize = "fp8"'
    ratios = {name: getattr(optim, name) for name in ("lora_plus", "unet_lora_plus", "text_encoder_lora_plus")}
    if config.adapter.kind not in HASTENED:
        for name in (name for name, ratio in ratios.items() if ratio is not None):
            what = f"LoRA+ is for {', '.join(HASTENED)}, and the adapter is of kind {config.adapter.kind}"
            yield "E-CFG-036", ("optim", name), what, "delete this line"
    if optim.precision == "bf16" and config.model.precision in ("fp32", "fp16"):
        what = f"an adapter in bf16 needs a base that computes in it, and this one computes in {config.model.precision}"
        yield "E-CFG-140", ("optim", "precision"), what, 'precision = "fp32", or model.precision = "bf16"'
    named = optim.optimizer.name.lower() if isinstance(optim.optimizer, Library) else ""
    if optim.precision == "bf16" and (isinstance(optim.optimizer, ScheduleFree) or "schedulefree" in named):
        what = "schedule-free optimizers find the weights for use from those in training, which bf16 is too coarse for"
        yield "E-CFG-142", ("optim", "precision"), what, 'precision = "fp32"'


def _waiting_blocks(config: RunConfig) -> Found:
    """What is done with the base between steps needs all of it in one place."""
    adapter = config.adapter
    if config.model.blocks_to_swap and isinstance(adapter, Glora | Ia3) and adapter.max_norm is not None:
        what = f"the length of an adapter of kind {adapter.kind} depends on the base, whose blocks wait elsewhere"
        yield "E-CFG-148", ("model", "blocks_to_swap"), what, "blocks_to_swap = 0, or delete adapter.max_norm"


def _recorded(config: RunConfig) -> Found:
    """What a graph plays is the same each time, and all on the device."""
    if not config.speed.graphs:
        return
    adapter, model, optim = config.adapter, config.model, config.optim
    rate = optim.learning_rate if optim.text_encoder_learning_rate is None else optim.text_encoder_learning_rate
    words = adapter.targets.text_encoder and any(rate if isinstance(rate, tuple) else (rate,))
    dice = [
        name for name in ("dropout", "rank_dropout", "module_dropout") if getattr(adapter, name, 0.0)
    ] + ["kind"] * (adapter.kind == "dylora")  # fmt: skip
    found: list[tuple[bool, str, str]] = [
        (not config.device.name.startswith(("auto", "cuda")), f"{config.device.name} has none", "device.name = cuda"),
        (model.gradient_checkpointing, "checkpointing looks at dice", "model.gradient_checkpointing = false"),
        (model.blocks_to_swap > 0, "blocks come and go", "model.blocks_to_swap = 0"),
        (words, "text encoders are trained", "adapter.targets.text_encoder = false"),
        (bool(dice), f"adapter.{(dice or [''])[0]} throws dice in each step", "take it out"),
    ]  # fmt: skip
    for wrong, why, fix in found:
        if wrong:
            yield "E-CFG-160", ("speed", "graphs"), f"no graphs can be recorded: {why}", fix


def _stopped_words(config: RunConfig) -> Found:
    """The U-Net must go on learning when the text encoder stops."""
    if config.train.text_encoder_until is not None and not _moves_the_denoiser(config):
        what = "the text encoder would stop, and nothing else is trained"
        yield "E-CFG-037", ("train", "text_encoder_until"), what, "delete this line, or train fewer steps"


def _moves_the_denoiser(config: RunConfig) -> bool:
    optim = config.optim
    rate = optim.learning_rate if optim.unet_learning_rate is None else optim.unet_learning_rate
    return config.adapter.targets.unet and rate > 0


KERNELS = {
    "flash-3": ("flash_attn_interface", "build it from the folder hopper of FlashAttention's source"),
    "flash-4": ("flash_attn", "pip install flash-attn-4"),
}
"""Kernels of attention that come from packages: what is imported, and how to get it."""


def _installed(config: RunConfig) -> Found:
    attention = config.speed.attention
    if attention in KERNELS and find_spec(KERNELS[attention][0]) is None:
        what = f"{attention} comes from a package of its own, FlashAttention, which is not installed"
        yield "E-CFG-046", ("speed", "attention"), what, f'{KERNELS[attention][1]}, or attention = "auto"'
    if isinstance(config.optim.optimizer, AdamW8bit) and find_spec("bitsandbytes") is None:
        what = "adamw-8bit comes from the package bitsandbytes, which is not installed"
        yield "E-CFG-046", ("optim", "optimizer", "kind"), what, "pip install bitsandbytes"
    if "wandb" in config.track.to and find_spec("wandb") is None:
        what = "runs are sent to Weights & Biases by the package wandb, which is not installed"
        yield "E-CFG-046", ("track", "to"), what, "pip install wandb"


def _rates(config: RunConfig) -> Found:
    optim, key = config.optim, ("optim", "learning_rate")
    rate, kind = optim.learning_rate, optim.optimizer.kind
    relative = isinstance(optim.optimizer, Adafactor) and optim.optimizer.relative_step
    if optim.finds_rate or relative:
        if rate <= FACTOR_LEAST:
            what = f"{kind} {'has relative steps' if relative else 'finds its rate by itself'} and learning_rate is a "
            what += f"factor for it: {shown(rate)} makes steps so many times smaller"
            yield "W-CFG-001", key, what, "learning_rate = 1.0"
    elif rate >= 1.0 and not isinstance(optim.optimizer, Sgd | ScheduleFree | Library):
        what = f"learning_rate = {shown(rate)} is what optimizers that find their rate take; for {kind} it is too large"
        yield "W-CFG-002", key, what, "learning_rate = 1e-4"


def _sizes(config: RunConfig) -> Found:
    sizes: list[tuple[Key, object]] = [(("data", "resolution"), config.data.resolution)]
    sizes += [(("data", "sets", number, "resolution"), each.resolution) for number, each in enumerate(config.data.sets)]
    for number, prompt in enumerate(config.preview.prompts):
        sizes += [(("preview", "prompts", number, side), getattr(prompt, side)) for side in ("width", "height")]
    for key, value in sizes:
        sides = value if isinstance(value, tuple) else (value,)
        if any(isinstance(side, int) and side % SIDES for side in sides):
            near = [max(SIDES, round(side / SIDES) * SIDES) for side in sides if isinstance(side, int)]
            fix = f"{key[-1]} = {shown(near if isinstance(value, tuple) else near[0])}"
            yield "E-CFG-024", key, f"{shown(value)}: a side must be a multiple of {SIDES}", fix
    yield from _buckets(config.data.buckets)


def _buckets(buckets: Buckets) -> Found:
    if buckets.smallest and buckets.largest and buckets.smallest > buckets.largest:
        what = f"smallest ({buckets.smallest}) is larger than largest ({buckets.largest})"
        yield "E-CFG-024", ("data", "buckets", "smallest"), what, f"smallest = {buckets.largest}"
    if buckets.step and buckets.step % SIDES:
        what = f"{buckets.step}: a bucket's sides must be multiples of {SIDES}"
        yield "E-CFG-024", ("data", "buckets", "step"), what, "step = 64"


def _shown(config: RunConfig) -> Found:
    preview, validation = config.preview, config.validation
    for name in ("every_steps", "every_epochs"):
        if getattr(preview, name) is not None and not preview.prompts:
            what = "previews are asked for, but there is nothing to draw"
            yield "E-CFG-025", ("preview", name), what, 'add [[preview.prompts]] with text = "…", or delete this line'
    if config.output.thumbnail and not (preview.prompts and (preview.every_steps or preview.every_epochs)):
        what = "the file is to show a preview, and none is drawn while training"
        yield (
            "E-CFG-025",
            ("output", "thumbnail"),
            what,
            "set preview.every_epochs = 1 with a prompt, or delete this line",
        )
    held = bool(validation.share) or any(each.role == "validation" for each in config.data.sets)
    if validation.patience is not None and validation.share == 0.0 and not held:
        what = "the run is to end by the loss on held-out pictures, and none are held out"
        fix = 'add [[data.sets]] with role = "validation", or delete validation.share'
        yield "E-CFG-026", ("validation", "patience"), what, fix
    for name in ("every_steps", "patience"):
        if getattr(validation, name) is not None and not validation.pictures:
            what = "a loss is to be measured, but on no pictures"
            yield "E-CFG-026", ("validation", name), what, "delete validation.pictures, or this line"
    if config.objective.prior_target == "base" and not any(each.role == "regularization" for each in config.data.sets):
        what = "the base's own answers are to be kept, but no set says for which pictures"
        fix = 'add [[data.sets]] with role = "regularization", or delete this line'
        yield "E-CFG-141", ("objective", "prior_target"), what, fix


def _model(config: RunConfig) -> Found:
    if config.model.path in MODEL_NAMES:
        return
    key, path = ("model", "path"), Path(os.path.abspath(config.model.path))
    if not path.exists() and "path" not in hub.given(config.model):
        fix = nearest(path.name, MODEL_NAMES)
        yield "E-CFG-031", key, f"there is no folder or file {path}", f'path = "{fix}"' if fix else like(path)


def _adapters(config: RunConfig) -> Found:
    """Adapter files that are read before training."""
    given: list[tuple[Key, Path]] = [
        (("model", "merged", at, "path"), each.path) for at, each in enumerate(config.model.merged)
    ]
    if config.adapter.start is not None:
        given.append((("adapter", "start", "path"), config.adapter.start.path))
    for key, path in given:
        if not Path(os.path.abspath(path)).is_file():
            yield "E-CFG-038", key, f"there is no adapter file {Path(os.path.abspath(path))}", like(path)


def _output(config: RunConfig) -> Found:
    key, folder = ("output", "folder"), run_folder(config).parent
    if folder == Path(folder.anchor):
        yield "E-CFG-032", key, f"{folder} is the top of a disk", 'folder = "runs"'
    masks = [config.data.masks_of(dataset).folder for dataset in config.data.sets]
    for path in (*(dataset.path for dataset in config.data.sets), *(each for each in masks if each)):
        pictures = real(path)
        if pictures in (run := real(folder), *run.parents) or pictures == real(run_folder(config)):
            what = f"{folder} is in the picture folder {path}, which is never written to"
            yield "E-CFG-032", key, what, 'choose a folder outside of it: folder = "runs"'
            break
    if folder.exists() and not folder.is_dir():
        yield "E-CFG-032", key, f"{folder} is a file", 'folder = "runs"'


def _shared(config: RunConfig) -> Found:
    """What is done with a base in shares is done with all ranks, step by step."""
    if not config.device.shard_base:
        return
    adapter, model, what = config.adapter, config.model, "the ranks are to hold the base in shares, and "
    if config.save.proof != "off":
        yield "E-CFG-172", ("save", "proof"), what + "a proof needs all of it in one place", 'proof = "off"'
    if model.quantize != "none":
        yield "E-CFG-172", ("model", "quantize"), what + "layers in few bits cannot be cut up", 'quantize = "none"'
    if model.blocks_to_swap:
        yield "E-CFG-172", ("model", "blocks_to_swap"), what + "its blocks would wait elsewhere", "blocks_to_swap = 0"
    if config.objective.prior_target == "base":
        said = "the base's own answers would be asked for by some of them alone"
        yield "E-CFG-172", ("objective", "prior_target"), what + said, "delete this line"
    if isinstance(adapter, Glora | Ia3) and adapter.max_norm is not None:
        said = f"the length of an adapter of kind {adapter.kind} depends on all of it"
        yield "E-CFG-172", ("adapter", "max_norm"), what + said, "delete this line"
