"""A process of its own that trains what it is told and prints what that took, as JSON: its memory and its start are
its own too."""

from __future__ import annotations

import time

BORN = time.time()
"""When this process had nothing but Python. Before the imports below."""

import json  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from collections.abc import Mapping, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402


def environment(threads: int) -> dict[str, str]:
    """Of such a process; 0 threads: as many as it would take."""
    return {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}


def ran(settings: Sequence[Path], store: Path, *, threads: int = 0) -> dict[str, Any]:
    """Train files of settings together in a process of its own."""
    line = [sys.executable, "-W", "ignore", "-m", "impasto.bench.child", str(store), *map(str, settings)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment(threads))
    if done.returncode:
        raise RuntimeError(f"the measured training ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(store: Path, settings: Sequence[Path]) -> Mapping[str, Any]:
    """Train, and say what each part took: wall and processor seconds since the process began, steps, peak memory."""
    marks: dict[str, tuple[float, float]] = {}

    def mark(name: str) -> None:
        marks.setdefault(name, (time.time() - BORN, time.process_time()))

    import torch

    mark("torch")
    from impasto import config, events
    from impasto.bench import ours
    from impasto.bench.clock import Clock
    from impasto.engine.device import choose
    from impasto.events import Event
    from impasto.store import Store

    mark("impasto")
    configs = [config.load(str(each)) for each in settings]
    device = choose(configs[0].device, configs[0].model)

    def hear(_: Path, event: Event) -> None:
        if isinstance(event, events.Phase):
            mark(f"{event.name} begins")
        if isinstance(event, events.Started):
            mark("started")

    def between(_: Any) -> None:
        mark("first step" if "first step begins" in marks else "first step begins")

    spans = ours.trained(configs, Store(store), Clock(device.device), between, hear)
    mark("end")
    return {
        "marks": marks,
        "wall": [each.wall for each in spans],
        "processor": [each.processor for each in spans],
        "memory": device.memory(),
        "threads": torch.get_num_threads(),
        "device": str(device.device),
    }


if __name__ == "__main__":
    print(json.dumps(measured(Path(sys.argv[1]), [Path(each) for each in sys.argv[2:]])))
