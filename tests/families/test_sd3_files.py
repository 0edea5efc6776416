"""Published checkpoints of Stable Diffusion 3 are found and complete, with text encoders inside or beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from impasto.errors import ModelFileError
from impasto.families import detect, loading, parts, sd3_names, tiny
from impasto.families.card import Card
from impasto.families.config import Model
from impasto.families.sd import Modules
from impasto.families.single_file import UNET
from tests.families import sparse
from tests.families.test_single_file import check
from tests.weights.listings import listing

CLIPS = {"clip_l_path": "clip_l.original", "clip_g_path": "clip_g.original"}


def card_of(folder: Path, name: str, *, described_too: bool = False, **given: str) -> Card:
    beside = {key: str(sparse.write(folder / f"{key}.safetensors", listing(file))) for key, file in given.items()}
    if described_too:
        beside["config_path"] = str(described(folder / "described", name))
    path = sparse.write(folder / "x.safetensors", listing(name))
    return detect.look(Model.model_validate({"path": str(path), **beside}))


def described(folder: Path, name: str) -> Path:
    """Description files as published folders have them."""
    configs = detect.packaged("sd3")
    scheduler = configs.pop("scheduler")
    configs["transformer"] = sd3_names.measures(listing(name), UNET).config()
    for part, values in configs.items():
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(values))
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return folder


@pytest.mark.parametrize(
    ("name", "given", "version"),
    [
        ("sd3-medium.original.incl-clips", {}, "sd3-medium"),
        ("sd3-medium.original", CLIPS, "sd3-medium"),
        ("sd35-medium.original", CLIPS, "sd3.5-medium"),
        ("sd35-large.original", CLIPS, "sd3.5-large"),
        ("sd35-large.original", {"clip_g_path": "clip_g.original"}, "sd3.5-large"),
    ],
)
def test_a_published_checkpoint_is_found_and_complete(
    tmp_path: Path, name: str, given: dict[str, str], version: str
) -> None:
    card = card_of(tmp_path, name, **given)
    assert (card.family, card.prediction, card.called.version) == ("sd3", "flow", version)
    assert (card.resolution, card.step, card.factor, card.channels) == (1024, 16, 8, 16)
    assert card.encoders == (("text_encoder_2",) if len(given) == 1 else ("text_encoder", "text_encoder_2"))
    check(card)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("sd3-medium.original.incl-clips-t5", {}),
        ("sd3-medium.original.incl-clips", {"t5_path": "t5xxl.original"}),
        ("sd35-medium.original", {**CLIPS, "t5_path": "t5xxl.original.shared-only"}),
    ],
)
def test_t5_may_be_inside_or_beside(tmp_path: Path, name: str, given: dict[str, str]) -> None:
    card = card_of(tmp_path, name, **given)
    assert card.encoders == ("text_encoder", "text_encoder_2", "text_encoder_3")
    assert card.tokenizers is None
    check(card)
    own = card_of(tmp_path, name, described_too=True, **given)
    assert (own.encoders, own.tokenizers) == (card.encoders, tmp_path / "described")


def test_without_any_text_encoder_it_cannot_be_trained(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"E-MOD-105.*without a text encoder.*model\.clip_l_path"):
        card_of(tmp_path, "sd35-medium.original")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("x_embedder.proj.weight", None),
        ("x_embedder.proj.weight", (7,)),
        ("pos_embed", ()),
        ("joint_blocks.0.x_block.attn.ln_q.weight", (0,)),
        ("joint_blocks.0.x_block.attn.ln_q.weight", ()),
        ("joint_blocks.7.x_block.mlp.fc1.weight", None),
    ],
)
def test_an_odd_or_incomplete_denoiser_is_refused(tmp_path: Path, name: str, shape: tuple[int, ...] | None) -> None:
    shapes = {**listing("sd3-medium.original.incl-clips"), f"{UNET}{name}": shape}
    if shape is None:
        del shapes[f"{UNET}{name}"]
    if name.endswith("ln_q.weight"):
        shapes = {**listing("sd35-medium.original"), **listing("sd3-medium.original.incl-clips"), **shapes}
    path = sparse.write(tmp_path / "x.safetensors", {key: each for key, each in shapes.items() if each is not None})
    with pytest.raises(ModelFileError, match=r"E-MOD-10[289]"):
        check(detect.look(Model(path=str(path))))


def test_a_text_encoder_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = sparse.write(tmp_path / "x.safetensors", listing("sd35-medium.original"))
    with pytest.raises(ModelFileError, match=r"E-MOD-101.*no\.safetensors"):
        detect.look(Model(path=str(path), clip_l_path=tmp_path / "no.safetensors"))


@pytest.mark.parametrize(
    ("given", "code"), [("clip_g.original", "E-MOD-109"), ("lora.sd15.kohya", "E-MOD-113.*an adapter")]
)
def test_the_wrong_text_encoder_is_refused(tmp_path: Path, given: str, code: str) -> None:
    card = card_of(tmp_path, "sd35-medium.original", **{**CLIPS, "clip_l_path": given})
    with pytest.raises(ModelFileError, match=code):
        check(card)


def test_every_number_of_a_file_is_that_of_the_folder(tmp_path: Path) -> None:
    folder = tiny.stable_diffusion_3(tmp_path / "base")
    one = tiny.single_file(folder, tmp_path / "one.safetensors")
    models = Model(path=str(folder)), Model(path=str(one), config_path=folder)
    first, second = (Modules.load(detect.look(each), torch.float32, torch.device("cpu")) for each in models)
    assert first.numbers == second.numbers == (1, 2, 3)
    for a, b in zip((first.unet, first.vae, *first.encoders), (second.unet, second.vae, *second.encoders), strict=True):
        own, other = a.state_dict(), b.state_dict()
        assert own.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in own.items())


def test_a_projection_that_files_leave_out_changes_nothing(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny.stable_diffusion_3(tmp_path / "base", t5=False)
    one = tiny.single_file(folder, tmp_path / "one.safetensors")
    held = load_file(one)
    del held[f"{sd3_names.ENCODERS[1]}{sd3_names.PROJECTION}"]
    save_file(held, one)
    card = detect.look(Model(path=str(one), config_path=folder))
    found = loading.load(card, card.configs, dtype=torch.float32, device=torch.device("cpu"))["text_encoder"]
    assert torch.equal(found.text_projection.weight, torch.eye(16))


def test_in_few_bits_only_the_blocks_are_rounded(tmp_path: Path) -> None:
    model = Model(path=str(tiny.stable_diffusion_3(tmp_path / "base")), quantize="int8")
    found = parts.load(detect.look(model), model, dtype=torch.float32, device=torch.device("cpu"))
    rounded = {path for path, module in found.unet.named_modules() if type(module).__name__.startswith("Quantized")}
    assert len(rounded) > 30
    assert all(path.startswith("transformer_blocks.") for path in rounded)
