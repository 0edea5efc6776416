"""Plain LoRA of Stable Diffusion 3 between Kohya's layout and that of diffusers and PEFT.

Kohya's has one layer for queries, keys and values, and the last norms with shift before scale; diffusers has three
layers, and scale before shift. diffusers (0.42) reads only its own layout for this base: of a file in Kohya's it takes
nothing, without an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from impasto.adapters.targets import Target
from impasto.families.mmdit import JOINED
from impasto.families.single_file import halves_swapped

Factors = tuple[Tensor, Tensor, float]
"""`lora_down` [r, I, ...], `lora_up` [O, r, ...] and alpha of a layer."""

LOADED = ("transformer", "text_encoder", "text_encoder_2")
"""The parts whose adapters diffusers loads. T5 is not among them."""

Sizes = dict[str, dict[str, tuple[int, float]]]
"""Rank and alpha of each layer of each part, for `impasto.weights.peft.written`."""


def to_diffusers(layers: Mapping[str, Factors], targets: Iterable[Target]) -> tuple[dict[str, Tensor], Sizes]:
    """Layers by their names in Kohya's layout -> tensors of a file in diffusers', and their sizes.

    Raises KeyError for a layer that the base has not, and ValueError for one that diffusers does not load.
    """
    places = {target.name: target for target in targets}
    found: dict[str, Tensor] = {}
    sizes: Sizes = {}
    for name, (down, up, alpha) in layers.items():
        target = places[name]
        if _part(target) not in LOADED:
            raise ValueError(f"{name} is in a text encoder whose adapters diffusers does not load")
        for path, rows in _pieces(target, up):
            found[f"{_part(target)}.{path}.lora_A.weight"] = down.clone()
            found[f"{_part(target)}.{path}.lora_B.weight"] = rows.clone()
            sizes.setdefault(_part(target), {})[path] = (len(down), alpha)
    return found, sizes


def to_kohya(
    tensors: Mapping[str, Tensor], alpha: Callable[[str, str, int], float], targets: Iterable[Target]
) -> dict[str, Factors]:
    """Tensors of a file in diffusers' layout -> layers by their names in Kohya's. `alpha` tells it by part, path and
    rank. Queries, keys and values with one `lora_A` among them keep their rank; else it is the sum of theirs.

    Raises KeyError for a tensor that belongs to no layer of the base.
    """
    left = set(tensors)
    found: dict[str, Factors] = {}
    for target in targets:
        part = _part(target)
        pieces: list[Factors | None] = []
        for path in _paths(target):
            names = [f"{part}.{path}.lora_{each}.weight" for each in "AB"]
            if names[0] in tensors:
                left -= set(names)
                down, up = (tensors[name] for name in names)
                pieces.append((down, up, alpha(part, path, len(down))))
            else:
                pieces.append(None)
        if any(each is not None for each in pieces):
            found[target.name] = _whole(target, pieces)
    if left:
        raise KeyError(min(left))
    return found


def _part(target: Target) -> str:
    if target.encoder is None:
        return "transformer"
    return "text_encoder" if target.encoder == 1 else f"text_encoder_{target.encoder}"


def _paths(target: Target) -> list[str]:
    above, _, last = target.path.rpartition(".")
    return [f"{above}.{each}" for each in JOINED[last]] if last in JOINED else [target.path]


def _pieces(target: Target, up: Tensor) -> list[tuple[str, Tensor]]:
    paths = _paths(target)
    rows = up.chunk(len(paths)) if len(paths) > 1 else [_turned(target, up)]
    return list(zip(paths, rows, strict=True))


def _turned(target: Target, up: Tensor) -> Tensor:
    """Rows as the other layout has them: the two halves of the last norms change places."""
    last = target.block is not None and target.block.at == target.block.counted.mid - 1
    turned = target.path == "norm_out.linear" or (last and target.path.endswith(".norm1_context.linear"))
    return halves_swapped(up) if turned else up


def _whole(target: Target, pieces: list[Factors | None]) -> Factors:
    """One layer of its pieces; a piece that is not there adds nothing."""
    if len(pieces) == 1:
        (piece,) = pieces
        assert piece is not None
        return piece[0], _turned(target, piece[1]), piece[2]
    there = [piece for piece in pieces if piece is not None]
    down, _, alpha = there[0]
    if len(there) == len(pieces) and all(each[2] == alpha and torch.equal(each[0], down) for each in there):
        return down, torch.cat([each[1] for each in there]), alpha
    # scales alpha / rank differ: they go into the factors, and the whole has the scale 1
    outputs = target.layer.weight.shape[0] // len(pieces)
    downs, ups = [each[0] for each in there], []
    rank = sum(map(len, downs))
    start = 0
    for piece in pieces:
        rows = down.new_zeros(outputs, rank)
        if piece is not None:
            end = start + len(piece[0])
            rows[:, start:end] = piece[1] * (piece[2] / len(piece[0]))
            start = end
        ups.append(rows)
    return torch.cat(downs), torch.cat(ups), float(rank)
