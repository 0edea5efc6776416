"""Curves and previews of a run for other programs that show them: made from its events, never from its training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_never

from impasto.track.config import Track, Where
from impasto.track.tracker import Tracker


def tracker(where: Where, track: Track, run: Path, name: str, settings: Mapping[str, Any]) -> Tracker:
    """Whatever takes the points of the run in the folder `run`, which is called `name` and has these settings."""
    match where:
        case "tensorboard":
            from impasto.track.tensorboard import TensorBoard

            return TensorBoard(
                run / "tensorboard" if track.folder is None else track.folder / (track.name or name), run
            )
        case "wandb":
            from impasto.track.weights_and_biases import WeightsAndBiases

            return WeightsAndBiases(track, run, name, settings)
        case _:
            assert_never(where)
