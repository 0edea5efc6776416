"""What a run's pictures cost while they were learnt, and which of them deserve a look. No torch.

    ledger.json   {"version": 1, "step": ..., "steps": ..., "pictures": [{"name", "id", "looks", "sums"}, ...],
                   "never_learned": [names], "out_of_place": [names], "dominates": [names],
                   "stopped_teaching": [names]}

A picture's cost is its loss over the usual loss at the same noise level at that time: 1 is usual. `looks` and `sums`
are by eighths of the run and quarters of the noise levels; a sum is of the logarithms of costs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from impasto import files
from impasto.files import JSON

ERAS, BANDS = 8, 4
"""Parts of a run, and of the noise levels: a picture is compared with itself in the same part of these."""

EARLY, LATE = slice(0, ERAS // 4), slice(ERAS // 2, ERAS)

SPREAD = 0.25
"""How far the logarithms of single costs of one picture in one part of the noise levels usually lie apart."""

FEWEST, LOOKS = 8, 6
"""Nothing is said of fewer pictures, nor of one that was looked at less often in the first quarter of the run."""

SURE, MOST = 1.5, 6
"""How many times its own uncertainty and the others' spread a picture must stand out to be named; of so many pictures
one is named at most."""

MUCH, LITTLE = 1.5, 0.6
"""Costs that are much, and little."""


@dataclass(frozen=True)
class Row:
    """What a picture cost, by parts of the run and of the noise levels."""

    name: str
    id: str
    looks: Sequence[Sequence[float]]
    sums: Sequence[Sequence[float]]
    """Of the logarithms of its costs."""

    @property
    def count(self) -> int:
        """How often it was looked at."""
        return int(sum(map(sum, self.looks)))

    @property
    def begun(self) -> int:
        """How often in the first quarter of the run."""
        return int(sum(map(sum, self.looks[EARLY])))

    @property
    def early(self) -> float | None:
        """Its mean cost in the first quarter of the run."""
        return _mean(self.looks[EARLY], self.sums[EARLY])

    @property
    def late(self) -> float | None:
        """Its mean cost in the second half."""
        return _mean(self.looks[LATE], self.sums[LATE])

    @property
    def trend(self) -> float | None:
        """What it costs late over what it cost early, in the same parts of the noise levels: above 1, the others were
        learnt and it was not. (Least squares of the logarithms, with a level for each part.)"""
        weights = self._weights()
        if not sum(weights):
            return None
        return math.exp(
            sum(weight * self._change(band) for band, weight in enumerate(weights) if weight) / sum(weights)
        )

    @property
    def error(self) -> float:
        """How far off the logarithm of its trend is likely to be."""
        total = sum(self._weights())
        return SPREAD / math.sqrt(total) if total else math.inf

    def at(self, band: int) -> float | None:
        """The logarithm of its mean cost in a part of the noise levels, in the whole run."""
        count = _column(self.looks, band)
        return _column(self.sums, band) / count if count else None

    def told(self) -> dict[str, JSON]:
        """For the file."""
        return {"name": self.name, "id": self.id, "looks": _listed(self.looks), "sums": _listed(self.sums)}

    def _weights(self) -> list[float]:
        """How much the change in each part of the noise levels says."""
        pairs = [(_column(self.looks[EARLY], band), _column(self.looks[LATE], band)) for band in range(BANDS)]
        return [early * late / (early + late) if early and late else 0.0 for early, late in pairs]

    def _change(self, band: int) -> float:
        means = [_column(self.sums[part], band) / _column(self.looks[part], band) for part in (EARLY, LATE)]
        return means[1] - means[0]


def _column(table: Sequence[Sequence[float]], band: int) -> float:
    return sum(row[band] for row in table)


def _mean(looks: Sequence[Sequence[float]], sums: Sequence[Sequence[float]]) -> float | None:
    count = sum(map(sum, looks))
    return math.exp(sum(map(sum, sums)) / count) if count else None


def _listed(table: Sequence[Sequence[float]]) -> JSON:
    return [list(row) for row in table]


def listed(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Pictures to look at, by what is the matter with them, the clearest first."""
    known = [row for row in rows if row.trend and row.begun >= LOOKS]
    if len(known) < FEWEST:
        return {"never_learned": [], "out_of_place": [], "dominates": [], "stopped_teaching": []}
    trends = {row.id: math.log(row.trend or 1.0) for row in known}
    usual = median(trends.values())
    spread = 1.4826 * median(abs(each - usual) for each in trends.values())

    def stands_out(row: Row) -> float:
        return (trends[row.id] - usual) / max(spread, row.error, 1e-9)

    resisting = [row for row in known if stands_out(row) >= SURE]
    apart = _out_of_place(known)
    costly = [row for row in known if (row.late or 0.0) >= MUCH]
    cheap = [row for row in known if (row.late or 1.0) <= LITTLE and row not in resisting]
    return {
        "never_learned": sorted(resisting, key=lambda row: -stands_out(row))[: len(known) // MOST],
        "out_of_place": sorted(
            (row for row in known if apart.get(row.id, 0.0) >= SURE), key=lambda row: -apart[row.id]
        )[: len(known) // MOST],
        "dominates": sorted(costly, key=lambda row: -(row.late or 0.0)),
        "stopped_teaching": sorted(cheap, key=lambda row: row.late or 0.0),
    }


def _out_of_place(rows: Sequence[Row]) -> dict[str, float]:
    """How much a picture, by its id, looks like something that the base knows, under words that promise another thing.

    At low noise the picture itself shows what it is: what the base knows costs little there, what is new costs much. At
    high noise only the words tell what it may be: there it costs as much as the others, or more.
    """
    table = {row.id: [row.at(band) for band in range(BANDS)] for row in rows}
    whole = {id: [cost for cost in costs if cost is not None] for id, costs in table.items() if None not in costs}
    if len(whole) < FEWEST:
        return {}
    bands = [_standing([costs[band] for costs in whole.values()]) for band in range(BANDS)]
    scores = [high - sum(low) for high, *low in zip(bands[-1], *bands[: BANDS // 2], strict=True)]
    return dict(zip(whole, _standing(scores), strict=True))


def _standing(values: Sequence[float]) -> list[float]:
    """How far each is above the usual, measured by how far they usually lie apart."""
    usual = median(values)
    spread = 1.4826 * median(abs(each - usual) for each in values)
    return [(each - usual) / max(spread, 1e-9) for each in values]


def read(path: Path) -> list[Row]:
    """The pictures of a ledger's file, in its order; none if there is no file that can be read."""
    try:
        return [_row(each) for each in json.loads(files.read(path))["pictures"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []


def _row(told: Mapping[str, Any]) -> Row:
    looks, sums = ([[float(each) for each in row] for row in told[name]] for name in ("looks", "sums"))
    return Row(str(told["name"]), str(told["id"]), looks, sums)
