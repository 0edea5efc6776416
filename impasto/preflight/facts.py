"""What advice is given on: a run's settings, its base, its pictures and what was reckoned of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from impasto.adapters.config import Ranked
from impasto.config import RunConfig
from impasto.data.examples import Example
from impasto.data.feed import Feed
from impasto.families.card import Card
from impasto.preflight.report import Forecast, Steps, Words
from impasto.rates import part_rates

USUAL_WIDTH = 320
"""Channels at full size of the bases that usual rates are known from."""

Said = tuple[str, str, str]
"""The setting, what is odd about it, how to mend it."""


@dataclass(frozen=True)
class Facts:
    """Of one run."""

    config: RunConfig
    card: Card
    feed: Feed
    forecast: Forecast

    @property
    def steps(self) -> Steps:
        """How long it lasts."""
        return self.forecast.steps

    @property
    def words(self) -> Words:
        """Its captions."""
        return self.forecast.words

    @property
    def ranked(self) -> Ranked | None:
        """The adapter, where it has a rank."""
        return self.config.adapter if isinstance(self.config.adapter, Ranked) else None

    @property
    def scale(self) -> float:
        """What the adapter's output is multiplied by."""
        return self.forecast.rates[0].scale if self.forecast.rates else 1.0

    @cached_property
    def rates(self) -> dict[str, float]:
        """The rate of each part that learns, before the schedule."""
        return {str(part): rate for part, rate in part_rates(self.config).items()}

    @cached_property
    def learnt(self) -> list[Example]:
        """The training pictures."""
        return [each for found in self.feed.scan.examples for each in found if each.role == "train"]

    @property
    def narrow(self) -> float:
        """How many times narrower the denoiser is than those that usual rates are known from; at least 1. A narrow
        network wants rates that much larger (Yang et al. 2022)."""
        widths = [each.get("block_out_channels") for part, each in self.card.configs.items() if part != "vae"]
        known = [int(each[0]) for each in widths if isinstance(each, list) and each]
        return max(1.0, USUAL_WIDTH / min(known, default=USUAL_WIDTH))

    @property
    def batch(self) -> int:
        """Pictures in a step."""
        return self.config.data.batch_size * self.config.train.accumulate


@dataclass(frozen=True)
class Rule:
    """One piece of advice: when it is given, and why."""

    code: str
    about: str
    reason: str
    look: Callable[[Facts], Iterator[Said]]
