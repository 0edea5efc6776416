"""Much to do, some of it at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TypeVar

from impasto.data.plan import Visit

T = TypeVar("T")


def portions(all_of_them: Sequence[T], size: int) -> Iterator[tuple[int, Sequence[T]]]:
    """`size` at a time, each with how many there were before."""
    return ((at, all_of_them[at : at + size]) for at in range(0, len(all_of_them), size))


def of_one_size(visits: Sequence[Visit], size: int) -> Iterator[tuple[int, Sequence[Visit]]]:
    """The same for pictures, those of one portion all as large."""
    done = 0
    for _, found in groupby(sorted(visits, key=_size), key=_size):
        for _, together in portions(list(found), size):
            yield done, together
            done += len(together)


def _size(seen: Visit) -> tuple[int, int]:
    return seen.placement.bucket.width, seen.placement.bucket.height
