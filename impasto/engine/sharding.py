"""A base in shares: each rank holds a part of every block, and asks the others for the rest while the block computes.

PyTorch's FSDP2 does it. Adapters stay whole on every rank: they are small, and hooks give them the whole layer. All
ranks must go through the base equally often, since each has what the others need: one with less to do does something
for company, whose result counts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from impasto.data.batch import Conditioning
from impasto.engine.device import Compute
from impasto.engine.packing import Part, join
from impasto.engine.world import World
from impasto.families import swap
from impasto.families.family import Family


class Company:
    """Ranks that go through a base together."""

    def __init__(self, world: World, denoiser: nn.Module, device: torch.device) -> None:
        """Takes the denoiser, which lies in the host's memory, to the device in shares."""
        self._world = world
        self._inputs: tuple[Tensor, Tensor, Conditioning] | None = None
        self._in_step = False
        mesh = init_device_mesh(device.type, (world.size,))
        for block in swap.chain(denoiser):
            fully_shard(block, mesh=mesh)
        fully_shard(denoiser, mesh=mesh)
        world.cannot_look_up()  # FSDP2 waits within PyTorch
        if world.leads:
            denoiser.register_forward_pre_hook(self._before, prepend=True)

    @contextmanager
    def step(self) -> Iterator[None]:
        """All ranks are in a step of the training: nobody has to be called."""
        self._in_step = True
        try:
            yield
        finally:
            self._in_step = False

    def as_many(self, packs: list[list[Part]]) -> list[list[Part]]:
        """The packs of this rank, and its first again, counting nothing, for as long as another one has more."""
        again = replace(packs[0][0], share=0.0)
        self.remember(again)
        return packs + [[again]] * (self._world.most(len(packs)) - len(packs))

    def remember(self, part: Part) -> None:
        """What to go through the base with when nothing is asked of this rank."""
        self._inputs = join([part])

    @torch.no_grad()
    def along(self, family: Family, compute: Compute) -> None:
        """Go through the base once, because rank 0 does."""
        assert self._inputs is not None, "every rank remembers something before the first step"
        with compute.autocast():
            family.predict(*self._inputs)

    def _before(self, module: nn.Module, args: object) -> None:
        """Rank 0 draws or measures: the others go along."""
        if not self._in_step:
            self._world.tell(do="along")
