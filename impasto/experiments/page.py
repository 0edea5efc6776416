"""A comparison as files: one page that needs nothing else, one picture, the cells, and all of it as data."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from io import BytesIO
from pathlib import Path

from PIL import Image

from impasto import files
from impasto.engine import plots
from impasto.engine.config import Prompt
from impasto.experiments import story
from impasto.experiments.lineup import Lineup, Row
from impasto.files import JSON

QUALITY = 92
"""Of the page's pictures (WebP); those beside it are PNGs, without loss."""

_MARK = "/*THE COMPARISON*/null"


def write(folder: Path, title: str, lineup: Lineup, cells: Sequence[bytes]) -> Path:
    """Write all of a comparison into `folder`; `cells` are PNGs, row by row. Returns the page's path."""
    across = len(lineup.columns)
    table = [cells[at : at + across] for at in range(0, len(cells), across)]
    files.make_folder(folder / "cells")
    names = [[f"cells/{down:02d}-{col:02d}.png" for col in range(across)] for down in range(len(table))]
    for row, row_names in zip(table, names, strict=True):
        for png, name in zip(row, row_names, strict=True):
            files.write(folder / name, png)
    told = data(title, lineup)
    files.write(folder / "compare.json", json.dumps({**told, "cells": names}, indent=2, ensure_ascii=False).encode())
    files.write(folder / "grid.png", _grid(lineup, table))
    page = folder / "index.html"
    files.write(page, html({**told, "cells": [[_url(png) for png in row] for row in table]}).encode())
    return page


def data(title: str, lineup: Lineup) -> dict[str, JSON]:
    """What is compared and how the runs went, without the pictures."""
    runs = story.of_rows(lineup.rows)
    numbers = {run.path: at for at, run in enumerate(runs)}
    return {
        "version": 1,
        "title": title,
        "base": lineup.model.path,
        "rows": [_row(row, numbers[row.run.path] if row.run else None) for row in lineup.rows],
        "columns": [{"label": label(prompt), **prompt.model_dump(mode="json")} for prompt in lineup.columns],
        "runs": [{"name": run.name, **story.told(run)} for run in runs],
        "settings": {key: [_plain(value) for value in values] for key, values in story.apart(runs).items()},
    }


def html(told: Mapping[str, JSON]) -> str:
    """The page, with its data within."""
    page = resources.files("impasto.experiments").joinpath("page.html").read_text("utf-8")
    text = json.dumps(told, ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", " ").replace("\u2029", " ")
    assert page.count(_MARK) == 1
    return page.replace(_MARK, text)


def label(prompt: Prompt) -> str:
    """A column in words."""
    return f"{prompt.text} · seed {prompt.seed}"


def _row(row: Row, run: int | None) -> JSON:
    return {
        "label": row.label,
        "file": None if row.adapter is None else row.adapter.name,
        "strength": row.strength,
        "step": row.step,
        "run": run,
    }


def _plain(value: object) -> JSON:
    """A setting as JSON, or as its words."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _grid(lineup: Lineup, table: Sequence[Sequence[bytes]]) -> bytes:
    rows = [
        (row.label.replace(" · ", "\n"), [_picture(png) for png in cells])
        for row, cells in zip(lineup.rows, table, strict=True)
    ]
    sides = {picture.size for _, pictures in rows for picture in pictures}
    if len(sides) > 1:  # prompts of different sizes: all as the largest
        size = (max(width for width, _ in sides), max(height for _, height in sides))
        rows = [(name, [_padded(picture, size) for picture in pictures]) for name, pictures in rows]
    scale = max(1, 160 // rows[0][1][0].width)
    return plots.png(plots.grid(rows, [label(prompt) for prompt in lineup.columns], scale))


def _picture(png: bytes) -> Image.Image:
    with Image.open(BytesIO(png)) as picture:
        return picture.convert("RGB")


def _padded(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    sheet = Image.new("RGB", size, plots.PAPER)
    sheet.paste(picture, ((size[0] - picture.width) // 2, (size[1] - picture.height) // 2))
    return sheet


def _url(png: bytes) -> str:
    """A picture within the page."""
    drawn = BytesIO()
    with Image.open(BytesIO(png)) as picture:
        picture.save(drawn, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(drawn.getvalue()).decode()
