"""How noise levels are distributed: positions in 0..1, where 0 is clean and 1 pure noise. Plain numbers, no tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

Size = tuple[int, int]
"""Height and width of latents."""

_NORMAL = NormalDist()
_EDGE = 2.0**-53
"""Quantiles are asked for between this and 1 minus it: both ends may be infinitely far away."""


@dataclass(frozen=True)
class Density:
    """A distribution of positions, by its two inverse functions; both rise."""

    quantile: Callable[[float], float]
    """Share of all draws in 0..1, exclusive -> the position below which they lie."""

    below: Callable[[float], float]
    """Position in 0..1, exclusive -> the share of draws below it (cumulative distribution function)."""

    def share(self, low: float, high: float) -> float:
        """How many of all draws lie between two positions in 0..1."""
        return self._below(high) - self._below(low)

    def within(self, low: float, high: float, share: float) -> float:
        """The quantile at `share` of those draws that lie between `low` and `high`."""
        start = self._below(low)
        found = start + share * (self._below(high) - start)
        return self.quantile(min(max(found, _EDGE), 1 - _EDGE))

    def _below(self, x: float) -> float:
        return 0.0 if x <= 0 else 1.0 if x >= 1 else self.below(x)


UNIFORM = Density(lambda share: share, lambda x: x)


def logit_normal(mean: float, std: float) -> Density:
    """The logit of the position is normal (Esser et al. 2024, eq. 19); a mean over 0 is towards noise."""
    return Density(
        quantile=lambda share: 1 / (1 + math.exp(-(mean + std * _NORMAL.inv_cdf(share)))),
        below=lambda x: _NORMAL.cdf((math.log(x / (1 - x)) - mean) / std),
    )


COSINE_MAP = Density(
    quantile=lambda share: 1 - 1 / (math.tan(math.pi / 2 * share) + 1),
    below=lambda x: 2 / math.pi * math.atan(x / (1 - x)),
)
"""Density 2 / (π (1 - 2x + 2x²)) (Esser et al. 2024, eq. 21)."""


def mode(scale: float) -> Density:
    """Heavier in the middle for `scale` over 0, at the ends below it (Esser et al. 2024, eq. 20)."""

    def quantile(share: float) -> float:
        return share - scale * (math.sin(math.pi / 2 * share) ** 2 - share)

    return Density(quantile, lambda x: _where(quantile, x))


def shifted(density: Density, strength: float) -> Density:
    """Every position x moved to s x / (1 + (s - 1) x) (Esser et al. 2024, eq. 23): towards noise for s over 1."""
    if strength == 1:
        return density
    return Density(
        quantile=lambda share: shift(density.quantile(share), strength),
        below=lambda x: density.below(shift(x, 1 / strength)),
    )


def shift(x: float, strength: float) -> float:
    """Where position `x` is moved to; the inverse is the shift by 1 / strength."""
    return strength * x / (1 + (strength - 1) * x)


def area_shift(size: Size, side: int) -> float:
    """The strength for latents of `size` on a base made for `side` by `side`: the root of the ratio of areas."""
    return math.sqrt(size[0] * size[1]) / side


def flux_shift(size: Size) -> float:
    """The strength FLUX.1 uses for latents of `size`: its logarithm is a line in the number of tokens."""
    tokens = (size[0] // 2) * (size[1] // 2)
    return math.exp(0.5 + (tokens - 256) * (1.15 - 0.5) / (4096 - 256))


def _where(rising: Callable[[float], float], value: float) -> float:
    """Where a rising function on 0..1 reaches `value`, by halving."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return (low + high) / 2
