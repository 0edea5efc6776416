"""FLUX.1 from settings to a proven adapter, from a folder in diffusers' layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import impasto
from impasto import events, families
from impasto.engine import device, preview
from impasto.engine.config import Device, Prompt
from impasto.errors import ModelFileError
from impasto.families import detect, parts, tiny
from impasto.families.config import Model
from impasto.families.flux import Flux
from impasto.runs.folder import RunFolder
from impasto.weights import file
from tests.e2e.test_sd3 import config, told, train, written
from tests.engine import forks


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.flux(tmp_path_factory.mktemp("flux") / "base")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return forks.pictures(tmp_path / "pictures")


@pytest.mark.parametrize(("dev", "architecture"), [(True, "flux-1-dev/lora"), (False, "flux-1-schnell/lora")])
def test_a_file_says_what_it_is_for_and_holds_both_text_encoders(
    tmp_path: Path, pictures: Path, dev: bool, architecture: str
) -> None:
    folder = train(config(tiny.flux(tmp_path / "base", dev=dev), pictures, "anna"), pictures)
    tensors, metadata = file.load(folder / "anna.safetensors")
    assert (metadata["ss_base_model_version"], metadata["modelspec.architecture"]) == ("flux1", architecture)
    assert (metadata["ss_apply_t5_attn_mask"], metadata.get("ss_guidance_scale")) == ("False", "1.0" if dev else None)
    assert {name.split("_")[1] for name in tensors} == {"unet", "te1", "te3"}
    assert all(value.abs().max() > 0 for name, value in tensors.items() if "single_blocks" in name)


def test_a_run_that_was_stopped_ends_as_one_that_was_not(base: Path, pictures: Path) -> None:
    quiet = {"precision": "fp32", "proof": "off"}
    whole = train(config(base, pictures, "whole", train={"steps": 4}, save=quiet), pictures)
    train(config(base, pictures, "halved", train={"steps": 2}, save=quiet), pictures)
    longer = config(base, pictures, "halved", train={"steps": 4}, save=quiet)
    (halved,) = impasto.train(longer, cache=pictures.parent / "cache")
    first, second = written(whole), written(halved)
    assert all(torch.equal(first[name], second[name]) for name in first)


def family_of(model: Model) -> Flux:
    card, cpu = detect.look(model), torch.device("cpu")
    found = families.assemble(card, model, parts.load(card, model, dtype=torch.float32, device=cpu), cpu)
    assert isinstance(found, Flux)
    return found


@pytest.mark.parametrize("guidance", [1.0, 3.5, 6.0])
def test_previews_are_what_diffusers_draws_with_the_same_guidance(base: Path, guidance: float) -> None:
    from diffusers import FluxPipeline

    theirs = FluxPipeline.from_pretrained(base, local_files_only=True)
    theirs.set_progress_bar_config(disable=True)
    model = Model(path=str(base), precision="fp32")
    card = detect.look(model)
    prompt = Prompt(text="a cat", steps=2, embedded_guidance=guidance, seed=3)
    packed = torch.nn.functional.pixel_unshuffle(preview.first_noise(prompt, card), 2).flatten(2).transpose(1, 2)
    drawn = theirs(
        "a cat", height=16, width=16, num_inference_steps=2, guidance_scale=guidance, latents=packed, output_type="pt"
    ).images[0]
    ours = preview.draw(family_of(model), device.choose(Device(threads=1), model), prompt, card)
    assert float((ours - drawn).abs().mean()) < 1 / 255


def test_it_is_told_the_guidance_of_the_settings_in_training_and_that_of_the_prompt_in_previews(base: Path) -> None:
    x, t = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
    plain, told = family_of(Model(path=str(base))), family_of(Model(path=str(base), guidance=3.5))
    cond = plain.tokenize(["a cat"])
    with torch.no_grad():
        one, other = plain.predict(x, t, cond), told.predict(x, t, cond)
        assert not torch.equal(one, other)
        assert torch.equal(plain.predict(x, t, {**plain.encode(cond), "guidance": torch.tensor([3.5])}), other)
        assert torch.equal(told.predict(x, t, {**plain.encode(cond), "guidance": torch.tensor([1.0])}), one)


def test_schnell_is_told_none(tmp_path: Path) -> None:
    folder = tiny.flux(tmp_path / "base", dev=False)
    card = detect.look(Model(path=str(folder)))
    assert (card.guided, card.usual_guidance, card.t5_tokens) == (False, 1.0, 256)
    family = family_of(Model(path=str(folder)))
    x, t, cond = torch.randn(1, 16, 4, 4), torch.tensor([500]), family.encode(family.tokenize(["a cat"]))
    with torch.no_grad():
        told = family.predict(x, t, {**cond, "guidance": torch.tensor([9.0])})
        assert torch.equal(told, family.predict(x, t, cond))
    with pytest.raises(ModelFileError, match=r"E-MOD-107.*told no guidance"):
        detect.look(Model(path=str(folder), guidance=3.5))


@pytest.mark.parametrize(("dev", "asked", "read"), [(True, None, 512), (False, None, 256), (True, 64, 64)])
def test_t5_reads_as_many_tokens_as_the_base_was_made_with_or_as_asked(
    tmp_path: Path, dev: bool, asked: int | None, read: int
) -> None:
    family = family_of(Model(path=str(tiny.flux(tmp_path / "base", dev=dev)), t5_tokens=asked))
    cond = family.tokenize(["a cat", "cat " * 600])
    assert cond["ids_3"].shape == (2, read)
    assert cond["ids_3"][1, -1] == 1  # the end mark is kept
    assert family.encode(cond)["states"].shape[1] == read


def test_empty_tokens_are_not_attended_to_with_a_mask(base: Path) -> None:
    """With a mask a caption is answered as if it had been read without any padding."""
    long, short = (family_of(Model(path=str(base), text_encoder_mask="t5", t5_tokens=each)) for each in (64, 16))
    x, t = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([500, 20])
    captions = ["a cat", "a dog, b"]
    with torch.no_grad():
        one, other = (family.predict(x, t, family.tokenize(captions)) for family in (long, short))
        assert torch.allclose(one, other, atol=1e-5)
        plain = family_of(Model(path=str(base), t5_tokens=64))
        assert not torch.allclose(plain.predict(x, t, plain.tokenize(captions)), one, atol=1e-5)


def test_a_run_with_a_mask_few_tokens_and_a_guidance_trains_and_is_proven(base: Path, pictures: Path) -> None:
    model = {
        "path": str(base), "precision": "fp32", "text_encoder_mask": "t5", "t5_tokens": 32, "guidance": 3.5,
        "gradient_checkpointing": True,
    }  # fmt: skip
    alone = {"rank": 2, "targets": {"text_encoder": False}}
    folder = train(config(base, pictures, "masked", model=model, adapter=alone), pictures)
    (proof,) = told(folder, events.Proven)
    assert proof.matched == proof.expected > 0


def test_a_denoiser_that_fills_holes_is_refused_by_name(base: Path, tmp_path: Path) -> None:
    folder = tiny.flux(tmp_path / "fill")
    described = folder / "transformer" / "config.json"
    described.write_text(json.dumps({**json.loads(described.read_text()), "in_channels": 384}))
    with pytest.raises(ModelFileError, match=r"FLUX\.1 Fill"):
        detect.look(Model(path=str(folder)))


def test_settings_it_does_not_know_are_refused(base: Path) -> None:
    for setting in ({"max_tokens": 150}, {"clip_skip": 2}, {"emphasis": "plain"}, {"text_encoder_mask": "clip"}):
        with pytest.raises(ModelFileError, match="E-MOD-107"):
            detect.look(Model.model_validate({"path": str(base), **setting}))


def test_a_base_in_few_bits_with_checkpointed_blocks_trains_and_is_proven(base: Path, pictures: Path) -> None:
    model = {
        "path": str(base), "precision": "bf16", "quantize": "int8", "quantize_text_encoder": "int8",
        "gradient_checkpointing": True,
    }  # fmt: skip
    folder = train(config(base, pictures, "packed", model=model), pictures)
    (proof,) = told(folder, events.Proven)
    assert proof.matched == proof.expected > 0


def test_a_run_on_single_files_is_the_run_on_the_folder_and_resumes_to_the_bit(base: Path, pictures: Path) -> None:
    files = tiny.flux_files(base, pictures.parent / "files")
    model = {key: str(path) for key, path in files.items()} | {"config_path": str(base), "precision": "fp32"}
    more: dict[str, object] = {"preview": {"prompts": [{"text": "a thing", "steps": 2}], "every_steps": 4}}
    folder = train(config(base, pictures, "folder", train={"steps": 4}, **more), pictures)
    whole = train(config(base, pictures, "whole", train={"steps": 4}, model=model, **more), pictures)
    train(config(base, pictures, "halves", train={"steps": 2}, model=model, **more), pictures)
    halves = train(config(base, pictures, "halves", train={"steps": 4}, model=model, **more), pictures)
    first, second, third = written(folder), written(whole), written(halves)
    assert all(torch.equal(value, third[name]) for name, value in second.items())
    assert all(torch.allclose(value, second[name], atol=1e-6, rtol=0) for name, value in first.items())
    drawn = [sorted(RunFolder.open(each).path.rglob("*.png"))[-1].read_bytes() for each in (folder, whole, halves)]
    assert drawn[1] == drawn[2]
    assert len(drawn[0]) > 0
    assert told(halves, events.Proven)
