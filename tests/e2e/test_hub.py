"""A run on a base from the hub keeps the commit that it was begun with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import impasto
from impasto import config as settings
from impasto.__main__ import main
from impasto.config import RunConfig
from impasto.errors import LockedError, ModelFileError
from impasto.families import tiny
from impasto.weights import file
from tests.e2e.test_sd3 import config, train, written
from tests.engine import forks
from tests.families.hub_server import Hub, alone

ID = "org/tiny"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with alone(tmp_path, monkeypatch) as found:
        yield found


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return forks.pictures(tmp_path / "pictures")


def asked(pictures: Path, name: str, steps: int, **model: object) -> RunConfig:
    return config(
        Path(), pictures, name, model={"path": ID, "precision": "fp32", **model}, train={"steps": steps}, objective={}
    )  # fmt: skip


def test_a_resume_reads_the_commit_of_the_first_start_wherever_the_branch_is(
    there: Hub, pictures: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = there.publish(ID, tiny_base)
    whole = written(train(asked(pictures, "whole", 4), pictures))
    folder = train(asked(pictures, "halved", 2), pictures)
    begun = settings.load(folder / "config.toml")
    assert (begun.model.path, begun.model.revision) == (ID, commit)
    newer = there.publish(ID, tiny.stable_diffusion(tmp_path / "newer", seed=1))
    with pytest.raises(LockedError, match="E-RUN-010"):
        train(asked(pictures, "halved", 4, revision=newer), pictures)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    longer = asked(pictures, "halved", 4, gradient_checkpointing=True)  # no word about a revision, and no network
    halved = written(train(longer, pictures))
    assert settings.load(folder / "config.toml").model.gradient_checkpointing
    assert all(torch.equal(value, halved[name]) for name, value in whole.items())
    assert file.load(folder / "halved.safetensors")[1]["ss_sd_model_name"] == "tiny"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    (again,) = impasto.train(asked(pictures, "halved", 2), cache=tmp_path / "cache", restart=True)
    assert settings.load(again / "config.toml").model.revision == newer


def test_a_base_that_cannot_be_fetched_leaves_no_run(there: Hub, pictures: Path) -> None:
    with pytest.raises(ModelFileError, match="E-MOD-115"):
        train(asked(pictures, "none", 1), pictures)
    assert not (pictures.parent / "runs").exists()


def test_a_plan_of_it_needs_no_more_than_heads(
    there: Hub, pictures: Path, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    there.publish(ID, tiny_base)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert main(["plan", str(pictures), f"model.path={ID}", "--json"]) == 0
    by_id = json.loads(capsys.readouterr().out)
    assert not list(Path(constants.HF_HUB_CACHE).rglob("*.safetensors"))
    assert main(["plan", str(pictures), f"model.path={tiny_base}", "--json"]) == 0
    by_folder = json.loads(capsys.readouterr().out)
    for told in ("base", "resolution", "steps", "rates", "trained", "disk", "memory"):
        assert by_id[told] == by_folder[told]
    weights = sum(each.stat().st_size for each in tiny_base.rglob("*.safetensors"))
    assert (by_id["to_fetch"], by_folder["to_fetch"]) == (weights, 0)
    assert by_id["cache"]["cached"] is None  # the VAE's bytes are not here
