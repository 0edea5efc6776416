"""Micro-batches made ready ahead of the step that wants them, in plan order."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Loader(Generic[T]):
    """Makes what step `n` needs while steps before it still run.

    `make` is a function of the step alone, so neither the number of threads nor how far they look ahead can change a
    result, and going on after a restart needs one integer.
    """

    def __init__(self, make: Callable[[int], T], *, last: int, ahead: int = 2, workers: int = 1) -> None:
        self._make = make
        self._last = last
        self._ahead = ahead
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="loader")
        self._coming: dict[int, Future[T]] = {}

    def take(self, step: int) -> T:
        """What step `step` needs; starts on the next ones. An error in making it is raised here."""
        for near in range(step, min(step + self._ahead + 1, self._last)):
            if near not in self._coming:
                self._coming[near] = self._pool.submit(self._make, near)
        return self._coming.pop(step).result()

    def close(self) -> None:
        """Let go of the threads; what they were making is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._coming.clear()
