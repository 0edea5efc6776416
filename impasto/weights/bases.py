"""Where the numbers of each layer of a base lie in its files: in a folder, or in one file in the original layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from impasto import families
from impasto.adapters.targets import Piece, Target
from impasto.errors import ModelFileError, Problem
from impasto.families import detect, eight_bits, loading, pieces, single_file
from impasto.families.card import ENCODERS
from impasto.families.config import Model
from impasto.families.detect import Card, Part
from impasto.families.single_file import Place
from impasto.weights import header
from impasto.weights.stream import Reader


@dataclass(frozen=True)
class Slot:
    """A tensor of a part of a base."""

    part: Part
    name: str
    """As its module calls it: `mid_block.attentions.0.proj_in.weight`."""

    shape: tuple[int, ...]
    places: tuple[Place, ...]
    """Where it lies in its part's files: in one tensor, or its rows in several, one after another."""

    rows: tuple[int, ...]
    """How many of them lie in each."""

    @property
    def path(self) -> str:
        """The layer it belongs to."""
        return self.name.rpartition(".")[0]

    @property
    def kind(self) -> str:
        """`weight` or `bias`."""
        return self.name.rpartition(".")[2]

    def missing(self, reader: Reader) -> Place | None:
        """What of it the files do not hold in its shape."""
        for place, shape in zip(self.places, self.shapes, strict=True):
            entry = reader.head.tensors.get(place.name)
            if entry is None or not loading.fits(single_file.held(place, shape), entry.shape):
                return place
        return None

    def read(self, reader: Reader) -> Tensor:
        """Its numbers in the file."""
        found = [
            single_file.unfuse(place, reader.tensor(place.name), shape)
            for place, shape in zip(self.places, self.shapes, strict=True)
        ]
        return torch.cat(found) if len(found) > 1 else found[0]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of what lies in each place."""
        return [(rows, *self.shape[1:]) for rows in self.rows]


@dataclass(frozen=True)
class Base:
    """A base whose files are worked on."""

    card: Card
    targets: Mapping[str, Target]
    """Its layers, by the names that adapter files have for them."""

    slots: Mapping[Part, Mapping[str, Slot]]
    """The tensors of the parts that adapters ride on, by the names that the modules have for them."""

    def part(self, target: Target) -> Part:
        """The part that a layer is in."""
        return "unet" if target.part == "unet" else ENCODERS[(target.encoder or 1) - 1]

    def called(self, part: Part) -> dict[str, Target]:
        """The layers of a part, by their paths in it."""
        return {target.path: target for target in self.targets.values() if self.part(target) == part}

    def slot(self, target: Target, kind: str) -> Slot:
        """Where the weight or the bias of a layer lies."""
        return self.slots[self.part(target)][f"{target.path}.{kind}"]


def looked(base: str, config_path: Path | None = None) -> Base:
    """The base at a place: `pocket`, a folder or a single file. `config_path` is that of the settings of a model.

    Raises ModelFileError when it is none.
    """
    card = card_of(base, config_path)
    for files in dict.fromkeys(card.files.values()):
        if eight_bits.spare(header.tensors(files)):
            what = "its weights are held in 8 bits with scales beside them, which cannot be changed or compared"
            raise ModelFileError(Problem("E-MOD-119", what, str(files[0]), "name the base in bf16 or fp16"))
    slots: dict[Part, dict[str, Slot]] = {}
    parts: tuple[Part, ...] = ("unet", *card.encoders)
    for part in parts:
        module = loading.build(part, card.configs[part])
        slots[part] = {slot.name: slot for slot in _slots(card, part, module)}
    return Base(card, {target.name: target for target in families.outline(card)}, slots)


def _slots(card: Card, part: Part, module: nn.Module) -> Iterator[Slot]:
    if card.original or part != "unet":
        stored = loading.stored(card, part, module)
        for name, value in module.named_parameters():
            if name in stored:
                yield Slot(part, name, tuple(value.shape), (stored[name],), (len(value),))
        return
    # a folder holds what diffusers' own module has
    for name, value in module.named_parameters():
        path, _, kind = name.rpartition(".")
        cut = pieces.cut(module, path) or (Piece(path, 0),)
        places = tuple(Place(f"{each.path}.{kind}" if path else name, swapped=each.turned) for each in cut)
        rows = tuple(each.rows or len(value) for each in cut)
        yield Slot(part, name, tuple(value.shape), places, rows)


def card_of(base: str, config_path: Path | None) -> Card:
    """What the base says of itself, be it known or not what it predicts."""
    try:
        return detect.look(Model(path=base, config_path=config_path))
    except ModelFileError as error:
        if [problem.code for problem in error.problems] != ["E-MOD-104"]:
            raise
        # what a base predicts does not matter to its layers
        return detect.look(Model(path=base, config_path=config_path, prediction="epsilon"))


def missing(slot: Slot, reader: Reader) -> ModelFileError:
    """The file lacks a tensor."""
    place = slot.missing(reader) or slot.places[0]
    what = f"has no {place.name} of {list(single_file.held(place, slot.shapes[slot.places.index(place)]))}"
    return ModelFileError(Problem("E-MOD-108", what, str(reader.path), "the file is not complete; get another"))
