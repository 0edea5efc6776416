"""A member: one adapter in training, with its own data, dice, optimizer and run folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from impasto import optim
from impasto.adapters.adapter import Adapter
from impasto.adapters.targets import Part
from impasto.config import RunConfig
from impasto.data.batch import Batch
from impasto.data.loader import Loader
from impasto.families.precision import DTYPES
from impasto.objectives.objective import Objective
from impasto.optim.ema import Ema
from impasto.optim.flat import FlatParameters
from impasto.optim.optimizers import Optimizer
from impasto.optim.scaler import LossScaler
from impasto.optim.schedules import factor


@dataclass
class Progress:
    """What the last steps did, still on the device: read in one go, so that no step waits for it."""

    first: int = 0
    losses: list[Tensor] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)
    skips: list[Tensor] = field(default_factory=list)
    rates: list[dict[str, float]] = field(default_factory=list)

    def clear(self, first: int) -> None:
        """Everything up to step `first` was read."""
        self.first = first
        for each in (self.losses, self.norms, self.skips, self.rates):
            each.clear()


class Member:
    """One adapter in training. Equal members trained alone or in company end alike."""

    def __init__(self, config: RunConfig, adapter: Adapter, objective: Objective, total: int, scaled: bool) -> None:
        self.config = config
        self.adapter = adapter
        self.objective = objective
        self.seed = config.train.seed
        self.total = total
        self.step = 0
        self.progress = Progress()
        self._rates = part_rates(config)
        dtype = DTYPES[config.optim.precision]
        self.flat = FlatParameters({part: adapter.parameters_of(part) for part in self._rates}, dtype)
        with self.flat.wide(self.seed, "start"):  # an optimizer may want to know where it starts
            self.optimizer: Optimizer = optim.build(config.optim, self.flat)
        self.ema = Ema(config.optim.ema, self.flat) if config.optim.ema else None
        device = next(adapter.parameters()).device
        self._scaler = LossScaler(device) if scaled else None
        self._one = torch.ones((), device=device)
        self._loader: Loader[list[Batch]] | None = None

    def feed(self, loader: Loader[list[Batch]]) -> None:
        """Where the micro-batches come from."""
        self._loader = loader

    def close(self) -> None:
        """Let go of the loader."""
        if self._loader is not None:
            self._loader.close()

    def next_batches(self) -> list[Batch]:
        """The micro-batches of the step to come."""
        assert self._loader is not None
        return self._loader.take(self.step)

    def loss_scale(self) -> Tensor:
        """What the loss is multiplied by before backward: more than 1 only in fp16."""
        return self._scaler.scale if self._scaler else self._one

    def update(self, loss: Tensor) -> None:
        """Clip, step, average: the gradients of this step are complete. Nothing here waits for the device."""
        now = factor(self.config.optim.schedule, self.step, self.total)
        rates: dict[str, float] = {part: rate * now for part, rate in self._rates.items()}
        with self.flat.wide(self.seed, self.step):
            report = self.optimizer.step(rates, scale=self._scaler.scale if self._scaler else None)
        if self._scaler:
            self._scaler.update(report.skipped)
        if self.ema:
            self.ema.update(self.step, report.skipped)
        self.optimizer.zero_grad()
        self.step += 1
        self.progress.losses.append(loss)
        self.progress.norms.append(report.norm)
        self.progress.skips.append(report.skipped)
        self.progress.rates.append(rates)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The weights that previews and files show: the average where one is kept, else the last step's."""
        with self.ema.swapped() if self.ema else nullcontext():
            yield

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Everything a resume needs, by file."""
        found = {"adapter": self.adapter.tensors(), "optimizer": self.optimizer.state()}
        if self.ema:
            found["ema"] = self.ema.state()
        if self._scaler:
            found["scaler"] = self._scaler.state()
        return found

    def restore(self, step: int, tensors: dict[str, dict[str, Tensor]]) -> None:
        """Go on exactly where a checkpoint was written."""
        self.adapter.load(tensors["adapter"])
        self.optimizer.restore(tensors["optimizer"])
        if self.ema:
            self.ema.restore(tensors["ema"])
        if self._scaler and "scaler" in tensors:
            self._scaler.restore(tensors["scaler"])
        self.step = step
        self.progress.clear(step)


def part_rates(config: RunConfig) -> dict[Part, float]:
    """The learning rate of each part that is trained; a rate of 0 leaves the part out."""
    chosen, targets = config.optim, config.adapter.targets
    rates: dict[Part, tuple[bool, float | None]] = {
        "unet": (targets.unet, chosen.unet_learning_rate),
        "text_encoder": (targets.text_encoder, chosen.text_encoder_learning_rate),
    }
    found = {part: chosen.learning_rate if own is None else own for part, (on, own) in rates.items() if on}
    return {part: rate for part, rate in found.items() if rate > 0}
