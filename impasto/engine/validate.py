"""The loss on held-out pictures, with the same noise at the same noise levels every time: the number two runs, or two
moments of one run, can be compared by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from impasto.adapters.adapter import Adapter
from impasto.adapters.riders import Route
from impasto.data.batch import Batch
from impasto.engine.config import Validation
from impasto.engine.member import Member
from impasto.engine.trainer import Trainer

SEED = 20_221
"""Decides the noise. It is not the run's, so that runs of different seeds can be compared."""


@torch.no_grad()
def losses(
    trainer: Trainer, member: Member, batches: Sequence[Batch], config: Validation, poll: Callable[[], None],
    adapter: Adapter | None = None,
) -> dict[int, float]:  # fmt: skip
    """The mean squared error of each timestep, averaged over the pictures; with a mounted `adapter`, of that one in
    place of the member's own."""
    found = {}
    for t in config.timesteps:
        total, count = 0.0, 0
        for batch in batches:
            poll()
            total += float(_one(trainer, member, adapter or member.adapter, batch, t).sum())
            count += len(batch.keys)
        found[t] = total / count
    return found


def _one(trainer: Trainer, member: Member, adapter: Adapter, batch: Batch, t: int) -> torch.Tensor:
    """The loss of each example [N] at timestep `t`."""
    objective = replace(member.objective, seed=SEED)
    at = torch.full((len(batch.keys),), t, device=batch.latents.device)
    noised = objective.corrupt(batch.latents, batch.keys, at)
    with trainer.riders.routed([Route(adapter, 0, len(batch.keys))]), trainer.compute.autocast():
        predicted = trainer.family.predict(noised.x, noised.t, batch.cond)
    return objective.measure(predicted.float(), noised.target, batch.mask)
