"""What the ranks other than 0 do: they plan and load what rank 0 does, then step whenever it says so.

They open no run folder and decide nothing. Members come to them over the network as rank 0 has them, so a run goes on
with another number of ranks, and on machines that share no disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

from impasto import optim
from impasto.config import RunConfig
from impasto.data.feed import Feed
from impasto.data.loader import Loader
from impasto.engine import attention, device, loading, prepare, sharing
from impasto.engine.member import Member
from impasto.engine.packing import Part
from impasto.engine.sharing import Given, Share
from impasto.engine.signals import StopRequest
from impasto.engine.trainer import Trainer
from impasto.engine.world import World
from impasto.events import Event
from impasto.families import detect, hub
from impasto.families.detect import Card
from impasto.store import Store


def follow(configs: Sequence[RunConfig], world: World, store: Store) -> NoReturn:
    """Do what rank 0 says until it has come to its end; raises Ended then. Signals are rank 0's to decide on."""
    stop = StopRequest(world)
    with stop.listening(), stop.training():
        while True:
            message = world.hear()
            if message["do"] == "models":
                configs = sharing.with_models(configs, message["models"])
                for config in configs:
                    hub.local(config.model)
            elif message["do"] == "fleet":
                with ExitStack() as held:
                    _Fleet(configs, message, world, store).train(held)


class _Fleet:
    """Runs that train at once on one frozen base, as a rank that follows has them."""

    def __init__(self, configs: Sequence[RunConfig], message: Mapping[str, Any], world: World, store: Store) -> None:
        self._configs = {number: configs[number] for number in message["runs"]}
        self._totals = dict(zip(message["runs"], message["totals"], strict=True))
        self._world, self._store = world, store
        self._members: dict[int, Member] = {}

    def train(self, held: ExitStack) -> None:
        """Plan, load, and step as long as there is something to step."""
        feeds, card = self._plan()
        trainer = self._load(feeds, card, held)
        while True:
            message = self._world.hear()
            match message["do"]:
                case "step":
                    self._step(trainer, message["runs"])
                case "change":
                    sharing.take(self._world).put_into(self._members[message["run"]])
                case "along":
                    assert trainer.company is not None, "rank 0 shares its base"
                    trainer.company.along(trainer.family, trainer.compute)
                case "done":
                    return

    def _plan(self) -> tuple[dict[int, Feed], Card]:
        for config in self._configs.values():
            optim.check(config.optim)
        card = detect.look(next(iter(self._configs.values())).model)
        feeds = {number: prepare.look(each, card, self._store, _silent) for number, each in self._configs.items()}
        sharing.same_plan(self._world, list(feeds.values()), [card] * len(feeds))
        return feeds, card

    def _load(self, feeds: Mapping[int, Feed], card: Card, held: ExitStack) -> Trainer:
        configs = list(self._configs.values())
        compute = device.choose(configs[0].device, configs[0].model, self._world.place)
        family = loading.base(configs, card, compute)
        shares = {
            number: Share(
                prepare.Source(each, feeds[number], card, family, compute, self._store),
                feeds[number],
                self._world.place,
            )
            for number, each in self._configs.items()
        }
        self._world.join(compute.device)
        sharing.filled(self._world, [(share.source, _silent) for share in shares.values()])
        for share in shares.values():
            held.enter_context(share.source.live(_silent))
        held.enter_context(family.lending.denoiser.use())
        trainer = Trainer(family, compute, configs[0].device.rows, self._world)
        for number, share in shares.items():
            self._admit(number, share, trainer, sharing.take(self._world), held)
        loading.rest(configs[0], trainer)
        held.enter_context(attention.chosen(configs[0].speed.attention, compute.device, compute.dtype))
        if trainer.company is not None:
            number, member = next(iter(self._members.items()))
            batch = shares[number].step(member.step)[0]
            noised = member.objective.corrupt(batch.latents, batch.keys)
            trainer.company.remember(Part(member, batch, noised, share=0.0, dice=None))
        return trainer

    def _admit(self, number: int, share: Share, trainer: Trainer, given: Given, held: ExitStack) -> None:
        config, total = self._configs[number], self._totals[number]
        member, _ = loading.member(config, trainer.family, trainer.compute, total, given.tensors["adapter"])
        given.put_into(member)
        data = config.data
        member.feed(Loader(share.step, last=total, ahead=data.prefetch, workers=data.workers), share.turn)
        held.callback(member.close)
        self._members[number] = member
        trainer.add(member)

    def _step(self, trainer: Trainer, runs: Sequence[int]) -> None:
        for number in [each for each in self._members if each not in runs]:
            gone = self._members.pop(number)
            trainer.remove(gone)
            gone.close()
        trainer.step()
        for member in self._members.values():
            member.progress.clear(member.step)


def _silent(event: Event) -> None:
    """Rank 0 tells what there is to tell."""
