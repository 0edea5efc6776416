"""A set's examples as the plan sees them: placed in buckets, with the rules that hold for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from impasto.data.buckets import Placement, Size, layout
from impasto.data.config import Augment, Data, Dataset, Role
from impasto.data.examples import Example


@dataclass(frozen=True, slots=True)
class Entry:
    """An example as the plan sees it."""

    id: str
    repeats: int
    placement: Placement
    """Cut in the middle; a visit of a pool with `random_crop` is cut elsewhere."""


@dataclass(frozen=True)
class Pool:
    """The examples of one set and what can happen to them at a visit."""

    role: Role
    batch_size: int
    entries: tuple[Entry, ...]
    flip: bool = False
    random_crop: bool = False
    color: float = 0.0

    @property
    def live(self) -> bool:
        """Whether its pictures are new at each visit, so that encoding them ahead is no use."""
        return self.random_crop or self.color > 0.0


def pools(data: Data, examples: Sequence[Sequence[Example]], *, resolution: Size, step: int) -> tuple[Pool, ...]:
    """The examples of each set in their buckets. `resolution` and `step` are the base model's own."""
    return tuple(
        _pool(data, dataset, found, data.resolution_of(dataset, resolution), step)
        for dataset, found in zip(data.sets, examples, strict=True)
    )


def _pool(data: Data, dataset: Dataset, examples: Sequence[Example], resolution: Size, step: int) -> Pool:
    augment = Augment() if dataset.role == "validation" else data.augment_of(dataset)
    entries = (Entry(each.id, each.repeats, layout(data, each.size, resolution, step)) for each in examples)
    return Pool(
        role=dataset.role,
        batch_size=data.batch_size_of(dataset),
        entries=tuple(entries),
        flip=augment.flip,
        random_crop=augment.random_crop,
        color=augment.color,
    )
