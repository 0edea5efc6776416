"""Every option that sd-scripts has for adapters: what it is called here, and whether it is the same, better or missing.

The table is data (`kohya.tsv`), so that the page and whoever reads files of that trainer go by the same words.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, cast, get_args

Verdict = Literal["same", "better", "later", "absent"]

HERE = Path(__file__).parent
COMMAND = "impasto "
"""How the name of a command begins, among names of settings."""


@dataclass(frozen=True)
class Row:
    """One option of that trainer."""

    group: str
    flag: str
    verdict: Verdict
    quirks: tuple[str, ...]
    """Marks of the surprising behaviours there that this one avoids, or will."""
    names: tuple[str, ...]
    """What it is called here: settings with dots, or a command. None where nothing has to be said, or it is missing."""
    meaning: str
    reason: str

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings among its names."""
        return tuple(name for name in self.names if not name.startswith(COMMAND))


@cache
def rows() -> tuple[Row, ...]:
    """The whole table."""
    return tuple(
        Row(
            group=cells["group"],
            flag=cells["flag"],
            verdict=_verdict(cells["verdict"]),
            quirks=_parts(cells["quirks"]),
            names=_parts(cells["setting"]),
            meaning=cells["meaning"],
            reason=cells["reason"],
        )
        for cells in table("kohya.tsv")
    )


@cache
def quirks() -> dict[str, str]:
    """What each mark stands for."""
    return {cells["mark"]: cells["behaviour"] for cells in table("quirks.tsv")}


@cache
def answers() -> dict[str, str]:
    """What happens here in place of each."""
    return {cells["mark"]: cells["here"] for cells in table("quirks.tsv")}


def share(verdict: Verdict) -> float:
    """The share of the options that got a verdict."""
    return sum(row.verdict == verdict for row in rows()) / len(rows())


def table(name: str) -> Iterator[dict[str, str]]:
    """The rows of a table beside this file; lines that begin with # are remarks."""
    lines = (HERE / name).read_text("utf-8").splitlines()
    told = [line for line in lines if not line.startswith("#")]
    return iter(csv.DictReader(told, delimiter="\t", quoting=csv.QUOTE_NONE))


def _verdict(text: str) -> Verdict:
    assert text in get_args(Verdict), text
    return cast(Verdict, text)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part for each in text.split(",") if (part := each.strip()))
