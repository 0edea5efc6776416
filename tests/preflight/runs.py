"""A small folder of pictures, and settings that nothing is to be said against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from impasto.config import RunConfig, read
from impasto.preflight.plan import plan
from impasto.preflight.report import Forecast
from impasto.store import Store

PLAIN = ("train.epochs=30",)
"""30 looks at each of 12 pictures."""


def caption(at: int) -> str:
    return f"ohwx thing, seen {at} times, on a table"


def pictures(
    folder: Path, count: int = 12, *, size: tuple[int, int] = (64, 64), words: Callable[[int], str] = caption
) -> Path:
    """Pictures of noise, all different, each with a caption."""
    folder.mkdir(parents=True)
    for at in range(count):
        noise = np.random.default_rng([at, *size]).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(noise).resize(size, Image.Resampling.NEAREST).save(folder / f"{at}.bmp")
        (folder / f"{at}.txt").write_text(words(at))
    return folder


def config(folder: Path, settings: Sequence[str] = PLAIN, **sections: Any) -> RunConfig:
    laid = [f"data.sets.0.path={str(folder)!r}", f"output.folder={str(folder.parent / 'runs')!r}", *settings]
    found = read(None, laid)[0]
    return RunConfig.model_validate({**found.model_dump(), **sections}) if sections else found


def planned(folder: Path, settings: Sequence[str] = PLAIN) -> Forecast:
    return plan(config(folder, settings), Store(folder.parent / "cache"))
