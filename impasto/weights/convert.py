"""LoRA files of all programs in the names of Kohya's scripts, or in those of diffusers and PEFT."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from impasto import families
from impasto.errors import ModelFileError, Problem
from impasto.families import detect
from impasto.families.config import Model
from impasto.weights import deltas, diffusers_layout, layouts, peft, recognise, stream
from impasto.weights.header import shown
from impasto.weights.layouts import Found
from impasto.weights.stream import Reader, Spool

To = Literal["kohya", "diffusers"]


@dataclass
class Converted:
    """A file that was written."""

    file: Path
    layers: int
    remarks: list[str]


def convert(path: Path, out: Path, to: To, *, base: str | None = None) -> Converted:
    """Write the LoRA at `path` in another layout; every number of its factors stays the same to the bit, but for
    parts of one layer that have several scales.

    Raises ModelFileError for other kinds, which diffusers does not read, and for layers that the base has not.
    """
    card = None if base is None else detect.look(Model(path=base))
    with stream.opened(path) as reader, stream.spooled(out, stream.precision_of(reader.head)) as spool:
        targets = families.outline(card) if card else layouts.published(reader.head)
        found = _found(reader, layouts.find(path, reader.head.tensors, reader.head.metadata, targets))
        if to == "diffusers":
            return _to_diffusers(reader, found, spool, out, card.denoiser if card else "unet")
        return _to_kohya(reader, found, spool, out)


def _found(reader: Reader, found: Found) -> Found:
    """Every layer must be a LoRA's, with lengths (DoRA) or without."""
    if strange := [name for name in found.layers if not deltas.is_plain(found.kinds(name) - {"dora_scale"})]:
        what = f"{shown(strange[0])} is no layer of a LoRA, and only these have the same meaning in all layouts"
        fix = "make it one with `impasto weights resize`, if its kind allows"
        raise ModelFileError(Problem("E-MOD-051", what, str(reader.path), fix))
    if not found.layers:
        what = f"is no adapter but a {recognise.model({})[0]}"
        raise ModelFileError(Problem("E-MOD-050", what, str(reader.path), "name an adapter's .safetensors file"))
    return found


def _to_diffusers(reader: Reader, found: Found, spool: Spool, out: Path, denoiser: str) -> Converted:
    sizes: diffusers_layout.Sizes = {}
    for name in found.layers:
        held = found.held(name, reader.tensor)
        try:
            for module, tensors, alpha in diffusers_layout.cut(found.targets[name], held, denoiser, fold=False):
                for key, value in tensors.items():
                    spool.add(key, value, as_is=True)
                sizes.setdefault(module.part, {})[module.module] = (len(tensors[module.down]), alpha)
        except ValueError as error:
            fix = "train without T5: an adapter rule with `skip` for lora_te3"
            raise ModelFileError(Problem("E-MOD-051", str(error), str(reader.path), fix)) from None
    lengths = any("dora_scale" in found.kinds(name) for name in found.layers)
    spool.commit(_noted(reader, "diffusers") | {peft.KEY: peft.written(sizes, lengths=lengths)})
    return Converted(out, len(found.layers), [])


def _to_kohya(reader: Reader, found: Found, spool: Spool, out: Path) -> Converted:
    for name in found.layers:
        held = found.held(name, reader.tensor)
        down = held["lora_down.weight"]
        spool.add(f"{name}.alpha", _alpha(float(held["alpha"]), down.dtype), as_is=True)
        spool.add(f"{name}.lora_down.weight", down, as_is=True)
        spool.add(f"{name}.lora_up.weight", held["lora_up.weight"], as_is=True)
        if "dora_scale" in held:
            spool.add(f"{name}.dora_scale", held["dora_scale"], as_is=True)
    spool.commit(_noted(reader, "kohya"))
    untold = sum(found.untold(name) for name in found.layers)
    remark = f"the file tells no alpha for {untold} layers; it was taken to be the rank, as diffusers does"
    return Converted(out, len(found.layers), [remark] if untold else [])


def _alpha(alpha: float, dtype: torch.dtype) -> Tensor:
    """In the type of the factors, or in fp32 where that could not tell it."""
    found = torch.tensor(alpha, dtype=dtype)
    return found if float(found) == alpha else torch.tensor(alpha)


def _noted(reader: Reader, to: To) -> dict[str, str]:
    kept = {key: value for key, value in reader.head.metadata.items() if not key.startswith("sshs_")}
    kept.pop(peft.KEY, None)
    return kept | {"impasto.made": json.dumps({"made": "convert", "from": reader.path.name, "to": to})}
