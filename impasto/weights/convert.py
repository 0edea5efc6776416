"""Plain LoRA files between the names of Kohya's scripts and those of diffusers and PEFT.

No name is ever taken apart: both names of every layer are known from the model's own module names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from impasto import families
from impasto.adapters.targets import Target
from impasto.errors import ModelFileError, Problem
from impasto.families import detect
from impasto.families.config import Model
from impasto.weights import deltas, peft, recognise, sd3_layout, stream
from impasto.weights.header import shown
from impasto.weights.stream import Reader, Spool

To = Literal["kohya", "peft"]
DOWN = {"lora_A.weight", "lora_A.default.weight", "lora_down.weight"}
UP = {"lora_B.weight", "lora_B.default.weight", "lora_up.weight"}
"""What the two factors are called, wherever."""


@dataclass(frozen=True)
class Place:
    """A layer of a model."""

    part: str
    path: str
    """Its dotted path as published, which for CLIP starts with `text_model.`"""

    @property
    def module(self) -> str:
        """The path as newer libraries have it. It ends the published one, so it fits both."""
        return self.path.removeprefix("text_model.")

    @property
    def name(self) -> str:
        """What files in diffusers' layout call it."""
        return f"{self.part}.{self.path}"

    def spellings(self) -> tuple[str, ...]:
        """All names that files in other layouts have for it."""
        plain = (self.path, self.module)
        return tuple(f"{start}{path}" for path in plain for start in (f"{self.part}.", "base_model.model."))


@dataclass
class Converted:
    """A file that was written."""

    file: Path
    layers: int
    remarks: list[str]


def places(base: str | None) -> dict[str, Place]:
    """Every layer of a base, or of Stable Diffusion 1.x, by its name in Kohya's layout."""
    card = None if base is None else detect.look(Model(path=base))
    found = {}
    for target in (each for each in families.outline(card) if not each.is_norm):
        nested = target.part == "text_encoder" and not target.path.startswith("text_model.")
        part = "text_encoder_2" if target.encoder == 2 else target.part
        found[target.name] = Place(part, f"text_model.{target.path}" if nested else target.path)
    return found


def read_by(table: Mapping[str, Place]) -> dict[str, str]:
    """The layers by all names that other layouts have for them; a name that two layers have leads nowhere."""
    owners: dict[str, set[str]] = {}
    for name, place in table.items():
        for spelling in place.spellings():
            owners.setdefault(spelling, set()).add(name)
    return {spelling: next(iter(names)) for spelling, names in owners.items() if len(names) == 1}


def convert(path: Path, out: Path, to: To, *, base: str | None = None) -> Converted:
    """Write the plain LoRA at `path` in the other layout; every number of its factors stays the same to the bit.

    Raises ModelFileError for other kinds, which diffusers does not read, and for layers that the base has not.
    """
    card = None if base is None else detect.look(Model(path=base))
    if card is not None and not card.read_by_diffusers:
        return _joined(path, out, to, families.outline(card))
    table = places(base)
    with stream.opened(path) as reader, stream.spooled(out, stream.precision_of(reader.head)) as spool:
        if to == "peft":
            return _to_peft(reader, spool, out, table)
        return _to_kohya(reader, spool, out, table)


def _to_peft(reader: Reader, spool: Spool, out: Path, table: Mapping[str, Place]) -> Converted:
    found = deltas.layers_of(reader)
    _check_plain(reader, found, {name: set(kinds) for name, kinds in found.layers.items()})
    sizes: dict[str, dict[str, tuple[int, float]]] = {}
    for name in found.layers:
        place = _place(reader, name, table)
        tensors = deltas.held(reader, found, name)
        down, up = tensors["lora_down.weight"], tensors["lora_up.weight"]
        alpha = float(tensors["alpha"]) if "alpha" in tensors else float(len(down))
        sizes.setdefault(place.part, {})[place.module] = (len(down), alpha)
        spool.add(f"{place.name}.lora_A.weight", down, as_is=True)
        spool.add(f"{place.name}.lora_B.weight", up, as_is=True)
    spool.commit(_noted(reader, "peft") | {peft.KEY: peft.written(sizes)})
    return Converted(out, len(found.layers), [])


def _to_kohya(reader: Reader, spool: Spool, out: Path, table: Mapping[str, Place]) -> Converted:
    found = recognise.adapter({name: entry.shape for name, entry in reader.head.tensors.items()})
    if found is None or found.layout not in ("diffusers", "peft"):
        what, fix = "is no adapter in the layout of diffusers or PEFT", "`impasto inspect` tells what the file is"
        raise ModelFileError(Problem("E-MOD-050", what, str(reader.path), fix))
    names = read_by(table)
    kinds = {name: {_kind(kind) for kind in tensors} for name, tensors in found.layers.items()}
    _check_plain(reader, found, kinds)
    told, remarks, untold = peft.told(reader.path, reader.head.metadata), [], 0
    for name, tensors in found.layers.items():
        if name not in names:
            raise _lost(reader, name)
        kohya = names[name]
        held = {_kind(kind): reader.tensor(f"{name}.{_spelt(reader, name, kind)}") for kind in tensors}
        down = held["lora_down.weight"]
        own = float(held["alpha"]) if "alpha" in held else None
        part = table[kohya].part if name.startswith(f"{table[kohya].part}.") else ""
        alpha = own if own is not None else told.alpha(part, table[kohya].module, len(down))
        untold += alpha is None
        spool.add(f"{kohya}.alpha", _alpha(float(len(down)) if alpha is None else alpha, down.dtype), as_is=True)
        spool.add(f"{kohya}.lora_down.weight", down, as_is=True)
        spool.add(f"{kohya}.lora_up.weight", held["lora_up.weight"], as_is=True)
    if untold:
        remarks.append(f"the file tells no alpha for {untold} layers; it was taken to be the rank, as diffusers does")
    spool.commit(_noted(reader, "kohya"))
    return Converted(out, len(found.layers), remarks)


