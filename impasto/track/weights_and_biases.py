"""Weights & Biases, through its own package. What was sent once is never sent again: it cannot be taken back there."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from impasto import files
from impasto.track.config import Track
from impasto.track.points import Point

PATIENCE = 60
"""Seconds to wait for the service at the beginning, and for what is still on its way at the end."""


class WeightsAndBiases:
    """One run there."""

    def __init__(self, track: Track, run: Path, name: str, settings: Mapping[str, Any]) -> None:
        self._track = track
        self._name = track.name or name
        self._settings = settings
        self._run = run
        self._state = run / "wandb.json"
        self._id = uuid.uuid4().hex[:12]
        self._held: dict[str, int] = {}
        self._there: Any = None

    @property
    def place(self) -> str:
        """Its page; without a network, how to send it later."""
        there = self._there
        return f"wandb sync {Path(there.dir).parent}" if there.offline else str(there.url)

    def begin(self, step: int) -> dict[str, int]:
        """Begin there, or go on with what was begun."""
        import wandb

        if self._state.is_file():
            told = json.loads(files.read(self._state))
            self._id, self._held = str(told["id"]), {str(tag): int(at) for tag, at in told["held"].items()}
        quiet = wandb.Settings(
            silent=True, console="off", init_timeout=PATIENCE, finish_timeout=PATIENCE, finish_timeout_raises=False
        )
        self._there = wandb.init(
            project=self._track.project, name=self._name, id=self._id, resume="allow", dir=str(self._run),
            config=dict(self._settings), reinit="create_new", settings=quiet, **_plain(self._track.options),
        )  # fmt: skip
        self._there.define_metric("*", step_metric="step")
        return self._held

    def write(self, points: Sequence[Point]) -> None:
        """A row there for the points of each step."""
        import wandb

        self._held |= {each.tag: each.step for each in points}
        self._remember()  # first: what a kill keeps from being sent is missing, and nothing is there twice
        for step, some in groupby(points, key=lambda each: each.step):
            told = {
                each.tag: wandb.Image(str(each.value)) if isinstance(each.value, Path) else each.value for each in some
            }
            self._there.log({"step": step, **told})

    def close(self) -> None:
        """Send the rest."""
        if self._there is not None:
            there, self._there = self._there, None
            there.finish()

    def _remember(self) -> None:
        files.write(self._state, json.dumps({"id": self._id, "held": self._held}).encode(), durable=False)


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
