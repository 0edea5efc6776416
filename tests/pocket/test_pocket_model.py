"""What the packaged pocket model promises: it loads offline, it is small, it draws what it is asked for."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from impasto import pocket
from impasto.pocket import judge
from impasto.pocket.pretrain.judge import garbage, stacked, to_unit
from impasto.pocket.pretrain.pictures import FRESH, pictures
from impasto.pocket.pretrain.report import accuracy, ask
from impasto.pocket.pretrain.sample import painter
from impasto.pocket.pretrain.vae import encode, psnr


@pytest.fixture(scope="module")
def model():
    return painter(pocket.folder())


@pytest.fixture(scope="module")
def fresh():
    return pictures(FRESH + 99, 48)


def test_the_model_is_small():
    files = [path for path in pocket.folder().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 16.5e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".txt"}


def test_it_is_a_stable_diffusion_pipeline():
    pipeline = StableDiffusionPipeline.from_pretrained(pocket.folder(), local_files_only=True)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.vae.config.scaling_factor == pytest.approx(0.18215)
    names = dict(pipeline.unet.named_modules())
    assert "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k" in names
    assert isinstance(names["down_blocks.1.attentions.0.proj_in"], torch.nn.Conv2d)


@pytest.mark.parametrize("text", ["a zorb", "crème brûlée", "絵 42!", "🎨 qxyzzy"])
def test_the_tokenizer_spells_anything(text):
    tokenizer = CLIPTokenizer.from_pretrained(pocket.folder() / "tokenizer")
    ids = tokenizer(text).input_ids
    assert tokenizer.eos_token_id not in ids[1:-1]
    decoded = tokenizer.decode(ids, skip_special_tokens=True)
    assert decoded.replace(" ", "") == text.lower().replace(" ", "")


def test_the_tokenizer_knows_its_own_words():
    tokenizer = CLIPTokenizer.from_pretrained(pocket.folder() / "tokenizer")
    assert len(tokenizer("two large red stars under a night sky").input_ids) == 8 + 2
    assert len(tokenizer("zorb").input_ids) > 3


def test_the_autoencoder_rebuilds_fresh_pictures(model, fresh):
    assert psnr(model.vae, fresh[0]) >= 27.5


def test_latents_have_unit_scale(model, fresh):
    spread = encode(model.vae, fresh[0]).std((0, 2, 3))
    assert torch.all((spread > 0.7) & (spread < 1.4))


def test_the_judge_reads_drawn_pictures():
    found = accuracy(*pictures(FRESH + 98, 256))
    assert min(found["color"], found["background"], found["shape"]) > 0.9


def test_the_judge_tells_a_concept_from_scenes_and_garbage(fresh):
    scenes, zorbs = to_unit(fresh[0]), to_unit(stacked("zorb", 24, FRESH + 99))
    torch.manual_seed(0)
    noise = garbage(torch.cat([scenes, scenes, zorbs]), 16)[:12]
    assert judge.concept_similarity(zorbs, "zorb") > 0.9
    assert judge.concept_similarity(scenes, "zorb") < 0.05
    assert judge.concept_similarity(noise, "zorb") < 0.1


def test_nearest_distance_is_nothing_for_a_copy(fresh):
    pixels = to_unit(fresh[0])
    assert judge.nearest_distance(pixels[:4], pixels) == pytest.approx(0, abs=1e-3)
    assert judge.nearest_distance(pixels[:4], pixels[4:]) > 5


def test_it_draws_the_asked_colour_background_and_shape(model):
    drawn, asked, _ = ask(model, seed=17, count=24, steps=20)
    found = accuracy(drawn, asked)
    assert drawn.dtype == np.uint8
    assert found["color"] >= 0.75
    assert found["background"] >= 0.85
    assert found["shape"] >= 0.6
