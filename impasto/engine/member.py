"""A member: one adapter in training, with its own data, dice, optimizer and run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from impasto import optim
from impasto.adapters.adapter import Adapter, AdapterLayer, shorten
from impasto.adapters.config import Bounded
from impasto.adapters.targets import Target
from impasto.config import RunConfig
from impasto.data.batch import Batch
from impasto.data.dealing import Turn
from impasto.data.loader import Loader
from impasto.errors import ConfigError, Problem
from impasto.families.precision import DTYPES
from impasto.objectives.objective import Objective
from impasto.optim.ema import Ema
from impasto.optim.flat import FlatParameters
from impasto.optim.optimizers import Optimizer
from impasto.optim.scaler import LossScaler
from impasto.optim.schedules import factor
from impasto.rates import lora_plus, part_rates, rate_of, rates_of, text_encoder_until


@dataclass(frozen=True)
class Look:
    """What the examples of a micro-batch cost, on the device."""

    keys: tuple[str, ...]
    t: Tensor
    """[N], timesteps."""
    weight: Tensor
    """[N], how much each example counts."""
    losses: Tensor
    """[N], weighted."""


@dataclass
class Progress:
    """What the last steps did, still on the device: read in one go, so that no step waits for it."""

    first: int = 0
    losses: list[Tensor] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)
    skips: list[Tensor] = field(default_factory=list)
    rates: list[dict[str, float]] = field(default_factory=list)
    looks: list[list[Look]] = field(default_factory=list)
    """For each step, its micro-batches."""
    bounds: list[Tensor] = field(default_factory=list)
    """[3] a step where the adapter's layers are bounded: how many were shortened, mean and largest length."""

    def clear(self, first: int) -> None:
        """Everything up to step `first` was read."""
        self.first = first
        for each in (self.losses, self.norms, self.skips, self.rates, self.looks, self.bounds):
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
        self.halvings = 0
        """How often all rates were halved because the numbers left."""
        self.progress = Progress()
        groups = adapter.groups(ratios := lora_plus(config))
        self._rates = {
            group.name: rate_of(config, group.part, group.encoder)
            * group.factor
            * (ratios[group.part] if group.fast else 1)
            for group in groups
        }
        self._parts = {group.name: group.part for group in groups}
        self._words = [group.name for group in groups if group.part == "text_encoder"]
        self.until = text_encoder_until(config, total)  # steps after which the text encoder's adapter rests
        dtype = DTYPES[config.optim.precision]
        self.flat = FlatParameters({group.name: parameters for group, parameters in groups.items()}, dtype)
        with self.flat.wide(self.seed, "start"):  # an optimizer may want to know where it starts
            self.optimizer: Optimizer = optim.build(config.optim, self.flat)
        self.ema = Ema(config.optim.ema, self.flat) if config.optim.ema else None
        device = next(adapter.parameters()).device
        self._scaler = LossScaler(device) if scaled else None
        self._one = torch.ones((), device=device)
        self._loader: Loader[list[Batch]] | None = None
        self._turns: Callable[[int], Turn] | None = None

    def feed(self, loader: Loader[list[Batch]], turns: Callable[[int], Turn] | None = None) -> None:
        """Where the micro-batches come from, and with several ranks which part of each step is this one's."""
        self._loader, self._turns = loader, turns

    def close(self) -> None:
        """Let go of the loader."""
        if self._loader is not None:
            self._loader.close()

    def next_batches(self) -> list[Batch]:
        """The micro-batches of the step to come."""
        assert self._loader is not None
        return self._loader.take(self.step)

    def turn(self) -> Turn | None:
        """What this rank does of the step to come; None where there is but one."""
        return self._turns(self.step) if self._turns else None

    def loss_scale(self) -> Tensor:
        """What the loss is multiplied by before backward: more than 1 only in fp16."""
        return self._scaler.scale if self._scaler else self._one

    def update(self, loss: Tensor, looks: list[Look]) -> None:
        """Clip, step, average: the gradients of this step are complete. Nothing here waits for the device."""
        now = factor(self.config.optim.schedule, self.step, self.total) / 2**self.halvings
        asked = {group: rate * now for group, rate in self._rates.items()}
        with self.flat.wide(self.seed, self.step):
            report = self.optimizer.step(asked, scale=self._scaler.scale if self._scaler else None)
        if self._scaler:
            self._scaler.update(report.skipped)
        kind = self.config.adapter
        if isinstance(kind, Bounded) and kind.max_norm is not None:
            self.progress.bounds.append(shorten(self._moving(), kind.max_norm, report.skipped))
        if self.ema:
            self.ema.update(self.step, report.skipped)
        self.optimizer.zero_grad()
        self.step += 1
        self.progress.losses.append(loss)
        self.progress.looks.append(looks)
        self.progress.norms.append(report.norm)
        self.progress.skips.append(report.skipped)
        self.progress.rates.append(self._part_rates(now, asked, report.rates))
        self._rest()

    @property
    def comes_to_rest(self) -> bool:
        """Whether the text encoder's adapter has just been trained for the last time, and the rest goes on."""
        return bool(self._words) and self.step == self.until < self.total

    def _moving(self) -> list[tuple[AdapterLayer, nn.Module]]:
        """The layers that are still trained, and what they ride on."""
        resting = self.step >= self.until
        return [
            (layer, self.adapter.seats[name].target.module) for name, layer in self.adapter.items()
            if not (resting and self.adapter.seats[name].target.part == "text_encoder")
        ]  # fmt: skip

    def _rest(self) -> None:
        """Train the text encoder's adapter no more, once its steps are done: so in a run as after a resume."""
        if self.step >= self.until:
            for group in self._words:
                if not self.flat.groups[group].frozen:
                    self.flat.groups[group].freeze()

    def _part_rates(self, now: float, asked: Mapping[str, float], used: Mapping[str, float]) -> dict[str, float]:
        """The rate each part was moved by, apart from the factors of its groups."""
        found = {self._parts[group]: used[group] / rate for group, rate in asked.items() if rate}
        return {
            part: 0.0 if part == "text_encoder" and self.step > self.until else rate * now * found.get(part, 1.0)
            for part, rate in part_rates(self.config).items()
        }

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The weights that previews and files show: the average where one is kept, else the last step's."""
        with self.optimizer.shown(), self.ema.swapped() if self.ema else nullcontext():
            yield

    @contextmanager
    def showing(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Other weights of its adapter, as those of an earlier step, for a while."""
        own = {name: value.detach().clone() for name, value in self.adapter.tensors().items()}
        self.adapter.load(weights)
        try:
            yield
        finally:
            self.adapter.load(own)

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
        with self.flat.wide(self.seed, "restored"):  # rounds nothing: all numbers are as they are held
            self.optimizer.restore(tensors["optimizer"])
        if self.ema:
            self.ema.restore(tensors["ema"])
        if self._scaler and "scaler" in tensors:
            self._scaler.restore(tensors["scaler"])
        self.step = step
        self.progress.clear(step)
        self._rest()


def trained(config: RunConfig, targets: Iterable[Target]) -> list[Target]:
    """The targets in parts that learn: those with rate 0 have no adapter at all.

    Raises ConfigError when there is not a rate for each of the text encoders.
    """
    found = list(targets)
    rates = rates_of(config, "text_encoder")
    encoders = {target.encoder or 1 for target in found if target.part == "text_encoder"}
    if len(rates) > 1 and len(rates) != len(encoders):
        what = f"{len(rates)} rates are given, and the base has {len(encoders)} text encoders"
        fix = f"give {len(encoders)} rates, or one for all"
        raise ConfigError(Problem("E-CFG-133", what, "optim.text_encoder_learning_rate", fix))
    parts = part_rates(config)
    return [each for each in found if each.part in parts and rate_of(config, each.part, each.encoder) > 0]
