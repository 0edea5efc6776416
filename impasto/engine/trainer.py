"""One optimizer step of every member: the loop this program exists for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from impasto import dice
from impasto.adapters.riders import Riders
from impasto.data.batch import Batch, Conditioning
from impasto.engine.device import Compute
from impasto.engine.joining import joined
from impasto.engine.member import Look, Member
from impasto.engine.packing import Part, join, lay_out, packs
from impasto.engine.prior import with_answers
from impasto.engine.regions import Regions
from impasto.engine.sharding import Company
from impasto.engine.spent import Stopwatch
from impasto.engine.tapes import Recorder, Tape
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
        self.regions: Regions | None = None
        """What of the denoiser is compiled."""

        self.compiled: set[Shape] = set()
        """The packs that it is compiled for."""

        self.said: list[str] = []
        """What steps had to do to fit, and nobody was told yet."""

        self.tapes: dict[Shape, Tape] = {}
        """The packs whose passes are recorded, of parameters that lie where they lay then."""

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
        self._other_company()

    def remove(self, member: Member) -> None:
        """`member` is finished or has failed; the others go on as if it had never been here."""
        self.members.remove(member)
        self.riders.dismount(member.adapter)
        self._other_company()

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
                rows = _fewer(parts, self.rows)
                if self.company is not None or (rows is None and not self._remember_less()):
                    raise _too_large(parts, error, shared=rows is not None) from None
                self.rows = rows or self.rows
                self.tapes.clear()  # they hold memory, and packs will be others
            except RuntimeError as error:
                if self.regions is None or self.regions.failure is not None or self.company is not None:
                    raise
                self.regions.give_up(error)  # whatever it was: once more, as it would have been without
            self.forget()  # out of the except block, where the traceback still holds the memory
        if parts:
            self._every_target_fired()
        with self.watch.at("update"):
            if self.world is not None:
                losses, looks, failed = joined(self.world, self.members, looks, failed, self.compute.device)
            for member, loss in losses.items():
                member.update(loss, looks[member])
        return failed

    def look(self, parts: Sequence[Part]) -> None:
        """A forward pass of a step as it is without anything compiled, once: every adapted layer must be reached."""
        if self._checked:
            return
        with torch.no_grad(), self.compute.autocast():
            for pack in packs(parts, self.rows):
                with self.riders.routed(lay_out(pack)):
                    self.family.predict(*join(pack))
        self._every_target_fired()

    def rehearse(self, pack: Sequence[Part]) -> bool:
        """Both passes of a pack and no step, compiled from here on: its graphs are made then."""
        self._settle()
        self.compiled.add(shape_of(pack))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of what it does itself to find out what is computed
                self._pack(pack)
        finally:
            self.forget()
        return True

    def record(self, pack: Sequence[Part], recorder: Recorder) -> bool:
        """Both passes of a pack and no step, recorded for all packs like it. False where dice are thrown in it, or
        where it has a text encoder: these are not the same each time."""
        cond = pack[0].batch.cond
        if "states" not in cond or any(layer.rolls for part in pack for _, layer in part.member.adapter.items()):
            return False
        self._settle()  # a tape holds for where parameters lie
        try:
            with self.riders.routed(lay_out(pack)), self._as_compiled(pack):
                self.tapes[taped(pack)] = Tape(self._predict, *join(pack), recorder)
        finally:
            self.forget()
        return True

    def _predict(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        with self.compute.autocast():
            return self.family.predict(x, t, cond)

    def forget(self) -> None:
        """No gradient is there."""
        for member in self.members:
            member.optimizer.zero_grad()

    def _other_company(self) -> None:
        self.compiled.clear()
        self.tapes.clear()
        if self.regions is not None:
            self.regions.forget()

    def _as_compiled(self, pack: Sequence[Part]) -> AbstractContextManager[None]:
        return self.regions.on() if self.regions is not None and shape_of(pack) in self.compiled else nullcontext()

    def _remember_less(self) -> bool:
        """Let the denoiser compute parts of its forward pass twice from here on, with the same numbers. False where it
        does already, or was recorded as it was."""
        denoiser = cast(Any, self.family.lending.denoiser.module)
        if denoiser.is_gradient_checkpointing or self.tapes:
            return False
        denoiser.enable_gradient_checkpointing()
        self.said.append(
            "a micro-batch did not fit into the device's memory, so parts of the forward pass are computed twice "
            "from here on; model.gradient_checkpointing = true does so from the start"
        )
        return True

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
        # held through backward: checkpointed blocks run again there
        with self.riders.routed(routes), self._as_compiled(pack):
            tape = self.tapes.get(taped(pack)) if self.tapes else None
            predict = self._predict if tape is None else tape.predict
            with self.watch.at("forward"):
                predicted = predict(x, t, cond)  # the frozen base, once, for everybody
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
                if tape is not None and predicted.grad is not None:
                    tape.learn(predicted.grad)
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


Shape = tuple[object, ...]


def shape_of(pack: Sequence[Part]) -> Shape:
    """Equal for packs that the same graphs serve: the same rows of the same members, in the same shape."""
    return (pack[0].shape(), *((part.member, part.rows) for part in pack))


def taped(pack: Sequence[Part]) -> Shape:
    """The same, and where the members' parameters and gradients lie: a tape reads and writes there and nowhere else."""
    members = dict.fromkeys(part.member for part in pack)
    firsts = (
        group.parameters[0] for member in members for group in member.flat.groups.values()
    )  # the rest lies behind
    found = ((each.data_ptr(), None if each.grad is None else each.grad.data_ptr()) for each in firsts)
    return (shape_of(pack), *found)


def draw(member: Member) -> list[Part]:
    """The member's next micro-batches, noised by its own dice."""
    batches, turn = member.next_batches(), member.turn()
    if turn is None:
        return noised(member, batches)
    return [
        replace(
            _part(member, batch, piece.at, 0.0 if piece.idle else len(batch.keys) / turn.rows),
            before=piece.first, of=len(turn.keys[piece.at]),
        )
        for batch, piece in zip(batches, turn.pieces, strict=True)
    ]  # fmt: skip


def noised(member: Member, batches: Sequence[Batch]) -> list[Part]:
    """Micro-batches of one step, noised by the member's own dice."""
    rows = sum(len(batch.keys) for batch in batches)
    return [_part(member, batch, at, len(batch.keys) / rows) for at, batch in enumerate(batches)]


def _part(member: Member, batch: Batch, at: int, share: float) -> Part:
    noised = member.objective.corrupt(batch.latents, batch.keys)
    return Part(member, batch, noised, share, dice.seed("dropout", member.seed, member.step, at))


def _fewer(parts: Sequence[Part], rows: int) -> int | None:
    """Half as many rows a pack; None where there is one part a pack, and nothing left to halve."""
    total, largest = sum(part.rows for part in parts), max(part.rows for part in parts)
    now = min(rows or total, total)
    return None if now <= largest else max(largest, now // 2)


def _too_large(parts: Sequence[Part], error: torch.OutOfMemoryError, *, shared: bool) -> OutOfMemory:
    """What to say in the end. With `shared`, ranks that share a base could not begin a step anew each by itself."""
    fix = ("lower device.rows, " if shared else "lower ") + "data.batch_size or data.resolution"
    fix += ", or set model.gradient_checkpointing = true" if shared else ""
    what = f"the device's memory does not hold one micro-batch of {max(part.rows for part in parts)} ({error})"
    return OutOfMemory(Problem("E-MEM-001", what, "data.batch_size", fix))
