"""Adapter files merged into a base on disk: a new base, one tensor at a time."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from impasto import files
from impasto.adapters.targets import Layer, Norm, Target
from impasto.errors import ConfigError, ModelFileError, Problem
from impasto.families import single_file
from impasto.families.config import Precision
from impasto.families.detect import Card, Part
from impasto.weights import bases, deltas, file, stream
from impasto.weights.bases import Base, Slot
from impasto.weights.combine import Weighted
from impasto.weights.deltas import Opened
from impasto.weights.merge import merge
from impasto.weights.stream import Reader

WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5", ".onnx")
"""Files of a folder that hold numbers."""

STALE = ("sshs_", "modelspec.hash", "modelspec.merged_from", "impasto.made")
"""Begins the metadata that tells of the old numbers."""


@dataclass(frozen=True)
class Baked:
    """A base that was written."""

    path: Path
    """A folder or a single file, as the old base is."""

    layers: int
    """How many of its layers are others than before."""

    left_out: Sequence[str]
    """Files of the old base that the new one has not: their numbers would be the old ones."""


@dataclass(frozen=True)
class _Given:
    """An adapter to be merged."""

    file: Opened
    strength: float


@dataclass(frozen=True)
class _Job:
    """What is merged into what, and how it is held then."""

    base: Base
    adapters: Sequence[_Given]
    precision: Precision | None
    """None: each tensor as before."""


def bake(
    given: Weighted, base: str, out: Path, *, precision: Precision | None = None, config_path: Path | None = None
) -> Baked:
    """Write the base with the adapters merged into it, one after the other, to `out`: a folder or a single file, as the
    base is.

    Each layer is computed in fp32 and rounded once, to the type that it has or to `precision`. Of kinds that only add,
    the order does not matter. Raises ModelFileError when a layer has no place in the base, does not fit, or would hold
    a number that is not finite.
    """
    found = bases.looked(base, config_path)
    if out.exists():
        raise ConfigError(Problem("E-CFG-033", f"{out} exists already", "command line --out", "choose another name"))
    if found.card.original != (out.suffix == ".safetensors"):
        kind, fix = ("a single file", "name a .safetensors file") if found.card.original else ("a folder", "name one")
        raise ConfigError(
            Problem("E-CFG-033", f"{base} is {kind}, and so is what is written", "command line --out", fix)
        )
    with ExitStack() as stack:
        adapters = []
        for path, strength in given:
            reader = stack.enter_context(stream.opened(path))
            adapters.append(_Given(deltas.opened(reader, found.targets.values()), strength))
        job = _Job(found, adapters, precision)
        left_out = [] if found.card.original else _bake_folder(job, out.absolute())
        if found.card.original:
            _bake_file(job, found.card.path, (), tuple(found.slots), out)
    changed = {name for adapter in adapters for name in adapter.file.kinds}
    return Baked(out, len(changed), left_out)


def _bake_folder(job: _Job, out: Path) -> list[str]:
    """Write a folder; tells what of the old one is left out."""
    card, tmp = job.base.card, files.temporary(out)
    try:
        left_out = _copy(card, tuple(job.base.slots), tmp)
        for part in job.base.slots:
            for source in card.weights(part):
                _bake_file(job, source, card.weights(part), (part,), tmp / source.relative_to(card.path))
        files.commit_folder(tmp, out)
    except BaseException:
        if tmp.exists():
            files.try_to_remove(tmp)
        raise
    return left_out


def _copy(card: Card, parts: Sequence[Part], tmp: Path) -> list[str]:
    """Everything but the numbers that will change; tells what is left out for good."""
    written = {source for part in parts for source in card.weights(part)}
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
        elif source.suffix in WEIGHTS and (len(inside.parts) == 1 or inside.parts[0] in parts):
            left_out.append(inside.as_posix())
        else:
            with files.replacing(tmp / inside) as target:
                shutil.copyfile(source, target)
    return left_out


def _bake_file(job: _Job, source: Path, beside: Sequence[Path], parts: Sequence[Part], out: Path) -> None:
    """Write one file of a base again, with `parts` in it; `beside` it lie others that hold the rest of them."""
    held: dict[str, list[tuple[Target, Slot, int]]] = {}
    for part in parts:
        layers = job.base.called(part)
        for slot in job.base.slots[part].values():
            for at, place in enumerate(slot.places if slot.path in layers else ()):
                held.setdefault(place.name, []).append((layers[slot.path], slot, at))
    with stream.opened(source) as reader, stream.opened(source, *(each for each in beside if each != source)) as whole:
        for target, slot, _ in (each for several in held.values() for each in several):
            if any(target.name in adapter.file.kinds for adapter in job.adapters) and slot.missing(whole):
                raise bases.missing(slot, whole)

        def change(tensor: str, value: Tensor) -> Tensor:
            made = value
            if job.precision and reader.head.tensors[tensor].dtype in stream.FLOATS:
                made = value.to(file.DTYPES[job.precision])
            for target, slot, at in held.get(tensor, ()):
                if (merged := _merged(job, target, slot, whole)) is not None:
                    made = made.clone() if made is value else made
                    single_file.put(slot.places[at], made, torch.split(merged, list(slot.rows))[at])
            return made

        stream.rewrite(reader, out, change, _noted(reader, job), job.precision)


@torch.no_grad()
def _merged(job: _Job, target: Target, slot: Slot, reader: Reader) -> Tensor | None:
    """The weight or the bias of a layer after all adapters that change it, fp32; None where none does."""
    mine = [each for each in job.adapters if target.name in each.file.kinds]
    if slot.kind == "bias":
        mine = [each for each in mine if {"diff_b", "b_norm"} & set(each.file.kinds[target.name])]
    if not mine:
        return None
    layer: Layer | Norm = copy.deepcopy(target.base).to_empty(device="cpu").float().requires_grad_(False)
    layer.weight.copy_(job.base.slot(target, "weight").read(reader))
    if layer.bias is not None:
        layer.bias.copy_(job.base.slot(target, "bias").read(reader))
    for adapter in mine:
        try:
            merge(layer, adapter.file.held(target.name), adapter.strength)
        except (KeyError, ValueError, RuntimeError) as error:
            what, fix = f"{target.name} does not fit: {error}", "use the base it was trained on"
            raise ModelFileError(Problem("E-MOD-041", what, str(adapter.file.path), fix)) from None
    return layer.bias if slot.kind == "bias" else layer.weight


def _noted(reader: Reader, job: _Job) -> dict[str, str]:
    """The file's metadata, with a note of what was merged."""
    kept = {key: value for key, value in reader.head.metadata.items() if not key.startswith(STALE)}
    merged = {each.file.path.name: each.strength for each in job.adapters}
    made = {"made": "merge", "base": job.base.card.name, "files": merged}
    names = ", ".join([job.base.card.name, *merged])
    return kept | {"modelspec.merged_from": names, "impasto.made": json.dumps(made, sort_keys=True)}
