"""What a run takes in memory and time, from the heads of the base's files: rough, and told to be so.

How it is reckoned: weights as they are held, the adapter's numbers with gradients and the optimizer's state, and what
a forward pass keeps for the backward pass, which grows with the latents of a micro-batch.
"""

from __future__ import annotations

import os
import re
from math import prod
from typing import assert_never

from impasto.adapters.config import Ranked
from impasto.config import RunConfig
from impasto.families.card import Card, Part
from impasto.optim.config import Adafactor, AdamW8bit, Came, Optimizer, ScheduleFree
from impasto.preflight.report import Range
from impasto.rates import part_rates
from impasto.weights import header

PROGRAM = 0.75e9
"""Bytes of Python, torch and the libraries."""

USUAL = re.compile(r"transformer_blocks\.|\.proj_(in|out)\.|\.(self_attn|mlp|attn)\.|_blocks\.\d+\.")
CONVOLVING = re.compile(r"\.resnets\.|samplers\.|\.(in|out)_layers\.|\.emb_layers\.|\.op\.")
CPU, GPU = (15e9, 90e9), (8e12, 250e12)
"""Operations a second of a core, and of a GPU: from a slow one to a fast one, as measured on several."""


def shapes(card: Card, part: Part) -> dict[str, tuple[int, ...]]:
    """The tensors of a part. Of a single file all of them that can be the part's, by their names."""
    found = header.read(card.weights(part)).tensors
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
                total += adapter.rank * (shape[0] + prod(shape[1:]))
            elif layer and CONVOLVING.search(name) and adapter.layers == "full":
                large = len(shape) == 4 and shape[-1] > 1
                total += (adapter.conv_rank or adapter.rank if large else adapter.rank) * (shape[0] + prod(shape[1:]))
    return total


def memory(config: RunConfig, card: Card, *, area: int, batch: int, numbers: int | None) -> Range:
    """Bytes at the peak of a step, for a micro-batch of `batch` pictures of `area` pixels."""
    gpu = on_gpu(config)
    held = {"fp32": 4, "bf16": 2, "fp16": 2, "auto": 2 if gpu else 4}[config.model.precision]
    packed = {"none": held, "fp8": 1, "int8": 1, "nf4": 0.55}[config.model.quantize]
    denoiser = [part for part in card.configs if part != "vae" and part not in card.encoders]
    weights = sum(_count(card, part) for part in denoiser) * packed
    weights += sum(_count(card, part) for part in card.encoders) * held
    latents = batch * area / card.factor**2
    kept = 90 if config.model.gradient_checkpointing else 260
    activations = latents * max(_widths(card)) * kept * held / 4
    state = (numbers or 0) * (8 + _state(config.optim.optimizer) + (4 if config.optim.ema else 0))
    total = (0 if gpu else PROGRAM) + weights + activations + state
    return Range(0.7 * total, 1.6 * total, "uncalibrated")


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


def _widths(card: Card) -> list[int]:
    found = [values.get("block_out_channels") for part, values in card.configs.items() if part != "vae"]
    return [int(each[0]) for each in found if isinstance(each, list) and each] or [320]


def _state(optimizer: Optimizer) -> int:
    """Bytes that an optimizer remembers for each number."""
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
            return 16
        case _:
            assert_never(optimizer)
