"""What is exported comes back as it was: over random settings, in each of the three forms."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impasto.compat import export, reading
from impasto.compat.export import Form
from impasto.compat.translate import translate
from impasto.config import RunConfig

FORMS: tuple[Form, ...] = ("gui", "toml", "command")
SEEDS = range(60)


def _some(dice: random.Random, **settings: Callable[[], Any]) -> dict[str, Any]:
    """Each setting or not, as the dice fall."""
    return {name: make() for name, make in settings.items() if dice.random() < 0.6}


def _adapter(dice: random.Random) -> dict[str, Any]:
    kind = dice.choice(["lora", "lora-fa", "dylora", "loha", "lokr", "glora", "oft", "boft", "ia3", "full"])
    made: dict[str, Any] = {"kind": kind}
    if kind in ("lora", "lora-fa", "dylora", "loha", "lokr", "glora"):
        made |= _some(dice, rank=lambda: 2 ** dice.randint(1, 7), alpha=lambda: dice.choice([0.5, 1, 16]))
        if dice.random() < 0.5 and kind != "lora-fa":
            made["conv_rank"] = made.get("rank", 4) if kind == "dylora" else 2 ** dice.randint(1, 5)
            made["conv_alpha"] = made.get("alpha", 1) if kind == "dylora" else dice.choice([1, 4])
    if kind in ("loha", "lokr") and dice.random() < 0.3:
        made["decompose"] = True
    if kind == "lokr":
        made |= _some(dice, factor=lambda: dice.choice([4, 8]), decompose_both=lambda: True)
    if kind in ("oft", "boft"):
        made |= _some(dice, block_size=lambda: dice.choice([8, 16]), constraint=lambda: 0.0001, rescaled=lambda: True)
    if kind in ("full", "oft", "boft"):
        made |= _some(dice, conv=lambda: True)
    if kind in ("lora", "lora-fa"):
        made |= _some(dice, dropout=lambda: 0.1, rank_dropout=lambda: 0.2)
        if kind == "lora" and dice.random() < 0.4:
            made["blocks"] = {"down_rates": [0.5] * 12, "mid_rates": 1.0, "up_rates": "cosine+0.25"}
        if kind == "lora" and "blocks" not in made and dice.random() < 0.4:
            made["max_norm"] = 1.0
    if dice.random() < 0.3:
        made["targets"] = {"text_encoder": False}
    return made


OPTIMIZERS: list[dict[str, Any]] = [
    {"kind": "adamw", "weight_decay": 0.1},
    {"kind": "adamw-8bit", "beta1": 0.8},
    {"kind": "lion", "weight_decay": 0.2},
    {"kind": "sgd", "momentum": 0.5},
    {"kind": "adafactor", "scale_parameter": False},
    {"kind": "came"},
    {"kind": "library", "name": "bitsandbytes.optim.AdEMAMix8bit", "options": {"alpha": 5.0}},
    {"kind": "prodigy", "d_coef": 0.5, "safeguard_warmup": True},
    {"kind": "d-adaptation", "rule": "lion"},
    {"kind": "schedule-free", "rule": "radam"},
]
SCHEDULES: list[dict[str, Any]] = [
    {"kind": "constant"},
    {"kind": "constant", "warmup": 20},
    {"kind": "linear", "warmup": 0.1},
    {"kind": "cosine", "warmup": 0.05},
    {"kind": "cosine-restarts", "cycles": 3},
    {"kind": "cosine-minimum", "minimum": 0.2},
    {"kind": "polynomial", "power": 2.0},
    {"kind": "inverse-sqrt", "warmup": 5, "timescale": 300},
    {"kind": "warmup-stable-decay", "decay": 30, "minimum": 0.1},
    {"kind": "piecewise-constant", "until": [40, 80], "factors": [1.0, 0.5, 0.1]},
]


def _optim(dice: random.Random) -> dict[str, Any]:
    optimizer = dice.choice(OPTIMIZERS)
    made: dict[str, Any] = {"optimizer": optimizer, "learning_rate": dice.choice([1e-4, 3e-5, 1.0])}
    if optimizer["kind"] != "schedule-free":
        made["schedule"] = dice.choice(SCHEDULES)
    if optimizer["kind"] not in ("prodigy", "d-adaptation"):
        made |= _some(dice, unet_learning_rate=lambda: 2e-4, text_encoder_learning_rate=lambda: 5e-5)
    return {**made, "clip": dice.choice([0.0, 1.0, 0.5])}


def _data(dice: random.Random) -> dict[str, Any]:
    captions = _some(
        dice, shuffle=lambda: True, keep_tokens=lambda: 2, dropout=lambda: 0.1, tag_dropout=lambda: 0.2,
        prefix=lambda: "art by ", suffix=lambda: " , best", keep_tokens_separator=lambda: "|||",
    )  # fmt: skip
    if dice.random() < 0.3:
        captions |= {"wildcards": True, "lines": "random"}
    made: dict[str, Any] = {
        "sets": [{"path": "pictures"}, {"path": "class", "role": "regularization"}][: dice.randint(1, 2)],
        "resolution": dice.choice([512, [512, 768]]),
        "batch_size": dice.randint(1, 6),
        "captions": {"extensions": [".txt"], "missing": "folder", **captions},
        "augment": _some(dice, flip=lambda: True, color=lambda: 0.33),
        "buckets": {"enabled": False},
    }
    if dice.random() < 0.7:
        made["buckets"] = {"step": 64, "smallest": 256, "largest": 1024, "upscale": dice.random() < 0.5}
    if dice.random() < 0.4:
        del made["captions"]["missing"]
        for number, one in enumerate(made["sets"]):
            one |= {"repeats": dice.randint(1, 9), "captions": {**made["captions"], "text": f"class {number}"}}
    return made


def _objective(dice: random.Random) -> dict[str, Any]:
    noise: dict[str, Any] = {}
    if dice.random() < 0.4:
        noise["offset"] = {"strength": 0.1, "random": dice.random() < 0.5, "adaptive": dice.choice([0.0, 0.01])}
    if dice.random() < 0.4:
        noise["pyramid"] = {"iterations": 6, "discount": 0.2}
    if dice.random() < 0.4:
        noise["perturbation"] = {"gamma": 0.1}
    return {
        "noise": noise,
        "timesteps": {"low": dice.choice([0, 100]), "high": dice.choice([900, 1000])},
        "loss": dice.choice([{"kind": "mse"}, {"kind": "l1"}, {"kind": "huber", "threshold": 0.2, "schedule": "snr"}]),
        "weighting": dice.choice([{"kind": "none"}, {"kind": "min-snr", "gamma": 5.0}, {"kind": "debiased"}]),
        "prior_weight": dice.choice([0.0, 0.5, 1.0]),
    }


def _config(seed: int) -> RunConfig:
    dice = random.Random(seed)
    values = {
        "name": f"run-{seed}",
        "model": {"path": "models/base.safetensors", "precision": dice.choice(["fp16", "bf16"]),
                  **_some(dice, clip_skip=lambda: 2, max_tokens=lambda: 150, emphasis=lambda: "plain",
                          gradient_checkpointing=lambda: True, prediction=lambda: "v", reading=lambda: "plain")},
        "data": _data(dice),
        "adapter": _adapter(dice),
        "objective": _objective(dice),
        "optim": _optim(dice),
        "train": {**dice.choice([{"steps": 200}, {"epochs": 7}]), "accumulate": dice.randint(1, 3), "seed": seed + 1},
        "save": {**dice.choice([{"every_epochs": 2}, {"every_steps": 50}, {"every_steps": 50, "files": 5}]), "keep": 3,
                 "precision": "bf16"},
        "preview": {"every_epochs": 1, "at_start": dice.random() < 0.5,
                    "prompts": [{"text": "a cat", "negative": "blurry", "width": 512, "height": 768, "seed": 3}]},
        "track": dice.choice([{}, {"to": ["tensorboard"], "folder": "/logs"}, {"to": ["tensorboard", "wandb"],
                              "folder": "logs", "project": "loras", "name": "third"}, {"to": ["wandb"]}]),
        "output": {"folder": "out", **_some(dice, tags=lambda: ["cat", "pet"], license=lambda: "CC0",
                                            description=lambda: "x", preprocessor=lambda: "by hand")},
        "speed": dice.choice([{}, {"compile": "blocks"}, {"compile": "blocks", "backend": "aot_eager"}]),
    }  # fmt: skip
    return RunConfig.model_validate(values)


def _canonical(config: RunConfig) -> dict[str, Any]:
    """What has several spellings, in one: sets with all their rules, layers by name."""
    values = config.model_dump()
    data = config.data
    values["adapter"]["targets"]["layers"] = config.adapter.layers
    for one, written in zip(data.sets, values["data"]["sets"], strict=True):
        written["captions"] = data.captions_of(one).model_dump()
        written["augment"] = data.augment_of(one).model_dump()
        written["masks"] = data.masks_of(one).model_dump()
    for name in ("captions", "augment", "masks"):
        values["data"].pop(name)
    for name in ("unet_learning_rate", "text_encoder_learning_rate"):
        if values["optim"][name] is None:
            values["optim"][name] = values["optim"]["learning_rate"]
    if not config.adapter.targets.text_encoder:
        values["optim"].pop("text_encoder_learning_rate")
    return values


def _there_and_back(config: RunConfig, form: Form, folder: Path) -> RunConfig:
    made = export.export(config)
    path = folder / "kohya.any"
    path.write_text(made.write(form), "utf-8")
    (folder / "kohya-dataset.toml").write_text(made.dataset, "utf-8")
    (folder / "kohya-prompts.txt").write_text(made.prompts, "utf-8")
    return translate(reading.read(path)).config


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(min_value=0, max_value=2**40))
def test_what_is_exported_comes_back_as_it_was(form: Form, seed: int) -> None:
    config = _config(seed)
    with TemporaryDirectory() as folder:
        assert _canonical(_there_and_back(config, form, Path(folder))) == _canonical(config)


def test_the_random_settings_reach_every_kind() -> None:
    configs = [_config(seed) for seed in SEEDS]
    assert len({each.adapter.kind for each in configs}) == 10
    assert len({each.optim.optimizer.kind for each in configs}) == len(OPTIMIZERS)
    assert len({each.optim.schedule.kind for each in configs}) == len({each["kind"] for each in SCHEDULES})
    assert {bool(export.export(each).dataset) for each in configs} == {True, False}


@pytest.mark.parametrize("rule", ["adam", "adagrad", "adan", "adan-ip", "lion", "sgd"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_every_rule_of_d_adaptation_comes_back_with_its_decay(rule: str, decay: float, tmp_path: Path) -> None:
    optimizer = {"kind": "d-adaptation", "rule": rule, "weight_decay": decay}
    if rule in ("adam", "adan"):
        optimizer["betas"] = [0.9, 0.8, 0.7][: 2 if rule == "adam" else 3]
    config = RunConfig.model_validate(
        {"data": {"sets": [{"path": "x"}]}, "optim": {"learning_rate": 1.0, "optimizer": optimizer}}
    )
    assert _there_and_back(config, "command", tmp_path).optim.optimizer == config.optim.optimizer
