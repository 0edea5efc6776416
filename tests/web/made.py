"""Runs as a training leaves them, without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from impasto import config as settings
from impasto import events
from impasto.events import Event, EventLog
from impasto.files import JSON
from impasto.runs.folder import RunFolder


def run(folder: Path, *told: Event, record: dict[str, JSON] | None = None, laid_over: Sequence[str] = ()) -> RunFolder:
    """A run's folder with these events."""
    config = settings.load(None, [f'name="{folder.name}"', f'output.folder="{folder.parent}"', *laid_over])
    made = RunFolder.create(folder, settings.dump(config), record or {"session": f"session of {folder.name}"})
    tell(made, *told)
    return made


def tell(run: RunFolder, *told: Event) -> None:
    """Append events."""
    with EventLog(run.events) as log:
        for each in told:
            log.write(each)


def steps(first: int, last: int, *, time: float = 1000.0) -> list[Event]:
    """Steps whose loss is one over their number."""
    return [
        events.Step(step=each, epoch=(each - 1) // 10, loss=1 / each, rates={"unet": 1e-4}, norm=0.5, seconds=0.5,
                    time=time + each)
        for each in range(first, last + 1)
    ]  # fmt: skip


def finished(folder: Path, count: int = 20, *, record: dict[str, JSON] | None = None) -> RunFolder:
    """A run that came to its end: with a checkpoint, an adapter, a preview, a measurement and a pick."""
    name = folder.name
    made = run(
        folder,
        events.Phase(name="scan", time=990.0),
        events.Started(run=name, steps=count, time=1000.0),
        *steps(1, count),
        events.Warned(code="W-MEM-002", text="little memory is left", time=1500.0),
        events.Preview(step=count, file=f"{count:08d}-0.png", prompt=0, time=1500.0),
        events.Validated(step=count, losses={"100": 0.3, "900": 0.1}, time=1501.0),
        events.Saved(step=count, checkpoint=f"{count:08d}", time=1502.0),
        events.Saved(step=count, file=f"{name}.safetensors", time=1502.5),
        events.Proven(step=count, matched=4, expected=4, difference=1e-6, time=1503.0),
        events.Picked(
            step=count,
            candidates=(
                events.Candidate(
                    step=count, file=f"{name}.safetensors", reason="the lowest loss", recommended=True,
                    measured_at=count, losses={"100": 0.3}, training={},
                ),
            ),
            time=1504.0,
        ),
        events.Finished(step=count, seconds=500.0, file=f"{name}.safetensors", time=1505.0),
        record=record,
    )  # fmt: skip
    made.final.write_bytes(b"not a real adapter")
    made.checkpoint(count).mkdir()
    Image.new("RGB", (64, 48), (200, 80, 40)).save(made.previews / f"{count:08d}-0.png")
    return made
