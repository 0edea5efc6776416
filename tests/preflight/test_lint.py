"""Every piece of advice: settings that it is given on, and settings near to them that it is not given on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from impasto.data.examples import scan
from impasto.data.feed import planned
from impasto.engine import first
from impasto.errors import ConfigError
from impasto.families import detect
from impasto.preflight import lint
from impasto.preflight.plan import forecast, plan
from impasto.store import Store
from tests.preflight import runs


@dataclass(frozen=True)
class Case:
    """Settings that a code is given on, and settings that it is not given on."""

    code: str
    fires: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    count: int = 12
    count_silent: int = 12
    words: Callable[[int], str] = runs.caption
    words_silent: Callable[[int], str] = runs.caption
    size: tuple[int, int] = (64, 64)
    card: dict[str, Any] = field(default_factory=dict)


def many(at: int) -> str:
    return "ohwx thing, " + ", ".join(f"word{at} thing{n}" for n in range(40))


STEPS = "train.epochs=30"
RESULTS = 'preview.prompts.0.text="x"'
TE_OFF = "adapter.targets.text_encoder=false"
REG = ("data.sets.1.path=$class", "data.sets.1.role=regularization")
XL_VAE = {"configs": {"vae": {"force_upcast": True, "latent_channels": 4}}}

CASES = [
    Case("A-101", ("adapter.alpha=5",), ("adapter.alpha=4",)),
    Case("A-102", ("adapter.rank=32", "adapter.alpha=1"), ("adapter.rank=32", "adapter.alpha=16")),
    Case("A-103", ("adapter.alpha=4", "optim.learning_rate=4e-3"), ("adapter.alpha=1", "optim.learning_rate=4e-3")),
    Case("A-104", ("adapter.rank=256",), ("adapter.rank=128",)),
    Case("A-105", ("adapter.rank=64",), ("adapter.rank=32",)),
    Case("A-106", ("adapter.dropout=0.2", "adapter.rank_dropout=0.2"), ("adapter.dropout=0.2",)),
    Case("A-107", ("adapter.conv_rank=8",), ("adapter.conv_rank=4",)),
    Case("A-108", ("adapter.conv_rank=2", "adapter.conv_alpha=4"), ("adapter.conv_rank=2", "adapter.conv_alpha=2")),
    Case("A-109", ("adapter.kind=ia3",), ("adapter.kind=ia3", "optim.learning_rate=3e-3")),
    Case("A-110", ("adapter.kind=full", "optim.learning_rate=1e-3"), ("adapter.kind=full", "optim.learning_rate=1e-5")),
    Case("A-111", ("adapter.rank_stabilized=true", "adapter.alpha=16"), ("adapter.rank_stabilized=true",)),
    Case("A-201", ("optim.learning_rate=0.1",), ("optim.learning_rate=0.1", "optim.optimizer.kind=sgd")),
    Case("A-202", ("optim.learning_rate=1e-6",), ("optim.learning_rate=3e-5",)),
    Case("A-203", ("train.steps=2000",), ("train.steps=2000", "train.text_encoder_until=0.4")),
    Case("A-204", ("optim.text_encoder_learning_rate=2e-4",), ("optim.text_encoder_learning_rate=5e-5",)),
    Case("A-205", ("data.batch_size=8",), ("data.batch_size=8", "optim.learning_rate_scale=sqrt")),
    Case(
        "A-206", ("train.accumulate=4", "optim.learning_rate_scale=linear"),
        ("train.accumulate=4", "optim.learning_rate_scale=sqrt"),
    ),
    Case("A-207", ("optim.schedule.warmup=0.5",), ("optim.schedule.warmup=0.1",)),
    Case(
        "A-208", ("optim.optimizer.kind=prodigy", "optim.learning_rate=1.0", "optim.schedule.warmup=10"),
        ("optim.optimizer.kind=prodigy", "optim.learning_rate=1.0"),
    ),
    Case("A-209", ("optim.clip=0", "model.precision=fp16"), ("optim.clip=0",)),
    Case("A-210", ("optim.ema.warmup=false",), ("optim.ema.decay=0.999",)),
    Case("A-211", ("optim.optimizer.weight_decay=0.5",), ("optim.optimizer.weight_decay=0.1",)),
    Case("A-212", ("train.text_encoder_until=5000",), ("train.text_encoder_until=50",)),
    Case("A-213", ("optim.lora_plus=64",), ("optim.lora_plus=16",)),
    Case("A-214", ("train.steps=4000",), ("train.steps=4000", "optim.schedule.kind=cosine")),
    Case("A-301", ("data.sets.0.repeats=10",), ("data.sets.0.repeats=2",), count=208),
    Case("A-302", ("save.every_epochs=1",), ("save.every_epochs=10",)),
    Case("A-303", ("train.epochs=5",), (STEPS,)),
    Case("A-304", ("train.epochs=1000",), (STEPS,)),
    Case("A-305", ("train.steps=50",), ("train.steps=200",)),
    Case("A-306", ("train.steps=600",), ("train.steps=600", "save.every_steps=200")),
    Case("A-307", ("train.steps=400", "save.every_steps=2"), ("train.steps=400", "save.every_steps=2", "save.keep=5")),
    Case("A-308", ("train.steps=600",), ("train.steps=600", RESULTS)),
    Case("A-309", (RESULTS, "preview.every_steps=5"), (RESULTS, "preview.every_steps=100")),
    Case("A-310", ("data.batch_size=64", "data.sets.0.repeats=3", "data.sets.1.path=$wide", "data.sets.2.path=$high",
                   "data.sets.3.path=$class"), ("data.batch_size=4",)),
    Case("A-311", ("train.accumulate=20",), ("train.accumulate=12",)),
    Case("A-401", ("data.sets.0.repeats=10", *REG), ("data.sets.0.repeats=1", *REG)),
    Case("A-402", ("data.augment.flip=true",), (), words=lambda at: f"ohwx {at}, left hand"),
    Case("A-403", ("data.augment.color=0.5",), ("data.augment.color=0.5", "data.augment.variants=4")),
    Case("A-404", (), (), words=lambda at: f"tag{at}"),
    Case("A-405", (), (), words=lambda at: "ohwx"),
    Case("A-406", words=many),
    Case("A-407", (), (), words=lambda at: f"Sure, here is a caption: ohwx {at}"),
    Case("A-408", ("data.sets.1.path=$same",), ("data.sets.1.path=$class",)),
    Case("A-409", ("data.resolution=128",), ("data.resolution=64",)),
    Case("A-410", ("data.buckets.enabled=false", "data.sets.1.path=$wide"), ("data.sets.1.path=$wide",)),
    Case("A-411", ("data.captions.shuffle=true",), ("data.captions.shuffle=true", "data.captions.keep_tokens=1")),
    Case("A-412", ("data.captions.shuffle=true",), ("data.captions.shuffle=true",),
         words=lambda at: f"ohwx in scene {at}"),
    Case("A-413", ("data.captions.dropout=0.5",), ("data.captions.dropout=0.1",)),
    Case("A-414", count=4),
    Case("A-415", ("data.resolution=128",), ("data.resolution=80",)),
    Case("A-416", ("data.resolution=24",), ("data.resolution=48",)),
    Case("A-417", (), ("model.emphasis=plain",), words=lambda at: f"(ohwx:1.2), {at}",
         words_silent=lambda at: f"(ohwx:1.2), {at}"),
    Case("A-418", (), ("data.captions.wildcards=true",), words=lambda at: f"ohwx {{red|blue}} {at}",
         words_silent=lambda at: f"ohwx {{red|blue}} {at}"),
    Case("A-419", ("data.captions.shuffle=true", "data.captions.keep_tokens=5"),
         ("data.captions.shuffle=true", "data.captions.keep_tokens=1")),
    Case("A-420", (), (), words=lambda at: f"ohwx {at}" if at else ""),
    Case("A-421", ("data.workers=64",), ("data.workers=1",)),
    Case("A-422", ("data.sets.1.path=$class", "data.sets.1.weight=0.0"), ("data.sets.1.path=$class",)),
    Case("A-423", ("data.sets.1.path=$class", "data.sets.1.repeats=50"), ("data.sets.1.path=$class",)),
    Case("A-424", ("scores.trigger=ohw",), ("scores.trigger=OHWX",)),
    Case("A-501", ("objective.noise.offset.strength=0.05", "objective.noise.pyramid.iterations=6"),
         ("objective.noise.offset.strength=0.05",)),
    Case("A-502", ("objective.noise.offset.strength=0.3",), ("objective.noise.offset.strength=0.1",)),
    Case("A-503", ("objective.weighting.kind=min-snr",), (), card={"prediction": "flow"}),
    Case("A-504", ('objective.weighting={kind="min-snr", gamma=0.5}',), ("objective.weighting.kind=min-snr",)),
    Case("A-505", ('objective.timesteps={kind="uniform", low=400, high=600}',),
         ('objective.timesteps={kind="uniform", low=200}',)),
    Case("A-506", ("objective.noise.perturbation.gamma=0.5",), ("objective.noise.perturbation.gamma=0.1",)),
    Case("A-507", ("objective.prior_weight=0.0", *REG), ("objective.prior_weight=0.5", *REG)),
    Case("A-508", ("objective.shift.kind=flux",), ('objective.shift={kind="fixed", strength=1.5}',)),
    Case("A-509", ("objective.v_like=1.0",), ("objective.v_like=0.01",)),
    Case("A-601", ("model.vae_precision=fp16",), (), card=XL_VAE),
    Case("A-602", ("model.clip_skip=2",), ("model.clip_skip=1",)),
    Case("A-603", ("model.precision=fp16",), ("model.precision=bf16",)),
    Case("A-604", ("model.precision=bf16", "device.name=cpu"), ("device.name=cpu",)),
    Case("A-605", ("model.max_tokens=225",), ("model.max_tokens=75",)),
    Case("A-606", ("save.proof=off",), ("save.proof=final",)),
    Case("A-607", ("model.merged.0.path=/x.safetensors", "model.merged.0.weight=2.0"),
         ("model.merged.0.path=/x.safetensors",)),
    Case("A-608", ("model.quantize=int8", "device.name=cpu"), ("device.name=cpu",)),
    Case("A-609", ("speed.compile=blocks", "device.name=cpu"), ("speed.compile=blocks", "device.name=cuda")),
    Case(
        "A-610",
        ("speed.compile=blocks", "device.name=cuda", "train.epochs=", "train.steps=200"),
        ("speed.compile=blocks", "device.name=cuda", "train.epochs=", "train.steps=2000"),
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("cache"))


def codes(folder: Path, store: Store, settings: tuple[str, ...], card: dict[str, Any] | None = None) -> set[str]:
    """The advice on these settings."""
    root = folder.parent
    laid = [each.replace("$", f"{root}/") for each in settings]
    length = () if any(each.startswith(("train.steps", "train.epochs")) for each in settings) else (STEPS,)
    config = runs.config(folder, [*length, *laid])
    for each in config.data.sets[1:]:
        if not each.path.exists():
            sizes = {"wide": (160, 40), "high": (40, 160), "same": (64, 64), "class": (72, 72)}
            runs.pictures(each.path, size=sizes[each.path.name])
    base = detect.look(config.model)
    found = scan(config.data)
    feed = planned(config.data, found, config.train, config.validation, side=base.resolution, step=base.step)
    made = forecast(config, base, feed, store)
    facts = lint.Facts(config, replace(base, **(card or {})), feed, made)
    return {problem.code for problem in lint.advice(facts)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_advice_is_given_where_it_is_due_and_nowhere_else(case: Case, tmp_path: Path, store: Store) -> None:
    loud = runs.pictures(tmp_path / "a" / "pics", case.count, size=case.size, words=case.words)
    assert case.code in codes(loud, store, case.fires, case.card)
    quiet = runs.pictures(tmp_path / "b" / "pics", case.count_silent, words=case.words_silent)
    assert case.code not in codes(quiet, store, case.silent)


def test_every_rule_has_a_case_of_its_own_and_there_are_many() -> None:
    assert [case.code for case in CASES] == [rule.code for rule in lint.RULES]
    assert len(lint.RULES) >= 40
    assert all(rule.about and rule.reason.endswith((".", ").")) for rule in lint.RULES)


def test_nothing_is_said_against_plain_settings_and_single_codes_can_be_silenced(tmp_path: Path) -> None:
    folder = runs.pictures(tmp_path / "pics")
    assert runs.planned(folder).advice == ()
    assert [each.code for each in runs.planned(folder, [STEPS, "adapter.alpha=8"]).advice] == ["A-101"]
    assert runs.planned(folder, [STEPS, "adapter.alpha=8", 'output.silenced=["A-101"]']).advice == ()
    with pytest.raises(ConfigError, match="E-CFG-159"):
        runs.planned(folder, [STEPS, 'output.silenced=["A-999"]'])


def test_nothing_is_said_against_the_quickstart(tmp_path: Path) -> None:
    config = first.settings(tmp_path / "quickstart")
    assert plan(config, Store(tmp_path / "cache")).advice == ()
