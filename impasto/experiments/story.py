"""What set the runs of a comparison apart: their settings, their losses, and how these went."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from impasto import events
from impasto.config import differences, leaves, load
from impasto.engine.plots import running_mean
from impasto.events import Step, Validated
from impasto.experiments.lineup import Row
from impasto.files import JSON
from impasto.runs.folder import RunFolder

POINTS = 240
"""Of a curve, at most: a screen shows no more."""

_ELSEWHERE = ("name", "output.", "preview.", "save.", "device.")
"""Settings that do not change what is trained."""


def apart(runs: Sequence[RunFolder]) -> dict[str, list[object]]:
    """The settings in which the runs are not all alike: dotted key -> the value of each run, None where it has none."""
    configs = [load(run.config) for run in runs]
    keys = dict.fromkeys(
        key for other in configs[1:] for key, _, _ in differences(configs[0], other) if not key.startswith(_ELSEWHERE)
    )
    values = [leaves(config) for config in configs]
    return {key: [each.get(key) for each in values] for key in keys}


def told(run: RunFolder) -> dict[str, JSON]:
    """How a run went: the running mean of its loss, its loss on held-out pictures, and where both ended."""
    history = events.history(events.read(run.events))
    steps = [each for each in history if isinstance(each, Step) and each.loss is not None]
    measured = [(each.step, mean) for each in history if isinstance(each, Validated) and (mean := _mean(each))]
    losses = running_mean([each.loss for each in steps if each.loss is not None])
    curve: list[JSON] = [[step.step, loss] for step, loss in _thin(list(zip(steps, losses, strict=True)))]
    return {
        "loss": losses[-1] if losses else None,
        "validation": measured[-1][1] if measured else None,
        "curve": curve,
        "validated": [[step, loss] for step, loss in measured],
    }


def of_rows(rows: Sequence[Row]) -> list[RunFolder]:
    """The runs of the rows, each once."""
    return list({row.run.path: row.run for row in rows if row.run}.values())


def _mean(event: Validated) -> float | None:
    values = [each for each in event.losses.values() if each is not None]
    return sum(values) / len(values) if values else None


def _thin(points: Sequence[tuple[Step, float]]) -> list[tuple[Step, float]]:
    """At most POINTS of them, the last one always."""
    if len(points) <= POINTS:
        return list(points)
    at = np.unique(np.linspace(0, len(points) - 1, POINTS).round().astype(int))
    return [points[each] for each in at]
