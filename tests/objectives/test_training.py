"""Objectives of every kind in training: alone and together, and a whole run that ends in pure noise."""

from __future__ import annotations

from pathlib import Path

import pytest

import impasto
from impasto import events
from impasto.config import RunConfig
from impasto.engine import run as engine
from impasto.errors import ConfigError
from tests.engine import forks
from tests.engine.fleets import config, family, farthest, member, train

NOISE = {"offset": {"random": True, "adaptive": 0.1}, "pyramid": {"iterations": 4}, "perturbation": {"random": True}}
OBJECTIVES = (
    {"timesteps": {"kind": "logit-normal", "looks": "stratified"}, "noise": NOISE, "v_like": 0.01},
    {"loss": {"kind": "huber"}, "weighting": {"kind": "min-snr"}, "shift": {"kind": "resolution", "side": 4}},
    {"timesteps": {"kind": "mode"}, "loss": {"kind": "smooth-l1", "schedule": "exponential"}},
)


def test_objectives_of_three_kinds_train_the_same_alone_and_in_company(tiny_base: Path) -> None:
    base = family(tiny_base)
    settings = [config(seed=seed, objective=objective) for seed, objective in enumerate(OBJECTIVES)]
    alone = [train(base, [member(base, each)], 3)[0] for each in settings]
    together = train(base, [member(base, each) for each in settings], 3, rows=1)
    assert [farthest(a, b) for a, b in zip(alone, together, strict=True)] == [0.0, 0.0, 0.0]
    plain = train(base, [member(base, config(seed=0))], 3)[0]
    assert farthest(alone[0], plain) > 0


def settings(base: Path, folder: Path, **objective: object) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"path": str(base), "prediction": "v"},
            "data": {"batch_size": 2, "sets": [{"path": str(forks.pictures(folder / "pictures"))}]},
            "adapter": {"rank": 2, "alpha": 2.0},
            "objective": objective,
            "train": {"steps": 2},
            "preview": {"every_steps": 2, "prompts": [{"text": "a cat", "steps": 2}]},
            "output": {"folder": str(folder / "runs")},
            "device": {"threads": 1},
        }
    )


def test_a_run_that_ends_in_pure_noise_trains_draws_and_is_proven(tiny_base: Path, tmp_path: Path) -> None:
    rescaled = settings(tiny_base, tmp_path, zero_terminal_snr=True, weighting={"kind": "debiased"})
    (folder,) = impasto.train(rescaled, cache=tmp_path / "cache")
    told = list(impasto.follow(folder))
    assert [each.step for each in told if isinstance(each, events.Preview)] == [0, 2]
    assert [each.matched == each.expected for each in told if isinstance(each, events.Proven)] == [True]


def test_an_objective_the_base_cannot_have_is_refused_before_any_picture_is_encoded(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.prepare, "fill", lambda *_: pytest.fail("pictures were encoded"))
    with pytest.raises(ConfigError, match=r"E-CFG-124 objective\.v_like"):
        impasto.train(settings(tiny_base, tmp_path, v_like=0.1), cache=tmp_path / "cache")
