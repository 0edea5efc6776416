"""Recorded passes. A processor records nothing, so what is played here is computed anew each time, on the same memory:
that inputs go in, predictions come out and gradients add up is tried, CUDA's own part is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

import impasto
from impasto import events, families
from impasto.checks import check
from impasto.config import RunConfig
from impasto.engine.device import Compute
from impasto.engine.packing import packs
from impasto.engine.tapes import Act
from impasto.engine.trainer import Trainer, draw, taped
from impasto.families import detect, tiny
from impasto.families.config import Model
from impasto.families.family import Family
from tests.engine import fleets, forks
from tests.engine.test_compiled import rider


class Again:
    """Plays by doing it again."""

    def __init__(self) -> None:
        self.recorded = 0

    def warm(self, act: Act) -> None:
        act()

    def record(self, act: Act) -> Act:
        self.recorded += 1
        return act


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.flux(tmp_path_factory.mktemp("flux") / "base")


def trained(
    family: Family, adapters: Sequence[Mapping[str, object]], recorder: Again | None, dtype: torch.dtype = torch.float32
) -> tuple[list[Tensor], Trainer]:
    """Three steps of a fleet, its first pack recorded: the parameters."""
    trainer = Trainer(family, Compute(fleets.CPU, dtype))
    members = [rider(family, seed, **each) for seed, each in enumerate(adapters)]
    for each in members:
        trainer.add(each)
    if recorder is not None:
        (pack,) = packs([part for each in members for part in draw(each)], 0)
        trainer.record(pack, recorder)
    tapes = len(trainer.tapes)
    for _ in range(3):
        trainer.step()
    assert len(trainer.tapes) == tapes
    for each in members:
        trainer.remove(each)
        each.close()
    return [each.flat.groups["unet"].values.detach().clone() for each in members], trainer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_learnt_from_recorded_passes_is_what_is_learnt_without(flux: Path, dtype: torch.dtype) -> None:
    model, adapters = Model(path=str(flux)), [{"rank": 2}, {"kind": "ia3"}]
    family = families.load(detect.look(model), model, device=fleets.CPU, dtype=dtype)
    plain, _ = trained(family, adapters, None, dtype)
    recorder = Again()
    got, trainer = trained(family, adapters, recorder, dtype)
    assert recorder.recorded == 2  # each pass once, for all steps
    assert all(torch.equal(a, b) for a, b in zip(plain, got, strict=True))
    assert trainer.tapes == {}  # whoever is left would be another company


def test_gradients_of_several_micro_batches_add_up(flux: Path) -> None:
    family = fleets.family(flux)
    found = []
    for recorder in (None, Again()):
        trainer, one = Trainer(family, Compute(fleets.CPU, torch.float32)), rider(family, 0, rank=2)
        trainer.add(one)
        parts = [draw(one)[0], draw(rider(family, 1, rank=2))[0]]
        both = [parts[0], parts[0].__class__(one, parts[1].batch, parts[1].noised, 0.5, None)]
        if recorder is not None:
            trainer.record([both[0]], recorder)
        trainer.rows = 1
        losses, _ = trainer._forward_backward(both)
        found.append((losses[one], one.flat.groups["unet"].grads.clone()))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert found[0][1].abs().max() > 0


def test_parameters_that_moved_are_not_played(flux: Path) -> None:
    family = fleets.family(flux)
    trainer, one = Trainer(family, Compute(fleets.CPU, torch.float32)), rider(family, 0, rank=2)
    trainer.add(one)
    pack = draw(one)
    trainer.record(pack, Again())
    assert taped(pack) in trainer.tapes
    parameter = next(iter(one.flat.groups["unet"].parameters))
    parameter.data = parameter.data.clone()
    assert taped(pack) not in trainer.tapes


def test_dice_are_not_recorded(flux: Path) -> None:
    family, recorder = fleets.family(flux), Again()
    trained(family, [{"rank": 2, "rank_dropout": 0.1}], recorder)
    assert recorder.recorded == 0


def settings(**sections: dict[str, object]) -> RunConfig:
    usual: dict[str, dict[str, object]] = {
        "speed": {"graphs": True}, "adapter": {"targets": {"text_encoder": False}}, "device": {"name": "cuda"},
    }  # fmt: skip
    return RunConfig.model_validate(
        {name: {**usual.get(name, {}), **sections.get(name, {})} for name in {*usual, *sections}}
    )


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({}, None),
        ({"device": {"name": "cpu"}}, "cpu has none"),
        ({"model": {"gradient_checkpointing": True}}, "checkpointing"),
        ({"model": {"blocks_to_swap": 2}}, "blocks come and go"),
        ({"adapter": {"targets": {"text_encoder": True}}}, "text encoders are trained"),
        ({"adapter": {"kind": "dylora", "targets": {"text_encoder": False}}}, "adapter.kind throws dice"),
        ({"adapter": {"dropout": 0.1, "targets": {"text_encoder": False}}}, "adapter.dropout throws dice"),
    ],
)
def test_steps_that_cannot_be_recorded_are_refused_before_a_run(
    sections: dict[str, dict[str, object]], why: str | None
) -> None:
    found = [each.what for each in check(settings(**sections)) if each.code == "E-CFG-160"]
    assert len(found) == (why is not None)
    assert why is None or why in found[0]


def test_a_run_without_such_a_device_says_so_and_trains(tiny_base: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has such a device")
    config = RunConfig.model_validate(
        {
            "model": {"path": str(tiny_base)},
            "data": {"batch_size": 2, "sets": [{"path": str(forks.pictures(tmp_path / "pictures"))}]},
            "adapter": {"rank": 2, "targets": {"text_encoder": False}},
            "train": {"steps": 2},
            "save": {"proof": "off"},
            "output": {"folder": str(tmp_path / "runs")},
            "device": {"threads": 1},
            "speed": {"graphs": True},
        }
    )
    (folder,) = impasto.train(config, cache=tmp_path / "cache")
    told = [each for each in impasto.history(folder) if isinstance(each, events.Warned)]
    assert [each.text for each in told if each.code == "W-CMP-002"] == ["no graphs are recorded: cpu knows none"]
    assert (folder / "lora.safetensors").is_file()
