"""A set's examples as the plan sees them: placed in buckets, with the rules that hold for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from impasto import dice
from impasto.data.buckets import Placement, Size, around, layout, scattered
from impasto.data.config import Augment, Data, Dataset, Role
from impasto.data.examples import Example
from impasto.data.metadata import Box


@dataclass(frozen=True, slots=True)
class Entry:
    """An example as the plan sees it."""

    id: str
    repeats: int
    placement: Placement
    """Cut in the middle; a visit of a pool with `random_crop` is cut elsewhere."""

    size: Size = (0, 0)
    """Of the picture, where its face is known."""

    face: Box | None = None

    held_out: bool = False
    """Never trained on."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a picture is cut, and what seeds the shift of its colours; None: as they are."""

    placement: Placement
    color: int | None = None


@dataclass(frozen=True)
class Pool:
    """The examples of one set and what can happen to them at a visit."""

    role: Role
    batch_size: int
    entries: tuple[Entry, ...]
    flip: bool = False
    random_crop: bool = False
    color: float = 0.0
    face_crop: tuple[float, float] | None = None
    variants: int | None = None
    """So many cuts and shifts of each picture that visits choose from; None: each visit has its own."""

    @property
    def live(self) -> bool:
        """Whether its pictures are new at each visit, so that encoding them ahead is no use."""
        by_face = self.face_crop is not None and self.face_crop[0] < self.face_crop[1]
        return self.variants is None and (self.random_crop or by_face or self.color > 0.0)

    def look(self, entry: Entry, *key: dice.Key) -> Look:
        """How an example is cut and its colours shift, by the dice that `key` names."""
        placement, color = entry.placement, None
        if self.face_crop is not None and entry.face is not None:
            times = dice.generator("face", *key).uniform(*self.face_crop)
            placement = around(entry.size, entry.face, placement.bucket, times)
        elif self.random_crop:
            placement = scattered(placement, dice.generator("crop", *key))
        if self.color and dice.generator("color", *key).random() < self.color:
            color = dice.seed("shift", *key)
        return Look(placement, color)

    def looks(self, entry: Entry) -> list[Look]:
        """Every look of an example that is worth encoding ahead."""
        if entry.held_out:
            return [Look(entry.placement)]
        if self.live:
            return []
        return [self.variant(entry, number) for number in range(self.variants or 1)]

    def variant(self, entry: Entry, number: int) -> Look:
        """One of the looks that are kept. It depends on the picture alone, so that runs of any seed share them."""
        return self.look(entry, "variant", entry.id, number)


def pools(data: Data, examples: Sequence[Sequence[Example]], *, resolution: Size, step: int) -> tuple[Pool, ...]:
    """The examples of each set in their buckets. `resolution` and `step` are the base model's own."""
    return tuple(
        _pool(data, dataset, found, data.resolution_of(dataset, resolution), step)
        for dataset, found in zip(data.sets, examples, strict=True)
    )


def _pool(data: Data, dataset: Dataset, examples: Sequence[Example], resolution: Size, step: int) -> Pool:
    augment = Augment() if dataset.role == "validation" else data.augment_of(dataset)
    entries = (
        Entry(
            each.id,
            each.repeats,
            layout(data, each.size, resolution, step),
            each.size,
            each.face,
            each.role == "validation",
        )
        for each in examples
    )
    return Pool(
        role=dataset.role,
        batch_size=data.batch_size_of(dataset),
        entries=tuple(entries),
        flip=augment.flip,
        random_crop=augment.random_crop,
        color=augment.color,
        face_crop=augment.face_crop,
        variants=augment.variants,
    )
