"""What settings will do, before they do it: which noise levels get the effort, and how the learning rate goes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle

from impasto.config import RunConfig
from impasto.data.examples import scan
from impasto.data.feed import planned
from impasto.engine import plots
from impasto.families import detect
from impasto.families.detect import Card
from impasto.objectives import process as processes
from impasto.objectives.curves import Curves, curves
from impasto.optim.schedules import factor
from impasto.preflight.report import BucketPlan
from impasto.rates import part_rates

MOST = 1000
"""Steps of the schedule that are shown; of a longer run, evenly chosen ones."""


@dataclass(frozen=True)
class Outlook:
    """The numbers of the picture."""

    curves: Curves
    steps: tuple[int, ...]
    """Optimizer steps, counted from 1."""

    rates: dict[str, tuple[float, ...]]
    """The learning rate of each trained part at each of `steps`."""

    def json(self) -> bytes:
        """All curves as one JSON object."""
        found = {
            "timesteps": {
                "snr": self.curves.snr.tolist(),
                "probability": self.curves.probability.tolist(),
                "weight": self.curves.weight.tolist(),
                "effort": self.curves.effort.tolist(),
                "threshold": None if self.curves.threshold is None else self.curves.threshold.tolist(),
            },
            "steps": list(self.steps),
            "rates": {part: list(rates) for part, rates in self.rates.items()},
        }
        return json.dumps(found).encode() + b"\n"

    def png(self, title: str, buckets: Sequence[BucketPlan] = ()) -> bytes:
        """Side by side: how often a timestep is drawn, what its loss counts, the learning rate; buckets, if given."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(16.0 if buckets else 12.0, 3.6), dpi=120, layout="constrained")
        drawn, counted, rate, *more = figure.subplots(1, 4 if buckets else 3)
        levels = range(len(self.curves.snr))
        drawn.fill_between(levels, self.curves.probability, facecolor=plots.FILL, edgecolor=plots.LINE, label="drawn")
        drawn.plot(self.curves.effort, color=plots.OTHER, linewidth=1.8, label="drawn, times its weight")
        drawn.set_xlabel("timestep (right: noise)")
        drawn.set_ylabel("share")
        drawn.legend(frameon=False)
        drawn.set_title(title, loc="left")
        counted.plot(self.curves.weight, color=plots.LINE, label="weight of the loss")
        if self.curves.threshold is not None:
            counted.plot(self.curves.threshold, color=plots.OTHER, label="where the loss turns linear")
        counted.set_xlabel("timestep (right: noise)")
        counted.set_yscale("log")
        counted.legend(frameon=False)
        for (part, rates), style in zip(
            self.rates.items(), cycle(("-", "--", ":")), strict=False
        ):  # alike, they lie on one another
            rate.plot(self.steps, rates, style, linewidth=1.8, label=part)
        rate.set_xlabel("step")
        rate.set_ylabel("learning rate")
        rate.legend(frameon=False)
        for axes in more:
            plots.buckets(axes, buckets)
        for axes in (drawn, counted, rate, *more):
            axes.spines[["top", "right"]].set_visible(False)
        for axes in (drawn, rate):
            axes.set_ylim(bottom=0)
        picture = BytesIO()
        figure.savefig(picture, format="png")
        return picture.getvalue()


def outlook(config: RunConfig, *, total: int | None = None) -> Outlook:
    """What a run will do. Reads what the base says of itself, and pictures' sizes where epochs are to be counted and
    `total` does not say the steps; no weights.

    Raises UserError where the objective does not go with the base, or the pictures cannot be counted.
    """
    card = detect.look(config.model, heads=True)
    sides = config.data.resolution or card.resolution
    width, height = sides if isinstance(sides, tuple) else (sides, sides)
    process = processes.of_scheduler(card.scheduler, card.prediction)
    found = curves(config.objective, process, (height // card.factor, width // card.factor))
    total = total or config.train.steps or _counted(config, card)
    steps = tuple(range(0, total, -(-total // MOST)))
    rates = {
        str(part): tuple(rate * factor(config.optim.schedule, step, total) for step in steps)
        for part, rate in part_rates(config).items()
    }
    return Outlook(found, tuple(step + 1 for step in steps), rates)


def _counted(config: RunConfig, card: Card) -> int:
    """The steps that a run of so many epochs has."""
    found = scan(config.data)
    found.check(config.data)
    feed = planned(config.data, found, config.train, config.validation, side=card.resolution, step=card.step)
    return feed.plan.total_steps(config.train)
