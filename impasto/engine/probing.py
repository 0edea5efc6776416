"""The child of `impasto plan --probe`: trains what it is given and prints what that took, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from impasto import config, events
from impasto.engine import run
from impasto.engine.device import resident_peak
from impasto.events import Event


def measure(path: str) -> dict[str, float]:
    """Train the settings at `path`; the peak memory in bytes, and the seconds of a step after the first."""
    steps: list[events.Step] = []

    def keep(_: Path, event: Event) -> None:
        if isinstance(event, events.Step):
            steps.append(event)

    settings = config.load(path)
    run.train([settings], show=keep)
    held = [each.memory for each in steps if each.memory is not None]
    taken = [each.seconds for each in steps if each.seconds is not None]
    return {"memory": float(max([*held, 0]) or resident_peak()), "seconds": min(taken)}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
