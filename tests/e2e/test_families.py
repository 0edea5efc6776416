"""Each family from settings to a proven adapter and a picture, from a folder and from a single file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import impasto
from impasto import events
from impasto.config import RunConfig
from impasto.engine import sample
from impasto.engine.config import Prompt
from impasto.families import tiny
from impasto.families.config import Model
from impasto.weights import file
from tests.engine import forks

MINIATURES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "sd1": (tiny.stable_diffusion, "sd_v1"),
    "sd2": (tiny.stable_diffusion_2, "sd_v2_v"),
    "sdxl": (tiny.stable_diffusion_xl, "sdxl_base_v1-0"),
}


@pytest.fixture(params=MINIATURES)
def family(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def config(model: dict[str, str], pictures: Path, name: str, **sections: object) -> RunConfig:
    settings: dict[str, object] = {
        "name": name,
        "model": {"precision": "fp32", **model},
        "data": {"batch_size": 2, "sets": [{"path": str(pictures)}]},
        "adapter": {"rank": 2, "conv_rank": 2},
        "optim": {"learning_rate": 1e-2},
        "train": {"steps": 3},
        "output": {"folder": str(pictures.parent / "runs")},
        "device": {"threads": 1},
    }
    return RunConfig.model_validate({**settings, **sections})


def test_a_run_on_a_single_file_is_the_run_on_the_folder(tmp_path: Path, family: str) -> None:
    make, version = MINIATURES[family]
    folder = make(tmp_path / "base")
    one = tiny.single_file(folder, tmp_path / "one.safetensors")
    pictures = forks.pictures(tmp_path / "pictures")
    runs = [
        config({"path": str(folder)}, pictures, "folder"),
        config({"path": str(one), "config_path": str(folder)}, pictures, "file"),
    ]
    written = []
    for each in runs:
        (done,) = impasto.train(each, cache=tmp_path / "cache")
        (proof,) = [event for event in impasto.history(done) if isinstance(event, events.Proven)]
        tensors, metadata = file.load(done / f"{done.name}.safetensors")
        assert proof.matched == proof.expected == len({name.partition(".")[0] for name in tensors})
        assert (proof.reader, metadata["ss_base_model_version"]) == ("diffusers", version)
        written.append(tensors)
    assert written[0].keys() == written[1].keys()
    for name, value in written[0].items():  # equal but for rounding, as the numbers lie elsewhere in memory
        assert torch.allclose(value.float(), written[1][name].float(), atol=1e-4)
    assert any(value.abs().max() > 0 for name, value in written[0].items() if "_te" in name and "lora_up" in name)
    drawn = sample.draw(
        Model(path=str(one), config_path=folder, precision="fp32"),
        Prompt(text="a red thing", steps=2, seed=1),
        adapters=[(tmp_path / "runs" / "file" / "file.safetensors", 1.0)],
        out=tmp_path / "drawn.png",
    )
    with Image.open(drawn) as picture:
        assert picture.size == (16, 16)


def test_a_fleet_on_two_text_encoders_trains_as_its_members_alone(tmp_path: Path) -> None:
    base = tiny.stable_diffusion_xl(tmp_path / "base")
    pictures, model = forks.pictures(tmp_path / "pictures"), {"path": str(base)}
    fixed_words = {"rank": 2, "targets": {"text_encoder": False}}
    members = [("ann", fixed_words), ("bob", {"rank": 2})]

    def runs(kind: str) -> list[RunConfig]:
        more: dict[str, object] = {"save": {"precision": "fp32", "proof": "off"}, "train": {"steps": 2}}
        return [config(model, pictures, f"{kind}-{name}", adapter=adapter, **more) for name, adapter in members]

    together = impasto.train(runs("together"), cache=tmp_path / "cache")
    alone = [impasto.train(each, cache=tmp_path / "cache")[0] for each in runs("alone")]
    for one, other in zip(together, alone, strict=True):
        first, second = (file.load(each / f"{each.name}.safetensors")[0] for each in (one, other))
        assert all(torch.allclose(first[name], second[name], atol=1e-4) for name in first)


@pytest.mark.parametrize("name", MINIATURES)
def test_every_family_resumes_to_the_bit(tmp_path: Path, name: str) -> None:
    base, pictures = MINIATURES[name][0](tmp_path / "base"), forks.pictures(tmp_path / "pictures")
    more: dict[str, object] = {
        "adapter": {"rank": 2, "dropout": 0.2}, "save": {"precision": "fp32", "proof": "off"},
    }  # fmt: skip

    def trained(run: str, steps: int) -> dict[str, torch.Tensor]:
        settings = config({"path": str(base)}, pictures, run, **more, train={"steps": steps, "seed": 3})
        (done,) = impasto.train(settings, cache=tmp_path / "cache")
        return file.load(done / f"{run}.safetensors")[0]

    whole = trained("whole", 4)
    half = trained("parts", 2)
    resumed = trained("parts", 4)
    assert any(not torch.equal(half[key], whole[key]) for key in whole)
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)
