"""Runs in every precision: they learn, resume to the bit, end alike in company, and their files are proven."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import impasto
from impasto import events
from impasto.config import RunConfig
from impasto.engine.device import Compute
from impasto.errors import ConfigError
from impasto.families import sd
from impasto.store import Store
from impasto.weights import file
from tests.engine import forks

HOW = {
    "fp8": {"model": {"quantize": "fp8", "quantize_text_encoder": "fp8"}},
    "int8": {"model": {"quantize": "int8"}},
    "nf4": {"model": {"quantize": "nf4", "quantize_text_encoder": "nf4", "gradient_checkpointing": True}},
    "int8 in bf16": {"model": {"quantize": "int8", "precision": "bf16"}},
    "words in fp32": {"model": {"precision": "bf16", "text_encoder_precision": "fp32", "vae_precision": "bf16"}},
    "adapter in bf16": {"model": {"precision": "bf16"}, "optim": {"precision": "bf16", "ema": {"decay": 0.5}}},
}
every_way = pytest.mark.parametrize("way", HOW)


def config(base: Path, folder: Path, name: str, way: str, proof: str = "off", **train: object) -> RunConfig:
    pictures = folder / "pictures"
    if not pictures.exists():
        forks.pictures(pictures)
    how = HOW[way]
    return RunConfig.model_validate(
        {
            "name": name,
            "model": {"path": str(base), **how["model"]},
            "data": {"batch_size": 2, "sets": [{"path": str(pictures)}]},
            "adapter": {"rank": 4, "alpha": 4.0, "dropout": 0.1, "decompose": way == "fp8"},
            "optim": {"learning_rate": 1e-3, **how.get("optim", {})},
            "train": {"steps": 6, **train},
            "save": {"precision": "fp32", "proof": proof},
            "output": {"folder": str(folder / "runs")},
            "device": {"name": "cpu", "threads": 1},
        }
    )


@every_way
def test_it_trains_is_proven_and_resumes_to_the_bit(tiny_base: Path, tmp_path: Path, way: str) -> None:
    cache, runs = tmp_path / "cache", tmp_path / "runs"
    (whole,) = impasto.train(config(tiny_base, tmp_path, "whole", way, "final"), cache=cache)
    impasto.train(config(tiny_base, tmp_path, "halves", way, steps=3), cache=cache)
    impasto.train(config(tiny_base, tmp_path, "halves", way), cache=cache)
    assert forks.same(forks.weights(runs, "whole"), forks.weights(runs, "halves"))
    assert forks.same(*(_learnt(runs, name) for name in ("whole", "halves")))
    told = list(impasto.follow(whole))
    (proof,) = [each for each in told if isinstance(each, events.Proven)]
    assert proof.matched == proof.expected > 0
    wide = HOW[way]["model"].get("precision", "fp32") == "fp32"
    assert proof.difference < (1e-4 if wide else 4 / 255)
    assert all(each.loss is not None for each in told if isinstance(each, events.Step))


def _learnt(runs: Path, name: str) -> dict[str, torch.Tensor]:
    """All of a run's state but the ledger, whose sums are over parts of the length that a run was given."""
    return {key: value for key, value in forks.state(runs, name).items() if not key.startswith("ledger.")}


@pytest.mark.parametrize("way", ["nf4", "adapter in bf16"])
def test_in_company_it_ends_as_alone(tiny_base: Path, tmp_path: Path, way: str) -> None:
    def run(name: str, seed: int) -> RunConfig:
        found = config(tiny_base, tmp_path, name, way, steps=4, seed=seed)
        rows = found.device.model_copy(update={"rows": 1})  # a pack a member: no rounding apart
        return found.model_copy(update={"device": rows})

    together = impasto.train([run("a", 0), run("b", 3)], cache=tmp_path / "cache")
    alone = [
        impasto.train(run(f"{name} alone", seed), cache=tmp_path / "cache")[0] for name, seed in (("a", 0), ("b", 3))
    ]
    for one, other in zip(together, alone, strict=True):
        assert forks.same(*(file.load(each / f"{each.name}.safetensors")[0] for each in (one, other)))


def test_an_adapter_in_bf16_beside_a_base_in_fp32_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    found = config(tiny_base, tmp_path, "a", "adapter in bf16")
    on_a_cpu = found.model_copy(update={"model": found.model.model_copy(update={"precision": "auto"})})
    with pytest.raises(ConfigError, match=r"E-CFG-140 optim\.precision"):
        impasto.train(on_a_cpu, cache=tmp_path / "cache")


def test_losses_are_scaled_where_gradients_pass_through_fp16() -> None:
    cpu = torch.device("cpu")
    assert Compute(cpu, torch.float16).scaled
    assert Compute(cpu, torch.bfloat16, torch.float16).scaled
    assert not Compute(cpu, torch.bfloat16, torch.float32).scaled


def test_a_rescued_picture_is_told_of_and_kept_apart(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    impasto.train(config(tiny_base, tmp_path, "plain", "int8", steps=1), cache=cache)
    before = {each.key for each in Store(cache).entries() if each.kind == "latents"}
    encoded = sd.KlEncoder._encoded

    def overflowing(self: sd.KlEncoder, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mean, std = encoded(self, pixels)
        return (mean if self.vae.dtype == torch.float32 else mean * torch.inf), std

    monkeypatch.setattr(sd.KlEncoder, "_encoded", overflowing)
    found = config(tiny_base, tmp_path, "half", "int8", steps=1)
    half = found.model_copy(update={"model": found.model.model_copy(update={"vae_precision": "fp16"})})
    (folder,) = impasto.train(half, cache=cache)
    found = [each for each in impasto.follow(folder) if isinstance(each, events.Warned)]
    (warned,) = [each for each in found if not each.code.startswith("A-")]
    assert warned.code == "W-NUM-001"
    assert "for 5 encodings" in warned.text
    after = {each.key for each in Store(cache).entries() if each.kind == "latents"}
    assert before < after
    assert len(after) == 10
