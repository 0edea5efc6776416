"""Pictures a second on their way into a step: decoded, encoded, and read again from the cache."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from impasto import families
from impasto.bench import ours
from impasto.bench.clock import Clock, rates
from impasto.bench.figures import Report, machine
from impasto.data import pixels
from impasto.engine import prepare
from impasto.engine.device import choose
from impasto.events import Event
from impasto.families import detect
from impasto.families.parts import nothing_more
from impasto.store import Store


@dataclass(frozen=True)
class Asked:
    """What is measured."""

    pictures: int = 64
    side: int = 768
    """Pixels a side of the files."""

    resolution: int = 64
    batch: int = 4
    rounds: int = 5
    threads: int = 0
    device: str = "auto"
    base: str = "pocket"


def measured(asked: Asked, work: Path) -> Report:
    """Decode, encode, read; each round reads every picture once from the cache, in the order of an epoch."""
    folder = ours.pictures(work / "photos", asked.pictures, asked.side, jpeg=True)
    config = ours.settings(
        folder, name="data", model={"path": asked.base}, device=ours.device(asked.device, asked.threads),
        data={"resolution": asked.resolution, "batch_size": asked.batch},
        adapter={"targets": {"text_encoder": False}}, train={"epochs": asked.rounds + 1},
    )  # fmt: skip
    compute, card, store = choose(config.device, config.model), detect.look(config.model), Store(work / "store")
    facts = machine(torch.get_num_threads(), str(compute.device))
    feed = prepare.look(config, card, store, _hear)
    family = families.lend(card, config.model, device=compute.device, dtype=compute.dtype, finish=nothing_more)
    source = prepare.Source(config, feed, card, family, compute, store)
    views = feed.views()

    def decode() -> None:
        for view in views:
            path = feed.scan.examples[view.set][view.example].path
            found = pixels.load(path, background="white", placement=view.placement, id=view.id)
            assert isinstance(found, pixels.Pixels)
            pixels.render(found, view.placement, flip=view.flip)

    def read(epoch: int) -> None:
        for step in range(epoch * steps, (epoch + 1) * steps):
            source.step(step)

    steps, count, clock = feed.plan.steps_per_epoch, len(views), Clock(compute.device)
    spans = {
        "decoded and scaled": [clock.timed(decode) for _ in range(min(asked.rounds, 3))],
        "encoded, with captions": [clock.timed(lambda: prepare.fill([(source, _hear)]))],
        "read from the cache": [clock.timed(partial(read, epoch)) for epoch in range(asked.rounds + 1)][1:],
    }
    return Report(what="data", machine=facts, asked=vars(asked), figures=rates(spans, count, "pictures/s"))


def _hear(_: Event) -> None:
    """Nobody listens."""
