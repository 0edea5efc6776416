"""Stable Diffusion XL is told what diffusers' own pipeline tells it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from impasto import families
from impasto.data import encode
from impasto.data.buckets import Bucket, Placement
from impasto.errors import ModelFileError
from impasto.families import detect, loading, tiny
from impasto.families.card import Card, Part
from impasto.families.config import Model
from impasto.families.detect import PARTS
from impasto.families.sd import Modules
from impasto.families.sdxl import StableDiffusionXl

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.stable_diffusion_xl(tmp_path_factory.mktemp("xl") / "base")


@pytest.fixture(scope="module")
def base(folder: Path) -> tuple[StableDiffusionXl, Any]:
    """The family, and diffusers' pipeline of the same parts."""
    model = Model(path=str(folder))
    card = detect.look(model)
    modules = Modules.load(card, torch.float32, CPU)
    family = families.assemble(card, model, modules, CPU)
    assert isinstance(family, StableDiffusionXl)
    return family, families.pipeline(card, modules)


@pytest.fixture(scope="module")
def published(folder: Path) -> Card:
    """Stable Diffusion XL in full size."""
    configs: dict[Part, Any] = {part: detect.packaged("sdxl")[part] for part in PARTS if part != "text_encoder_3"}
    return replace(detect.look(Model(path=str(folder))), configs=configs)


@torch.no_grad()
def test_captions_are_encoded_as_in_diffusers(base: tuple[StableDiffusionXl, Any]) -> None:
    family, pipeline = base
    ours = family.encode(family.tokenize(["a red thing"]))
    states, _, pooled, _ = pipeline.encode_prompt("a red thing", device=CPU, do_classifier_free_guidance=False)
    assert torch.equal(ours["states"], states)
    assert torch.equal(ours["pooled"], pooled)


@torch.no_grad()
def test_long_captions_take_the_pooled_text_of_their_first_window(folder: Path) -> None:
    models = (Model(path=str(folder), max_tokens=tokens) for tokens in (75, 225))
    short, long = (families.load(detect.look(model), model, device=CPU, dtype=torch.float32) for model in models)
    words = ["x" * 100]
    one, three = short.encode(short.tokenize(words)), long.encode(long.tokenize(words))
    assert three["states"].shape == (1, 227, 40)
    assert torch.allclose(one["pooled"], three["pooled"], atol=1e-6)
    assert torch.allclose(one["states"][:, :76], three["states"][:, :76], atol=1e-6)


@torch.no_grad()
def test_the_denoiser_hears_the_sizes(base: tuple[StableDiffusionXl, Any]) -> None:
    family, _ = base
    cond = family.encode(family.tokenize(["a", "b"]))
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([10, 900])
    same = torch.tensor([[16.0, 16, 0, 0, 16, 16]] * 2)
    cut = torch.tensor([[16.0, 16, 0, 4, 16, 16], [16, 16, 0, 0, 16, 16]])
    one, other = (family.predict(x, t, {**cond, "sizes": sizes}) for sizes in (same, cut))
    assert not torch.equal(one[0], other[0])
    assert torch.allclose(one[1], other[1], atol=1e-6)


def test_sizes_become_the_published_vector() -> None:
    unet = loading.build("unet", detect.packaged("sdxl")["unet"])
    vector = unet.add_time_proj(torch.tensor([1080.0, 1920, 0, 10, 768, 1344])).flatten()
    assert vector.shape == (1536,)
    assert torch.allclose(vector[:4], torch.tensor([0.75975, 0.95772, 0.57911, -0.99610]), atol=1e-4)
    assert torch.allclose(vector[128:132], torch.tensor([-0.65022, -0.28770, -0.81525, -0.08823]), atol=1e-4)


def test_sizes_tell_the_true_cut() -> None:
    placement = Placement(Bucket(576, 448), resized=(597, 448), crop=(10, 0))
    assert encode.sizes((640, 480), placement, flip=False) == (480, 640, 0, 10, 448, 576)
    assert encode.sizes((640, 480), placement, flip=True) == (480, 640, 0, 11, 448, 576)


