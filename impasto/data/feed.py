"""What a run trains on, from its pictures to the plan of every step: the way that training and planning share.

    settings, base's measures -> scan -> pools -> Plan

Importing this does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from impasto.data.config import Data
from impasto.data.examples import Example, Scan
from impasto.data.plan import Length, Micro, Plan, Visit, held_out
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
    """What a run trains on: its pictures and its plan."""

    scan: Scan
    plan: Plan

    @cached_property
    def held_out(self) -> list[Micro]:
        """The validation pictures."""
        return held_out(self.plan.pools)

    def example(self, visit: Visit) -> Example:
        """The picture of a visit."""
        return self.scan.examples[visit.set][visit.example]


def planned(data: Data, found: Scan, course: Course, *, side: int, step: int) -> Feed:
    """The plan over pictures that were looked through. `side` and `step` are the base model's: pixels of a side that it
    was made for, and of what sides must be multiples. The scan must have passed its check."""
    placed = pools(data, found.examples, resolution=(side, side), step=step)
    return Feed(found, Plan(placed, course.seed, course.accumulate))
