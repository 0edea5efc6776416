"""What is the same for all ranks of a training: what each of them plans, encodes, computes of a step, and is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from torch import Tensor

import impasto
from impasto import files
from impasto.config import RunConfig, fingerprint
from impasto.data.batch import Batch
from impasto.data.dealing import Turn, dealt
from impasto.data.feed import Feed
from impasto.engine import prepare
from impasto.engine.member import Member
from impasto.engine.place import Place
from impasto.engine.prepare import Source, Tell
from impasto.engine.world import World
from impasto.errors import ConfigError, Problem
from impasto.families.config import Model
from impasto.families.detect import Card


@dataclass(frozen=True)
class Share:
    """What one rank computes of a run: its part of every step."""

    source: Source
    feed: Feed
    place: Place
    busy: bool = False
    """Whether it always computes something, because all have to go through the base together."""

    def turn(self, step: int) -> Turn:
        """Its part of a step, by name."""
        return dealt(self.feed.plan.step(step), self.place.rank, self.place.size, busy=self.busy)

    def step(self, step: int) -> list[Batch]:
        """Its part of a step, as batches."""
        return [self.source.batch(piece.micro, step) for piece in self.turn(step).pieces]


def same_settings(world: World, configs: Sequence[RunConfig]) -> None:
    """Raise ConfigError where the ranks were started with different settings or versions. All ranks come here."""
    words = world.meet("settings", files.canonical([impasto.__version__, *map(fingerprint, configs)]).decode())
    _same(words, "other settings, or another version of impasto", "start all of them with the same file and the same "
          "arguments, paths included")  # fmt: skip


def same_plan(world: World, feeds: Sequence[Feed], cards: Sequence[Card]) -> None:
    """Raise ConfigError where the ranks see different pictures or another base. All ranks come here."""
    plans = [[micro.keys for micro in feed.plan.epoch(0)] for feed in feeds]
    captions = [each.caption for feed in feeds for found in feed.scan.examples for each in found]
    bases = [[card.family, card.name] for card in cards]
    words = world.meet("plan", sha256(files.canonical([plans, captions, bases])).hexdigest())
    _same(words, "other pictures, captions or another base", "give all machines the same files")


def _same(words: Sequence[str], what: str, fix: str) -> None:
    others = [str(rank) for rank, word in enumerate(words) if word != words[0]]
    if others:
        text = f"rank {', '.join(others)} has {what} than rank 0"
        raise ConfigError(Problem("E-RNK-006", text, "ranks", fix))


def filled(world: World, sources: Sequence[tuple[Source, Tell]]) -> None:
    """Encode what the store lacks, each rank its share. Where machines share no disk, the first of each then encodes
    what is missing on its own. All ranks come here."""
    prepare.fill(sources, slice(world.rank, None, world.size))
    world.meet("encoded")
    if world.place.local_rank == 0:
        prepare.fill(sources)
    world.meet("all encoded")


def give_models(world: World, configs: Sequence[RunConfig]) -> None:
    """Rank 0 tells which base it trains on, to the commit."""
    world.tell(do="models", models=[each.model.model_dump_json() for each in configs])


def with_models(configs: Sequence[RunConfig], models: Sequence[str]) -> list[RunConfig]:
    """The settings with the base that rank 0 trains on."""
    found = [Model.model_validate_json(each) for each in models]
    return [config.model_copy(update={"model": model}) for config, model in zip(configs, found, strict=True)]


def give(world: World, member: Member) -> None:
    """Rank 0 gives a member, as it is, to all others."""
    tensors = {f"{stem}/{name}": value for stem, group in member.tensors().items() for name, value in group.items()}
    world.send(tensors, step=member.step, halvings=member.halvings)


@dataclass(frozen=True)
class Given:
    """A member as rank 0 has it."""

    step: int
    halvings: int
    tensors: dict[str, dict[str, Tensor]]

    def put_into(self, member: Member) -> None:
        """Make `member` this."""
        member.restore(self.step, self.tensors)
        member.halvings = self.halvings


def take(world: World) -> Given:
    """What rank 0 gives."""
    tensors, words = world.receive()
    found: dict[str, dict[str, Any]] = {}
    for name, value in tensors.items():
        stem, _, own = name.partition("/")
        found.setdefault(stem, {})[own] = value
    return Given(words["step"], words["halvings"], found)
