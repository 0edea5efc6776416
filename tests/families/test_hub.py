"""Bases named by an id on the hub, tried on a hub of our own: there is no network in a test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from impasto import families
from impasto.__main__ import main
from impasto.adapters.config import Lora
from impasto.errors import ConfigError, DiskError, ModelFileError
from impasto.families import detect, hub, tiny
from impasto.families.config import Model
from impasto.families.sd import Modules
from tests.families.hub_server import Hub, alone
from tests.families.sharding import shard_all
from tests.weights.adapters import saved

CPU = torch.device("cpu")
ID = "org/tiny"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, an empty cache, and no token."""
    with alone(tmp_path, monkeypatch) as found:
        yield found


@pytest.fixture
def repo(tmp_path: Path, tiny_base: Path) -> Path:
    """What lies in a repository: the base, and much that nobody reads."""
    folder = shutil.copytree(tiny_base, tmp_path / "repo")
    for name in ("unet/diffusion_pytorch_model.bin", "model.ckpt", "whole.safetensors", "unet/flax_model.msgpack",
                 "README.md", "samples/cat.png", "code.py"):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not to be read")
    return folder


def read() -> set[str]:
    """The files in the cache."""
    snapshots = Path(constants.HF_HUB_CACHE) / "models--org--tiny" / "snapshots"
    return {"/".join(each.relative_to(snapshots).parts[1:]) for each in snapshots.rglob("*") if each.is_file()}


def refused(**model: Any) -> str:
    with pytest.raises(ModelFileError) as caught:
        detect.look(Model.model_validate({"path": ID, **model}))
    (line,) = str(caught.value).splitlines()
    assert "Fix: " in line
    assert len(line) < 600
    return line


def same(one: Path | str, other: Path | str, **model: Any) -> bool:
    loaded = [
        Modules.load(detect.look(Model.model_validate({"path": str(each), **model})), torch.float32, CPU)
        for each in (one, other)
    ]
    first, second = (each.unet.state_dict() for each in loaded)
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_an_id_is_fetched_once_and_is_the_folder(there: Hub, repo: Path, tiny_base: Path) -> None:
    commit = there.publish(ID, repo)
    model = hub.pinned(Model(path=ID))
    assert (model.path, model.revision) == (ID, commit)
    card = detect.look(model)
    assert (card.name, card.family, card.whole) == ("tiny", "sd1", True)
    wanted = {each.relative_to(tiny_base).as_posix() for each in tiny_base.rglob("*") if each.is_file()}
    assert read() == wanted
    there.asked.clear()
    assert detect.look(model) == card
    assert there.asked == []  # all that is needed is here, and the commit is known
    assert same(ID, tiny_base)


def test_a_branch_that_moves_does_not_move_what_was_pinned(there: Hub, repo: Path, tmp_path: Path) -> None:
    there.publish(ID, repo)
    model = hub.pinned(Model(path=ID))
    before = detect.look(model).path
    other = tiny.stable_diffusion(tmp_path / "newer", seed=1)
    newer = there.publish(ID, other)
    assert detect.look(model).path == before
    assert hub.pinned(Model(path=ID)).revision == newer
    there.publish(ID, repo, branch="old")
    assert hub.pinned(Model(path=ID, revision="old")) == model


def test_shards_and_variants_are_fetched_by_what_they_are_called(there: Hub, repo: Path) -> None:
    half = shutil.copytree(repo, repo.parent / "half")
    shard_all(shutil.copytree(repo, repo.parent / "both", ignore=shutil.ignore_patterns("whole*", "*.bin")), "fp16")
    for each in (repo.parent / "both").rglob("*"):
        if each.is_file() and not (half / each.relative_to(repo.parent / "both")).exists():
            shutil.copy(each, half / each.relative_to(repo.parent / "both"))
    there.publish(ID, half)
    detect.look(Model(path=ID, variant="fp16"))
    assert {name for name in read() if name.startswith("unet/")} == {
        "unet/config.json", "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
        *(f"unet/diffusion_pytorch_model.fp16-0000{at}-of-00003.safetensors" for at in (1, 2, 3)),
    }  # fmt: skip
    assert same(ID, repo, variant=None)
    assert "unet/diffusion_pytorch_model.safetensors" in read()  # the plain ones, when they are asked for


