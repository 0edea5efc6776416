"""Text encoders that a checkpoint lacks, taken from wherever a user has them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from impasto.errors import ModelFileError
from impasto.families import detect, tiny
from impasto.families.config import Model
from impasto.families.sd import Modules
from tests.families import sparse
from tests.families.sharding import shard
from tests.families.test_single_file import card_of, check, sd15
from tests.weights.listings import listing

CPU = torch.device("cpu")
CLIPS = {"clip_l_path": "text_encoder", "clip_g_path": "text_encoder_2"}


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A miniature of Stable Diffusion XL: a folder, one file, and that file without its text encoders."""
    root = tmp_path_factory.mktemp("xl")
    folder = tiny.stable_diffusion_xl(root / "base")
    one = tiny.single_file(folder, root / "one.safetensors")
    bare = {name: value for name, value in load_file(one).items() if not name.startswith("conditioner.")}
    save_file(bare, root / "bare.safetensors")
    return folder, one, root / "bare.safetensors"


def load(path: Path, folder: Path, **given: Path) -> Modules:
    model = Model.model_validate({"path": str(path), "config_path": folder, **given})
    return Modules.load(detect.look(model), torch.float32, CPU)


def assert_words(found: Modules, wanted: Modules) -> None:
    for a, b in zip(found.encoders, wanted.encoders, strict=True):
        first, second = a.state_dict(), b.state_dict()
        assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("kind", ["file", "folder", "model", "checkpoint", "shards"])
def test_text_encoders_come_from_a_file_a_folder_a_model_or_another_checkpoint(
    xl: tuple[Path, Path, Path], tmp_path: Path, kind: str
) -> None:
    folder, one, bare = xl
    shutil.copytree(folder, other := tmp_path / "other")
    given = {name: other / part for name, part in CLIPS.items()}
    match kind:
        case "file":
            given = {name: path / "model.safetensors" for name, path in given.items()}
        case "model":
            given = dict.fromkeys(CLIPS, other)
        case "checkpoint":
            given = dict.fromkeys(CLIPS, one)
        case "shards":
            for path in given.values():
                shard(path)
    assert_words(load(bare, folder, **given), load(one, folder))


def test_they_take_the_place_of_the_checkpoints_own(xl: tuple[Path, Path, Path], tmp_path: Path) -> None:
    folder, one, _ = xl
    other = tiny.stable_diffusion_xl(tmp_path / "other", seed=1)
    found = load(one, folder, clip_l_path=other)
    assert torch.equal(
        found.encoders[0].state_dict()["embeddings.token_embedding.weight"],
        load(other, folder).encoders[0].state_dict()["embeddings.token_embedding.weight"],
    )
    assert_words(Modules(None, found.encoders[1:], None, ()), Modules(None, load(one, folder).encoders[1:], None, ()))


@pytest.mark.parametrize("name", ["clip_l.original", "clip-l.hf", "sd15.original",
                                  "sdxl-base.original"])  # fmt: skip
def test_published_files_hold_the_text_encoder_of_stable_diffusion_1(tmp_path: Path, name: str) -> None:
    clip = sparse.write(tmp_path / "clip.safetensors", listing(name))
    bare = {name: shape for name, shape in sd15().items() if not name.startswith("cond_stage_model.")}
    check(card_of(tmp_path / "x.safetensors", bare, clip_l_path=clip))
    check(card_of(tmp_path / "x.safetensors", sd15(), clip_l_path=clip))


@pytest.mark.parametrize("name", ["clip_g.original", "clip-g.hf.with-projection", "sdxl-base.original"])
def test_published_files_hold_the_second_text_encoder_of_xl(tmp_path: Path, name: str) -> None:
    clip = sparse.write(tmp_path / "clip.safetensors", listing(name))
    start = "conditioner.embedders.1."
    bare = {name: shape for name, shape in listing("sdxl-base.original").items() if not name.startswith(start)}
    check(card_of(tmp_path / "x.safetensors", bare, clip_g_path=clip))


def test_what_is_missing_or_wrong_is_told_with_the_setting(tmp_path: Path) -> None:
    bare = {name: shape for name, shape in sd15().items() if not name.startswith("cond_stage_model.")}
    with pytest.raises(ModelFileError, match=r"E-MOD-105 .*without a text encoder.*model\.clip_l_path"):
        card_of(tmp_path / "x.safetensors", bare)
    wrong = sparse.write(tmp_path / "clip.safetensors", listing("clip-g.hf.with-projection"))
    with pytest.raises(ModelFileError, match="E-MOD-109"):
        check(card_of(tmp_path / "x.safetensors", bare, clip_l_path=wrong))
    with pytest.raises(ModelFileError, match=r"E-MOD-101 .*nowhere"):
        card_of(tmp_path / "x.safetensors", bare, clip_l_path=tmp_path / "nowhere")
