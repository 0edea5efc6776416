"""What a run takes in memory and time, from the heads of the base's files: rough, and told to be so.

How it is reckoned: weights as they are held, the adapter's numbers with gradients and the optimizer's state, and what
a forward pass keeps for the backward pass, which grows with the latents of a micro-batch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from math import prod
from typing import assert_never

from impasto.adapters.config import Ranked
from impasto.config import RunConfig
from impasto.families.card import Card, Part
from impasto.optim.config import Adafactor, AdamW8bit, Came, Optimizer, ScheduleFree
from impasto.preflight.report import Range
from impasto.rates import part_rates
from impasto.weights import header

PROGRAM = 0.44e9
"""Bytes of Python, torch and the libraries."""

KEPT = {False: 671, True: 320}
"""Bytes that are kept for the backward pass, for each latent and channel at full size; with checkpointing."""

ENCODED = 24
"""Bytes for each pixel and channel at full size while a picture is encoded."""

MEASURED = 50_000_000
"""Bases of up to so many numbers were measured."""

USUAL = re.compile(r"(transformer|double|single|joint)_blocks\.|\.proj_(in|out)\.|\.(self_attn|mlp|attn)\.")
CONVOLVING = re.compile(
    r"\.resnets\.|samplers\.|\.(in|out|emb)_layers\.|\.skip_connection\.|\.op\.|output_blocks\.\d+\.\d+\.conv\."
)
CPU, GPU = (15e9, 90e9), (8e12, 250e12)
"""Operations a second of a core, and of a GPU: from a slow one to a fast one, as measured on several."""


def shapes(card: Card, part: Part) -> dict[str, tuple[int, ...]]:
    """The tensors of a part. Of a single file all of them that can be the part's, by their names."""
    found = header.tensors(card.weights(part))
    prefixes: dict[str, tuple[str, ...]] = {
        "unet": ("model.diffusion_model.",),
        "vae": ("first_stage_model.",),
        "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
        "text_encoder_2": ("conditioner.embedders.1.",),
    }
    own = prefixes.get(part, ()) if card.original else ()
    return {name: entry.shape for name, entry in found.items() if not own or name.startswith(own)}


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
    middle = peak(config, card, area=area, batch=batch, numbers=numbers)
    if _was_measured(config, card):
        return Range(middle / 1.25, middle / 0.9, "calibrated")
    return Range(0.6 * middle, 1.8 * middle, "uncalibrated")


def peak(config: RunConfig, card: Card, *, area: int, batch: int, numbers: int | None) -> float:
    """Bytes while pictures are encoded, or in a training step, whichever is more."""
    gpu = on_gpu(config)
    held = {"fp32": 4, "bf16": 2, "fp16": 2, "auto": 2 if gpu else 4}[config.model.precision]
    packed = {"none": held, "fp8": 1, "int8": 1, "nf4": 0.55}[config.model.quantize]
    denoiser = [part for part in card.configs if part != "vae" and part not in card.encoders]
    weights = sum(_count(card, part) for part in denoiser) * packed
    weights += sum(_count(card, part) for part in card.encoders) * held
    kept = KEPT[config.model.gradient_checkpointing] * held / 4
    activations = batch * area / card.factor**2 * max(_widths(card, denoiser)) * kept
    state = (numbers or 0) * (8 + _state(config.optim.optimizer) + (4 if config.optim.ema else 0))
    encoding = _count(card, "vae") * 4 + area * max(_widths(card, ["vae"])[:1]) * ENCODED
    return (0 if gpu else PROGRAM) + weights + max(activations + state, encoding)


def _was_measured(config: RunConfig, card: Card) -> bool:
    """Whether such a run was compared with its estimate: small bases, in fp32 on a processor."""
    plain = config.model.precision in ("auto", "fp32") and config.model.quantize == "none"
    small = sum(_count(card, part) for part in card.configs) < MEASURED
    usual = config.optim.optimizer.kind in ("adamw", "prodigy") and config.adapter.kind == "lora"
    return plain and small and usual and not on_gpu(config)


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