def test_a_plan_fetches_no_numbers(there: Hub, repo: Path) -> None:
    unet = repo / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({**load_file(unet), "betas": torch.zeros(2**19)}, unet, {"format": "pt"})  # 2 MB more
    there.publish(ID, repo)
    card = detect.look(Model(path=ID), heads=True)
    assert not card.whole
    assert there.sent["unet/diffusion_pytorch_model.safetensors"] < 400_000 < unet.stat().st_size
    (outline,) = card.weights("unet")
    assert outline.stat().st_size == unet.stat().st_size
    assert not any(name.endswith(".safetensors") for name in read())
    there.asked.clear()
    assert detect.look(Model(path=ID, revision=card.path.name), heads=True).files == card.files
    assert not any("safetensors" in each for each in there.asked)
    assert detect.look(Model(path=ID)).whole


def test_one_file_of_a_repository_is_fetched_alone(there: Hub, tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "files" / "deep").mkdir(parents=True)
    one = tiny.single_file(tiny_base, tmp_path / "files" / "deep" / "one.safetensors")
    (tmp_path / "files" / "two.safetensors").write_bytes(b"x")
    there.publish(ID, tmp_path / "files")
    path = f"{ID}/deep/one.safetensors"
    assert same(path, one, config_path=tiny_base)
    assert detect.look(Model(path=path, config_path=tiny_base)).name == "one"
    assert read() == {"deep/one.safetensors"}
    line = refused(path=f"{ID}/deep/on.safetensors")
    assert line.startswith("E-MOD-115 model.path: org/tiny has no file deep/on.safetensors")
    assert '"org/tiny/deep/one.safetensors"' in line
    assert 'name one file of it: "org/tiny/two.safetensors"' in refused()


def test_an_adapter_on_the_hub_is_drawn_with(
    there: Hub, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "files").mkdir()
    family = families.load(detect.look(tiny := Model(path=str(tiny_base))), tiny, device=CPU, dtype=torch.float32)
    saved(tmp_path / "files" / "cat.safetensors", Lora(rank=2), family.targets())
    there.publish(ID, tmp_path / "files")
    size = ["--width", "16", "--height", "16", "--steps", "1", "--model", str(tiny_base)]
    for name in (f"{ID}/cat.safetensors:0.5", str(tmp_path / "files" / "cat.safetensors:0.5")):
        assert main(["sample", "--prompt", "a cat", "--adapter", name, "--out", f"{len(name)}.png", *size]) == 0
    one, other = (each.read_bytes() for each in tmp_path.glob("*.png"))
    assert one == other
    assert main(["sample", "--prompt", "a cat", "--adapter", f"{ID}/dog.safetensors", "--out", "x.png", *size]) == 7
    assert f"E-MOD-115 command line --adapter: {ID} has no file dog.safetensors" in capsys.readouterr().err


