"""Held to the base's own answers, an adapter learns to leave things alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import impasto
from impasto import events
from impasto.config import RunConfig
from impasto.data.loader import Loader
from impasto.engine.device import Compute
from impasto.engine.member import Member
from impasto.engine.trainer import Trainer
from impasto.errors import ConfigError
from impasto.families.family import Family
from tests.engine import forks
from tests.engine.fleets import CPU, batches, config, family, farthest, member, train


def keeping(base: Family, settings: RunConfig, prior: tuple[bool, ...]) -> Member:
    """A member some of whose examples are held to the base's answers."""
    made = member(base, settings)
    made.feed(
        Loader(lambda step: [replace(each, prior=prior) for each in batches(base, settings, step)], last=100, ahead=0)
    )
    return made


def losses(base: Family, made: Member, steps: int) -> list[float]:
    trainer = Trainer(base, Compute(CPU, torch.float32))
    trainer.add(made)
    for _ in range(steps):
        trainer.step()
    return [float(each) for each in made.progress.losses]


def test_at_its_start_an_adapter_answers_as_the_base(tiny_base: Path) -> None:
    base = family(tiny_base)
    made = keeping(base, config(), (True, True))
    assert losses(base, made, 1) == pytest.approx([0.0], abs=1e-10)


def test_an_adapter_that_has_moved_is_drawn_back_to_the_base(tiny_base: Path) -> None:
    base = family(tiny_base)
    made = keeping(base, config(rate=3e-3, adapter={"rank": 4, "alpha": 4.0}), (True, True))
    with torch.no_grad():
        for name, value in made.adapter.tensors().items():
            if "lora_up" in name:
                value.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    found = losses(base, made, 40)
    assert found[0] > 0
    assert sum(found[-5:]) < 0.5 * sum(found[:5])


def test_only_the_rows_that_ask_are_held_to_the_base(tiny_base: Path) -> None:
    base = family(tiny_base)
    none, one, plain = (
        losses(base, keeping(base, config(), prior), 1) for prior in ((False, False), (True, False), ())
    )
    assert none == plain
    assert 0 < one[0] < plain[0]


def test_in_company_and_checkpointed_it_trains_as_alone(tiny_base: Path) -> None:
    base = family(tiny_base, checkpointing=True)
    settings = [config(seed=seed) for seed in range(2)]
    priors = ((True, False), (False, False))
    alone = [train(base, [keeping(base, *each)], 3)[0] for each in zip(settings, priors, strict=True)]
    together = train(base, [keeping(base, *each) for each in zip(settings, priors, strict=True)], 3, rows=1)
    assert [farthest(a, b) for a, b in zip(alone, together, strict=True)] == [0.0, 0.0]


def run(base: Path, folder: Path, **set: object) -> RunConfig:
    forks.pictures(folder / "pictures")
    forks.pictures(folder / "general", count=3)
    return RunConfig.model_validate(
        {
            "model": {"path": str(base)},
            "data": {"sets": [{"path": str(folder / "pictures")}, {"path": str(folder / "general"), **set}]},
            "adapter": {"rank": 2, "alpha": 2.0},
            "objective": {"prior_target": "base"},
            "train": {"epochs": 1},
            "save": {"proof": "off"},
            "output": {"folder": str(folder / "runs")},
            "device": {"threads": 1},
        }
    )


def test_a_run_holds_its_regularization_pictures_to_the_base(tiny_base: Path, tmp_path: Path) -> None:
    (folder,) = impasto.train(run(tiny_base, tmp_path, role="regularization"), cache=tmp_path / "cache")
    found = [each.loss for each in impasto.history(folder) if isinstance(each, events.Step)]
    assert len(found) == 10
    assert sum(loss is not None and loss < 1e-3 for loss in found) == 5


def test_there_must_be_something_to_keep(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"E-CFG-141 objective\.prior_target"):
        impasto.train(run(tiny_base, tmp_path), cache=tmp_path / "cache")
