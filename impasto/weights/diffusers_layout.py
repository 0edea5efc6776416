"""LoRA, with lengths (DoRA) or without, as files in diffusers' layout, which its own loader opens for every family.

Layers that are joined here are cut into what diffusers has in their place. There is no alpha in such files. diffusers
finds one in the metadata, most other programs take it for the rank: so the scale can be put into the factors, and all
read the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from impasto.adapters.targets import Target
from impasto.families.names import T5
from impasto.families.single_file import halves_swapped
from impasto.weights import peft

Tensors = dict[str, Tensor]
Sizes = dict[str, dict[str, tuple[int, float]]]
"""Rank and alpha of each layer of each part."""

LENGTH = ".lora_magnitude_vector.weight"


class Module(NamedTuple):
    """A layer in such a file."""

    part: str
    path: str
    """As published: CLIP's starts with `text_model.`"""

    @property
    def module(self) -> str:
        """The path as newer libraries have it. It ends the published one, so it fits both."""
        return self.path.removeprefix("text_model.")

    @property
    def down(self) -> str:
        """The name of its first factor."""
        return f"{self.part}.{self.path}.lora_A.weight"

    @property
    def up(self) -> str:
        """The name of its second factor."""
        return f"{self.part}.{self.path}.lora_B.weight"

    @property
    def length(self) -> str:
        """The name of the lengths of its rows (DoRA): [O], or [1, O, 1, 1] for a convolution."""
        return f"{self.part}.{self.path}{LENGTH}"


def modules(target: Target, denoiser: str) -> list[Module]:
    """What such files have for a layer, in the order of its rows. Raises ValueError for T5's, which diffusers does not
    load. `denoiser` is what diffusers calls that part: `unet` or `transformer`."""
    if target.encoder == T5:
        raise ValueError(f"{target.name} is in a text encoder whose adapters diffusers does not load")
    if target.part == "unet":
        return [Module(denoiser, piece.path) for piece in target.pieces]
    part = "text_encoder_2" if target.encoder == 2 else "text_encoder"
    nested = target.path.startswith("text_model.")
    return [Module(part, target.path if nested else f"text_model.{target.path}")]


def written(
    layers: Iterable[tuple[Target, Mapping[str, Tensor]]], denoiser: str, *, fold: bool
) -> tuple[Tensors, dict[str, str]]:
    """Layers of LoRA as tensors of such a file, and its metadata. With `fold`, the scale is in the factors and
    alpha is the rank. Raises ValueError for what diffusers does not load."""
    found: Tensors = {}
    sizes: Sizes = {}
    for target, held in layers:
        for module, tensors, alpha in cut(target, held, denoiser, fold=fold):
            found |= tensors
            sizes.setdefault(module.part, {})[module.module] = (len(tensors[module.down]), alpha)
    lengths = any(name.endswith(LENGTH) for name in found)
    return found, {peft.KEY: peft.written(sizes, lengths=lengths)}


def cut(
    target: Target, held: Mapping[str, Tensor], denoiser: str, *, fold: bool
) -> Iterator[tuple[Module, Tensors, float]]:
    """The same for one layer: each module that it is there, its tensors and its alpha."""
    down, up = held["lora_down.weight"], held["lora_up.weight"]
    alpha = float(held["alpha"]) if "alpha" in held else float(len(down))
    if fold and alpha != len(down):
        up, alpha = up.float() * (alpha / len(down)), float(len(down))
    places = modules(target, denoiser)
    for module, rows in zip(places, _rows(target, up), strict=True):
        found = {module.down: down, module.up: rows}
        if "dora_scale" in held:
            lengths = dict(zip(places, _rows(target, held["dora_scale"]), strict=True))[module]
            found[module.length] = lengths.flatten() if lengths.ndim == 2 else lengths.transpose(0, 1)
        yield module, found, alpha


def _rows(target: Target, whole: Tensor) -> Iterator[Tensor]:
    pieces = target.pieces
    for piece, rows in zip(pieces, torch.split(whole, [each.rows for each in pieces]), strict=True):
        yield halves_swapped(rows) if piece.turned else rows
