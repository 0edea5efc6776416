"""What of a run's events is a point on a curve or a picture: the same for every tracker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from impasto.events import Event, Preview, Step
from impasto.measured import Validated

GIB = 1 << 30


@dataclass(frozen=True)
class Point:
    """A number or the file of a picture, measured after a step."""

    tag: str
    step: int
    time: float
    """Seconds since 1970."""

    value: float | Path


def points(event: Event, previews: Path) -> Iterator[Point]:
    """The points of an event; `previews` is the folder of the run's pictures."""
    match event:
        case Step():
            yield from _numbers(event.step, event.time, _of_step(event))
        case Validated():
            yield from _numbers(event.step, event.time, _of_measurement(event))
        case Preview():
            yield Point(f"preview/{event.prompt}", event.step, event.time, previews / Path(event.file).name)


def _of_step(event: Step) -> dict[str, float | None]:
    memory = None if event.memory is None else event.memory / GIB
    return {
        "train/loss": event.loss,
        "train/epoch": float(event.epoch),
        **{f"rate/{part}": rate for part, rate in event.rates.items()},
        "norm/gradient": event.norm,
        "norm/mean_of_layers": event.length,
        "norm/longest_layer": event.longest,
        "norm/layers_shortened": _float(event.shortened),
        "speed/seconds_per_step": event.seconds,
        "speed/device_memory_gib": memory,
        "train/skipped": float(event.skipped),
    }


def _of_measurement(event: Validated) -> dict[str, float | None]:
    return {
        "validation/held_out": event.loss,
        "validation/training": event.training_loss,
        "validation/gap": event.gap,
        **{f"validation_held_out/at_{level}": loss for level, loss in event.losses.items()},
        **{f"validation_training/at_{level}": loss for level, loss in event.training.items()},
    }


def _numbers(step: int, time: float, found: dict[str, float | None]) -> Iterator[Point]:
    yield from (Point(tag, step, time, value) for tag, value in found.items() if value is not None)


def _float(value: int | None) -> float | None:
    return None if value is None else float(value)