def test_a_vae_and_descriptions_may_be_on_the_hub_too(there: Hub, tiny_base: Path, repo: Path, tmp_path: Path) -> None:
    one = tiny.single_file(tiny_base, tmp_path / "one.safetensors")
    there.publish(ID, repo)
    commit = there.publish("org/vae", tiny.stable_diffusion(tmp_path / "other", seed=1) / "vae")
    model = hub.pinned(Model(path=str(one), config_path=Path(ID), vae_path=Path("org/vae")))
    assert model.vae_path == Path(f"org/vae@{commit}")
    card = detect.look(model)
    assert not any(name.endswith(".safetensors") for name in read())
    loaded = Modules.load(card, torch.float32, CPU)
    wanted = load_file(tmp_path / "other" / "vae" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(loaded.vae.state_dict()["encoder.conv_in.weight"], wanted["encoder.conv_in.weight"])


# -- what can go wrong ---------------------------------------------------------------------------------------------


def test_an_id_with_a_slip_in_it_is_answered_with_what_is_near(there: Hub, repo: Path) -> None:
    there.publish(ID, repo)
    detect.look(Model(path=ID))
    assert refused(path="org/tini").startswith("E-MOD-115 model.path: the hub knows no model org/tini")
    assert 'Fix: "org/tiny"' in refused(path="org/tini")
    assert 'Fix: "stabilityai/stable-diffusion-xl-base-1.0"' in refused(path="stabilityai/stable-diffusion-xl-base-1")


def test_a_gated_base_says_where_to_accept_its_terms(there: Hub, repo: Path) -> None:
    there.publish(ID, repo)
    there.gated.add(ID)
    line = refused()
    assert line.startswith("E-MOD-116 model.path: org/tiny is given to those who accepted its terms")
    assert f"{there.address}/org/tiny" in line
    assert "HF_TOKEN" in line


def test_a_token_of_the_environment_is_sent(there: Hub, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there.publish(ID, repo)
    monkeypatch.setenv("HF_TOKEN", "a-word")
    detect.look(Model(path=ID), heads=True)
    assert there.tokens == {"Bearer a-word"}


def test_a_revision_that_is_not_there_is_named(there: Hub, repo: Path) -> None:
    there.publish(ID, repo)
    assert refused(revision="v9").startswith("E-MOD-115 model.revision: org/tiny has no revision v9")


def test_offline_the_cache_is_used_or_named(there: Hub, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there.publish(ID, repo)
    commit = hub.pinned(Model(path=ID)).revision
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    line = refused()
    assert line.startswith("E-MOD-117 model.path: org/tiny is not whole in the cache")
    assert "HF_HUB_OFFLINE is set" in line
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    detect.look(Model(path=ID))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.pinned(Model(path=ID)).revision == commit
    assert detect.look(Model(path=ID)).whole


def test_a_hub_that_does_not_answer_is_told(there: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert refused().startswith("E-MOD-117 model.path: org/tiny is not whole in the cache, and the hub cannot be")


def test_no_room_is_told_before_anything_is_fetched(there: Hub, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there.publish(ID, repo)
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=1000))
    with pytest.raises(DiskError, match=r"E-DSK-001 .*org/tiny needs .* GB more"):
        detect.look(Model(path=ID))
    assert not any(name.endswith(".safetensors") for name in read())


def test_pickles_are_not_fetched(there: Hub, repo: Path) -> None:
    (repo / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    there.publish(ID, repo)
    line = refused()
    assert line.startswith(
        "E-MOD-105 model.path: org/tiny has no unet/diffusion_pytorch_model.safetensors, only pickles"
    )
    assert read() <= {"model_index.json"}


def test_a_variant_that_is_not_there_is_answered_with_those_that_are(there: Hub, repo: Path) -> None:
    there.publish(ID, repo)
    assert "Fix: take model.variant out" in refused(variant="fp16")
    for each in list(repo.rglob("*.safetensors")):
        each.rename(each.with_suffix(".fp16.safetensors"))
    there.publish(ID, repo.rename(repo.parent / "renamed"))
    assert "model.variant: org/tiny has no unet/diffusion_pytorch_model.safetensors; its weights come" in refused()
    assert 'Fix: set "fp16"' in refused()


def test_an_index_on_the_hub_names_nothing_elsewhere(there: Hub, repo: Path) -> None:
    (repo / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    index = repo / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../whole.safetensors"}}))
    there.publish(ID, repo)
    assert refused().startswith("E-MOD-114")


def test_a_revision_is_for_ids_alone(there: Hub, tiny_base: Path) -> None:
    assert refused(path=str(tiny_base), revision="main").startswith("E-MOD-107 model.revision")


@pytest.mark.parametrize("text", ["pocket", "x.safetensors", "/a/b", "./a/b", "../a", "a/../b", "a/b/c", "a b/c", "~/x",
                                  "a/b/x.ckpt", "C:/x", "a//b", "-a/b", "a/x.safetensors"])  # fmt: skip
def test_a_path_is_no_id(text: str) -> None:
    assert hub.place(text) is None


def test_a_folder_of_the_first_name_makes_it_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from impasto import config

    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text('[model]\npath = "models/base"\n')
    assert config.load(tmp_path / "s.toml").model.path == "models/base"
    (tmp_path / "models").mkdir()
    assert config.load(tmp_path / "s.toml").model.path == str(tmp_path / "models" / "base")
    with pytest.raises(ConfigError, match="E-CFG-015"):
        config.load(tmp_path / "s.toml", ['model.path=" "'])


def test_what_is_at_hand_is_found_without_a_word_to_the_network(there: Hub, repo: Path) -> None:
    there.publish(ID, repo)
    named = Model.model_validate({"path": ID, "vae_path": "org/other"})
    there.asked.clear()
    model, missing = hub.at_hand(named)
    assert model == named
    assert {name: str(where) for name, where in missing.items()} == {"path": ID, "vae_path": "org/other"}
    assert there.asked == []
    detect.look(Model(path=ID), heads=True)  # as `impasto plan` does
    there.asked.clear()
    model, missing = hub.at_hand(Model(path=ID))
    card = detect.look(model, heads=True)
    assert (missing, card.name, card.whole, there.asked) == ({}, "tiny", False, [])
    detect.look(Model(path=ID))
    there.asked.clear()
    assert detect.look(hub.at_hand(Model(path=ID))[0], heads=True).whole
    assert there.asked == []
