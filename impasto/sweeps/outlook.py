"""What a sweep will do, before it starts: its runs, which share a base, steps and disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from impasto.preflight.plan import plan as forecast
from impasto.settings.source import shown
from impasto.store import Store
from impasto.sweeps import expand, halving
from impasto.sweeps.axes import Axis
from impasto.sweeps.expand import Plan, Run


def lines(plan: Plan, runs: Sequence[Run], store: Store) -> Iterator[str]:
    """As text. Raises UserError as the first run would."""
    groups = expand.groups(runs)
    variants = len({each.variant for each in runs})
    yield f"{plan.name}: {len(runs)} runs of {variants} variants, in {plan.folder}"
    yield from (f"  {axis.key}: {_axis(axis)}" for axis in plan.axes)
    steps = disk = 0.0
    for number, group in enumerate(groups, start=1):
        made = [forecast(each.config, store) for each in group]
        yield ""
        yield f"base {number}: {made[0].base}, {len(group)} runs"
        width = max(len(each.name) for each in group)
        for each, one in zip(group, made, strict=True):
            sizes = "" if one.disk.total is None else f"  {amount(one.disk.total)}"
            advice = f"  advice: {', '.join(problem.code for problem in one.advice)}" if one.advice else ""
            yield f"  {each.name:<{width}}  {one.steps.total} steps{sizes}{advice}"
        total = max(one.steps.total for one in made)
        own = float(sum(one.steps.total for one in made))
        if rules := plan.sweep.halving:
            inside = len({each.variant for each in group})
            share = halving.share_of_cost(rules, inside, total)
            yield f"  compared after {halving.rungs(rules, inside, total)} steps: {share:.0%} of all steps are trained"
            own *= share
        steps += own
        disk += sum(one.disk.total or 0.0 for one in made)
    more = (plan.sweep.pick or 0) - variants if plan.sweep.method == "optuna" else 0
    yield ""
    yield f"{'in all' if more <= 0 else 'these'}: {steps:.0f} steps, {amount(disk)} of disk at most"
    if more > 0:
        few = plan.sweep.at_a_time
        yield f"then {more} more variants, which Optuna proposes from what these bring, {few} at a time"


def amount(size: float) -> str:
    """Bytes as people count them."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _axis(axis: Axis) -> str:
    if axis.values:
        return ", ".join(map(shown, axis.values))
    assert axis.range
    return f"{axis.range.low:g} to {axis.range.high:g}" + (", by equal ratios" if axis.range.log else "")
