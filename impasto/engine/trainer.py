"""One optimizer step of every member: the loop this program exists for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from impasto import dice
from impasto.adapters.riders import Riders
from impasto.data.batch import Batch
from impasto.engine.device import Compute
from impasto.engine.joining import joined
from impasto.engine.member import Look, Member
from impasto.engine.packing import Part, join, lay_out, packs
from impasto.engine.prior import with_answers
from impasto.engine.sharding import Company
from impasto.engine.spent import Stopwatch
from impasto.engine.world import World
from impasto.errors import ModelFileError, OutOfMemory, Problem, UserError
from impasto.families.family import Family
from impasto.optim.flat import stack


class Trainer:
    """A frozen base, the adapters riding on it, and the members they belong to."""

    def __init__(self, family: Family, compute: Compute, rows: int = 0, world: World | None = None) -> None:
        self.family = family
        self.compute = compute
        self.world = world
        """The ranks that share each step, if there are several."""
        self.company: Company | None = None
        """The ranks that hold the base in shares, if they do."""
        self.riders = Riders(family.targets())
        self.members: list[Member] = []
        self.watch = Stopwatch(compute.device)
        self.rows = rows
        """Examples in a forward pass, at most; 0: no limit."""
        self._checked = False
        self._settled: tuple[object, ...] = ()
        self._memory: int | None = None

    def shard(self) -> None:
        """From here on the ranks hold the denoiser in shares; alone there is nobody to share it with."""
        denoiser = self.family.lending.denoiser.module
        if self.world is None:
            denoiser.to(self.compute.device)
        else:
            self.company = Company(self.world, denoiser, self.compute.device)

    def add(self, member: Member) -> None:
        """Let `member` train from the next step on."""
        self.riders.mount(member.adapter)
        self.members.append(member)

    def remove(self, member: Member) -> None:
        """`member` is finished or has failed; the others go on as if it had never been here."""
        self.members.remove(member)
        self.riders.dismount(member.adapter)

    @property
    def memory(self) -> int:
        """Bytes in use at the peak, looked up once a step."""
        if self._memory is None:
            self._memory = self.compute.memory()
        return self._memory

    def step(self) -> dict[Member, UserError]:
        """One optimizer step of every member; returns the members that could not take part, and why.

        Parts are values: after out-of-memory the same ones run in smaller packs, with the same result.
        """
        self._settle()
        self._memory = None
        with self.watch.at("data"):
            parts, failed = self._draw_all()
        while True:
            try:
                with self.company.step() if self.company else nullcontext():
                    losses, looks = self._forward_backward(parts)
                break
            except torch.OutOfMemoryError as error:
                self.rows = _fewer(parts, self.rows, error, shared=self.company is not None)
            for member in self.members:  # out of the except block, where the traceback still holds the memory
                member.optimizer.zero_grad()
        if parts:
            self._every_target_fired()
        with self.watch.at("update"):
            if self.world is not None:
                losses, looks, failed = joined(self.world, self.members, looks, failed, self.compute.device)
            for member, loss in losses.items():
                member.update(loss, looks[member])
        return failed

    def _settle(self) -> None:
        """Whoever trains now lies side by side with those like it, and acts together with them."""
        now = tuple((id(member), member.flat.layout) for member in self.members)
        if now != self._settled:
            stack(member.flat for member in self.members if member.adapter.stacks)
            self.riders.forget()
            self._settled = now

    def _draw_all(self) -> tuple[list[Part], dict[Member, UserError]]:
        parts, failed = [], {}
        for member in self.members:
            try:
                parts += draw(member)
            except UserError as error:  # its picture vanished, its disk failed: its own business
                failed[member] = error
        return parts, failed

    def _forward_backward(self, parts: Sequence[Part]) -> tuple[dict[Member, Tensor], dict[Member, list[Look]]]:
        losses = {part.member: torch.zeros((), device=self.compute.device) for part in parts}
        found: dict[int, Look] = {}
        ready = packs(parts, self.rows)
        for pack in self.company.as_many(ready) if self.company else ready:
            for part, each in zip(pack, self._pack(pack), strict=True):
                losses[part.member] += each.mean() * part.share
                found[id(part)] = Look(part.batch.keys, part.noised.t, part.batch.weight, each)
        looks: dict[Member, list[Look]] = {part.member: [] for part in parts}
        for part in parts:  # in the order of the plan, however they were packed
            looks[part.member].append(found[id(part)])
        return losses, looks

    def _pack(self, pack: Sequence[Part]) -> list[Tensor]:
        """The loss of each example of each part, [N] each."""
        routes = lay_out(pack)
        x, t, cond = join(pack)
        pack = with_answers(pack, self.family, self.compute, x, t, cond)  # before anybody rides
        with self.riders.routed(routes):  # held through backward: checkpointed blocks run again there
            with self.watch.at("forward"):
                with self.compute.autocast():
                    predicted = self.family.predict(x, t, cond)  # the frozen base, once, for everybody
                each = [
                    part.member.objective.loss(
                        predicted[route.start : route.stop], part.noised, part.batch.weight, part.batch.mask
                    )
                    for part, route in zip(pack, routes, strict=True)
                ]
                losses = torch.stack([some.mean() * part.share for part, some in zip(pack, each, strict=True)])
                scales = torch.stack([part.member.loss_scale() for part in pack])
                whole = (losses * scales).sum()
            with self.watch.at("backward"):
                whole.backward()  # type: ignore[no-untyped-call]
        return [some.detach() for some in each]

    def _every_target_fired(self) -> None:
        if self._checked:
            return
        self._checked = True
        silent = sorted(self.riders.silent())
        if silent:
            raise ModelFileError(
                Problem(
                    "E-MOD-110",
                    f"{len(silent)} adapted layers are never called by this base, among them {silent[0]}",
                    "adapter.targets",
                    "report this base model; its code reaches layers in a way an adapter cannot ride on",
                )
            )


def draw(member: Member) -> list[Part]:
    """The member's next micro-batches, noised by its own dice."""
    batches, turn = member.next_batches(), member.turn()
    if turn is None:
        rows = sum(len(batch.keys) for batch in batches)
        return [_part(member, batch, at, len(batch.keys) / rows) for at, batch in enumerate(batches)]
    return [
        replace(
            _part(member, batch, piece.at, 0.0 if piece.idle else len(batch.keys) / turn.rows),
            before=piece.first, of=len(turn.keys[piece.at]),
        )
        for batch, piece in zip(batches, turn.pieces, strict=True)
    ]  # fmt: skip


def _part(member: Member, batch: Batch, at: int, share: float) -> Part:
    noised = member.objective.corrupt(batch.latents, batch.keys)
    return Part(member, batch, noised, share, dice.seed("dropout", member.seed, member.step, at))


def _fewer(parts: Sequence[Part], rows: int, error: torch.OutOfMemoryError, *, shared: bool) -> int:
    """Half as many rows a pack; at one part a pack there is nothing left to halve. Ranks that share a base cannot begin
    a step anew each by itself."""
    total, largest = sum(part.rows for part in parts), max(part.rows for part in parts)
    now = min(rows or total, total)
    if now <= largest or shared:
        fix = "lower device.rows, " if shared and now > largest else "lower "
        fix += "data.batch_size or data.resolution, or set model.gradient_checkpointing = true"
        what = f"the device's memory does not hold one micro-batch of {largest} ({error})"
        raise OutOfMemory(Problem("E-MEM-001", what, "data.batch_size", fix)) from None
    return max(largest, now // 2)