def test_it_always_reads_the_layer_before_the_last(folder: Path) -> None:
    detect.look(Model(path=str(folder), clip_skip=2))
    with pytest.raises(ModelFileError, match="E-MOD-107"):
        detect.look(Model(path=str(folder), clip_skip=3))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Any:
    def load(**model: Any) -> StableDiffusionXl:
        settings = Model(path=str(folder), **model)
        made = families.load(detect.look(settings), settings, device=CPU, dtype=torch.float32)
        assert isinstance(made, StableDiffusionXl)
        return made

    return load


@torch.no_grad()
def test_emphasis_multiplies_the_states_of_both_encoders_and_leaves_the_pooled_text(loaded: Any) -> None:
    plain, family = loaded(), loaded(emphasis="plain")
    weighted = family.encode(family.tokenize(["ab (cd:1.5) e"]))
    before = plain.encode(plain.tokenize(["ab cd e"]))
    factors = torch.ones(77)
    factors[3:5] = 1.5
    torch.testing.assert_close(weighted["states"], before["states"] * factors[None, :, None])
    assert torch.equal(weighted["pooled"], before["pooled"])


@torch.no_grad()
def test_emphasis_by_the_mean_keeps_the_mean_of_each_encoder(loaded: Any) -> None:
    off, mean = loaded(), loaded(emphasis="mean")
    before = off.encode(off.tokenize(["a b c"]))["states"]
    kept = mean.encode(mean.tokenize(["a (b:1.4) c"]))["states"]
    for part in (slice(0, 16), slice(16, 40)):
        torch.testing.assert_close(kept[..., part].mean(), before[..., part].mean())
    assert not torch.allclose(kept, before)


@torch.no_grad()
def test_without_padding_a_caption_counts_alike_alone_and_in_company(loaded: Any) -> None:
    family, words = loaded(token_padding=False), ["ab", "a much longer caption"]
    x, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([10, 900])
    sizes = torch.tensor([[16.0, 16, 0, 0, 16, 16]])
    together = family.encode(family.tokenize(words))
    assert together["states"].shape[:2] == (2, 20)
    company = family.predict(x, t, {**together, "sizes": sizes.expand(2, -1)})
    for at, word in enumerate(words):
        alone = {**family.encode(family.tokenize([word])), "sizes": sizes}
        found = family.predict(x[at : at + 1], t[at : at + 1], alone)
        torch.testing.assert_close(found, company[at : at + 1], rtol=1e-4, atol=1e-5)
    padded = loaded()
    seen = padded.predict(x, t, {**padded.encode(padded.tokenize(words)), "sizes": sizes.expand(2, -1)})
    assert not torch.allclose(seen, company)


def test_its_parts_are_held_as_the_settings_say(folder: Path) -> None:
    model = Model(
        path=str(folder), text_encoder_precision="bf16", vae_precision="bf16", quantize="int8",
        quantize_text_encoder="int8",
    )  # fmt: skip
    family = families.load(detect.look(model), model, device=CPU, dtype=torch.float32)
    assert isinstance(family, StableDiffusionXl)
    assert {part.get_input_embeddings().weight.dtype for part in family.encoders} == {torch.bfloat16}
    states = family.encode(family.tokenize(["a"]))
    assert {value.dtype for value in states.values()} == {torch.float32}
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([500])
    drawn = family.predict(x, t, {**states, "sizes": torch.tensor([[16.0, 16, 0, 0, 16, 16]])})
    assert bool(drawn.isfinite().all())


def test_its_blocks_are_counted_as_sd_scripts_does(published: Card) -> None:
    found = {target.name: target for target in families.outline(published)}
    counts = Counter(
        target.number for target in found.values() if target.default and target.part == "unet" and not target.is_norm
    )
    assert counts == {5: 22, 6: 22, 8: 102, 9: 102, 11: 102, 13: 102, 14: 102, 15: 102, 16: 22, 17: 22, 18: 22}
    for name, number in (
        ("input_blocks_1_0_in_layers_2", 2),
        ("input_blocks_8_1_proj_in", 9),
        ("middle_block_2_out_layers_3", 12),
        ("output_blocks_8_0_skip_connection", 21),
    ):
        assert found[f"lora_unet_{name}"].number == number
    assert Counter(target.encoder for target in found.values() if target.part == "text_encoder") == {1: 72, 2: 192}
