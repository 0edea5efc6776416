"""Runs of every kind, side by side on one base: proven, and resumed to the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

import impasto
from impasto import events
from impasto.config import RunConfig
from impasto.weights import file
from tests.engine import forks

KINDS: dict[str, dict[str, object]] = {
    "lora-fa": {"kind": "lora-fa", "conv_rank": 2},
    "dylora": {"kind": "dylora", "unit": 2},
    "dora": {"decompose": True, "dropout": 0.1},
    "loha": {"kind": "loha", "rank_dropout": 0.1},
    "lokr": {"kind": "lokr", "rank": 2, "conv_rank": 2},
    "glora": {"kind": "glora"},
    "ia3": {"kind": "ia3"},
    "full": {"kind": "full"},
    "oft": {"kind": "oft"},
    "boft": {"kind": "boft"},
    "norms": {"train_norm": True, "max_norm": 0.05, "targets": {"layers": "full"}},
}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return forks.pictures(tmp_path / "pictures")


def runs(base: Path, pictures: Path, where: str, steps: int, proof: str) -> list[Path]:
    configs = [
        RunConfig.model_validate(
            {
                "name": name,
                "model": {"path": str(base)},
                "data": {"batch_size": 2, "sets": [{"path": str(pictures)}]},
                "adapter": adapter,
                "optim": {"learning_rate": 1e-3},
                "train": {"steps": steps},
                "save": {"precision": "fp32", "proof": proof},
                "output": {"folder": str(pictures.parent / where)},
                "device": {"threads": 1},
            }
        )
        for name, adapter in KINDS.items()
    ]
    return impasto.train(configs, cache=pictures.parent / "cache")


def test_a_fleet_of_all_kinds_is_proven_and_resumes_to_the_same_numbers(tiny_base: Path, pictures: Path) -> None:
    whole = runs(tiny_base, pictures, "whole", 4, "every")
    runs(tiny_base, pictures, "parts", 2, "off")
    parts = runs(tiny_base, pictures, "parts", 4, "off")
    for name, one, other in zip(KINDS, whole, parts, strict=True):
        a, b = (file.load(folder / f"{name}.safetensors")[0] for folder in (one, other))
        assert a.keys() == b.keys()
        assert all(bool((a[key] == b[key]).all()) for key in a), name
        told = list(impasto.follow(one))
        (proof,) = [each for each in told if isinstance(each, events.Proven)]
        own = name not in ("lora-fa", "dylora")
        assert proof.matched == proof.expected == len({key.partition(".")[0] for key in a})
        assert proof.reader == ("impasto" if own else "diffusers")
        assert own == any("own reader" in each.text for each in told if isinstance(each, events.Noted))
