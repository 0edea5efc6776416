"""What a sweep found: its runs by their loss, what each swept setting did, and which variant to take.

Losses are those with fixed noise, so two runs that share a seed differ by their settings alone. The effect of a value
is therefore the mean of differences of pairs of runs that agree in all else, with an interval by Student's t.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from impasto import events
from impasto.settings.source import shown
from impasto.sweeps import expand
from impasto.sweeps.axes import Axis
from impasto.sweeps.folder import SweepFolder

T95 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
       2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)  # fmt: skip
"""The two-sided 95 % quantile of Student's t for 1, 2, ... degrees of freedom; beyond, the normal one."""


@dataclass(frozen=True)
class Row:
    """A run."""

    name: str
    variant: int
    point: Mapping[str, Any]
    seed: int
    stage: str
    step: int
    """Steps done."""

    losses: Mapping[int, float]
    """With fixed noise, by step."""

    why: str = ""
    """Why it was stopped, if it was."""

    file: str = ""
    """Its adapter, within the sweep's folder."""

    @property
    def loss(self) -> float | None:
        """The last one."""
        return self.losses[max(self.losses)] if self.losses else None


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences: below 0, the second is better."""

    mean: float
    low: float | None
    """The interval in which the true mean lies with 95 % confidence. None: one pair tells no interval."""

    high: float | None
    pairs: int

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Effect:
    """What another value of a setting did to the loss."""

    key: str
    base: Any
    """The value that it is compared with: the first of the axis."""

    value: Any
    difference: Difference


@dataclass(frozen=True)
class Pick:
    """The variant to take."""

    names: tuple[str, ...]
    """Its runs, one for each seed; of one seed, the run itself."""

    point: Mapping[str, Any]
    loss: float
    reason: str


@dataclass(frozen=True)
class Report:
    """All of it."""

    name: str
    axes: tuple[str, ...]
    rows: tuple[Row, ...]
    """The best first: those trained furthest before those stopped earlier."""

    effects: tuple[Effect, ...]
    pick: Pick | None
    trained: int
    """Steps of all runs together."""

    of: int
    """Steps that all runs would have had without halving."""

    def json(self) -> str:
        """As one JSON object."""
        rows = [{**asdict(row), "loss": row.loss} for row in self.rows]
        return json.dumps({"version": 1, **asdict(self), "rows": rows}, indent=1, ensure_ascii=False, default=str)

    def lines(self) -> Iterator[str]:
        """As text."""
        share = f" of {self.of} ({self.trained / self.of:.0%})" if self.of else ""
        yield f"{self.name}: {len(self.rows)} runs, {self.trained}{share} steps trained"
        yield ""
        head = ["", "run", "step", "state", "loss", "seed", *self.axes]
        yield from _columns(head, [_cells(at, row, self.axes) for at, row in enumerate(self.rows, start=1)])
        if self.effects:
            yield ""
            yield "what a setting does: the change of the loss against its first value, all else equal (95 % interval)"
            yield from _columns(
                ["  setting", "value", "change", "interval", "pairs", ""], [*map(_effect, self.effects)]
            )
        yield ""
        if self.pick is None:
            yield "no recommendation: no run has a loss with fixed noise; hold pictures out (validation.share)"
        else:
            yield f"take {' or '.join(self.pick.names)}: {self.pick.reason}"


def report(folder: SweepFolder) -> Report:
    """What a sweep's folders tell so far."""
    plan, state = folder.plan(), folder.state()
    dropped = state.dropped()
    rows, total = [], 0
    for run in expand.runs(plan):
        own = folder.run(run.name)
        stand = own.state()
        told = events.history(events.read(own.events))
        found = {step: each.score for step, each in events.measured(told).items()}
        losses = {step: loss for step, loss in found.items() if loss is not None and math.isfinite(loss)}
        total = max([total, *(each.steps for each in told if isinstance(each, events.Started))])
        file = str(own.final.relative_to(folder.path)) if own.final.is_file() else ""
        rows.append(
            Row(
                run.name,
                run.variant,
                run.point,
                run.seed,
                stand.stage,
                stand.step,
                losses,
                dropped.get(run.name, ""),
                file,
            )
        )
    axes = tuple(axis.key for axis in plan.axes)
    ordered = sorted(rows, key=lambda row: (-row.step, math.inf if row.loss is None else row.loss))
    trained = sum(row.step for row in rows)
    return Report(
        plan.name, axes, tuple(ordered), tuple(effects(rows, plan.axes)), recommended(rows), trained, total * len(rows)
    )