def _joined(path: Path, out: Path, to: To, targets: list[Target]) -> Converted:
    """The same for bases whose layers the other layout cuts into several."""
    with stream.opened(path) as reader, stream.spooled(out, stream.precision_of(reader.head)) as spool:
        try:
            return (_split if to == "peft" else _put_together)(reader, spool, out, targets)
        except KeyError as error:
            raise _lost(reader, str(error.args[0])) from None
        except ValueError as error:
            fix = "train without T5: an adapter rule with `skip` for lora_te3"
            raise ModelFileError(Problem("E-MOD-051", str(error), str(path), fix)) from None


def _split(reader: Reader, spool: Spool, out: Path, targets: list[Target]) -> Converted:
    found = deltas.layers_of(reader)
    _check_plain(reader, found, {name: set(kinds) for name, kinds in found.layers.items()})
    layers = {}
    for name in found.layers:
        held = deltas.held(reader, found, name)
        down = held["lora_down.weight"]
        layers[name] = (down, held["lora_up.weight"], float(held["alpha"]) if "alpha" in held else float(len(down)))
    tensors, sizes = sd3_layout.to_diffusers(layers, targets)
    for name, value in tensors.items():
        spool.add(name, value, as_is=True)
    spool.commit(_noted(reader, "peft") | {peft.KEY: peft.written(sizes)})
    return Converted(out, len(layers), [])


def _put_together(reader: Reader, spool: Spool, out: Path, targets: list[Target]) -> Converted:
    found = recognise.adapter({name: entry.shape for name, entry in reader.head.tensors.items()})
    if found is None or found.layout != "diffusers":
        what, fix = "is no adapter in the layout of diffusers", "`impasto inspect` tells what the file is"
        raise ModelFileError(Problem("E-MOD-050", what, str(reader.path), fix))
    _check_plain(reader, found, {name: {_kind(kind) for kind in kinds} for name, kinds in found.layers.items()})
    told = peft.told(reader.path, reader.head.metadata)
    tensors = {name: reader.tensor(name) for name in reader.head.tensors}

    def alpha(part: str, layer: str, rank: int) -> float:
        own = told.alpha(part, layer, rank)
        return float(rank) if own is None else own

    layers = sd3_layout.to_kohya(tensors, alpha, targets)
    for name, (down, up, size) in layers.items():
        spool.add(f"{name}.alpha", _alpha(size, down.dtype), as_is=True)
        spool.add(f"{name}.lora_down.weight", down, as_is=True)
        spool.add(f"{name}.lora_up.weight", up, as_is=True)
    spool.commit(_noted(reader, "kohya"))
    return Converted(out, len(layers), [])


def _kind(kind: str) -> str:
    return "lora_down.weight" if kind in DOWN else "lora_up.weight" if kind in UP else kind


def _spelt(reader: Reader, name: str, kind: str) -> str:
    """The end of a tensor's name as the file has it: older files of diffusers have `lora.down`."""
    older = kind.replace("lora_", "lora.", 1)
    return older if f"{name}.{older}" in reader.head.tensors else kind


def _alpha(alpha: float, dtype: torch.dtype) -> Tensor:
    """In the type of the factors, or in fp32 where that could not tell it."""
    found = torch.tensor(alpha, dtype=dtype)
    return found if float(found) == alpha else torch.tensor(alpha)


def _check_plain(reader: Reader, found: recognise.Layers, kinds: Mapping[str, set[str]]) -> None:
    """Every layer must be a plain LoRA's and hold nothing else."""
    strange = found.unknown[:1] + [name for name, each in kinds.items() if not deltas.is_plain(each)]
    if strange:
        what = f"{shown(strange[0])} is no layer of a plain LoRA, and only these have the same meaning in both layouts"
        fix = "make it one with `impasto weights resize`, if its kind allows"
        raise ModelFileError(Problem("E-MOD-051", what, str(reader.path), fix))


def _place(reader: Reader, name: str, table: Mapping[str, Place]) -> Place:
    if name not in table:
        raise _lost(reader, name)
    return table[name]


def _lost(reader: Reader, name: str) -> ModelFileError:
    fix = "name the base it was trained on: --base FOLDER, or --base pocket"
    return ModelFileError(Problem("E-MOD-040", f"{shown(name)} has no place in the base", str(reader.path), fix))


def _noted(reader: Reader, to: To) -> dict[str, str]:
    kept = {key: value for key, value in reader.head.metadata.items() if not key.startswith("sshs_")}
    kept.pop(peft.KEY, None)
    return kept | {"impasto.made": json.dumps({"made": "convert", "from": reader.path.name, "to": to})}
