"""What every picture costs while it is learnt: its losses against those of the others at the same noise level.

It costs nothing: the losses are those of the training. A loss says little by itself, since noise levels differ far more
than pictures do; so each is divided by the running mean of all losses of its bin of noise levels (the geometric
mean: it is not ruled by the few largest).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from impasto.data.examples import Example
from impasto.files import JSON
from impasto.runs.ledger import BANDS, ERAS, Row, listed

BINS = 16
"""Parts of the noise levels that are trained."""

MEMORY = 0.02
"""How much of a bin's mean a new loss is, once there are enough of them."""

Numbers = npt.NDArray[np.float64]


class Ledger:
    """The losses of a member's training pictures. A part of its checkpoints."""

    def __init__(self, examples: Iterable[Example], *, total: int, low: int, high: int) -> None:
        self.pictures: dict[str, Example] = {}
        for each in examples:
            if each.role == "train":
                self.pictures.setdefault(each.id, each)
        self._places = {id: at for at, id in enumerate(sorted(self.pictures))}
        self._total, self._low, self._width = total, low, high - low
        count = len(self._places)
        self._looks: Numbers = np.zeros((count, ERAS, BANDS))
        self._sums: Numbers = np.zeros((count, ERAS, BANDS))
        self._means: Numbers = np.zeros(BINS)
        self._seen: Numbers = np.zeros(BINS)

    def add(self, step: int, key: str, t: int, loss: float) -> None:
        """A look at a picture in step `step`, counted from 0, at timestep `t`; `key` names the visit."""
        place = self._places.get(key.split(":")[1])
        if place is None or not np.isfinite(loss) or loss <= 0:
            return
        bin = min(max((t - self._low) * BINS // self._width, 0), BINS - 1)
        era = min(step * ERAS // self._total, ERAS - 1)
        self._seen[bin] += 1
        self._means[bin] += max(1 / self._seen[bin], MEMORY) * (np.log(loss) - self._means[bin])
        self._looks[place, era, bin * BANDS // BINS] += 1
        self._sums[place, era, bin * BANDS // BINS] += np.log(loss) - self._usual(t, bin)

    def _usual(self, t: int, bin: int) -> float:
        """The logarithm of the usual loss at a timestep: on the line through the middles of two bins, where both are
        known. Losses are steep in the noise level; that of the bin alone would blame its edges on the picture."""
        place = (t + 0.5 - self._low) * BINS / self._width - 0.5
        at = min(max(int(place), 0), BINS - 2)
        low, high = self._means[at : at + 2]
        known = self._seen[at] and self._seen[at + 1]
        return float(low + (place - at) * (high - low) if known else self._means[bin])

    def rows(self) -> list[Row]:
        """What is known of each picture, the most costly first."""
        found = [
            Row(self.pictures[id].path.name, id, self._looks[place].tolist(), self._sums[place].tolist())
            for id, place in self._places.items()
        ]
        return sorted(found, key=lambda row: (-(row.late or 0.0), row.id))

    def page(self, step: int) -> dict[str, JSON]:
        """All of it, for a file."""
        rows = self.rows()
        lists = listed(rows)
        return {
            "version": 1,
            "step": step,
            "steps": self._total,
            "pictures": [row.told() for row in rows],
            **{name: [row.name for row in some] for name, some in lists.items()},
        }

    def tensors(self) -> dict[str, Tensor]:
        """What a resume needs."""
        return {name: torch.from_numpy(value.copy()) for name, value in self._state().items()}

    def restore(self, tensors: Mapping[str, Tensor] | None) -> None:
        """Go on from what a checkpoint holds, if it is of as many pictures."""
        if tensors and all(tensors[name].shape == value.shape for name, value in self._state().items()):
            for name, value in self._state().items():
                value[...] = tensors[name].numpy()

    def _state(self) -> dict[str, Numbers]:
        return {"looks": self._looks, "sums": self._sums, "means": self._means, "seen": self._seen}
