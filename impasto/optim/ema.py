"""A slow average of the weights, for previews and files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from impasto.optim import config as settings
from impasto.optim.flat import FlatParameters
from impasto.optim.state import copied, take_over


class Ema:
    """The exponential moving average of an adapter's weights (Polyak and Juditsky 1992), flat like them."""

    def __init__(self, config: settings.Ema, flat: FlatParameters) -> None:
        self._config = config
        self._flat = flat
        self._average = {part: group.current().clone() for part, group in flat.groups.items()}
        self._swapped = False

    @torch.no_grad()
    def update(self, step: int, skipped: Tensor) -> None:
        """Follow the weights after optimizer step `step` (from 0), unless the device says it was `skipped` (1.0)."""
        assert not self._swapped, "the average is in the weights' place"
        share = (1 - decay(self._config, step)) * (1 - skipped)
        for part, average in self._average.items():
            average.lerp_(self._flat.groups[part].current(), share)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The averages in the weights' place for as long as the `with` lasts; then the weights again, bit for bit."""
        assert not self._swapped, "swaps do not nest"
        self._swapped = True
        weights = {part: group.current().clone() for part, group in self._flat.groups.items()}
        self._put(self._average)
        try:
            yield
        finally:
            self._put(weights)
            self._swapped = False

    def state(self) -> dict[str, Tensor]:
        """What a resume needs: the average of each part. Copies on the host."""
        return copied(self._average)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state exactly. Raises ValueError if it is another adapter's."""
        take_over(self._average, state)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for part, group in self._flat.groups.items():
            group.put(values[part])


def decay(config: settings.Ema, step: int) -> float:
    """How much of the average remains at optimizer step `step` (from 0)."""
    return min(config.decay, (1 + step) / (10 + step)) if config.warmup else config.decay
