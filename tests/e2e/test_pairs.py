"""Every setting with every other: each pair of choices from two rows of the table is in some run of three steps.

A run finishes, or is refused before it starts with a code and a fix. A new option is one line in `AXES`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest

import impasto
from impasto import events, objectives
from impasto.checks import check
from impasto.config import RunConfig, base_key
from impasto.engine import device
from impasto.errors import ConfigError, UserError
from impasto.families import detect
from impasto.objectives.process import Ddpm
from impasto.runs import control
from impasto.runs.folder import RunFolder
from tests.engine import forks

STEPS = 3
RANKS = {"rank": 2, "alpha": 2.0}
Values = Mapping[str, Any]

AXES: dict[str, dict[str, Values]] = {
    "adapter": {
        "lora": {"adapter": {**RANKS, "dropout": 0.1}},
        "lora on convolutions": {"adapter": {**RANKS, "conv_rank": 2, "rank_dropout": 0.2}},
        "dora": {"adapter": {**RANKS, "decompose": True}},
        "lora-fa": {"adapter": {"kind": "lora-fa", **RANKS}},
        "dylora": {"adapter": {"kind": "dylora", **RANKS, "unit": 1}},
        "loha": {"adapter": {"kind": "loha", **RANKS}},
        "lokr": {"adapter": {"kind": "lokr", **RANKS, "decompose": True}},
        "glora": {"adapter": {"kind": "glora", **RANKS}},
        "ia3": {"adapter": {"kind": "ia3"}},
        "full": {"adapter": {"kind": "full", "module_dropout": 0.2}},
        "oft": {"adapter": {"kind": "oft", "block_size": 4, "rescaled": True}},
        "boft": {"adapter": {"kind": "boft", "block_size": 4}},
    },
    "timesteps": {
        "uniform": {},
        "a range": {"objective.timesteps": {"low": 200, "high": 700}},
        "logit-normal": {"objective.timesteps": {"kind": "logit-normal", "looks": "stratified"}},
        "sigmoid": {"objective.timesteps": {"kind": "sigmoid"}},
        "cosine-map": {"objective.timesteps": {"kind": "cosine-map"}},
        "mode": {"objective.timesteps": {"kind": "mode", "looks": "stratified"}},
    },
    "shift": {
        "none": {},
        "fixed": {"objective.shift": {"kind": "fixed"}},
        "resolution": {"objective.shift": {"kind": "resolution", "side": 8}},
        "flux": {"objective.shift": {"kind": "flux"}},
    },
    "noise": {
        "plain": {},
        "offset": {"objective.noise.offset": {"random": True, "adaptive": 0.1}},
        "pyramid": {"objective.noise.pyramid": {"iterations": 3}},
        "perturbation": {"objective.noise.perturbation": {"random": True}},
        "everything": {
            "objective.noise.offset": {},
            "objective.noise.pyramid": {},
            "objective.noise.perturbation": {},
        },
    },
    "loss": {
        "mse": {},
        "l1": {"objective.loss": {"kind": "l1"}},
        "huber": {"objective.loss": {"kind": "huber"}},
        "smooth-l1": {"objective.loss": {"kind": "smooth-l1", "schedule": "exponential"}},
    },
    "predicts": {
        "noise": {},
        "v": {"model.prediction": "v"},
        "v, down to pure noise": {"model.prediction": "v", "objective.zero_terminal_snr": True},
    },
    "weighting": {
        "none": {},
        "min-snr": {"objective.weighting": {"kind": "min-snr"}},
        "soft-min-snr": {"objective.weighting": {"kind": "soft-min-snr"}},
        "debiased": {"objective.weighting": {"kind": "debiased"}},
        "noise-like": {"objective.weighting": {"kind": "noise-like"}, "model.prediction": "v"},
        "v-like": {
            "objective.v_like": 0.01,
            "model.prediction": "epsilon",
            "objective.zero_terminal_snr": False,
        },
    },
    "schedule": {
        "constant": {},
        "linear": {"optim.schedule": {"kind": "linear", "warmup": 1}},
        "cosine": {"optim.schedule": {"kind": "cosine", "warmup": 0.4}},
        "restarts": {"optim.schedule": {"kind": "cosine-restarts", "cycles": 2}},
        "minimum": {"optim.schedule": {"kind": "cosine-minimum"}},
        "polynomial": {"optim.schedule": {"kind": "polynomial", "power": 2.0}},
        "inverse root": {"optim.schedule": {"kind": "inverse-sqrt", "warmup": 1}},
        "stable": {"optim.schedule": {"kind": "warmup-stable-decay", "warmup": 1, "decay": 1}},
        "stretches": {"optim.schedule": {"kind": "piecewise-constant", "until": [2], "factors": [1.0, 0.1]}},
    },
    "optimizer": {
        "adamw": {},
        "sgd": {"optim.optimizer": {"kind": "sgd"}},
        "lion": {"optim.optimizer": {"kind": "lion"}},
        "adafactor": {"optim.optimizer": {"kind": "adafactor", "relative_step": True}},
        "came": {"optim.optimizer": {"kind": "came"}},
        "muon": {"optim.optimizer": {"kind": "muon"}},
    },
    "precision": {
        "fp32": {},
        "bf16": {"model.precision": "bf16"},
        "fp16": {"model.precision": "fp16"},
        "adapter in bf16": {"model.precision": "bf16", "optim.precision": "bf16"},
        "words in fp32": {"model.precision": "bf16", "model.text_encoder_precision": "fp32"},
        "int8": {"model.quantize": "int8"},
        "fp8": {"model.precision": "bf16", "model.quantize": "fp8", "model.quantize_text_encoder": "int8"},
        "nf4": {"model.quantize": "nf4", "model.quantize_text_encoder": "nf4"},
    },
    "checkpointing": {"off": {}, "on": {"model.gradient_checkpointing": True}},
    "accumulate": {"1": {}, "2": {"train.accumulate": 2}},
    "ema": {"off": {}, "on": {"optim.ema": {}}, "without a warm-up": {"optim.ema": {"warmup": False, "decay": 0.5}}},
    "cache": {"on": {}, "off": {"data.cache": False}},
    "augment": {"none": {}, "flip": {"data.augment.flip": True}, "crop": {"data.augment.random_crop": True}},
    "captions": {"plain": {}, "changing": {"data.captions.shuffle": True, "data.captions.dropout": 0.3}},
    "batch": {"1": {"data.batch_size": 1}, "2": {}},
    "trained": {
        "U-Net": {"adapter.targets.text_encoder": False},
        "words": {"adapter.targets.unet": False},
        "both": {},
        "both, at their own rates": {"optim.text_encoder_learning_rate": 1e-4, "optim.unet_learning_rate": 2e-3},
    },
    "prior": {"pictures": {}, "base": {"objective.prior_target": "base"}},
    "clip": {"on": {}, "off": {"optim.clip": 0.0}},
}
"""What may be combined: rows of choices, each with the settings it makes. A later row may overrule an earlier one; what
is refused beside anything else belongs in `REFUSED`, where it hides no other pair."""

REFUSED: dict[str, Values] = {
    "E-CFG-021": {"optim.schedule": {"kind": "linear", "warmup": 9}},
    "E-CFG-122": {"objective.zero_terminal_snr": True},
    "E-CFG-123": {"objective.weighting": {"kind": "noise-like"}},
    "E-CFG-124": {"objective.v_like": 0.01, "model.prediction": "v"},
    "E-CFG-140": {"optim.precision": "bf16"},
    "E-CFG-142": {
        "optim.precision": "bf16",
        "model.precision": "bf16",
        "optim.optimizer": {"kind": "schedule-free"},
        "optim.schedule": {"kind": "constant"},
    },
}
"""What may not, by the code it is refused with."""

AT_LEAST = 150
Choices = Mapping[str, str]


@cache
def rows() -> list[dict[str, str]]:
    """Few combinations that hold every pair: the row that holds most pairs still missing, of some by dice, is next."""
    dice = random.Random(0)
    missing = {
        frozenset([(one, a), (other, b)])
        for one, other in combinations(AXES, 2)
        for a, b in product(AXES[one], AXES[other])
    }
    found: list[dict[str, str]] = []
    while missing or len(found) < AT_LEAST:
        start = dict(dice.choice(sorted(sorted(each) for each in missing))) if missing else {}
        found.append(_filled(start, missing, dice))
        missing -= set(map(frozenset, combinations(found[-1].items(), 2)))
    return found


def _filled(row: dict[str, str], missing: set[frozenset[tuple[str, str]]], dice: random.Random) -> dict[str, str]:
    """A row with every axis decided, one after the other, each by how many missing pairs it adds."""
    for axis in dice.sample(list(AXES), len(AXES)):
        if axis not in row:
            choices = dice.sample(list(AXES[axis]), len(AXES[axis]))
            row[axis] = max(
                choices, key=lambda name: sum(frozenset([(axis, name), each]) in missing for each in row.items())
            )
    return {axis: row[axis] for axis in AXES}


def settings(base: Path, folder: Path, name: str, choices: Choices) -> dict[str, Any]:
    sets = [{"path": str(folder / "pictures")}, {"path": str(folder / "general"), "role": "regularization"}]
    values: dict[str, Any] = {
        "name": name,
        "model": {"path": str(base)},
        "data": {"batch_size": 2, "sets": sets},
        "optim": {"learning_rate": 1e-3},
        "train": {"steps": STEPS, "seed": 3},
        "save": {"proof": "off", "precision": "fp32"},
        "output": {"folder": str(folder / "runs")},
        "device": {"name": "cpu", "threads": 1},
    }
    for axis, choice in choices.items():
        _lay(values, AXES[axis][choice])
    return values


def _lay(values: dict[str, Any], over: Values) -> None:
    for key, value in over.items():
        _put(values, key.split("."), value)


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for step in path[:-1]:
        values = values.setdefault(step, {})
    if isinstance(value, dict):
        values[path[-1]] = {**values.get(path[-1], {}), **value}
    else:
        values[path[-1]] = value


@dataclass
class Trial:
    """What became of a combination."""

    config: RunConfig | None = None
    refusal: UserError | None = None
    failure: Exception | None = None


def refused(config: RunConfig) -> UserError | None:
    """Why a run does not start, if it does not; all that the engine asks before a picture is encoded."""
    if problems := check(config):
        return ConfigError(*problems)
    card = detect.look(config.model)
    try:
        device.holds(config.optim, device.choose(config.device, config.model))
        objectives.build(config.objective, Ddpm.from_scheduler(card.scheduler, prediction=card.prediction), 0)
    except UserError as error:
        return error
    return None


@pytest.fixture(scope="module")
def world(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pairs")
    forks.pictures(folder / "pictures", count=4)
    forks.pictures(folder / "general", count=2)
    return tiny_base, folder


@pytest.fixture(scope="module")
def trials(world: tuple[Path, Path]) -> list[Trial]:
    """All combinations, those on one base trained together."""
    base, folder = world
    found = []
    for number, choices in enumerate(rows()):
        config = RunConfig.model_validate(settings(base, folder, f"run-{number}", choices))
        found.append(Trial(config, refused(config)))
    for together in _fleets(found):
        _train(together, folder / "cache")
    return found


def _fleets(trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    groups: dict[str, list[Trial]] = {}
    for each in trials:
        if each.refusal is None and each.config:
            groups.setdefault(base_key(each.config), []).append(each)
    yield from groups.values()


def _train(together: Sequence[Trial], cache: Path) -> None:
    """Train a fleet; if that ends early, whoever is to blame has it told alone."""
    try:
        impasto.train([each.config for each in together if each.config], cache=cache)
    except Exception as error:
        for each in together if len(together) > 1 else ():
            _train([each], cache)
        if len(together) == 1:
            together[0].failure = error


def _id(number: int) -> str:
    return f"{number}: " + ", ".join(name for axis, name in rows()[number].items() if AXES[axis][name])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(len(rows())), ids=_id)
def test_a_combination_finishes_or_is_refused_with_a_fix(trials: list[Trial], number: int) -> None:
    trial = trials[number]
    assert trial.config
    if trial.refusal:
        assert all(each.code and each.fix for each in trial.refusal.problems)
        return
    if trial.failure:
        raise trial.failure
    folder = Path(trial.config.output.folder) / trial.config.name
    steps = [each for each in impasto.history(folder) if isinstance(each, events.Step)]
    assert [each.step for each in steps] == list(range(1, STEPS + 1))
    in_fp16 = rows()[number]["precision"] == "fp16"  # there a step may be skipped until the scale is found
    assert in_fp16 or all(each.loss is not None and not each.skipped for each in steps)
    assert all(value.isfinite().all() for value in forks.weights(folder.parent, folder.name).values())


@pytest.mark.timeout(900)
def test_some_of_them_stopped_after_two_steps_end_to_the_bit_as_they_did_alone(
    world: tuple[Path, Path], trials: list[Trial]
) -> None:
    base, folder = world

    def stop(run: Path, event: events.Event) -> None:
        if isinstance(event, events.Step) and event.step == 1:
            control.ask(RunFolder(run), "stop")

    whole = [number for number, each in enumerate(trials) if not each.refusal and not each.failure]
    for number in whole[:: max(1, len(whole) // 8)]:
        choices = rows()[number]
        straight, halves = (
            RunConfig.model_validate(settings(base, folder, f"{name}-{number}", choices)) for name in ("whole", "half")
        )
        impasto.train(straight, cache=folder / "cache")
        impasto.train(halves, cache=folder / "cache", show=stop)
        assert RunFolder.open(folder / "runs" / halves.name).state().step == 2, _id(number)
        impasto.train(halves, cache=folder / "cache")
        for ends in (forks.weights, forks.state):
            assert forks.same(*(ends(folder / "runs", each.name) for each in (straight, halves))), _id(number)


@pytest.mark.parametrize("code", REFUSED)
def test_what_may_not_be_combined_is_refused_before_any_picture_is_encoded(world: tuple[Path, Path], code: str) -> None:
    base, folder = world
    values = settings(base, folder, code, {})
    _lay(values, REFUSED[code])
    refusal = refused(RunConfig.model_validate(values))
    assert refusal
    assert [each.code for each in refusal.problems] == [code]
    assert all(each.fix for each in refusal.problems)


def test_every_pair_is_in_some_run() -> None:
    held = {frozenset(pair) for row in rows() for pair in combinations(row.items(), 2)}
    count = sum(len(AXES[one]) * len(AXES[other]) for one, other in combinations(AXES, 2))
    assert len(held) == count
    assert len(rows()) >= AT_LEAST
