"""FLUX.1 as users have it on disk: its denoiser in one file, VAE and text encoders beside it, or all in one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from impasto.errors import ModelFileError
from impasto.families import detect, flux_names, loading, tiny
from impasto.families.card import Card
from impasto.families.config import Model
from impasto.families.flux_files import FIXES
from impasto.families.sd import Modules
from impasto.families.single_file import UNET, fuse
from impasto.weights import header
from tests.families import sparse
from tests.families.test_single_file import check
from tests.weights.listings import listing

Shapes = dict[str, tuple[int, ...]]
BESIDE = {"vae_path": "flux-ae.original", "clip_l_path": "clip_l.original", "t5_path": "t5xxl.original"}
CPU = torch.device("cpu")


def card_of(folder: Path, denoiser: Shapes, **beside: str) -> Card:
    files = {key: str(sparse.write(folder / f"{key}.safetensors", listing(name))) for key, name in beside.items()}
    return detect.look(Model.model_validate({"path": str(sparse.write(folder / "x.safetensors", denoiser)), **files}))


def refused(folder: Path, denoiser: Shapes, metadata: dict[str, str] | None = None) -> str:
    path = sparse.write(folder / "x.safetensors", denoiser, metadata)
    with pytest.raises(ModelFileError) as caught:
        detect.look(Model(path=str(path)))
    return " | ".join(f"{each.code} {each.what} ({each.fix})" for each in caught.value.problems)


@pytest.mark.parametrize("name", ["dev", "schnell"])
@pytest.mark.parametrize("prefix", ["", UNET])
def test_the_published_files_are_found_and_complete(tmp_path: Path, name: str, prefix: str) -> None:
    shapes = {prefix + key: shape for key, shape in listing(f"flux1-{name}.original").items()}
    card = card_of(tmp_path, shapes, **BESIDE)
    assert (card.family, card.prediction, card.called.architecture) == ("flux", "flow", f"flux-1-{name}")
    assert (card.resolution, card.step, card.factor, card.channels) == (1024, 16, 8, 16)
    assert card.encoders == ("text_encoder", "text_encoder_3")
    assert (card.scheduler["use_dynamic_shifting"], card.scheduler["shift"]) == (
        (True, 3) if name == "dev" else (False, 1)
    )
    assert card.tokenizers is None
    check(card)


@pytest.mark.parametrize("vae", ["vae.", "first_stage_model."])
def test_everything_in_one_file_is_found_and_complete(tmp_path: Path, vae: str) -> None:
    card = card_of(tmp_path, everything(vae))
    assert set(card.files.values()) == {(card.path,)}
    check(card)


def everything(vae: str = "vae.") -> Shapes:
    starts = {
        UNET: "flux1-dev.original", vae: "flux-ae.original", "text_encoders.clip_l.transformer.": "clip_l.original",
        "text_encoders.t5xxl.transformer.": "t5xxl.original",
    }  # fmt: skip
    found = {start + key: shape for start, name in starts.items() for key, shape in listing(name).items()}
    marks: Shapes = {"text_encoders.clip_l.logit_scale": (), "text_encoders.t5xxl.logit_scale": ()}
    return found | marks | {"text_encoders.clip_l.transformer.text_projection.weight": (768, 768)}


@pytest.mark.parametrize(
    ("key", "name", "more"),
    [
        ("t5_path", "t5xxl.original.shared-only", {}),
        ("t5_path", "t5xxl.hf", {}),
        ("clip_l_path", "clip-l.hf.with-projection", {}),
        ("clip_l_path", "clip_l.original", {"logit_scale": (), "text_model.embeddings.position_ids": (1, 77)}),
        ("clip_l_path", "clip_l.original", {"vision_model.post_layernorm.weight": (1024,)}),
        ("vae_path", "flux-sd3-vae.diffusers", {}),
    ],
)
def test_other_forms_of_the_files_beside_it_are_read_too(tmp_path: Path, key: str, name: str, more: Shapes) -> None:
    paths = {
        each: sparse.write(tmp_path / f"{each}.safetensors", listing(own) if each != key else listing(name) | more)
        for each, own in BESIDE.items()
    }
    path = sparse.write(tmp_path / "x.safetensors", listing("flux1-schnell.original"))
    check(detect.look(Model.model_validate({"path": str(path), **{each: str(file) for each, file in paths.items()}})))


def test_the_way_back_gives_the_published_names_and_shapes(tmp_path: Path) -> None:
    card = card_of(tmp_path, everything())
    back: Shapes = {}
    for part, module in loading.parts(card).items():
        tensors = fuse(loading.original_table(card, part, module), dict(module.named_parameters()))
        back |= {key: tuple(value.shape) for key, value in tensors.items()}
    published = everything()
    assert {key: loading.fits(shape, published[key]) for key, shape in back.items()} == dict.fromkeys(back, True)
    left = {key for key in published if key not in back}
    assert left == {key for key in left if loading.spare(card, card.path, key)}
    assert not any(loading.spare(card, card.path, key) for key in back if not key.endswith("shared.weight"))


@pytest.mark.parametrize(
    ("name", "change"), [("guidance_in.in_layer.bias", None), ("txt_in.weight", (3072, 768)), ("txt_in.bias", (768,))]
)
def test_an_incomplete_or_odd_denoiser_is_refused(tmp_path: Path, name: str, change: tuple[int, ...] | None) -> None:
    shapes = listing("flux1-dev.original")
    shapes = {**shapes, name: change} if change else {key: each for key, each in shapes.items() if key != name}
    with pytest.raises(ModelFileError, match=r"E-MOD-10[389]"):
        check(card_of(tmp_path, shapes, **BESIDE))


def test_a_tensor_nobody_knows_is_refused(tmp_path: Path) -> None:
    strange = {**listing("flux1-dev.original"), "double_blocks.0.img_attn.memory.weight": (3072, 3072)}
    with pytest.raises(ModelFileError, match="E-MOD-111"):
        check(card_of(tmp_path, strange, **BESIDE))


def test_a_file_without_its_first_layer_is_not_complete(tmp_path: Path) -> None:
    shapes = {key: shape for key, shape in listing("flux1-dev.original").items() if key != "img_in.weight"}
    assert "E-MOD-108" in refused(tmp_path, shapes)


def test_what_is_missing_is_named_with_the_file_to_get(tmp_path: Path) -> None:
    told = refused(tmp_path, listing("flux1-dev.original"))
    assert told.count("E-MOD-105") == 3
    assert all(fix in told for fix in FIXES.values())
    assert all(word in told for word in ("without a VAE", "without a CLIP-L", "without a T5"))


@pytest.mark.parametrize(
    ("change", "metadata", "name"),
    [
        ({"img_in.weight": (3072, 384)}, {}, "FLUX.1 Fill"),
        ({"img_in.weight": (3072, 128)}, {}, "FLUX.1 Canny or Depth"),
        ({"img_in.weight": (3072, 70)}, {}, "70 channels"),
        ({}, {"modelspec.title": "FLUX.1 Kontext [dev]"}, "FLUX.1 Kontext"),
        ({"distilled_guidance_layer.in_proj.weight": (5120, 64)}, {}, "Chroma"),
        ({"double_stream_modulation_img.lin.weight": (36864, 6144)}, {}, "FLUX.2"),
    ],
)
def test_kin_that_cannot_be_trained_is_refused_by_name(
    tmp_path: Path, change: Shapes, metadata: dict[str, str], name: str
) -> None:
    told = refused(tmp_path, listing("flux1-dev.original") | change, metadata)
    assert "E-MOD-103" in told
    assert name in told
    assert "flux1-dev.safetensors" in told


@pytest.mark.parametrize(
    ("shapes", "name"),
    [
        ({"redux_up.weight": (12288, 1152), "redux_down.weight": (4096, 12288)}, "FLUX.1 Redux"),
        (
            {"controlnet_blocks.0.weight": (3072, 3072), "double_blocks.0.img_attn.qkv.weight": (9216, 3072)},
            "ControlNet",
        ),
        ({"double_blocks.0.img_attn.qkv.lora_A.weight": (128, 3072)}, "adapter"),
        ({"single_transformer_blocks.0.proj_out.weight": (3072, 15360)}, "denoiser"),
    ],
)
def test_what_is_no_base_is_named(tmp_path: Path, shapes: Shapes, name: str) -> None:
    told = refused(tmp_path, shapes)
    assert "E-MOD-113" in told
    assert name in told


@pytest.mark.parametrize(("pipeline", "name"), [("FluxKontextPipeline", "Kontext"), ("FluxFillPipeline", "Fill")])
def test_kin_in_a_folder_is_refused_by_name(tmp_path: Path, pipeline: str, name: str) -> None:
    folder = tiny.flux(tmp_path / "base")
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": pipeline}))
    with pytest.raises(ModelFileError, match=rf"E-MOD-103.*FLUX\.1 {name}.*flux1-dev"):
        detect.look(Model(path=str(folder)))


def test_text_encoders_that_a_base_does_not_take_are_refused(tmp_path: Path) -> None:
    folder = tiny.flux(tmp_path / "base")
    files = tiny.flux_files(folder, tmp_path / "files")
    with pytest.raises(ModelFileError, match=r"E-MOD-107.*model\.t5_path"):
        detect.look(Model(path=str(folder), t5_path=files["t5_path"]))
    with pytest.raises(ModelFileError, match=r"E-MOD-107.*model\.clip_g_path"):
        detect.look(given({**files, "clip_g_path": files["clip_l_path"]}, folder))


# -- numbers ---------------------------------------------------------------------------------------------------------


def given(files: dict[str, Path], folder: Path) -> Model:
    return Model.model_validate({**files, "path": str(files["path"]), "config_path": folder, "precision": "fp32"})


def same(first: Modules, second: Modules) -> bool:
    pairs = zip((first.unet, first.vae, *first.encoders), (second.unet, second.vae, *second.encoders), strict=True)
    return all(
        one.state_dict().keys() == other.state_dict().keys()
        and all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
        for one, other in pairs
    )


@pytest.mark.parametrize("dev", [True, False])
def test_every_number_of_the_files_is_that_of_the_folder(tmp_path: Path, dev: bool) -> None:
    folder = tiny.flux(tmp_path / "base", dev=dev)
    files = tiny.flux_files(folder, tmp_path / "files")
    one = Model(path=str(tmp_path / "files" / "whole.safetensors"), config_path=folder)
    found = [
        Modules.load(detect.look(model), torch.float32, CPU)
        for model in (Model(path=str(folder)), given(files, folder), one)
    ]
    assert same(found[0], found[1])
    assert same(found[0], found[2])
    assert found[1].numbers == (1, 3)


def test_plain_weights_of_8_bits_are_read_as_the_numbers_they_are(tmp_path: Path) -> None:
    folder = tiny.flux(tmp_path / "base")
    files = tiny.flux_files(folder, tmp_path / "files")
    for key in ("path", "t5_path"):
        held = load_file(files[key])
        save_file({name: value.to(torch.float8_e4m3fn) for name, value in held.items()}, files[key])
    found = Modules.load(detect.look(given(files, folder)), torch.float32, CPU)
    weight = load_file(files["path"])["double_blocks.0.img_attn.qkv.weight"].float()
    assert torch.equal(found.unet.transformer_blocks[0].attn.to_qkv.weight, weight)


@pytest.mark.parametrize("beside", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("each", ["tensor", "row"])
def test_scaled_weights_of_8_bits_are_read_with_their_scales(tmp_path: Path, beside: str, each: str) -> None:
    folder = tiny.flux(tmp_path / "base")
    files = tiny.flux_files(folder, tmp_path / "files")
    plain = Modules.load(detect.look(given(files, folder)), torch.float32, CPU)
    held = load_file(files["path"])
    scaled = {"scaled_fp8": torch.empty(2, dtype=torch.float8_e4m3fn)}
    for name, value in held.items():
        if "_blocks." not in name or value.ndim != 2:
            scaled[name] = value.to(torch.bfloat16)
            continue
        scale = (value.abs().amax(1) if each == "row" else value.abs().max()) / 448
        stem = name.removesuffix("weight")
        scaled[name] = (value / (scale[:, None] if each == "row" else scale)).to(torch.float8_e4m3fn)
        scaled |= {f"{stem}{beside}": scale, f"{stem}scale_input": torch.ones(())}
    save_file(scaled, files["path"])
    card = detect.look(given(files, folder))
    check(card)
    found = Modules.load(card, torch.float32, CPU)
    names = flux_names.published(name for name, _ in plain.unet.named_parameters())
    for name, parameter in plain.unet.named_parameters():
        limit = 1 / 15 if scaled[names[name]].dtype == torch.float8_e4m3fn else 1 / 250  # 3 and 7 bits of mantissa
        error = (dict(found.unet.named_parameters())[name] - parameter).abs().max() / parameter.abs().max()
        assert error <= limit, name
    assert any(key.endswith(beside) for key in header.read(files["path"]).tensors)


@pytest.mark.parametrize(
    ("more", "dtypes", "name"),
    [
        ({"double_blocks.0.img_attn.proj.weight.quant_state.bitsandbytes__nf4": (80,)}, "U8", "nf4"),
        ({"double_blocks.0.img_attn.proj.weight_scale_2": ()}, "F32", "nvfp4"),
        ({"double_blocks.0.img_attn.proj.qweight": (3072, 1536)}, "I8", "4 bits"),
        ({"double_blocks.0.img_attn.proj.weight": (3072, 3072)}, "I8", "I8"),
        ({"single_blocks.0.linear2.weight": (3072, 15360), "single_blocks.0.linear2.weight_scale": (3072, 96)},
         "F8_E4M3", "several"),
    ],
)  # fmt: skip
def test_other_packings_are_refused_by_name(tmp_path: Path, more: Shapes, dtypes: str, name: str) -> None:
    files = {key: str(sparse.write(tmp_path / f"{key}.safetensors", listing(each))) for key, each in BESIDE.items()}
    shapes = listing("flux1-dev.original") | more
    path = sparse.write(tmp_path / "x.safetensors", shapes, dtypes=dict.fromkeys(more, dtypes))
    with pytest.raises(ModelFileError, match=rf"E-MOD-119.*{name}.*model\.quantize"):
        check(detect.look(Model.model_validate({"path": str(path), **files})))
