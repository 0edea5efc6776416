"""A LoRA out of a tuned base."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from impasto.adapters.config import Lora
from impasto.errors import ModelFileError
from impasto.families.family import Family
from impasto.weights import file
from impasto.weights.bake import bake
from impasto.weights.extract import extract
from impasto.weights.low_rank import Rule
from impasto.weights.merge import by_layer
from tests.weights.adapters import deltas, saved

UNET = Path("unet") / "diffusion_pytorch_model.safetensors"


def ranks(path: Path) -> set[int]:
    return {len(held["lora_down.weight"]) for held in by_layer(file.load(path)[0]).values()}


@pytest.mark.parametrize("rule", [Rule(rank=3), Rule(None, 0.999999)])
def test_a_planted_difference_is_found_again(tmp_path: Path, tiny_base: Path, tiny_family: Family, rule: Rule) -> None:
    planted = saved(tmp_path / "a.safetensors", Lora(rank=3, conv_rank=3), tiny_family.targets())
    bake([(planted, 1.0)], str(tiny_base), tmp_path / "tuned")
    out = tmp_path / "b.safetensors"
    report = extract(str(tmp_path / "tuned"), str(tiny_base), out, rule, "fp32")
    wanted, found = deltas(planted), deltas(out)
    assert found.keys() == wanted.keys()
    for name, delta in wanted.items():
        torch.testing.assert_close(found[name], delta, atol=1e-5, rtol=1e-4)
    assert max(ranks(out)) == 3  # what rounding to fp32 left of the rest is no energy
    assert report.remarks == []
    assert file.load(out)[1]["ss_base_model_version"] == "sd_v1"


def test_layers_that_do_not_differ_are_not_in_it_and_what_it_cannot_hold_is_told(
    tmp_path: Path, tiny_base: Path
) -> None:
    tuned = tmp_path / "tuned"
    shutil.copytree(tiny_base, tuned)
    tensors = load_file(tuned / UNET)
    tensors["mid_block.attentions.0.proj_in.weight"] += 0.1
    tensors["conv_in.weight"] += 0.1
    tensors["mid_block.attentions.0.proj_in.bias"] += 0.1
    save_file(tensors, tuned / UNET)
    report = extract(str(tuned), str(tiny_base), tmp_path / "a.safetensors", Rule(rank=1), "fp16")
    assert [line.name for line in report.lines] == ["lora_unet_mid_block_attentions_0_proj_in"]
    assert report.lines[0].kept == pytest.approx(report.lines[0].energy)  # a constant is of rank 1
    (remark,) = report.remarks
    assert "2 tensors differ" in remark
    assert {each.dtype for each in file.load(tmp_path / "a.safetensors")[0].values()} == {torch.float16}


def test_equal_bases_and_bases_of_different_families_are_refused(tmp_path: Path, tiny_base: Path) -> None:
    out = tmp_path / "a.safetensors"
    with pytest.raises(ModelFileError, match="E-MOD-055"):
        extract(str(tiny_base), str(tiny_base), out, Rule(rank=1), "fp16")
    with pytest.raises(ModelFileError, match="E-MOD-054"):
        extract("pocket", str(tiny_base), out, Rule(rank=1), "fp16")
    assert list(tmp_path.iterdir()) == []
