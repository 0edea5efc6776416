"""What moved between two reports by more than its noise; a page of it; and a history of reports."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from impasto import files
from impasto.bench.figures import Figure, Report

LEAST = 0.03
"""Changes of less are not told, however quiet the machine was."""

Verdict = Literal["better", "worse", "moved", ""]


@dataclass(frozen=True)
class Row:
    """A figure before and after."""

    before: Figure
    after: Figure

    @property
    def change(self) -> float:
        """0.1: a tenth more."""
        return self.after.median / self.before.median - 1 if self.before.median else 0.0

    @property
    def noise(self) -> float:
        """How much may be chance: the middle halves of both together, or a little."""
        return max(self.before.noise + self.after.noise, LEAST)

    @property
    def verdict(self) -> Verdict:
        """Whether it moved by more than that, and whether that is good."""
        if abs(self.change) <= self.noise:
            return ""
        if self.after.better == "neither":
            return "moved"
        return "better" if (self.change > 0) == (self.after.better == "more") else "worse"


def rows(before: Report, after: Report) -> list[Row]:
    """The figures that both have."""
    known = {each.name: each for each in before.figures}
    return [Row(known[each.name], each) for each in after.figures if each.name in known]


def apart(before: Report, after: Report) -> list[str]:
    """Why the two may not be comparable: other machines, versions or settings."""
    one, other = ({**report.machine.model_dump(), **report.asked, "what": report.what} for report in (before, after))
    one, other = ({**each, **each.pop("libraries")} for each in (one, other))
    names = [each for each in (one | other) if each != "load" and one.get(each) != other.get(each)]
    return [f"{name}: {one.get(name, '')} -> {other.get(name, '')}" for name in names]


def page(before: Report, after: Report) -> str:
    """A page that needs nothing else."""
    notes = "".join(f"<li>{html.escape(line)}" for line in apart(before, after))
    body = "".join(
        f"<tr class='{row.verdict}'><td>{html.escape(row.after.name)}<td>{row.before.median:.4g}<td>"
        f"{row.after.median:.4g}<td>{html.escape(row.after.unit)}<td>{row.change:+.1%}<td>{row.noise:.1%}"
        f"<td>{row.verdict}"
        for row in rows(before, after)
    )
    return f"""<!doctype html><meta charset="utf-8"><title>impasto bench {after.what}</title>
<style>body{{font:15px system-ui;margin:2em;max-width:70em}}td,th{{padding:.2em .8em;text-align:left}}
.better{{background:#dff5e1}}.worse{{background:#fbe0dd}}.moved{{background:#eee}}</style>
<h1>impasto bench {after.what}</h1><p>{before.when} against {after.when}, on {html.escape(after.machine.processor)}.</p>
<ul>{notes}</ul><table><tr><th>figure<th>before<th>after<th>unit<th>change<th>noise<th></tr>{body}</table>
"""


def remember(history: Path, report: Report, last: int = 5) -> list[str]:
    """Add a report to a file of many, a line each, and say what moved against the last ones of the same kind, taken
    together."""
    past = [each for each in _past(history) if (each.what, each.asked) == (report.what, report.asked)][-last:]
    line = report.model_dump_json().encode() + b"\n"
    files.write(history, (history.read_bytes() if history.exists() else b"") + line)
    return told(rows(_together(past), report)) if past else []


def told(found: Iterable[Row]) -> list[str]:
    """A line for each figure that moved."""
    return [
        f"{row.after.name}: {row.before.median:.4g} -> {row.after.median:.4g} {row.after.unit} "
        f"({row.change:+.1%}, noise {row.noise:.1%}, {row.verdict})"
        for row in found
        if row.verdict
    ]


def _past(history: Path) -> list[Report]:
    lines = history.read_text("utf-8").splitlines() if history.exists() else []
    return [Report.model_validate(json.loads(line)) for line in lines]


def _together(past: Sequence[Report]) -> Report:
    """The medians of several reports as the values of one: they scatter as reports do, not as rounds."""
    names = [each.name for each in past[-1].figures]
    known = {name: [f.median for report in past for f in report.figures if f.name == name] for name in names}
    figures = [each.model_copy(update={"values": tuple(known[each.name])}) for each in past[-1].figures]
    return past[-1].model_copy(update={"figures": tuple(figures)})
