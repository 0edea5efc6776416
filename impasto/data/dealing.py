"""How the examples of a step are dealt out to the ranks that share it: a pure function of the plan.

All examples of all micro-batches of a step stand in one row, and each rank takes as many neighbours as any other. So N
ranks compute what one would, whatever the batch size and the accumulation are; a step with fewer examples than there
are ranks leaves some of them without work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from impasto.data.plan import Micro, Plan
from impasto.errors import ConfigError, Problem


@dataclass(frozen=True)
class Piece:
    """The examples of one micro-batch that one rank computes."""

    at: int
    """Which micro-batch of the step."""

    first: int
    """How many of its examples are before these."""

    micro: Micro

    idle: bool = False
    """Computed for company only: it counts nothing."""


@dataclass(frozen=True)
class Turn:
    """What a rank does of one step."""

    keys: tuple[tuple[str, ...], ...]
    """The names of all examples of the step, micro-batch by micro-batch."""

    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int:
        """Examples of the whole step."""
        return sum(map(len, self.keys))

    def start(self, at: int) -> int:
        """How many examples of the step are before micro-batch `at`."""
        return sum(map(len, self.keys[:at]))


def dealt(micros: Sequence[Micro], rank: int, size: int, *, busy: bool = False) -> Turn:
    """What `rank` of `size` does of a step of these micro-batches; a lower rank never has less to do than a higher one.

    With `busy` a rank without work computes the first example again, for company.
    """
    keys = tuple(micro.keys for micro in micros)
    rows = sum(map(len, keys))
    first, stop = -(-rows * rank // size), -(-rows * (rank + 1) // size)
    pieces, before = [], 0
    for at, micro in enumerate(micros):
        start, end = max(first - before, 0), min(stop - before, len(micro.visits))
        if start < end:
            pieces.append(Piece(at, start, replace(micro, visits=micro.visits[start:end])))
        before += len(micro.visits)
    if busy and not pieces:
        pieces = [Piece(0, 0, replace(micros[0], visits=micros[0].visits[:1]), idle=True)]
    return Turn(keys, tuple(pieces))


def most(plan: Plan) -> int:
    """How many examples the largest step of the first epoch has."""
    return max(sum(len(micro.visits) for micro in plan.step(step)) for step in range(plan.steps_per_epoch))


def enough(plan: Plan, size: int) -> None:
    """Raise ConfigError where one of `size` ranks would never have anything to do."""
    if (found := most(plan)) < size:
        what = f"a step has at most {found} examples, and there are {size} ranks to share them"
        fix = f"--nproc {found}, or raise data.batch_size or train.accumulate: they count for all ranks together"
        raise ConfigError(Problem("E-RNK-007", what, "data.batch_size", fix))
