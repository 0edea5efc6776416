"""A step of ours, of a bare loop and of the loop that diffusers documents, in turns; and what the machine could do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from impasto.bench import ours, peers, roofline
from impasto.bench.clock import Clock, Span
from impasto.bench.figures import Figure, Report, machine, ratio
from impasto.engine.device import choose
from impasto.engine.packing import join, lay_out
from impasto.engine.trainer import Trainer, draw
from impasto.families import medium
from impasto.store import Store

WARM = 3
"""Rounds that do not count."""

RATE = 1e-4


@dataclass(frozen=True)
class Asked:
    """What is measured."""

    rounds: int = 20
    batch: int = 1
    rank: int = 8
    resolution: int = 256
    precision: str = "auto"
    threads: int = 0
    device: str = "auto"
    base: str = ""
    """A base in diffusers' layout; empty: the medium one with random numbers, made on the spot."""


def measured(asked: Asked, work: Path) -> Report:
    """Take turns, then count."""
    base = Path(asked.base) if asked.base else medium.made(work / "base")
    pictures = ours.pictures(work / "pictures", 8, asked.resolution)
    config = ours.settings(
        pictures, name="step", model={"path": str(base), "precision": asked.precision},
        device=ours.device(asked.device, asked.threads), train={"steps": WARM + asked.rounds},
        data={"resolution": asked.resolution, "batch_size": asked.batch, "prefetch": 0},
        adapter={
            "rank": asked.rank, "alpha": float(asked.rank), "targets": {"text_encoder": False, "layers": "attention"},
        },
        optim={"learning_rate": RATE},
    )  # fmt: skip
    compute = choose(config.device, config.model)
    clock, facts = Clock(compute.device), machine(torch.get_num_threads(), str(compute.device))
    task = peers.Task(base, pictures, asked.resolution, asked.batch, asked.rank, RATE, compute.device, compute.dtype)
    others: dict[str, Callable[[], None]] = {"bare": peers.bare(task), "documented": peers.documented(task)}
    spans: dict[str, list[Span]] = {name: [] for name in others}
    counts: list[roofline.Work] = []

    def between(trainer: Trainer) -> None:
        if not counts:
            counts.append(work_of(trainer))
        for name, step in others.items():
            spans[name].append(clock.timed(step))

    spans["impasto"] = ours.trained([config], Store(work / "store"), clock, between)
    counted = {name: some[-asked.rounds :] for name, some in spans.items()}
    rate = roofline.matrix_rate(compute.device, compute.dtype)
    return Report(
        what="step", machine=facts, figures=figures(counted, counts[0], rate),
        asked={**vars(asked), "base": str(asked.base or "medium"), "precision": compute.precision},
    )  # fmt: skip


def figures(spans: dict[str, list[Span]], work: roofline.Work, rate: float) -> list[Figure]:
    """Seconds, ratios turn by turn, and what the machine could do at best."""
    walls = {name: [each.wall for each in some] for name, some in spans.items()}
    busy = {name: [each.processor for each in some] for name, some in spans.items()}
    limit = work.total / rate
    return [
        *(Figure(name=f"{name}, a step", unit="s", values=some) for name, some in walls.items()),
        *(Figure(name=f"{name}, processor", unit="s", values=some) for name, some in busy.items()),
        ratio("impasto to bare", walls["impasto"], walls["bare"], "less"),
        ratio("impasto to bare, processor", busy["impasto"], busy["bare"], "less"),
        ratio("documented to impasto", walls["documented"], walls["impasto"], "more"),
        ratio("documented to impasto, processor", busy["documented"], busy["impasto"], "more"),
        Figure(name="forward of the base", unit="GFLOP", values=[work.forward / 1e9], better="neither"),
        Figure(name="gradients of activations", unit="GFLOP", values=[work.backward / 1e9], better="neither"),
        Figure(name="adapter, both ways", unit="GFLOP", values=[work.adapter / 1e9], better="neither"),
        Figure(name="matrix products", unit="GFLOP/s", values=[rate / 1e9], better="neither"),
        Figure(name="limit of a step", unit="s", values=[limit], better="neither"),
        Figure(name="impasto to limit", unit="x", values=[each / limit for each in walls["impasto"]]),
        Figure(name="impasto to limit, processor", unit="x", values=[each / limit for each in busy["impasto"]]),
    ]


def work_of(trainer: Trainer) -> roofline.Work:
    """What a step of the members computes, counted on their first micro-batches."""
    parts = [draw(member)[0] for member in trainer.members]
    x, t, cond = join(parts)

    def forward() -> torch.Tensor:
        with trainer.compute.autocast():
            return trainer.family.predict(x, t, cond)

    def ridden() -> torch.Tensor:
        with trainer.riders.routed(lay_out(parts)):
            return forward()

    def learnt() -> None:
        with trainer.riders.routed(lay_out(parts)):
            forward().float().square().mean().backward()  # type: ignore[no-untyped-call]

    found = roofline.counted(forward, ridden, learnt)
    for member in trainer.members:
        member.optimizer.zero_grad()
    return found
