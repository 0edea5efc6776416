"""FLUX.1 from settings to a proven adapter, from a folder in diffusers' layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import impasto
from impasto import events, families
from impasto.errors import ModelFileError
from impasto.families import detect, parts, tiny
from impasto.families.config import Model
from impasto.weights import file
from tests.e2e.test_sd3 import KINDS, config, told, train, written
from tests.engine import forks
from tests.families import sparse
from tests.weights.listings import listing


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.flux(tmp_path_factory.mktemp("flux") / "base")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return forks.pictures(tmp_path / "pictures")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_adapter_trains_and_is_proven(base: Path, pictures: Path, kind: str) -> None:
    adapter = {"kind": "lora" if kind == "dora" else kind, **KINDS[kind], "targets": {"text_encoder": False}}
    folder = train(config(base, pictures, kind, adapter=adapter), pictures)
    (proof,) = told(folder, events.Proven)
    assert (proof.reader, proof.matched) == ("impasto", proof.expected)
    assert proof.difference < 1 / 255


@pytest.mark.parametrize(("dev", "architecture"), [(True, "flux-1-dev/lora"), (False, "flux-1-schnell/lora")])
def test_a_file_says_what_it_is_for_and_holds_both_text_encoders(
    tmp_path: Path, pictures: Path, dev: bool, architecture: str
) -> None:
    folder = train(config(tiny.flux(tmp_path / "base", dev=dev), pictures, "anna"), pictures)
    tensors, metadata = file.load(folder / "anna.safetensors")
    assert (metadata["ss_base_model_version"], metadata["modelspec.architecture"]) == ("flux1", architecture)
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


def test_the_base_draws_what_diffusers_draws(base: Path) -> None:
    from diffusers import FluxPipeline

    from impasto.engine import preview
    from impasto.engine.config import Prompt
    from impasto.families.flux import GUIDANCE

    theirs = FluxPipeline.from_pretrained(base, local_files_only=True)
    theirs.set_progress_bar_config(disable=True)
    model, device = Model(path=str(base)), torch.device("cpu")
    card = detect.look(model)
    family = families.assemble(card, model, parts.load(card, model, dtype=torch.float32, device=device), device)
    prompt = Prompt(text="a cat", steps=2, guidance=1.0, seed=3, sampler="euler")
    noise = preview.first_noise(prompt, card)
    packed = torch.nn.functional.pixel_unshuffle(noise, 2).flatten(2).transpose(1, 2)
    drawn = theirs(
        "a cat", height=16, width=16, num_inference_steps=2, guidance_scale=GUIDANCE, latents=packed, output_type="pt"
    ).images[0]
    cond = family.tokenize(["a cat"])
    clean = preview.sample(lambda x, t: family.predict(x, t, cond), family.process, noise, steps=2, sampler="euler")
    with torch.no_grad(), family.vae() as vae:
        ours = vae.decode(clean)[0]
    assert float((ours - drawn).abs().mean()) < 1 / 255


def test_a_denoiser_that_fills_holes_is_refused_by_name(base: Path, tmp_path: Path) -> None:
    folder = tiny.flux(tmp_path / "fill")
    described = folder / "transformer" / "config.json"
    described.write_text(json.dumps({**json.loads(described.read_text()), "in_channels": 384}))
    with pytest.raises(ModelFileError, match=r"FLUX\.1 Fill"):
        detect.look(Model(path=str(folder)))


def test_settings_it_does_not_know_are_refused(base: Path) -> None:
    for setting in ({"max_tokens": 150}, {"clip_skip": 2}, {"emphasis": "plain"}, {"text_encoder_mask": "t5"}):
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


def test_a_single_file_is_told_what_to_name_in_its_place(tmp_path: Path) -> None:
    path = sparse.write(tmp_path / "x.safetensors", listing("flux1-dev.original"))
    with pytest.raises(ModelFileError) as caught:
        detect.look(Model(path=str(path)))
    assert "folder in diffusers' layout" in str(caught.value.problems[0].fix)
