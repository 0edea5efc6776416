"""Adapter files in diffusers' layout: written, proven by diffusers' own loader, and begun with again."""

from __future__ import annotations

from pathlib import Path

import pytest

import impasto
from impasto import events
from impasto.weights import file
from tests.e2e.test_matrix import FAMILIES, config, told
from tests.engine import forks

NO_T5 = {"rules": [{"match": "^lora_te3_", "skip": True}]}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def base(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES[family](tmp_path_factory.mktemp(family) / "base")


def lora(family: str, **more: object) -> dict[str, object]:
    return {"rank": 2, "alpha": 1.5, **(NO_T5 if family in ("sd3", "flux") else {}), **more}


def test_diffusers_opens_its_own_layout_and_draws_what_training_drew(base: Path, family: str) -> None:
    pictures = forks.pictures(base.parent / "pictures", 2)
    layers = {"targets": {"layers": "full"}}
    save = {"precision": "fp32", "layout": "diffusers", "proof": "every", "every_steps": 1}
    run = config(base, pictures, "anna", adapter=lora(family, **layers), save=save)
    (folder,) = impasto.train(run, cache=base.parent / "cache")
    proofs = told(folder, events.Proven)
    assert len(proofs) == 2
    for proof in proofs:
        assert proof.reader == "diffusers"
        assert proof.matched == proof.expected > 0
        assert proof.difference <= 1 / 255
    tensors, metadata = file.load(folder / "anna.safetensors")
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in tensors)
    assert '"' in metadata["lora_adapter_metadata"]
