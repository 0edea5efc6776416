"""Adapter files merged into a base on disk: a new base, one tensor at a time."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from impasto import families, files
from impasto.adapters.targets import Layer, Norm, Target
from impasto.errors import ConfigError, ModelFileError, Problem
from impasto.families import detect
from impasto.families.config import Model
from impasto.families.detect import Card
from impasto.weights import deltas, stream
from impasto.weights.combine import Weighted
from impasto.weights.merge import merge
from impasto.weights.recognise import Layers
from impasto.weights.stream import Reader

WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5", ".onnx")
"""Files of a folder that hold numbers."""

PARTS: tuple[detect.Part, ...] = ("unet", "text_encoder")
"""The parts of a base that adapters ride on."""


@dataclass(frozen=True)
class Baked:
    """A base that was written."""

    folder: Path
    layers: int
    """How many of its layers are others than before."""

    left_out: Sequence[str]
    """Files of the old base that the new one has not: their numbers would be the old ones."""


@dataclass(frozen=True)
class _Given:
    """An adapter to be merged."""

    reader: Reader
    layers: Layers
    strength: float


def bake(given: Weighted, base: str, out: Path) -> Baked:
    """Write the base with the adapters merged into it, one after the other, as a new folder `out`.

    Each layer is computed in fp32 and rounded once to the type that it has. Of kinds that only add, the order does not
    matter. Raises ModelFileError when a layer has no place in the base or does not fit.
    """
    card = looked(base)
    targets = {target.name: target for target in families.outline(card)}
    if out.exists():
        raise ConfigError(Problem("E-CFG-033", f"{out} exists already", "command line --out", "choose another name"))
    with ExitStack() as stack:
        adapters = []
        for path, strength in given:
            reader = stack.enter_context(stream.opened(path))
            adapters.append(_Given(reader, deltas.layers_of(reader), strength))
        _check_places(adapters, targets)
        tmp = files.temporary(out.absolute())
        try:
            left_out = _copy(card, tmp)
            for part in PARTS:
                _bake_part(card, part, tmp, adapters, targets)
            files.commit_folder(tmp, out.absolute())
        except BaseException:
            if tmp.exists():
                files.try_to_remove(tmp)
            raise
    changed = {name for adapter in adapters for name in adapter.layers.layers}
    return Baked(out, len(changed), left_out)


def looked(base: str) -> Card:
    """The base at a place. Raises ModelFileError when it is none that lies open: a folder, with one text encoder."""
    card = detect.look(Model(path=base))
    wrong = None
    if card.original:
        wrong = "is a single file, and only bases in folders can be changed or compared yet"
    elif not set(card.encoders) <= set(PARTS):
        wrong = "has several text encoders, and only bases with one can be changed or compared yet"
    elif not card.read_by_diffusers:
        wrong = "is of a kind that cannot be changed or compared yet"
    if wrong:
        fix = "name a base of Stable Diffusion 1.x or 2.x as a folder in diffusers' layout"
        raise ModelFileError(Problem("E-MOD-057", wrong, str(card.path), fix))
    return card


def by_path(part: str, targets: Mapping[str, Target]) -> dict[str, Target]:
    """The layers of a part by their paths, without what some versions of the libraries put before them."""
    return {target.path.removeprefix("text_model."): target for target in targets.values() if target.part == part}


def place(tensor: str) -> tuple[str, str]:
    """`text_model.a.b.weight` -> `a.b` and `weight`."""
    path, _, kind = tensor.rpartition(".")
    return path.removeprefix("text_model."), kind


def _check_places(adapters: Sequence[_Given], targets: Mapping[str, Target]) -> None:
    for adapter in adapters:
        if strange := [name for name in adapter.layers.layers if name not in targets]:
            count = len(adapter.layers.layers)
            what = f"{len(strange)} of its {count} layers have no place in this base, among them {strange[0]}"
            fix = "use the base it was trained on; `impasto inspect` tells what the file is"
            raise ModelFileError(Problem("E-MOD-040", what, str(adapter.reader.path), fix))


def _copy(card: Card, tmp: Path) -> list[str]:
    """Everything but the numbers that will change; tells what is left out for good."""
    written = {card.weights(part) for part in PARTS}
    left_out = []
    files.make_folder(tmp)
    for source in sorted(card.path.rglob("*")):
        inside = source.relative_to(card.path)
        if any(name.startswith(".") for name in inside.parts):
            continue
        if source.is_dir():
            files.make_folder(tmp / inside)
        elif source in written:
            continue
        elif source.suffix in WEIGHTS and (len(inside.parts) == 1 or inside.parts[0] in PARTS):
            left_out.append(inside.as_posix())
        else:
            with files.replacing(tmp / inside) as target:
                shutil.copyfile(source, target)
    return left_out


def _bake_part(
    card: Card, part: detect.Part, tmp: Path, adapters: Sequence[_Given], targets: Mapping[str, Target]
) -> None:
    source = card.weights(part)
    paths = by_path(part, targets)
    with stream.opened(source) as reader:

        def change(tensor: str, value: Tensor) -> Tensor:
            path, kind = place(tensor)
            if path not in paths:
                return value
            return _changed(paths[path], kind, value, reader, tensor, adapters)

        stream.rewrite(reader, tmp / source.relative_to(card.path), change)


@torch.no_grad()
def _changed(
    target: Target, kind: str, value: Tensor, reader: Reader, tensor: str, adapters: Sequence[_Given]
) -> Tensor:
    """The weight or the bias of a layer after all adapters that change it."""
    mine = [each for each in adapters if target.name in each.layers.layers]
    if kind == "bias":
        mine = [each for each in mine if {"diff_b", "b_norm"} & each.layers.layers[target.name].keys()]
    if not mine:
        return value
    layer: Layer | Norm = copy.deepcopy(target.base).to_empty(device="cpu").float().requires_grad_(False)
    stem = tensor.removesuffix(kind)
    layer.weight.copy_(reader.tensor(f"{stem}weight"))
    if layer.bias is not None:
        layer.bias.copy_(reader.tensor(f"{stem}bias"))
    for adapter in mine:
        try:
            merge(layer, deltas.held(adapter.reader, adapter.layers, target.name), adapter.strength)
        except (KeyError, ValueError, RuntimeError) as error:
            what, fix = f"{target.name} does not fit: {error}", "use the base it was trained on"
            raise ModelFileError(Problem("E-MOD-041", what, str(adapter.reader.path), fix)) from None
    made = layer.bias if kind == "bias" else layer.weight
    assert made is not None
    return made.to(value.dtype)
