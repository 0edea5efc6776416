"""Weights in several files with an index: the same base, and a line for whatever is wrong between them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from impasto.adapters.config import Lora
from impasto.errors import ModelFileError
from impasto.families import detect, tiny
from impasto.families.config import Model
from impasto.families.sd import Modules
from impasto.store import Store
from impasto.weights.bake import bake
from impasto.weights.extract import extract
from impasto.weights.low_rank import Rule
from tests.families.sharding import shard, shard_all
from tests.weights.adapters import saved
from tests.weights.test_bases import layers

CPU = torch.device("cpu")
UNET = "diffusion_pytorch_model"


def load(path: Path, **model: object) -> Modules:
    return Modules.load(detect.look(Model.model_validate({"path": str(path), **model})), torch.float32, CPU)


def assert_same(one: Modules, other: Modules) -> None:
    for a, b in zip((one.unet, one.vae, *one.encoders), (other.unet, other.vae, *other.encoders), strict=True):
        first, second = a.state_dict(), b.state_dict()
        assert first.keys() == second.keys()
        assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.fixture
def base(tmp_path: Path, tiny_base: Path) -> Path:
    """A copy of the miniature, whole."""
    shutil.copytree(tiny_base, tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize("family", [tiny.stable_diffusion, tiny.flux])
def test_a_base_in_shards_is_the_base_in_one_file_a_part(tmp_path: Path, family: Callable[[Path], Path]) -> None:
    folder = family(tmp_path / "base")
    whole = load(folder)
    card = detect.look(Model(path=str(shard_all(folder))))
    assert {len(files) for files in card.files.values()} == {3}
    assert_same(load(folder), whole)


def test_a_variant_is_used_when_it_is_asked_for_or_alone(base: Path) -> None:
    half = {name: value.half() for name, value in load_file(base / "unet" / f"{UNET}.safetensors").items()}
    save_file(half, base / "unet" / f"{UNET}.fp16.safetensors")
    for part in ("vae", "text_encoder"):
        (found,) = (base / part).glob("*.safetensors")
        shutil.copyfile(found, found.with_suffix(".fp16.safetensors"))
    assert not all(torch.equal(value, half[name].float()) for name, value in load(base).unet.state_dict().items())
    both = load(base, variant="fp16").unet.state_dict()
    assert all(torch.equal(value, half[name].float()) for name, value in both.items())
    for each in list(base.rglob("*.safetensors")):
        if ".fp16." not in each.name:
            each.unlink()
    assert_same(load(base), load(base, variant="fp16"))


def test_a_variant_in_shards_is_found(base: Path) -> None:
    whole = load(base)
    shard_all(base, "fp16")
    assert (base / "unet" / f"{UNET}.safetensors.index.fp16.json").is_file()
    assert_same(load(base), whole)
    with pytest.raises(ModelFileError, match=r"E-MOD-105 .*model\.bf16\.safetensors"):
        load(base, variant="bf16")


def test_a_single_file_has_no_variants(base: Path) -> None:
    one = tiny.single_file(base, base.parent / "one.safetensors")
    with pytest.raises(ModelFileError, match=r"E-MOD-107 model\.variant"):
        load(one, config_path=base, variant="fp16")


def test_another_byte_in_any_shard_is_another_fingerprint(base: Path, tmp_path: Path) -> None:
    shard(base / "vae")
    store = Store(tmp_path / "cache")
    files = detect.look(Model(path=str(base))).weights("vae")
    prints = {store.fingerprint(*files)}
    for file in files:
        raw = bytearray(file.read_bytes())
        raw[-1] ^= 1
        file.write_bytes(raw)
        prints.add(store.fingerprint(*files))
    assert len(prints) == 4
    assert store.fingerprint(files[0]) not in prints


def test_an_adapter_is_merged_into_shards_and_found_again(base: Path, tmp_path: Path) -> None:
    adapter = saved(tmp_path / "a.safetensors", Lora(rank=2), layers(base).values())
    bake([(adapter, 1.0)], str(base), tmp_path / "whole")
    before = shutil.copytree(base, tmp_path / "before")
    shard_all(base)
    bake([(adapter, 1.0)], str(base), tmp_path / "shards")
    assert (tmp_path / "shards" / "unet" / f"{UNET}-00002-of-00003.safetensors").is_file()
    assert_same(load(tmp_path / "shards"), load(tmp_path / "whole"))
    report = extract(str(tmp_path / "shards"), str(before), tmp_path / "b.safetensors", Rule(rank=2), "fp32")
    assert len(report.lines) == len({name.partition(".")[0] for name in load_file(adapter)})


# -- what is wrong between an index and its shards -----------------------------------------------------------------


def rewritten(change: Callable[[dict[str, str]], object]) -> Callable[[Path], object]:
    def write(index: Path) -> None:
        found = json.loads(index.read_text())
        change(found["weight_map"])
        index.write_text(json.dumps(found))

    return write


def moved(places: dict[str, str]) -> None:
    """Say that a tensor is in another shard than it is."""
    first, second = sorted(places)[:2]
    places[first] = places[second]


def everywhere(name: str) -> Callable[[Path], object]:
    return rewritten(lambda places: places.update(dict.fromkeys(list(places)[:1], name)))


def shards(index: Path) -> list[Path]:
    return sorted(index.parent.glob("*.safetensors"))


def as_a_folder(index: Path) -> None:
    first = shards(index)[0]
    first.unlink()
    first.mkdir()


def doubled(index: Path) -> None:
    first, second, _ = shards(index)
    name = sorted(load_file(first))[0]
    save_file({**load_file(second), name: load_file(first)[name]}, second)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "a shard is missing": (lambda index: shards(index)[1].unlink(), "E-MOD-105 .*00002-of-00003.*is missing"),
    "a shard is half there": (
        lambda index: shards(index)[0].write_bytes(shards(index)[0].read_bytes()[:-9]),
        "E-MOD-009 .*00001-of-00003.* is cut off",
    ),
    "a shard is a page": (lambda index: shards(index)[0].write_text("<!DOCTYPE html>"), "E-MOD-003 .*web page"),
    "a shard is a folder": (
        as_a_folder,
        "E-MOD-105 .*is missing",
    ),
    "a shard lacks a tensor": (rewritten(moved), "E-MOD-114 .*lacks 1 tensors"),
    "a shard holds more": (rewritten(lambda places: places.pop(min(places))), "E-MOD-114 .*does not say"),
    "two shards hold one tensor": (doubled, "E-MOD-114 .*00002.*does not say"),
    "the folder above": (everywhere("../../secret.safetensors"), "E-MOD-114 .*index.json: names '../../secret"),
    "a place of its own": (everywhere("/etc/x.safetensors"), "E-MOD-114 .*index.json: names '/etc/x"),
    "a place on Windows": (everywhere("..\\x.safetensors"), "E-MOD-114 .*names"),
    "a pickle": (everywhere("pytorch_model.bin"), "E-MOD-114 .*which is no .safetensors"),
    "a NUL": (everywhere("a\0.safetensors"), "E-MOD-114 .*names"),
    "no JSON": (lambda index: index.write_text("<html>"), "E-MOD-102"),
    "a list": (lambda index: index.write_text("[]"), "E-MOD-102"),
    "no map": (lambda index: index.write_text("{}"), "E-MOD-102 .*no weight_map"),
    "an empty map": (lambda index: index.write_text('{"weight_map": {}}'), "E-MOD-102 .*empty"),
    "numbers": (lambda index: index.write_text('{"weight_map": {"a": 1}}'), "E-MOD-102"),
    "a nest": (lambda index: index.write_text('{"weight_map":' + "[" * 200_000), "E-MOD-102"),
    "no end": (lambda index: index.write_text(" " * (16 * 2**20 + 1)), "E-MOD-102 .*more than"),
    "a crowd": (
        rewritten(lambda places: places.update({f"{at}": f"{at}.safetensors" for at in range(1000)})),
        "E-MOD-102 .*1,003 files",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_whatever_is_wrong_between_index_and_shards_is_told_in_a_line(name: str, base: Path) -> None:
    index = shard(base / "unet")
    change, expected = WRONG[name]
    change(index)
    with pytest.raises(ModelFileError, match=expected) as caught:
        detect.look(Model(path=str(base)))
    (line,) = str(caught.value).splitlines()
    assert "Fix: " in line
    assert len(line) < 800
