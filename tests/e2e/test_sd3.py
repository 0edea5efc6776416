"""Stable Diffusion 3 from settings to an adapter that diffusers draws with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import impasto
from impasto import events, families
from impasto.config import RunConfig
from impasto.errors import ConfigError, ModelFileError
from impasto.families import detect, parts, tiny
from impasto.families.config import Model
from impasto.preflight import drawn
from impasto.preflight.plan import looked
from impasto.runs import control
from impasto.runs.folder import RunFolder
from impasto.store import Store
from impasto.weights import convert, file
from impasto.weights.diffusers_layout import written as written_there
from impasto.weights.merge import by_layer
from tests.engine import forks


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.stable_diffusion_3(tmp_path_factory.mktemp("sd3") / "base")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return forks.pictures(tmp_path / "pictures")


def config(base: Path, pictures: Path, name: str, **sections: object) -> RunConfig:
    settings: dict[str, object] = {
        "name": name,
        "model": {"path": str(base), "precision": "fp32"},
        "data": {"batch_size": 2, "sets": [{"path": str(pictures)}]},
        "objective": {"timesteps": {"kind": "logit-normal"}},
        "adapter": {"rank": 2},
        "optim": {"learning_rate": 1e-2},
        "train": {"steps": 2},
        "save": {"precision": "fp32"},
        "output": {"folder": str(pictures.parent / "runs")},
        "device": {"threads": 1},
    }
    return RunConfig.model_validate({**settings, **sections})


def train(run: RunConfig, pictures: Path) -> Path:
    (folder,) = impasto.train(run, cache=pictures.parent / "cache")
    return folder


def told(folder: Path, kind: Any) -> list[Any]:
    return [event for event in impasto.history(folder) if isinstance(event, kind)]


def written(folder: Path) -> dict[str, torch.Tensor]:
    return file.load(folder / f"{folder.name}.safetensors")[0]


def test_what_was_trained_draws_the_same_in_diffusers(base: Path, pictures: Path) -> None:
    folder = train(config(base, pictures, "anna", train={"steps": 4}), pictures)
    tensors, metadata = file.load(folder / "anna.safetensors")
    assert metadata["ss_base_model_version"] == "sd3.5-medium"
    assert metadata["modelspec.architecture"] == "stable-diffusion-3.5-medium/lora"
    encoders = {name.split("_")[1] for name in tensors}
    assert encoders == {"unet", "te1", "te2", "te3"}
    held = {name: each for name, each in by_layer(tensors).items() if not name.startswith("lora_te3")}  # T5 is not read
    card = detect.look(Model(path=str(base)))
    targets = {target.name: target for target in families.outline(card)}
    found, about = written_there([(targets[name], each) for name, each in held.items()], "transformer", fold=False)
    save_file({name: each.clone() for name, each in found.items()}, pictures.parent / "x.safetensors", about)

    from diffusers import StableDiffusion3Pipeline

    theirs = StableDiffusion3Pipeline.from_pretrained(base, local_files_only=True)
    theirs.load_lora_weights(str(pictures.parent), weight_name="x.safetensors", local_files_only=True)
    device = torch.device("cpu")
    ours = parts.load(card, Model(path=str(base)), dtype=torch.float32, device=device)
    drawing = families.pipeline(card, ours)
    plain = _picture(drawing)
    places = {target.name: target.layer for target in families.layers(card, ours)}
    from impasto.weights.merge import merge

    for name, each in held.items():
        merge(places[name], each)
    with_adapter = _picture(drawing)
    assert (with_adapter - plain).abs().max() > 0
    assert (_picture(theirs) - with_adapter).abs().mean() < 1 / 255 / 10


def test_files_go_to_diffusers_layout_and_back(base: Path, pictures: Path) -> None:
    alone = {"rank": 2, "rules": [{"match": "^lora_te3_", "skip": True}]}  # diffusers loads none for T5
    convert.convert(
        train(config(base, pictures, "bob", adapter=alone), pictures) / "bob.safetensors",
        pictures.parent / "y.safetensors",
        "diffusers",
        base=str(base),
    )
    back = convert.convert(
        pictures.parent / "y.safetensors", pictures.parent / "z.safetensors", "kohya", base=str(base)
    )
    before, after = written(pictures.parent / "runs" / "bob"), file.load(back.file)[0]
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    theirs = file.load(pictures.parent / "y.safetensors")[0]
    assert theirs["transformer.transformer_blocks.0.attn2.to_v.lora_B.weight"].shape == (16, 2)
    with_t5 = train(config(base, pictures, "anna"), pictures) / "anna.safetensors"
    with pytest.raises(ModelFileError, match=r"E-MOD-051.*lora_te3"):
        convert.convert(with_t5, pictures.parent / "w.safetensors", "diffusers", base=str(base))


@torch.no_grad()
def _picture(drawing: Any) -> torch.Tensor:
    drawing.set_progress_bar_config(disable=True)
    found = drawing(
        "a red thing", height=16, width=16, num_inference_steps=3, guidance_scale=3.0, output_type="pt",
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    return torch.as_tensor(found.images)


def test_a_resume_is_exact_and_previews_are_drawn(base: Path, pictures: Path) -> None:
    def settings(name: str, steps: int) -> RunConfig:
        more: dict[str, object] = {
            "train": {"steps": steps}, "preview": {"prompts": [{"text": "a thing", "steps": 2}], "every_steps": 2},
            "save": {"precision": "fp32", "proof": "off"}, "adapter": {"rank": 2, "dropout": 0.1},
            "model": {"path": str(base), "precision": "fp32", "gradient_checkpointing": True},
        }  # fmt: skip
        return config(base, pictures, name, **more)

    whole = train(settings("whole", 4), pictures)
    train(settings("halves", 2), pictures)
    halves = train(settings("halves", 4), pictures)
    one, other = written(whole), written(halves)
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert any(bool(value.any()) for name, value in one.items() if "te3" in name and "lora_up" in name)
    assert len(list(RunFolder.open(whole).path.rglob("*.png"))) >= 3


def test_a_run_on_a_single_file_is_the_run_on_the_folder(base: Path, pictures: Path) -> None:
    one = tiny.single_file(base, pictures.parent / "one.safetensors")
    single = {"path": str(one), "config_path": str(base), "precision": "fp32"}
    quiet = {"precision": "fp32", "proof": "off"}
    runs = [config(base, pictures, "folder", save=quiet), config(base, pictures, "file", model=single, save=quiet)]
    held = [written(train(run, pictures)) for run in runs]
    assert held[0].keys() == held[1].keys()
    assert all(torch.allclose(value, held[1][name], atol=1e-4) for name, value in held[0].items())


@pytest.mark.parametrize(
    "held",
    [
        {"precision": "bf16"},
        {"precision": "fp16", "text_encoder_precision": "bf16"},
        {"precision": "bf16", "quantize": "nf4", "quantize_text_encoder": "int8"},
    ],
)
def test_it_trains_in_few_bits(base: Path, pictures: Path, held: dict[str, str]) -> None:
    folder = train(config(base, pictures, "anna", model={"path": str(base), **held}), pictures)
    assert told(folder, events.Proven)
    assert all(0 < each.loss < 10 for each in told(folder, events.Step))


@pytest.mark.parametrize("missing", ["text_encoder", "text_encoder_2", "text_encoder_3"])
def test_a_text_encoder_may_be_missing(base: Path, pictures: Path, missing: str) -> None:
    some = pictures.parent / "some"
    shutil.copytree(base, some)
    shutil.rmtree(some / missing)
    folder = train(config(some, pictures, "anna"), pictures)
    number = {"text_encoder": "te1", "text_encoder_2": "te2", "text_encoder_3": "te3"}[missing]
    encoders = {name.split("_")[1] for name in written(folder)}
    assert encoders == {"unet", "te1", "te2", "te3"} - {number}
    assert told(folder, events.Proven)


CHOICES = {"data": {"silence": {"clip_l": 0.5, "t5": 0.5}}, "objective": {"places": {"anywhere": 0.5, "scaled": True}}}


@pytest.mark.parametrize("words", [{"text_encoder": False}, {}], ids=["words kept", "words learnt"])
def test_silence_and_places_fall_by_dice_and_resume_exactly(base: Path, pictures: Path, words: dict[str, bool]) -> None:
    sections = {
        "data": {"batch_size": 2, "sets": [{"path": str(pictures)}], **CHOICES["data"]},
        "objective": CHOICES["objective"],
        "adapter": {"rank": 2, "targets": words},
        "train": {"steps": 4},
        "save": {"precision": "fp32", "proof": "off"},
    }
    whole = config(base, pictures, "whole", **sections)
    train(whole, pictures)
    halves = config(base, pictures, "halves", **sections)

    def ask(folder: Path, event: Any) -> None:
        if isinstance(event, events.Step) and event.step == 2:
            control.ask(RunFolder(folder), "stop")

    impasto.train([halves], cache=pictures.parent / "cache", show=ask)
    train(halves, pictures)
    runs = pictures.parent / "runs"
    assert forks.same(forks.weights(runs, "whole"), forks.weights(runs, "halves"))
    train(config(base, pictures, "plain", **{**sections, "data": {"batch_size": 2, "sets": [{"path": str(pictures)}]}}),
          pictures)  # fmt: skip
    assert not forks.same(forks.weights(runs, "whole"), forks.weights(runs, "plain"))


def test_a_base_without_the_parts_is_told_before_a_weight_is_read(tiny_base: Path, pictures: Path) -> None:
    run = config(tiny_base, pictures, "other", objective=CHOICES["objective"],
                 data={"sets": [{"path": str(pictures)}], **CHOICES["data"]})  # fmt: skip
    with pytest.raises(ConfigError) as error:
        train(run, pictures)
    assert [each.code for each in error.value.problems] == ["E-CFG-176", "E-CFG-177"]


def test_silence_is_drawn_as_it_is_trained(base: Path, pictures: Path) -> None:
    data = {"sets": [{"path": str(pictures), "repeats": 100}], **CHOICES["data"]}
    run = config(base, pictures, "drawn", data=data, train={"epochs": 1})
    card, feed = looked(run, Store(pictures.parent / "cache"))
    made = list(drawn.visits(run, card, feed, epoch=1))
    for encoder, share in (("CLIP-L", 0.5), ("CLIP-G", 0.0), ("T5", 0.5)):
        assert sum(encoder in each.silent for each in made) / len(made) == pytest.approx(share, abs=0.08)
    assert len(made) >= 400
    assert len({each.silent for each in made}) == 4, "each by itself"
