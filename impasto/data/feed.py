"""What a run trains on, from its pictures to the plan of every step: the way that training and planning share.

    settings, base's measures -> scan -> held out -> pools -> Plan

Importing this does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from impasto.data import holdout
from impasto.data.config import Data
from impasto.data.examples import Example, Scan
from impasto.data.holdout import Measuring
from impasto.data.plan import Length, Micro, Plan, View, Visit, measured
from impasto.data.pools import pools

MEMO = "pictures.json"
"""Where a store remembers what is known of pictures."""


class Course(Length, Protocol):
    """How long a run lasts, with which dice, and how many micro-batches make a step."""

    @property
    def seed(self) -> int: ...
    @property
    def accumulate(self) -> int: ...


@dataclass(frozen=True)
class Feed:
    """What a run trains on: its pictures and its plan. And what of them is measured, and how often."""

    scan: Scan
    plan: Plan
    measuring: Measuring

    @cached_property
    def held_out(self) -> list[Micro]:
        """The held-out pictures that are measured."""
        return measured(self.plan.pools, self._names(self._measured[0]))

    @cached_property
    def beside(self) -> list[Micro]:
        """The training pictures that are measured beside them, in the same way."""
        return measured(self.plan.pools, self._names(self._measured[1]))

    def measured_at(self, total: int) -> tuple[int, ...]:
        """The steps of a run of `total` after which they are measured."""
        held, beside = map(len, self._measured)
        epoch = self.plan.epoch(0)
        looks = sum(len(micro.visits) for micro in epoch) / max(1, self.plan.steps_per_epoch)
        return holdout.due(self.measuring, held=held, beside=beside, total=total, looks=looks)

    def views(self) -> tuple[View, ...]:
        """Every picture as an encoder is sure to see it, or may: for encoding ahead."""
        found = {(view.id, view.placement, view.flip, view.color): view for view in self.plan.views()}
        for micro in (*self.held_out, *self.beside):
            for visit in micro.visits:
                view = View(visit.set, visit.example, visit.id, visit.placement, False)
                found.setdefault((view.id, view.placement, view.flip, view.color), view)
        return tuple(found.values())

    def example(self, visit: Visit) -> Example:
        """The picture of a visit."""
        return self.scan.examples[visit.set][visit.example]

    @cached_property
    def _measured(self) -> tuple[list[Example], list[Example]]:
        return holdout.measured(self.scan, self.measuring)

    @staticmethod
    def _names(examples: list[Example]) -> set[tuple[int, str]]:
        return {(each.set, each.id) for each in examples}


def planned(data: Data, found: Scan, course: Course, measuring: Measuring, *, side: int, step: int) -> Feed:
    """The plan over pictures that were looked through. `side` and `step` are the base model's: pixels of a side that it
    was made for, and of what sides must be multiples. The scan must have passed its check."""
    found = holdout.split(found, measuring)
    placed = pools(data, found.examples, resolution=(side, side), step=step)
    return Feed(found, Plan(placed, course.seed, course.accumulate), measuring)
