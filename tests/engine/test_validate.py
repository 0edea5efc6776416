"""What is measured while a run trains: the same every time, of pictures that are never learnt; it changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import impasto
from impasto import events
from impasto.config import RunConfig
from impasto.engine import checkpoint
from impasto.errors import ConfigError
from impasto.events import Finished, Noted, Picked, Proven, Validated
from impasto.runs.folder import RunFolder
from impasto.weights import file
from tests.engine import forks

MEASURE: dict[str, object] = {"share": 0.25, "bins": 2, "every_steps": 2}
QUIET = {"precision": "fp32", "proof": "off"}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return forks.pictures(tmp_path / "pictures", count=8)


def config(base: Path, pictures: Path, name: str = "anna", **sections: object) -> RunConfig:
    settings: dict[str, object] = {
        "name": name,
        "model": {"path": str(base)},
        "data": {"batch_size": 2, "sets": [{"path": str(pictures)}], "augment": {"flip": True}},
        "adapter": {"rank": 2, "alpha": 2.0, "dropout": 0.1, "targets": {"text_encoder": False}},
        "optim": {"learning_rate": 1e-2},
        "train": {"steps": 4},
        "validation": MEASURE,
        "save": QUIET,
        "output": {"folder": str(pictures.parent / "runs")},
        "device": {"threads": 1},
    }
    return RunConfig.model_validate({**settings, **sections})


def train(*configs: RunConfig) -> list[RunFolder]:
    cache = configs[0].output.folder.parent / "cache"
    return [RunFolder.open(each) for each in impasto.train(list(configs), cache=cache)]


def told(run: RunFolder) -> list[Validated]:
    return list(events.measured(events.read(run.events)).values())


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return file.load(run.final)[0]


def test_measuring_changes_nothing_but_which_pictures_are_learnt(tiny_base: Path, pictures: Path) -> None:
    measured, silent = (
        train(config(tiny_base, pictures)),
        train(config(tiny_base, pictures, "silent", validation={"share": 0.25, "pictures": 0})),
    )
    assert forks.same(weights(measured[0]), weights(silent[0]))
    assert [each.step for each in told(measured[0])] == [2, 4]
    assert not told(silent[0])
    first = told(measured[0])[0]
    assert first.losses.keys() == first.training.keys() == {"250", "750"}
    assert first.pictures == 2
    assert first.losses != first.training


def test_two_measurements_of_the_same_weights_are_the_same(tiny_base: Path, pictures: Path) -> None:
    still = {"learning_rate": 1e-30}
    (one,) = train(config(tiny_base, pictures, "one", optim=still, train={"steps": 4, "seed": 1}))
    (two,) = train(config(tiny_base, pictures, "two", optim=still, train={"steps": 4, "seed": 2}))
    assert told(one)[0].losses == told(one)[1].losses
    for a, b in zip(told(one), told(two), strict=True):  # other dice, other first weights: of no effect yet
        assert a.losses == pytest.approx(b.losses, rel=1e-4)
        assert a.training == pytest.approx(b.training, rel=1e-4)


def test_after_a_resume_it_is_as_if_there_had_been_no_end(tiny_base: Path, pictures: Path) -> None:
    average = {"learning_rate": 1e-2, "ema": {"decay": 0.5}}
    (whole,) = train(config(tiny_base, pictures, "whole", optim=average))
    train(config(tiny_base, pictures, "parts", optim=average, train={"steps": 2}))
    (parts,) = train(config(tiny_base, pictures, "parts", optim=average))
    assert [(each.step, each.losses, each.training) for each in told(parts)] == [
        (each.step, each.losses, each.training) for each in told(whole)
    ]
    assert forks.same(weights(parts), weights(whole))
    assert forks.same(file.load(parts.best)[0], file.load(whole.best)[0])
    one, other = (checkpoint.latest(each)[0] for each in (parts, whole))
    assert one is not None
    assert other is not None
    assert one.state["measured"] == other.state["measured"]


def test_members_of_a_fleet_are_measured_together_as_alone(tiny_base: Path, pictures: Path) -> None:
    small = {"rank": 1, "alpha": 1.0}
    together = train(config(tiny_base, pictures, "a"), config(tiny_base, pictures, "b", adapter=small))
    alone = [*train(config(tiny_base, pictures, "c")), *train(config(tiny_base, pictures, "d", adapter=small))]
    for one, other in zip(together, alone, strict=True):
        for a, b in zip(told(one), told(other), strict=True):
            assert a.losses == pytest.approx(b.losses, rel=1e-4)
            assert a.training == pytest.approx(b.training, rel=1e-4)


@pytest.mark.parametrize("layout", ["kohya", "diffusers"])
def test_the_lowest_is_kept_and_a_run_ends_when_nothing_better_comes(
    tiny_base: Path, pictures: Path, layout: str
) -> None:
    wild = {"learning_rate": 1.0}
    patient = {**MEASURE, "every_steps": 1, "patience": 2}
    settings = config(tiny_base, pictures, optim=wild, validation=patient, train={"steps": 12}, save={
        **QUIET, "every_steps": 1, "layout": layout, "proof": "final",
    })  # fmt: skip
    (run,) = train(settings)
    found = told(run)
    best = min(found, key=lambda each: each.loss or 0.0)
    assert found[-1].step == best.step + 2 < 12
    assert forks.same(file.load(run.best)[0], file.load(run.adapter(best.step))[0])
    assert not forks.same(file.load(run.best)[0], file.load(run.final)[0])
    proven = {each.step: each for each in events.read(run.events) if isinstance(each, Proven)}
    assert proven.keys() == {best.step, found[-1].step}  # the one to try first, too
    assert all(each.matched == each.expected for each in proven.values())
    (picked,) = [each for each in events.read(run.events) if isinstance(each, Picked)]
    assert picked.candidates[0].file == "anna-best.safetensors"
    assert [each.recommended for each in picked.candidates] == [True, *[False] * (len(picked.candidates) - 1)]
    assert picked.candidates[0].losses == best.losses
    assert picked.candidates[-1].file == "anna.safetensors"
    assert len(run.record()["picked"]) == len(picked.candidates)  # type: ignore[arg-type]
    end = [each for each in events.read(run.events) if isinstance(each, Finished)]
    assert [each.patience for each in end] == [2]
    train(settings)
    assert "already finished, early" in [each.text for each in events.read(run.events) if isinstance(each, Noted)][-1]
    train(config(tiny_base, pictures, optim=wild, validation={**patient, "patience": 3}, train={"steps": 12}))
    assert told(run)[-1].step > found[-1].step


def test_who_is_to_be_patient_needs_pictures_that_are_held_out(tiny_base: Path, pictures: Path) -> None:
    with pytest.raises(ConfigError, match="none are held out of so few"):
        train(config(tiny_base, pictures, validation={"patience": 2}))


def test_a_curve_of_other_pictures_is_not_gone_on_with(tiny_base: Path, pictures: Path) -> None:
    train(config(tiny_base, pictures, train={"steps": 2}))
    (run,) = train(config(tiny_base, pictures, validation={**MEASURE, "bins": 3}))
    found = checkpoint.latest(run)[0]
    assert found is not None
    assert [each["step"] for each in found.state["measured"]["told"]] == [2, 4]  # type: ignore[index, call-overload]
    assert {len(each["losses"]) for each in found.state["measured"]["told"]} == {3}  # type: ignore[index, call-overload]
