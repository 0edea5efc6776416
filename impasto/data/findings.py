"""What looking through a dataset finds: a problem, and what it means for the run."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fsdecode
from typing import Literal

from impasto.errors import Problem

Outcome = Literal["note", "skip", "stop"]
"""`note`: used, with a remark. `skip`: this file is left out. `stop`: the run does not start."""


@dataclass(frozen=True)
class Finding:
    """A problem, and what comes of it."""

    outcome: Outcome
    problem: Problem

    def __str__(self) -> str:
        return f"{self.outcome}: {self.problem}"


def note(code: str, what: str, where: str, fix: str = "") -> Finding:
    """Something to know; nothing is left out."""
    return Finding("note", Problem(code, what, where, fix))


def skip(code: str, what: str, where: str, fix: str = "") -> Finding:
    """A file that is left out."""
    return Finding("skip", Problem(code, what, where, fix))


def stop(code: str, what: str, where: str, fix: str = "") -> Finding:
    """Something that must be mended first."""
    return Finding("stop", Problem(code, what, where, fix))


def shown(path: str | PathLike[str]) -> str:
    """A path for people: what cannot be printed (control characters, bytes that are no text) is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in fsdecode(path))


def listed(names: list[str], most: int = 20) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
