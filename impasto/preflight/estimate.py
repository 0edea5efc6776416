"""What a run takes in memory and time, from the heads of the base's files: rough, and told to be so.

How it is reckoned: a run goes through phases, and the one that takes most counts. Each is weights as they are held, and
what its work needs besides (`impasto/preflight/activations.py` for a step).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import assert_never

from impasto.adapters.config import Ranked
from impasto.config import RunConfig
from impasto.families.card import Card, Part
from impasto.optim.config import Adafactor, AdamW8bit, Came, Optimizer, ScheduleFree
from impasto.preflight import activations
from impasto.preflight.report import Range
from impasto.rates import part_rates
from impasto.weights import header

PROGRAM = 0.44e9
"""Bytes of Python, torch and the libraries."""

LOST = 1.09
"""How much more is taken than is asked for."""

PACKING = 1.2
"""How much of a denoiser's width is taken while its layers are packed one by one into few bits."""

ENCODED = 24
"""Bytes for each pixel and channel at full size while a picture is encoded."""

SMALL = 50_000_000
"""Bases of up to so many numbers were measured at many sizes, larger ones at few."""

MEASURED_AREA = 512 * 512
"""The most pixels of a micro-batch at which larger bases were measured."""

USUAL = re.compile(r"(transformer|double|single|joint)_blocks\.|\.proj_(in|out)\.|\.(self_attn|mlp|attn)\.")
CONVOLVING = re.compile(
    r"\.resnets\.|samplers\.|\.(in|out|emb)_layers\.|\.skip_connection\.|\.op\.|output_blocks\.\d+\.\d+\.conv\."
)
CPU, GPU = (15e9, 90e9), (8e12, 250e12)
"""Operations a second of a core, and of a GPU: from a slow one to a fast one, as measured on several."""


PREFIXES: dict[Part, tuple[str, ...]] = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0.", "text_encoders.clip_l."),
    "text_encoder_2": ("conditioner.embedders.1.", "text_encoders.clip_g."),
    "text_encoder_3": ("text_encoders.t5xxl.",),
}
"""How the names of a part begin in a file that holds all of a base."""


def shapes(card: Card, part: Part) -> dict[str, tuple[int, ...]]:
    """The tensors of a part. Of a single file all of them that can be the part's, by their names."""
    return {name: entry.shape for name, entry in _entries(card, part).items()}


def _entries(card: Card, part: Part) -> dict[str, header.Entry]:
    files = card.weights(part)
    own = PREFIXES[part] if card.original and list(card.files.values()).count(files) > 1 else ("",)
    return {name: each for name, each in header.tensors(files).items() if name.startswith(own)}


def trained_numbers(config: RunConfig, card: Card) -> int | None:
    """The numbers of the adapter, about: blocks and rules are not heeded. None for kinds without a rank."""
    adapter = config.adapter
    if not isinstance(adapter, Ranked):
        return None
    total = 0
    for part in card.configs:
        if part == "vae" or ("text_encoder" if part in card.encoders else "unet") not in part_rates(config):
            continue
        for name, shape in shapes(card, part).items():
            layer = len(shape) in (2, 4) and not name.endswith("embedding.weight")
            if layer and (USUAL.search(name) and not CONVOLVING.search(name)):
                fused = 3 if name.endswith("in_proj_weight") else 1  # query, key and value are adapted apart
                total += adapter.rank * (shape[0] + fused * prod(shape[1:]))
            elif layer and CONVOLVING.search(name) and adapter.layers == "full":
                large = len(shape) == 4 and shape[-1] > 1
                total += (adapter.conv_rank or adapter.rank if large else adapter.rank) * (shape[0] + prod(shape[1:]))
    return total


def memory(config: RunConfig, card: Card, *, area: int, batch: int, numbers: int | None) -> Range:
    """Bytes at the peak, for micro-batches of `batch` pictures of `area` pixels.

    The range is what `scripts/memory_check` holds it to where that was measured: estimates 10 % below to 25 % above.
    """
    middle = phases(config, card, area=area, batch=batch, numbers=numbers).peak
    if _was_measured(config, card, batch * area):
        return Range(middle / 1.25, middle / 0.9, "calibrated")
    return Range(0.6 * middle, 1.8 * middle, "uncalibrated")


@dataclass(frozen=True)
class Phases:
    """Bytes in each phase of a run."""

    load: float
    """The denoiser is filled from its file, tensor by tensor."""

    prepare: float
    """Pictures are encoded, then captions; nothing but what encodes them is in memory."""

    train: float
    draw: float
    """A picture is drawn: a preview, or the one that proves a file. The VAE decodes it beside the denoiser. 0 where
    none is."""

    @property
    def peak(self) -> float:
        """The most of them, with what allocators lose."""
        return LOST * max(self.load, self.prepare, self.train, self.draw)


