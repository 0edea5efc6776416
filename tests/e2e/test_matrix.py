"""Every family with every kind of adapter: trains, resumes to the bit, draws previews, and its file is proven."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import impasto
from impasto import events
from impasto.config import RunConfig
from impasto.errors import ConfigError
from impasto.families import tiny
from impasto.runs.folder import RunFolder
from impasto.weights import file
from tests.engine import forks

FAMILIES: dict[str, Callable[[Path], Path]] = {
    "sd1": tiny.stable_diffusion,
    "sd2": tiny.stable_diffusion_2,
    "sdxl": tiny.stable_diffusion_xl,
    "sd3": tiny.stable_diffusion_3,
    "flux": tiny.flux,
}

KINDS: dict[str, dict[str, object]] = {
    "lora": {"kind": "lora", "rank": 2, "alpha": 1.5},
    "dora": {"kind": "lora", "rank": 2, "decompose": True},
    "lora-fa": {"kind": "lora-fa", "rank": 2},
    "dylora": {"kind": "dylora", "rank": 2},
    "loha": {"kind": "loha", "rank": 2},
    "lokr": {"kind": "lokr", "rank": 2, "factor": 2},
    "glora": {"kind": "glora", "rank": 2},
    "ia3": {"kind": "ia3"},
    "full": {"kind": "full"},
    "oft": {"kind": "oft"},
    "boft": {"kind": "boft", "block_size": 8},
    "locon": {"kind": "lora", "rank": 2, "conv_rank": 2},
    "norms": {"kind": "lora", "rank": 2, "train_norm": True},
}

LACKING = {"locon": ("flux",), "norms": ("sd3", "flux")}
"""Settings that ask for layers, and the families that have none of them."""

READ, READ_FAMILIES = ("lora", "lora-fa", "dylora", "locon"), ("sd1", "sd2", "sdxl")
"""What diffusers opens in the layout of Kohya's scripts; the others are read by our own reader."""


def config(base: Path, pictures: Path, name: str, **sections: object) -> RunConfig:
    settings: dict[str, object] = {
        "name": name,
        "model": {"path": str(base), "precision": "fp32"},
        "data": {"batch_size": 1, "sets": [{"path": str(pictures)}]},
        "optim": {"learning_rate": 1e-2},
        "train": {"steps": 2},
        "save": {"precision": "fp32", "proof": "final", "every_steps": 1},
        "output": {"folder": str(pictures.parent / "runs")},
        "device": {"threads": 1},
    }
    return RunConfig.model_validate({**settings, **sections})


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def base(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES[family](tmp_path_factory.mktemp(family) / "base")


def told(folder: Path, kind: Any) -> list[Any]:
    return [event for event in impasto.history(folder) if isinstance(event, kind)]


def written(folder: Path) -> dict[str, torch.Tensor]:
    return file.load(folder / f"{folder.name}.safetensors")[0]


def test_every_kind_of_adapter_trains_resumes_draws_and_is_proven(base: Path, family: str) -> None:
    pictures = forks.pictures(base.parent / "pictures", 2)
    shown = {"prompts": [{"text": "a", "steps": 1, "guidance": 1.0}], "every_steps": 2}
    words = (
        {"targets": {"text_encoder": True}},
        {"targets": {"text_encoder": False}},
    )  # those of one kind say it for all
    kinds = {kind: each | words[kind != "lora"] for kind, each in KINDS.items() if family not in LACKING.get(kind, ())}
    runs = [config(base, pictures, kind, adapter=each, preview=shown) for kind, each in kinds.items()]
    first = impasto.train(runs, cache=base.parent / "cache")
    whole = {folder.name: written(folder) for folder in first}
    for folder in first:
        (proof,) = told(folder, events.Proven)
        assert proof.reader == ("diffusers" if folder.name in READ and family in READ_FAMILIES else "impasto")
        assert proof.matched == proof.expected > 0, folder.name
        assert proof.difference <= 1 / 255, folder.name
        assert RunFolder.open(folder).preview(2, 0).is_file(), folder.name
        shutil.rmtree(folder / "checkpoints" / "00000002")  # as if it had been killed before the second step
        (folder / f"{folder.name}.safetensors").unlink()
    again = [each.model_copy(update={"save": each.save.model_copy(update={"proof": "off"})}) for each in runs]
    for folder in impasto.train(again, cache=base.parent / "cache"):
        assert [each.step for each in told(folder, events.Resumed)] == [1]
        one, two = whole[folder.name], written(folder)
        assert one.keys() == two.keys()
        assert all(torch.equal(value, two[name]) for name, value in one.items()), folder.name


@pytest.mark.parametrize(
    ("family", "kind"), [(family, kind) for kind, each in LACKING.items() for family in each], indirect=["family"]
)
def test_what_a_family_has_no_layers_for_is_refused_before_a_picture_is_encoded(
    base: Path, family: str, kind: str
) -> None:
    pictures = forks.pictures(base.parent / f"pictures-{kind}", 1)
    with pytest.raises(ConfigError) as caught:
        impasto.train(config(base, pictures, f"lacking-{kind}", adapter=KINDS[kind]), cache=base.parent / "empty")
    (problem,) = caught.value.problems
    assert problem.fix
