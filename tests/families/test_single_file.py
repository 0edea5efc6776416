"""Every tensor of a published checkpoint finds its place, and none is left over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from impasto.errors import ModelFileError
from impasto.families import detect, loading, single_file
from impasto.families.card import Card, Part
from impasto.families.config import Model
from tests.families import sparse
from tests.weights.listings import listing

Shapes = dict[str, tuple[int, ...]]

PUBLISHED: dict[str, tuple[str, str, dict[Part, str]]] = {
    "sd1": ("sd15.original", "auto", {"unet": "sd15.diffusers.unet", "text_encoder": "clip-l.hf"}),
    "sd2": ("sd21.original", "v", {"unet": "sd21.diffusers.unet", "text_encoder": "clip-h23.hf"}),
    "sdxl": (
        "sdxl-base.original",
        "auto",
        {
            "unet": "sdxl-base.diffusers.unet",
            "text_encoder": "clip-l.hf",
            "text_encoder_2": "clip-g.hf.with-projection",
        },
    ),
}


def card_of(path: Path, shapes: Shapes, **model: object) -> Card:
    sparse.write(path, shapes)
    return detect.look(Model.model_validate({"path": str(path), **model}))


def refused(path: Path, shapes: Shapes, **model: object) -> str:
    sparse.write(path, shapes)
    with pytest.raises(ModelFileError) as caught:
        check(detect.look(Model.model_validate({"path": str(path), **model})))
    return " | ".join(f"{each.code} {each.what} ({each.fix})" for each in caught.value.problems)


def check(card: Card) -> None:
    """What loading does before it reads a tensor."""
    modules = loading.parts(card)
    tables = {part: loading.table(card, part, module) for part, module in modules.items()}
    for path in set(card.files.values()):
        loading.check(card, path, {part: modules[part] for part in modules if card.files[part] == path}, tables)


@pytest.mark.parametrize("family", PUBLISHED)
def test_a_published_checkpoint_is_found_and_complete(tmp_path: Path, family: str) -> None:
    name, prediction, parts = PUBLISHED[family]
    card = card_of(tmp_path / "x.safetensors", listing(name), prediction=prediction)
    assert card.family == family
    assert card.encoders == tuple(part for part in parts if part != "unet")
    check(card)


@pytest.mark.parametrize("family", PUBLISHED)
def test_modules_have_the_names_and_shapes_of_published_folders(family: str) -> None:
    for part, name in {**PUBLISHED[family][2], "vae": "vae-kl-f8.diffusers"}.items():
        module = loading.build(part, detect.packaged(family)[part])  # type: ignore[arg-type]
        found = {key: tuple(value.shape) for key, value in module.named_parameters()}
        wanted = listing(name)
        if not any(key.startswith("text_model.") for key in found):
            wanted = {key.removeprefix("text_model."): shape for key, shape in wanted.items()}
        assert found == wanted


@pytest.mark.parametrize("family", PUBLISHED)
def test_the_way_back_gives_the_published_names_and_shapes(tmp_path: Path, family: str) -> None:
    name, prediction, _ = PUBLISHED[family]
    card = card_of(tmp_path / "x.safetensors", listing(name), prediction=prediction)
    back: Shapes = {}
    for part, module in loading.parts(card).items():
        tensors = single_file.fuse(loading.original_table(card, part, module), dict(module.named_parameters()))
        assert not back.keys() & tensors.keys()
        back |= {key: tuple(value.shape) for key, value in tensors.items()}
    published = listing(name)
    assert {key: published.get(key) for key in back} == {
        key: (*shape, 1, 1) if published.get(key) == (*shape, 1, 1) else shape for key, shape in back.items()
    }
    left = [key for key in published if key not in back]
    assert all(loading.spare(card, card.path, key) for key in left)
    assert not any(loading.spare(card, card.path, key) for key in back if "text_projection" not in key)


def test_two_layers_never_share_a_name() -> None:
    for family in PUBLISHED:
        unet = loading.build("unet", detect.packaged(family)["unet"])  # type: ignore[arg-type]
        names = single_file.unet((name for name, _ in unet.named_parameters()), 2)
        assert len(set(names.values())) == len(names)


def test_queries_keys_and_values_are_thirds_and_the_projection_is_turned() -> None:
    fused = torch.arange(12.0).reshape(6, 2)
    place = single_file.Place("x", third=1)
    assert torch.equal(single_file.unfuse(place, fused, (2, 2)), fused[2:4])
    turned = single_file.Place("y", turned=True)
    assert torch.equal(single_file.unfuse(turned, fused, (2, 6)), fused.T)
    places = {"q": single_file.Place("x", third=0), "k": place, "v": single_file.Place("x", third=2), "p": turned}
    tensors = {"q": fused[:2], "k": fused[2:4], "v": fused[4:], "p": fused.T}
    back = single_file.fuse(places, tensors)
    assert torch.equal(back["x"], fused)
    assert torch.equal(back["y"], fused)


# -- what is wrong with a file ------------------------------------------------------------------------------------


def sd15(**changed: tuple[int, ...]) -> Shapes:
    return {**listing("sd15.original"), **changed}


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    shapes = sd15()
    del shapes["model.diffusion_model.middle_block.1.proj_in.weight"]
    said = refused(tmp_path / "x.safetensors", shapes)
    assert said.startswith("E-MOD-108 1 tensors")
    assert "middle_block.1.proj_in.weight" in said


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    said = refused(tmp_path / "x.safetensors", sd15(**{"model.diffusion_model.out.2.weight": (4, 320, 1, 1)}))
    assert said.startswith("E-MOD-109")
    assert "out.2.weight" in said


def test_unknown_tensors_are_reported(tmp_path: Path) -> None:
    said = refused(tmp_path / "x.safetensors", sd15(**{"model.diffusion_model.control.weight": (4,)}))
    assert said.startswith("E-MOD-111 1 tensors")
    assert "control.weight" in said


def test_unknown_tensors_beside_the_model_are_left_out_and_told(tmp_path: Path) -> None:
    card = card_of(tmp_path / "x.safetensors", sd15(**{"somebodys.table": (1000,)}))
    check(card)
    (note,) = card.notes
    assert (note.code, "somebodys.table" in note.what) == ("W-MOD-112", True)
    assert not card_of(tmp_path / "x.safetensors", sd15()).notes


def test_averages_and_schedules_are_left_out(tmp_path: Path) -> None:
    extra: Shapes = {
        "model_ema.diffusion_modelinput_blocks00weight": (320, 4, 3, 3), "ztsnr": (), "denoiser.sigmas": (1000,),
        "cond_stage_model.logit_scale": (), "cond_stage_model.text_projection": (768, 768),
        "first_stage_model.loss.logvar": (), "lvlb_weights": (1000,),
    }  # fmt: skip
    card = card_of(tmp_path / "x.safetensors", sd15(**extra))
    check(card)
    assert not card.notes


def test_the_text_encoder_may_stand_one_level_higher(tmp_path: Path) -> None:
    shapes = {name.replace(".transformer.text_model.", ".transformer."): shape for name, shape in sd15().items()}
    check(card_of(tmp_path / "x.safetensors", shapes))


@pytest.mark.parametrize(
    ("without", "code", "words"),
    [
        ("first_stage_model.", "E-MOD-105", "without a VAE (set model.vae_path"),
        ("cond_stage_model.", "E-MOD-105", "without a text encoder (get the complete checkpoint"),
        ("model.diffusion_model.", "E-MOD-113", "holds no base model but this: VAE"),
    ],
)
def test_a_missing_part_is_named(tmp_path: Path, without: str, code: str, words: str) -> None:
    shapes = {name: shape for name, shape in sd15().items() if not name.startswith(without)}
    said = refused(tmp_path / "x.safetensors", shapes)
    assert said.startswith(code)
    assert words in said


@pytest.mark.parametrize("layout", ["vae-kl-f8.original", "vae-kl-f8.diffusers", "vae-kl-f8.diffusers.legacy-attn"])
def test_a_vae_of_any_layout_may_stand_in(tmp_path: Path, layout: str) -> None:
    vae = sparse.write(tmp_path / "vae.safetensors", listing(layout))
    shapes = {name: shape for name, shape in sd15().items() if not name.startswith("first_stage_model.")}
    card = card_of(tmp_path / "x.safetensors", shapes, vae_path=vae)
    assert card.weights("vae") == (vae,)
    check(card)
    check(card_of(tmp_path / "y.safetensors", sd15(), vae_path=vae))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lora.sd15.kohya", "E-MOD-113 is an adapter"),
        ("sdxl-refiner.original", "E-MOD-103 it is Stable Diffusion XL refiner"),
        ("flux1-dev.original", "E-MOD-105 is a FLUX.1 checkpoint without a VAE"),
        ("sd15.diffusers.unet", "E-MOD-113 holds no base model but this: denoiser (U-Net) of Stable Diffusion 1.x"),
        ("clip-l.hf", "E-MOD-113 holds no base model but this: text encoder (CLIP)"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path: Path, name: str, words: str) -> None:
    assert refused(tmp_path / "x.safetensors", listing(name)).startswith(words)


def test_inpainting_models_are_refused(tmp_path: Path) -> None:
    first = {"model.diffusion_model.input_blocks.0.0.weight": (320, 9, 3, 3)}
    said = refused(tmp_path / "x.safetensors", sd15(**first))
    assert said.startswith("E-MOD-103")
    assert "inpainting" in said


def test_a_pickle_is_refused_with_the_way_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ModelFileError, match=r"E-MOD-004.*pickle.*convert"):
        detect.look(Model(path=str(tmp_path / "x.ckpt")))


def test_a_stable_diffusion_2_must_be_told_what_it_predicts(tmp_path: Path) -> None:
    said = refused(tmp_path / "x.safetensors", listing("sd21.original"))
    assert said.startswith("E-MOD-104")
    assert "model.prediction" in said
    small = card_of(tmp_path / "x.safetensors", listing("sd21.original"), prediction="epsilon")
    large = card_of(tmp_path / "x.safetensors", listing("sd21.original"), prediction="v")
    assert (small.resolution, small.called.version) == (512, "sd_v2")
    assert (large.resolution, large.called.version) == (768, "sd_v2_v")


def test_a_file_that_says_what_it_predicts_is_believed(tmp_path: Path) -> None:
    marked = card_of(tmp_path / "x.safetensors", sd15(v_pred=(0,), ztsnr=(0,)))
    assert marked.prediction == "v"
    assert marked.scheduler["rescale_betas_zero_snr"] is True
    sparse.write(tmp_path / "y.safetensors", sd15(), {"modelspec.prediction_type": "v"})
    assert detect.look(Model(path=str(tmp_path / "y.safetensors"))).prediction == "v"
    assert card_of(tmp_path / "x.safetensors", sd15()).prediction == "epsilon"


def test_the_name_of_a_file_means_nothing(tmp_path: Path) -> None:
    card = card_of(tmp_path / "sdxl-v-pred-inpainting.safetensors", sd15())
    assert (card.family, card.prediction, card.resolution, card.step) == ("sd1", "epsilon", 512, 64)
