"""Members on a miniature with made-up batches: what the fleet's rules are tried on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from impasto import adapters, dice, families, objectives
from impasto.config import RunConfig
from impasto.data.batch import Batch
from impasto.data.loader import Loader
from impasto.engine.device import Compute
from impasto.engine.member import Member, trained
from impasto.engine.trainer import Trainer
from impasto.families import detect
from impasto.families.config import Model
from impasto.families.family import Family

CPU = torch.device("cpu")


def family(base: Path, *, checkpointing: bool = False) -> Family:
    model = Model(path=str(base), gradient_checkpointing=checkpointing)
    return families.load(detect.look(model), model, device=CPU, dtype=torch.float32)


def config(
    rank: int = 4, alpha: float = 4.0, rate: float = 1e-3, batch: int = 2, seed: int = 0, **more: object
) -> RunConfig:
    settings: dict[str, object] = {
        "adapter": {"rank": rank, "alpha": alpha, "dropout": 0.1, "rank_dropout": 0.1},
        "optim": {"learning_rate": rate},
        "data": {"batch_size": batch},
        "train": {"steps": 100, "seed": seed},
    }
    return RunConfig.model_validate({**settings, **more})


FOUR = (
    config(rank=4, alpha=4.0, rate=1e-3, batch=2, seed=0),
    config(rank=2, alpha=1.0, rate=5e-4, batch=3, seed=1),
    config(rank=8, alpha=8.0, rate=2e-3, batch=1, seed=2, adapter={"rank": 8, "alpha": 8.0, "conv_rank": 2}),
    config(rank=8, alpha=2.0, rate=1e-3, batch=2, seed=3, adapter={"rank": 8, "targets": {"text_encoder": False}}),
)


def batches(
    family: Family, settings: RunConfig, step: int, *, count: int = 1, sides: Sequence[int] = (8, 8)
) -> list[Batch]:
    """Made-up micro-batches, a function of the run's seed and the step."""
    return [_batch(family, settings, step, at, sides[at % len(sides)]) for at in range(count)]


def _batch(family: Family, settings: RunConfig, step: int, at: int, side: int) -> Batch:
    n = settings.data.batch_size
    generator = torch.Generator().manual_seed(dice.seed("made up", settings.train.seed, step, at))
    cond = family.tokenize([f"picture {settings.train.seed} {step} {at} {each}" for each in range(n)])
    if not settings.adapter.targets.text_encoder:
        with torch.no_grad():
            cond = family.encode(cond)
    keys = tuple(f"{step}:{at}:{each}" for each in range(n))
    return Batch(keys, torch.randn(n, 4, side, side, generator=generator), cond, torch.ones(n))


def member(family: Family, settings: RunConfig, *, count: int = 1, sides: Sequence[int] = (8, 8)) -> Member:
    adapter = adapters.build(settings.adapter, trained(settings, family.targets()), settings.train.seed)
    objective = objectives.build(settings.objective, family.process, settings.train.seed)
    made = Member(settings, adapter, objective, total=100, scaled=False)
    made.feed(Loader(lambda step: batches(family, settings, step, count=count, sides=sides), last=100, ahead=0))
    return made


def poisoned(family: Family, settings: RunConfig, at: int) -> Member:
    """A member whose latents are NaN from step `at` on."""
    made = member(family, settings)

    def make(step: int) -> list[Batch]:
        found = batches(family, settings, step)
        return found if step < at else [replace(each, latents=each.latents * float("nan")) for each in found]

    made.feed(Loader(make, last=100, ahead=0))
    return made


def train(family: Family, members: Sequence[Member], steps: int, *, rows: int = 0) -> list[dict[str, Tensor]]:
    """Train together; the adapters' tensors, copied."""
    trainer = Trainer(family, Compute(CPU, torch.float32), rows)
    for each in members:
        trainer.add(each)
    for _ in range(steps):
        trainer.step()
    for each in members:
        trainer.remove(each)
        each.close()
    return [{name: value.detach().clone() for name, value in each.adapter.tensors().items()} for each in members]


def farthest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference of any two numbers."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)
