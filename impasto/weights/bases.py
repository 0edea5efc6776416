"""Where the numbers of each layer of a base lie in its files: in a folder, or in one file in the original layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from impasto import families
from impasto.adapters.targets import Target
from impasto.errors import ModelFileError, Problem
from impasto.families import detect, eight_bits, loading, single_file
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
    place: Place
    """Where it lies in its part's file."""

    @property
    def path(self) -> str:
        """The layer it belongs to."""
        return self.name.rpartition(".")[0]

    @property
    def kind(self) -> str:
        """`weight` or `bias`."""
        return self.name.rpartition(".")[2]

    def inside(self, reader: Reader) -> bool:
        """Whether the file holds it, in its shape."""
        entry = reader.head.tensors.get(self.place.name)
        return entry is not None and loading.fits(single_file.held(self.place, self.shape), entry.shape)

    def read(self, reader: Reader) -> Tensor:
        """Its numbers in the file."""
        return single_file.unfuse(self.place, reader.tensor(self.place.name), self.shape)


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
        return "unet" if target.part == "unet" else self.card.encoders[(target.encoder or 1) - 1]

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
    card = _card(base, config_path)
    if card.prediction == "flow":
        what, fix = (
            "is of a family that cannot be changed or compared yet",
            "name a base of Stable Diffusion 1.x, 2.x or XL",
        )
        raise ModelFileError(Problem("E-MOD-057", what, str(card.path), fix))
    for path in dict.fromkeys(card.files.values()):
        if eight_bits.spare(header.read(path).tensors):
            what = "its weights are held in 8 bits with scales beside them, which cannot be changed or compared"
            raise ModelFileError(Problem("E-MOD-119", what, str(path), "name the base in bf16 or fp16"))
    slots: dict[Part, dict[str, Slot]] = {}
    parts: tuple[Part, ...] = ("unet", *card.encoders)
    for part in parts:
        module = loading.build(part, card.configs[part])
        places = loading.stored(card, part, module)
        slots[part] = {
            name: Slot(part, name, tuple(value.shape), places[name]) for name, value in module.named_parameters()
        }
    return Base(card, {target.name: target for target in families.outline(card)}, slots)


def _card(base: str, config_path: Path | None) -> Card:
    try:
        return detect.look(Model(path=base, config_path=config_path))
    except ModelFileError as error:
        if [problem.code for problem in error.problems] != ["E-MOD-104"]:
            raise
        # what a base predicts does not matter to its layers
        return detect.look(Model(path=base, config_path=config_path, prediction="epsilon"))


def missing(slot: Slot, reader: Reader) -> ModelFileError:
    """The file lacks a tensor."""
    what = f"has no {slot.place.name} of {list(single_file.held(slot.place, slot.shape))}"
    return ModelFileError(Problem("E-MOD-108", what, str(reader.path), "the file is not complete; get another"))
