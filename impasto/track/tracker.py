"""What a tracker is to whoever follows a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from impasto.track.points import Point

Marks = Mapping[str, int]
"""The last step of each tag that a tracker holds."""


class Tracker(Protocol):
    """Takes the points of one run."""

    @property
    def place(self) -> str:
        """Where they are to be seen, for people."""
        ...

    def begin(self, step: int) -> Marks:
        """Forget what was told of steps after `step`, where that can be done; returns what is held already."""
        ...

    def write(self, points: Sequence[Point]) -> None:
        """Take points, in the order in which they were told."""
        ...

    def close(self) -> None:
        """That was all for now."""
        ...
