"""Bases of full size with random numbers, for measuring: what a base weighs does not depend on what it has learnt.

A file is written a tensor at a time, in the original layout and with every name and shape of the published model, so
that making one takes no more memory than its largest tensor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from impasto import dice
from impasto.families import detect, loading, single_file
from impasto.families.card import Card, Name

NAMED: Mapping[torch.dtype, str] = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
Shape = tuple[int, ...]


def write(family: Name, path: Path, *, dtype: torch.dtype, seed: int = 0) -> Path:
    """Write a base of `family` as it was published, with random numbers, as one file in the original layout."""
    return write_parts(published(family, path), path, dtype=dtype, seed=seed)


def write_parts(card: Card, path: Path, *, dtype: torch.dtype, seed: int = 0) -> Path:
    """Write all parts of `card` with random numbers as one file in the original layout."""
    shapes = dict(places(card))
    with path.open("wb") as file:
        file.write(_head(shapes, dtype)[0])
        for name, shape in shapes.items():
            numbers = _numbers(name, shape, dice.seed("full size", seed, name)).to(dtype)
            file.write(numbers.view(-1).view(torch.uint8).numpy().tobytes())
    return path


def hollow(family: Name, path: Path, *, dtype: torch.dtype) -> Path:
    """Write such a file with nothing in it but its head: it can be planned with, and takes next to no room."""
    head, length = _head(dict(places(published(family, path))), dtype)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + length)
    return path


def _head(shapes: Mapping[str, Shape], dtype: torch.dtype) -> tuple[bytes, int]:
    """The head of a file with these tensors, and how many bytes follow it."""
    head: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        stop = end + dtype.itemsize * prod(shape)
        head[name] = {"dtype": NAMED[dtype], "shape": list(shape), "data_offsets": [end, stop]}
        end = stop
    raw = json.dumps(head).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw, end


def published(family: Name, path: Path) -> Card:
    """What such a file says of itself once it is there."""
    configs: dict[Any, Any] = detect.packaged(family)
    scheduler = configs.pop("scheduler")
    return Card(
        path=path, family=family, name=path.stem, resolution=512, step=64, factor=8, prediction="epsilon",
        scheduler=scheduler, configs=configs, files=dict.fromkeys(configs, (path,)), original=True, tokenizers=None,
    )  # fmt: skip


def places(card: Card) -> Iterator[tuple[str, Shape]]:
    """Every tensor of a file in the original layout, with its shape there."""
    for part, module in loading.parts(card).items():
        found = loading.original_table(card, part, module)
        for name, parameter in module.named_parameters():
            place, shape = found[name].name, single_file.held(found[name], tuple(parameter.shape))
            convolves = ".attn_1." in place and len(shape) == 2  # the VAE's attention, published as convolutions
            yield place, (*shape, 1, 1) if convolves else shape


def _numbers(name: str, shape: Shape, seed: int) -> Tensor:
    """What a layer begins with: its inputs' variance is kept, norms do nothing, biases are 0."""
    if len(shape) == 1:
        return torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)
    each = torch.Generator().manual_seed(seed)
    found: Tensor = torch.randn(shape, generator=each) / prod(shape[1:]) ** 0.5
    return found
