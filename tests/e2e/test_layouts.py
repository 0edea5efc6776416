"""Adapter files in diffusers' layout: written, proven by diffusers' own loader, and begun with again."""

from __future__ import annotations

from pathlib import Path

import pytest

import impasto
from impasto import events
from impasto.errors import ConfigError
from impasto.weights import file
from tests.e2e.test_matrix import FAMILIES, KINDS, config, told
from tests.engine import forks

SAVE = {"precision": "fp32", "layout": "diffusers", "proof": "every", "every_steps": 1}
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
    run = config(base, pictures, "anna", adapter=lora(family, **layers), save=SAVE)
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
    again = config(
        base, pictures, "bob", adapter=lora(family, **layers, start={"path": str(folder / "anna.safetensors")})
    )
    (second,) = impasto.train(again.model_copy(update={"train": again.train.model_copy(update={"steps": 1})}),
                              cache=base.parent / "cache")  # fmt: skip
    told_first = [each.text for each in told(second, events.Noted) if "begin as in anna.safetensors" in each.text]
    count = proofs[0].expected
    assert told_first == [f"{count} of {count} layers begin as in anna.safetensors"]


@pytest.mark.parametrize("family", ["sd1", "flux"], indirect=True)
def test_so_it_is_with_dora(base: Path, family: str) -> None:
    conv = {"conv_rank": 2} if family == "sd1" else {}
    run = config(
        base, forks.pictures(base.parent / "few", 1), "dora", adapter=lora(family, decompose=True, **conv), save=SAVE
    )
    (folder,) = impasto.train(run, cache=base.parent / "cache")
    proof = told(folder, events.Proven)[-1]
    assert (proof.reader, proof.matched) == ("diffusers", proof.expected)
    assert proof.difference <= 1 / 255
    tensors, _ = file.load(folder / "dora.safetensors")
    assert len([name for name in tensors if name.endswith(".lora_magnitude_vector.weight")]) == len(tensors) // 3


@pytest.mark.parametrize("kind", ["loha", "full", "norms"])
def test_what_the_layout_cannot_hold_is_refused_before_anything_is_read(tmp_path: Path, kind: str) -> None:
    run = config(tmp_path, forks.pictures(tmp_path / "pictures", 1), kind, adapter=KINDS[kind], save=SAVE)
    with pytest.raises(ConfigError, match="E-CFG-170"):
        impasto.train(run)


@pytest.mark.parametrize("family", ["flux"], indirect=True)
def test_t5_has_no_place_in_it(base: Path) -> None:
    run = config(base, forks.pictures(base.parent / "one", 1), "t5", adapter={"rank": 2}, save=SAVE)
    with pytest.raises(ConfigError, match=r"E-CFG-171.*lora_te3_"):
        impasto.train(run, cache=base.parent / "cache")
