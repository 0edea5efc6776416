"""Will an adapter file load where it is to be used? Everything that is wrong with it, each with how to mend it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

import numpy as np

from impasto.errors import ModelFileError, Problem
from impasto.weights import header, recognise
from impasto.weights.header import NUMPY, Header, shown
from impasto.weights.inspect import SAID
from impasto.weights.recognise import FAMILIES, Layers

READ = ("F32", "F16", "BF16")
"""The types of numbers that every program reads in adapters."""

STRONGEST = 16.0
"""A larger alpha / rank is probably none that was meant."""

HALVES = (("lora_down.weight", "lora_up.weight"), ("lora_A.weight", "lora_B.weight"))
AGAIN = "write or fetch the file again"


@dataclass
class Verdict:
    """What there is to say of a file."""

    path: Path
    summary: str
    problems: list[Problem] = field(default_factory=list)
    """What keeps it from being loaded or from doing what it did in training."""

    notes: list[str] = field(default_factory=list)
    """What may be meant so."""


def verify(path: Path, base: str | None = None) -> Verdict:
    """Look at every tensor of the adapter file at `path`, and hold its names and shapes against a base's.

    Raises ModelFileError when it is not whole or no adapter at all.
    """
    head = header.read(path)
    shapes = {name: entry.shape for name, entry in head.tensors.items()}
    found = recognise.adapter(shapes)
    if found is None:
        what, fix = f"is no adapter but a {recognise.model(shapes)[0]}", "name an adapter's .safetensors file"
        raise ModelFileError(Problem("E-MOD-050", what, str(path), fix))
    family, _ = recognise.adapter_family(found)
    made_for = FAMILIES[family] if family else "a family that it does not tell"
    verdict = Verdict(path, f"{len(found.layers)} layers of {' + '.join(found.kinds)}, for {made_for}")
    numbers = _Numbers(path, head)
    for problem in (*_types(path, head), *numbers.problems, *_whole(path, found), *_alphas(path, head, found)):
        verdict.problems.append(problem)
    verdict.notes += [*_notes(found, numbers), *_strong(path, head, found)]
    if base is not None:
        verdict.problems += _on(path, head, base)
    return verdict


class _Numbers:
    """What reading every number tells."""

    def __init__(self, path: Path, head: Header) -> None:
        bad, self.empty = [], set[str]()
        for name, entry in head.tensors.items():
            if entry.dtype in NUMPY and entry.count:
                values = header.numbers(path, head, name)
                if not np.isfinite(values).all():
                    bad.append(name)
                elif not values.any():
                    self.empty.add(name)
        self.problems: list[Problem] = []
        if bad:
            what = f"{len(bad)} tensors hold numbers that are not finite, first {shown(bad[0])}"
            self.problems.append(Problem("E-MOD-010", what, str(path), "use an earlier file of the same training"))


def _types(path: Path, head: Header) -> Iterator[Problem]:
    strange = {name: entry.dtype for name, entry in head.tensors.items() if entry.dtype not in READ}
    held = {name: each for name, each in strange.items() if not (name.endswith(".alpha") and each in NUMPY)}
    if held:
        name, dtype = next(iter(held.items()))
        what = f"{len(held)} tensors are of a type that few programs read in adapters, first {shown(name)} of {dtype}"
        yield Problem("E-MOD-060", what, str(path), "write it again in fp16, bf16 or fp32")


def _whole(path: Path, found: Layers) -> Iterator[Problem]:
    if found.unknown:
        what = f"{len(found.unknown)} tensors are in no adapter, first {shown(found.unknown[0])}"
        yield Problem("E-MOD-050", what, str(path), "`impasto inspect` tells what the file is")
    halved, unfit = [], []
    for name, tensors in found.layers.items():
        for down, up in HALVES:
            if (down in tensors) != (up in tensors):
                halved.append(f"{name}.{up if down in tensors else down}")
            elif down in tensors and not _fit(tensors[down], tensors[up]):
                unfit.append(f"{name}: {list(tensors[down])} and {list(tensors[up])}")
    if halved:
        what = f"{len(halved)} layers have one factor of two, first without {shown(halved[0])}"
        yield Problem("E-MOD-041", what, str(path), AGAIN)
    if unfit:
        what = f"the factors of {len(unfit)} layers do not fit together, first {shown(unfit[0])}"
        yield Problem("E-MOD-041", what, str(path), AGAIN)


def _fit(down: recognise.Shape, up: recognise.Shape) -> bool:
    return len(down) > 1 and len(up) > 1 and down[0] == up[1] > 0


def _alphas(path: Path, head: Header, found: Layers) -> Iterator[Problem]:
    """An alpha must be one number, finite, and not zero where it is a scale: for rotations it is a limit."""
    bad = []
    for name, tensors in found.layers.items():
        if "alpha" in tensors and (entry := head.tensors.get(f"{name}.alpha")) is not None:
            value = header.numbers(path, head, f"{name}.alpha") if entry.dtype in NUMPY else np.full(1, np.nan)
            zero = recognise.rank(tensors) is not None and not value.any()
            if value.size != 1 or not np.isfinite(value).all() or zero:
                bad.append(name)
    if bad:
        what = f"alpha of {len(bad)} layers is no number that a scale can be made of, first of {shown(bad[0])}"
        yield Problem("E-MOD-061", what, str(path), "write it again, or `impasto weights resize`, which sets it anew")


def _notes(found: Layers, numbers: _Numbers) -> Iterator[str]:
    ups = [f"{name}.{up}" for name, tensors in found.layers.items() for _, up in HALVES if up in tensors]
    if ups and all(each in numbers.empty for each in ups):
        yield "it adds nothing: every second factor is zero, as before training"
    lacking = [name for name, kinds in found.layers.items() if "lora_down.weight" in kinds and "alpha" not in kinds]
    if found.layout == "kohya" and lacking:
        yield f"{len(lacking)} layers tell no alpha: it counts as their rank, first {shown(lacking[0])}"


def _strong(path: Path, head: Header, found: Layers) -> Iterator[str]:
    scales = {}
    for name, tensors in found.layers.items():
        entry, rank = head.tensors.get(f"{name}.alpha"), recognise.rank(tensors)
        if entry is not None and entry.count == 1 and entry.dtype in NUMPY and rank:
            scales[name] = float(header.numbers(path, head, f"{name}.alpha").item()) / rank
    if strong := [name for name, scale in scales.items() if isfinite(scale) and abs(scale) > STRONGEST]:
        yield f"alpha / rank of {len(strong)} layers is above {STRONGEST:g}, first {scales[strong[0]]:g} of {strong[0]}"


def _on(path: Path, head: Header, base: str) -> Iterator[Problem]:
    """What does not go with a base."""
    import copy

    from impasto import families
    from impasto.adapters.reading import from_file
    from impasto.families import detect
    from impasto.families.config import Model
    from impasto.weights import layouts, stream

    card = detect.look(Model(path=base))
    try:
        found = layouts.find(path, head.tensors, head.metadata, families.outline(card))
    except ModelFileError as error:
        family, _ = recognise.adapter_family(_adapter(head))
        own = SAID[card.called.version]
        if family and family != own and [each.code for each in error.problems] == ["E-MOD-040"]:
            what = f"is for {FAMILIES[family]}, and the base is {FAMILIES[own]}"
            yield Problem("E-MOD-040", what, str(path), "use it with the base it was trained on")
        else:
            yield from error.problems
        return
    unfit = {}
    with stream.opened(path) as reader:
        for name in found.layers:
            try:
                layer = copy.deepcopy(found.targets[name].base).to_empty(device="cpu")
                from_file(layer, found.held(name, reader.tensor))
            except ModelFileError as error:
                yield from (each for each in error.problems if each.code != "E-MOD-010")  # told already
            except (KeyError, ValueError, RuntimeError, IndexError) as error:
                unfit[name] = str(error)
    if unfit:
        name, why = next(iter(unfit.items()))
        what = f"{len(unfit)} of its {len(found.layers)} layers do not fit the base, first {name}: {why}"
        yield Problem("E-MOD-041", what, str(path), "use it with the base it was trained on")


def _adapter(head: Header) -> Layers:
    found = recognise.adapter({name: entry.shape for name, entry in head.tensors.items()})
    assert found is not None, "looked at before"
    return found
