"""All numbers of a run as a table: a row for each step, a column for each curve."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from impasto.events import Event
from impasto.track.points import points


def table(told: Iterable[Event]) -> str:
    """CSV with a head."""
    rows: dict[int, dict[str, float]] = {}
    for event in told:
        for each in points(event, Path()):
            if not isinstance(each.value, Path):
                rows.setdefault(each.step, {})[each.tag] = each.value
    tags = dict.fromkeys(tag for row in rows.values() for tag in row)
    made = io.StringIO()
    writer = csv.DictWriter(made, ["step", *tags], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"step": step, **rows[step]} for step in sorted(rows))
    return made.getvalue()
