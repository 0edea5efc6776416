"""Adapters merged into a base on disk: a base like any other, with its own types of numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from impasto import families
from impasto.adapters.config import Adapter as Config
from impasto.adapters.config import Boft, Full, Lora
from impasto.errors import ConfigError, ModelFileError
from impasto.families import detect
from impasto.families.config import Model
from impasto.families.family import Family
from impasto.weights import file
from impasto.weights.bake import bake
from impasto.weights.merge import by_layer, merge
from tests.weights.adapters import saved

NORMS = Lora(rank=2, conv_rank=2, train_norm=True)
KINDS: list[Config] = [Lora(rank=2, conv_rank=2), Lora(rank=2, decompose=True), Full(), Boft(), NORMS]
UNET = Path("unet") / "diffusion_pytorch_model.safetensors"


def loaded(folder: Path) -> Family:
    model = Model(path=str(folder))
    return families.load(detect.look(model), model, device=torch.device("cpu"), dtype=torch.float32)


@pytest.mark.parametrize("config", KINDS, ids=["lora", "dora", "full", "boft", "norms"])
def test_the_new_base_is_the_old_one_with_the_adapter_merged(
    tmp_path: Path, tiny_base: Path, tiny_family: Family, config: Config
) -> None:
    targets = {target.name: target for target in tiny_family.targets()}
    path = saved(tmp_path / "a.safetensors", config, targets.values())
    baked = bake([(path, 0.5)], str(tiny_base), tmp_path / "new")
    held = by_layer(file.load(path)[0])
    with torch.no_grad():
        for name, tensors in held.items():
            merge(targets[name].base, tensors, 0.5)
    assert baked.layers == len(held)
    assert baked.left_out == []
    for target in loaded(tmp_path / "new").targets():
        assert torch.equal(target.base.weight, targets[target.name].base.weight), target.name
        if target.base.bias is not None:
            assert torch.equal(target.base.bias, targets[target.name].base.bias), target.name


def test_everything_else_stays_to_the_bit_and_nothing_is_left_behind(
    tmp_path: Path, tiny_base: Path, tiny_family: Family
) -> None:
    path = saved(tmp_path / "a.safetensors", Lora(rank=2), tiny_family.targets())
    before = {each: each.read_bytes() for each in tiny_base.rglob("*") if each.is_file()}
    bake([(path, 1.0)], str(tiny_base), tmp_path / "new")
    assert {each.name for each in tmp_path.iterdir()} == {"a.safetensors", "new"}
    for each, content in before.items():
        assert each.read_bytes() == content
        there = tmp_path / "new" / each.relative_to(tiny_base)
        changed = each.relative_to(tiny_base).parts[0] in ("unet", "text_encoder") and each.suffix == ".safetensors"
        assert (there.read_bytes() != content) == changed
    old, new = load_file(tiny_base / UNET), load_file(tmp_path / "new" / UNET)
    assert old.keys() == new.keys()
    assert torch.equal(old["conv_in.weight"], new["conv_in.weight"])


def test_two_adapters_are_merged_in_fp32_and_rounded_once_to_the_type_of_the_base(
    tmp_path: Path, tiny_base: Path, tiny_family: Family
) -> None:
    base = tmp_path / "half"
    shutil.copytree(tiny_base, base)
    wide = load_file(base / UNET)
    save_file({name: value.half() for name, value in wide.items()}, base / UNET)
    targets = {target.name: target for target in tiny_family.targets() if target.part == "unet"}
    paths = [
        saved(tmp_path / f"{seed}.safetensors", Lora(rank=2), targets.values(), seed=seed) for seed in (1, 2)
    ]  # fmt: skip
    bake([(path, 1.0) for path in paths], str(base), tmp_path / "new")
    found = load_file(tmp_path / "new" / UNET)
    with torch.no_grad():
        for target in targets.values():
            target.base.weight.copy_(target.base.weight.half())
        for path in paths:
            for name, tensors in by_layer(file.load(path)[0]).items():
                merge(targets[name].base, tensors)
    for target in targets.values():
        assert torch.equal(found[f"{target.path}.weight"], target.base.weight.half())


def test_files_with_the_old_numbers_are_left_out_and_told(tmp_path: Path, tiny_base: Path, tiny_family: Family) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    for stale in ("unet/diffusion_pytorch_model.fp16.safetensors", "v1-5-pruned.ckpt", "unet/old.bin", ".git/x"):
        (base / stale).parent.mkdir(exist_ok=True)
        (base / stale).write_bytes(b"old")
    path = saved(tmp_path / "a.safetensors", Lora(rank=2), tiny_family.targets())
    baked = bake([(path, 1.0)], str(base), tmp_path / "new")
    assert sorted(baked.left_out) == [
        "unet/diffusion_pytorch_model.fp16.safetensors", "unet/old.bin", "v1-5-pruned.ckpt",
    ]  # fmt: skip
    assert not (tmp_path / "new" / ".git").exists()


def test_an_adapter_of_another_base_is_refused_and_nothing_is_left(tmp_path: Path, tiny_base: Path) -> None:
    name = "lora_unet_mid_block_attentions_0_proj_in"
    path = tmp_path / "a.safetensors"
    tensors = {f"{name}.lora_down.weight": torch.ones(2, 5, 1, 1), f"{name}.lora_up.weight": torch.ones(5, 2, 1, 1)}
    file.write(path, tensors, {}, "fp32")
    with pytest.raises(ModelFileError, match=f"E-MOD-041 .*{name} does not fit"):
        bake([(path, 1.0)], str(tiny_base), tmp_path / "new")
    file.write(path, {key.replace("mid", "double"): value for key, value in tensors.items()}, {}, "fp32")
    with pytest.raises(ModelFileError, match=r"E-MOD-040 .*1 of its 1 layers"):
        bake([(path, 1.0)], str(tiny_base), tmp_path / "new")
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_folder_that_is_there_is_never_written_into(tmp_path: Path, tiny_base: Path) -> None:
    with pytest.raises(ConfigError, match="E-CFG-033"):
        bake([], str(tiny_base), tmp_path)


def test_a_base_with_a_number_that_is_not_finite_is_refused(
    tmp_path: Path, tiny_base: Path, tiny_family: Family
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    tensors = load_file(base / UNET)
    tensors["conv_out.bias"][0] = float("nan")
    save_file(tensors, base / UNET)
    path = saved(tmp_path / "a.safetensors", Lora(rank=2), tiny_family.targets())
    with pytest.raises(ModelFileError, match=r"E-MOD-010 .*conv_out\.bias"):
        bake([(path, 1.0)], str(base), tmp_path / "new")