def phases(config: RunConfig, card: Card, *, area: int, batch: int, numbers: int | None) -> Phases:
    """What each phase takes. Who is in memory when is said here and nowhere else."""
    gpu = on_gpu(config)
    program = 0 if gpu else PROGRAM
    held = {"fp32": 4, "bf16": 2, "fp16": 2, "auto": 2 if gpu else 4}[config.model.precision]
    unet = _entries(card, "unet")
    denoiser = sum(prod(each.shape) for each in unet.values())
    encoders = sum(_count(card, part) for part in card.encoders) * held
    weights = denoiser * {"none": held, "fp8": 1, "int8": 1, "nf4": 0.55}[config.model.quantize]
    vae, width = _count(card, "vae") * 4, ENCODED * max(_widths(card, ["vae"])[:1])
    kept = {name: each.shape for name, each in unet.items()}
    outputs = activations.outputs(kept, card.configs["unet"], area / card.factor**2)
    step = batch * outputs * held * activations.KEPT[config.model.gradient_checkpointing]
    state = (numbers or 0) * (8 + _state(config.optim.optimizer) + (4 if config.optim.ema else 0))
    beside = (encoders if _words_are_new(config) else 0) + (vae if _pictures_are_new(config) else 0)
    own = program + weights + beside
    drawing = (0 if _pictures_are_new(config) else vae) + _drawn(config, card) * width
    return Phases(
        load=own if gpu or config.model.quantize == "none" else own - weights + PACKING * denoiser * held,
        prepare=program + max(encoders, vae + area * width),
        train=own + step + state,
        draw=own + state + drawing if _drawn(config, card) else 0.0,
    )


def _drawn(config: RunConfig, card: Card) -> int:
    """The pixels of the largest picture that the run draws; 0 where it draws none."""
    sides = [(each.width or card.resolution, each.height or card.resolution) for each in config.preview.prompts]
    sides += [(card.resolution, card.resolution)] if config.save.proof != "off" else []
    return max((width * height for width, height in sides), default=0)


def _words_are_new(config: RunConfig) -> bool:
    """Whether captions are encoded at each visit, so that the text encoders stay in memory."""
    data = config.data
    every = [data.captions_of(each) for each in data.sets]
    many = any(each.shuffle or each.tag_dropout or each.wildcards or each.tag_warmup for each in every)
    return not data.cache or many or "text_encoder" in part_rates(config)


def _pictures_are_new(config: RunConfig) -> bool:
    """Whether pictures are encoded at each visit, so that the VAE stays in memory."""
    data = config.data
    every = [data.augment_of(each) for each in data.sets]
    return not data.cache or any(each.varies and each.variants is None for each in every)


def _was_measured(config: RunConfig, card: Card, area: int) -> bool:
    """Whether such a run was compared with its estimate: LoRA on bases with a U-Net, on a processor."""
    small = sum(_count(card, part) for part in card.configs) < SMALL
    plain = config.model.quantize != "nf4" and config.model.precision != "fp16" and not on_gpu(config)
    usual = config.optim.optimizer.kind in ("adamw", "prodigy") and config.adapter.kind == "lora"
    alike = config.model.precision != "bf16" if small else area <= MEASURED_AREA
    return plain and usual and alike and "block_out_channels" in card.configs["unet"]


def seconds(config: RunConfig, card: Card, *, pixels: float) -> Range:
    """Of training on so many pixels in all."""
    flops = 0.23 * sum(_count(card, part) for part in card.configs if part not in ("vae", *card.encoders))
    flops *= pixels / card.factor**2 * (4 if config.model.gradient_checkpointing else 3)
    slow, fast = GPU if on_gpu(config) else tuple(each * _cores(config) for each in CPU)
    return Range(flops / fast, flops / slow, "uncalibrated")


def on_gpu(config: RunConfig) -> bool:
    """Whether a GPU would be taken, as far as the system's files tell."""
    name = config.device.name
    return name.startswith(("cuda", "xpu", "mps")) or (name == "auto" and os.path.exists("/dev/nvidia0"))


def _cores(config: RunConfig) -> int:
    return config.device.threads or max(1, (os.cpu_count() or 2) // 2)


def _count(card: Card, part: Part) -> int:
    return sum(prod(shape) for shape in shapes(card, part).values())


def _widths(card: Card, parts: Sequence[Part]) -> list[int]:
    found = [card.configs[part].get("block_out_channels") for part in parts]
    return [int(each[0]) for each in found if isinstance(each, list) and each] or [320]


def _state(optimizer: Optimizer) -> int:
    """Bytes that an optimizer remembers for each number, and needs for a moment in a step where it is not fused."""
    match optimizer:
        case AdamW8bit():
            return 2
        case Adafactor() | Came():
            return 4 if isinstance(optimizer, Came) or optimizer.momentum is not None else 1
        case ScheduleFree():
            return 8
    match optimizer.kind:
        case "adamw" | "library":
            return 8
        case "lion" | "sgd" | "muon":
            return 4
        case "prodigy" | "d-adaptation":
            return 38
        case _:
            assert_never(optimizer)
