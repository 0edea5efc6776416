"""What it takes to write a checkpoint, which holds all that a resume needs, and an adapter file to use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from impasto.bench import ours
from impasto.bench.clock import Clock, Span
from impasto.bench.figures import Figure, Report, machine
from impasto.engine import checkpoint
from impasto.engine.device import choose
from impasto.engine.trainer import Trainer
from impasto.runs.folder import RunFolder
from impasto.store import Store
from impasto.weights import file as adapter_file


@dataclass(frozen=True)
class Asked:
    """What is measured."""

    rounds: int = 10
    rank: int = 16
    base: str = "pocket"
    threads: int = 0
    device: str = "auto"


def measured(asked: Asked, work: Path) -> Report:
    """Save again and again, between two steps."""
    folder = ours.pictures(work / "pictures", 4, 64)
    config = ours.settings(
        folder, name="save", model={"path": asked.base}, device=ours.device(asked.device, asked.threads),
        data={"resolution": 64}, adapter={"rank": asked.rank, "alpha": float(asked.rank)}, train={"steps": 1},
    )  # fmt: skip
    compute = choose(config.device, config.model)
    clock, facts = Clock(compute.device), machine(torch.get_num_threads(), str(compute.device))
    spans: dict[str, list[Span]] = {"a checkpoint": [], "an adapter file": []}
    sizes: list[float] = []

    def between(trainer: Trainer) -> None:
        if spans["a checkpoint"]:
            return
        member = trainer.members[0]
        runs = RunFolder.create(work / "saved", "", {})
        for at in range(asked.rounds):
            tensors = member.tensors()
            sizes.append(sum(each.nbytes for some in tensors.values() for each in some.values()) / 1e6)
            save = partial(checkpoint.save, runs, at + 1, tensors, {"step": at + 1}, keep=2)
            spans["a checkpoint"].append(clock.timed(save))
            path = work / f"adapter-{at}.safetensors"
            write = partial(adapter_file.write, path, member.adapter.tensors(), {}, "fp16")
            spans["an adapter file"].append(clock.timed(write))

    ours.trained([config], Store(work / "store"), clock, between)
    return Report(
        what="save", machine=facts, asked=vars(asked),
        figures=[
            *(Figure(name=name, unit="s", values=[each.wall for each in some]) for name, some in spans.items()),
            Figure(name="size of a checkpoint", unit="MB", values=sizes[:1], better="neither"),
        ],
    )  # fmt: skip
