"""The loss on held-out and on training pictures, with the same noise at the same noise levels every time: the number
two runs, or two moments of one run, can be compared by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from impasto.adapters.adapter import Adapter
from impasto.data.batch import Batch
from impasto.engine.member import Member
from impasto.engine.packing import Part, join, lay_out, packs
from impasto.engine.prepare import MEASURED
from impasto.engine.trainer import Trainer

ROWS = 4
"""Examples that may ride in a forward pass without a way back, however few there are in a step of the training."""


@dataclass(frozen=True)
class Asked:
    """What is to be measured of a member."""

    member: Member
    batches: Sequence[Batch]
    adapter: Adapter | None = None
    """A mounted one that is measured in place of the member's own."""


def timesteps(member: Member) -> tuple[int, ...]:
    """Where a member is measured: as its settings say, or in the middle of equal parts of what it is trained on."""
    validation, trained = member.config.validation, member.config.objective.timesteps
    if validation.timesteps is not None:
        return validation.timesteps
    width = (trained.high - trained.low) / validation.bins
    return tuple(int(trained.low + (bin + 0.5) * width) for bin in range(validation.bins))


@torch.no_grad()
def losses(trainer: Trainer, asked: Sequence[Asked], poll: Callable[[], None]) -> list[dict[int, float]]:
    """For each of the asked, the mean squared error at each timestep, averaged over its pictures; of the weights that
    files show. All of them go through the base together, in packs, as in training."""
    looks = [look for at, each in enumerate(asked) for look in _looks(at, each)]
    of = {id(look.part): look for look in looks}
    rows = trainer.rows or max(ROWS, sum(_rows_of_a_step(each) for each in asked))
    found: list[dict[int, list[Tensor]]] = [{t: [] for t in timesteps(each.member)} for each in asked]
    with ExitStack() as shown:
        for member in dict.fromkeys(each.member for each in asked):
            shown.enter_context(member.averaged())
        for pack in packs([look.part for look in looks], rows):
            poll()
            some = [of[id(part)] for part in pack]
            for look, each in zip(
                some, _measure(trainer, some, [asked[look.at].adapter for look in some]), strict=True
            ):
                found[look.at][look.t].append(each)
    return [{t: float(torch.cat(some).double().mean()) for t, some in by.items() if some} for by in found]


@dataclass(frozen=True)
class _Look:
    """One micro-batch at one timestep."""

    at: int
    """Whose, of the asked."""
    t: int
    part: Part


def _looks(at: int, asked: Asked) -> Iterator[_Look]:
    """Every picture at every timestep, each time hidden in noise of its own."""
    objective = replace(asked.member.objective, seed=MEASURED)
    for t in timesteps(asked.member):
        for batch in asked.batches:
            levels = torch.full((len(batch.keys),), t, device=batch.latents.device)
            noised = objective.corrupt(batch.latents, [f"{key}@{t}" for key in batch.keys], levels)
            yield _Look(at, t, Part(asked.member, batch, noised, share=1.0, dice=None))


def _measure(trainer: Trainer, looks: Sequence[_Look], adapters: Sequence[Adapter | None]) -> Iterator[Tensor]:
    """The loss of each example of each look, [N]."""
    pack = [look.part for look in looks]
    routes = [
        replace(route, adapter=adapter or route.adapter)
        for route, adapter in zip(lay_out(pack), adapters, strict=True)
    ]  # fmt: skip
    x, t, cond = join(pack)
    with trainer.riders.routed(routes), trainer.compute.autocast():
        predicted = trainer.family.predict(x, t, cond)
    for part, route in zip(pack, routes, strict=True):
        answer = predicted[route.start : route.stop].float()
        yield part.member.objective.measure(answer, part.noised.target, part.batch.mask)


def _rows_of_a_step(asked: Asked) -> int:
    config = asked.member.config
    return config.train.accumulate * max(config.data.batch_size_of(each) for each in config.data.sets)
