"""Follow a run's events and hand its points to a tracker, beside the training: in a thread that it never waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from impasto import events
from impasto.events import Event
from impasto.track.points import Point, points
from impasto.track.tracker import Marks, Tracker

PAUSE = 1.0
"""Seconds between two looks at the events."""


class Follow:
    """One tracker that follows one run while it trains."""

    def __init__(self, tracker: Tracker, told: Path, previews: Path, step: int) -> None:
        """`told` is the run's file of events, which goes on from `step`."""
        self.place = ""
        """Where it is to be seen, once it has begun."""
        self.failure = ""
        """Why it has ended, if something is wrong."""
        self._tracker = tracker
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(told, previews, step), name="tracker", daemon=True)
        self._thread.start()

    def close(self, patience: float = 90.0) -> None:
        """Hand over the rest, for so many seconds at most."""
        self._over.set()
        self._thread.join(patience)
        if self._thread.is_alive():
            self.failure = f"it took more than {patience:g} seconds to send the rest"

    def _run(self, told: Path, previews: Path, step: int) -> None:
        try:
            marks = self._tracker.begin(step)
            self.place = self._tracker.place
            fresh, offset = events.tail(told)
            write(self._tracker, events.history(fresh), previews, marks)
            last = False
            while not last:
                last = self._over.wait(PAUSE)
                fresh, offset = events.tail(told, offset)
                write(self._tracker, fresh, previews, {})
            self._tracker.close()
        except Exception as error:  # a service, its package, a network, a disk: none of them may end a training
            self.failure = " ".join(f"{type(error).__name__}: {error}".split())[:300]


def write(tracker: Tracker, told: Iterable[Event], previews: Path, marks: Marks) -> int:
    """Hand over the points of these events that it does not hold; returns how many. Pictures that are gone are left
    out."""
    found = [each for event in told for each in points(event, previews) if each.step > marks.get(each.tag, -1)]
    found = [each for each in found if _is_there(each)]
    if found:
        tracker.write(found)
    return len(found)


def _is_there(point: Point) -> bool:
    return not isinstance(point.value, Path) or point.value.is_file()
