"""Which micro-batches share a forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from torch import Tensor

from impasto.adapters.riders import Route
from impasto.data.batch import Batch, Conditioning
from impasto.objectives.objective import Noised

if TYPE_CHECKING:
    from impasto.engine.member import Member


@dataclass(frozen=True)
class Part:
    """One member's micro-batch in one step."""

    member: Member
    batch: Batch
    noised: Noised
    share: float
    """Its part of the step: its examples over all of the step's, so that every example of a step counts alike."""

    dice: int | None
    """Seeds the adapter's dropouts; None where it is only measured."""

    before: int = 0
    """Of its micro-batch, the examples before these, which another rank computes."""

    of: int | None = None
    """And all of them; None: these are all."""

    @property
    def rows(self) -> int:
        """Examples in it."""
        return self.noised.x.shape[0]

    def shape(self) -> tuple[object, ...]:
        """What must be equal for two parts to be one batch."""
        cond = tuple((name, tuple(value.shape[1:])) for name, value in sorted(self.batch.cond.items()))
        return tuple(self.noised.x.shape[1:]), cond


class Sized(Protocol):
    """A part, or what will be one."""

    @property
    def rows(self) -> int: ...
    def shape(self) -> tuple[object, ...]: ...


P = TypeVar("P", bound=Sized)


def packs(parts: Sequence[P], rows: int) -> list[list[P]]:
    """Parts of equal shape together, in order, up to `rows` examples a pack (0: no limit); a part is never split."""
    filling: dict[tuple[object, ...], list[P]] = {}
    done: list[list[P]] = []
    for part in parts:
        pack = filling.get(part.shape())
        if pack is None or (rows and sum(each.rows for each in pack) + part.rows > rows):
            pack = []
            done.append(pack)
            filling[part.shape()] = pack
        pack.append(part)
    return done


def lay_out(pack: Sequence[Part]) -> list[Route]:
    """Rows 0-3 are Ann's, 4-5 Bob's."""
    routes, start = [], 0
    for part in pack:
        routes.append(Route(part.member.adapter, start, start + part.rows, part.dice, part.before, part.of))
        start += part.rows
    return routes


def join(pack: Sequence[Part]) -> tuple[Tensor, Tensor, Conditioning]:
    """One batch of all parts: noisy latents, timesteps, conditioning."""
    if len(pack) == 1:
        return pack[0].noised.x, pack[0].noised.t, pack[0].batch.cond
    x = torch.cat([part.noised.x for part in pack])
    t = torch.cat([part.noised.t for part in pack])
    cond = {name: torch.cat([part.batch.cond[name] for part in pack]) for name in pack[0].batch.cond}
    return x, t, cond