def effects(rows: Sequence[Row], axes: Sequence[Axis]) -> Iterator[Effect]:
    """What each value of each axis does against the axis's first, in runs that agree in all else."""
    for axis in axes:
        for value in axis.values[1:]:
            base = axis.values[0]
            pairs = [
                found for a, b in combinations(rows, 2)
                if (found := _pair(a, b, axis.key, base, value)) is not None
            ]  # fmt: skip
            if pairs:
                yield Effect(axis.key, base, value, difference(pairs))


def difference(values: Sequence[float]) -> Difference:
    """The mean of differences and its 95 % interval."""
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return Difference(mean, None, None, count)
    spread = math.sqrt(math.fsum((each - mean) ** 2 for each in values) / (count - 1) / count)
    reach = (T95[count - 2] if count - 2 < len(T95) else 1.96) * spread
    return Difference(mean, mean - reach, mean + reach, count)


def recommended(rows: Sequence[Row]) -> Pick | None:
    """The variant with the least mean loss among those that were trained furthest, and how sure that is."""
    by: dict[int, list[Row]] = {}
    for row in rows:
        by.setdefault(row.variant, []).append(row)
    judged = {variant: own for variant, own in by.items() if all(row.loss is not None for row in own)}
    if not judged:
        return None
    furthest = max(min(row.step for row in own) for own in judged.values())
    ended = [own for own in judged.values() if min(row.step for row in own) == furthest]
    ended.sort(key=_mean)
    best = ended[0]
    names, loss = tuple(row.name for row in best), _mean(best)
    if len(ended) == 1:
        others = len(by) - 1
        reason = (
            f"its loss is {loss:.4g}; the other {others} variants were stopped before"
            if others
            else f"its loss is {loss:.4g}"
        )
        return Pick(names, best[0].point, loss, reason)
    second = ended[1]
    apart = difference([b - a for a, b in _seed_pairs(best, second)] or [_mean(second) - loss])
    reason = f"its loss is {loss:.4g}, {apart.mean:.3g} below the next, {second[0].name}"
    if apart.certain:
        reason += f" (95 % interval {apart.low:.3g} to {apart.high:.3g})"
    elif apart.low is None:
        reason += "; one pair of runs does not tell whether that is luck: --seeds 3 does"
    else:
        reason += (
            f", which may be luck (95 % interval {apart.low:.3g} to {apart.high:.3g}): take the cheaper of the two"
        )
    return Pick(names, best[0].point, loss, reason)


def _pair(a: Row, b: Row, key: str, base: Any, value: Any) -> float | None:
    """The second's loss less the first's, where the one has `base` and the other `value` and all else is equal: at the
    last step that both were measured at."""
    if _key(b.point.get(key)) == _key(base):
        a, b = b, a
    if (
        _key(a.point.get(key)) != _key(base)
        or _key(b.point.get(key)) != _key(value)
        or (a.seed != b.seed and key != "train.seed")
    ):
        return None
    if any(_key(a.point[other]) != _key(b.point[other]) for other in a.point if other != key):
        return None
    both = a.losses.keys() & b.losses.keys()
    return b.losses[max(both)] - a.losses[max(both)] if both else None


def _seed_pairs(a: Sequence[Row], b: Sequence[Row]) -> list[tuple[float, float]]:
    theirs = {row.seed: row.loss for row in b}
    return [(row.loss, other) for row in a if row.loss is not None and (other := theirs.get(row.seed)) is not None]


def _mean(rows: Sequence[Row]) -> float:
    return math.fsum(row.loss for row in rows if row.loss is not None) / len(rows)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _cells(at: int, row: Row, axes: Sequence[str]) -> list[str]:
    loss = "" if row.loss is None else f"{row.loss:.4g}"
    return [
        str(at),
        row.name,
        str(row.step),
        row.stage,
        loss,
        str(row.seed),
        *(shown(row.point.get(key)) for key in axes),
    ]


def _effect(effect: Effect) -> list[str]:
    found = effect.difference
    span = "" if found.low is None else f"{found.low:+.3g} to {found.high:+.3g}"
    word = "" if not found.certain else "better" if found.mean < 0 else "worse"
    return [f"  {effect.key}", shown(effect.value), f"{found.mean:+.3g}", span, str(found.pairs), word]


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    for row in (head, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
