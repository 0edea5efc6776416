"""The child of `impasto plan --probe`: trains what it is given and prints what that took, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from impasto import config, events
from impasto.engine import run
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
    return {"memory": float(max([*held, 0]) or _resident()), "seconds": min(taken)}


def _resident() -> int:
    """Bytes that this process held at most."""
    try:
        import resource
    except ImportError:  # Windows has none
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
