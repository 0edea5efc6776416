"""Several adapters as one add what they add together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from impasto.adapters.config import Loha, Lora, Oft
from impasto.errors import ModelFileError
from impasto.families.family import Family
from impasto.weights import file
from impasto.weights.combine import combine
from impasto.weights.low_rank import Rule
from impasto.weights.merge import by_layer
from tests.weights.adapters import deltas, merged_deltas, saved

ANNE = Lora(rank=4, alpha=2.0, conv_rank=2, conv_alpha=2.0)
BOB = Lora(rank=3, alpha=1.0)  # without convolutions


@pytest.fixture
def pair(tmp_path: Path, tiny_family: Family) -> tuple[Path, Path]:
    targets = list(tiny_family.targets())
    anne = saved(tmp_path / "anne.safetensors", ANNE, targets, seed=1)
    return anne, saved(tmp_path / "bob.safetensors", BOB, targets, seed=2)


@pytest.mark.parametrize("strengths", [(1.0, 1.0), (0.5, -2.0), (-1.0, 0.0)])
def test_side_by_side_is_the_sum_of_the_deltas(pair: tuple[Path, Path], strengths: tuple[float, float]) -> None:
    anne, bob = pair
    out = anne.with_name("both.safetensors")
    combine(list(zip(pair, strengths, strict=True)), out, None)
    first, second, found = deltas(anne), deltas(bob), deltas(out)
    assert found.keys() == first.keys() | second.keys()
    for name, delta in found.items():
        wanted = sum(each[name] * by for each, by in zip((first, second), strengths, strict=True) if name in each)
        torch.testing.assert_close(delta, wanted, atol=1e-7, rtol=1e-6)
    ranks = {len(held["lora_down.weight"]) for held in by_layer(file.load(out)[0]).values()}
    assert ranks == {7, 4, 2}  # both, and what only Anne has


def test_what_acts_with_strength_1_keeps_its_numbers_to_the_bit(pair: tuple[Path, Path]) -> None:
    anne, _ = pair
    out = anne.with_name("both.safetensors")
    combine([(anne, 1.0), (anne, 1.0)], out, None)
    before, after = by_layer(file.load(anne)[0]), by_layer(file.load(out)[0])
    for name, held in after.items():
        for kind, dim in (("lora_down.weight", 0), ("lora_up.weight", 1)):
            assert all(torch.equal(half, before[name][kind]) for half in held[kind].chunk(2, dim))


def test_to_a_rank_the_sum_is_approximated_best(pair: tuple[Path, Path]) -> None:
    anne, bob = pair
    out = anne.with_name("both.safetensors")
    combine([(anne, 1.0), (bob, 0.5)], out, Rule(rank=2))
    first, second = deltas(anne), deltas(bob)
    for name, delta in deltas(out).items():
        wanted = first[name] + 0.5 * second.get(name, torch.zeros(()))
        values = np.linalg.svd(wanted.flatten(1), compute_uv=False)
        assert (wanted - delta).norm().item() == pytest.approx(np.sqrt(np.sum(values[2:] ** 2)), abs=1e-5)


def test_kinds_may_be_mixed_where_a_rank_is_given(tmp_path: Path, tiny_base: Path, tiny_family: Family) -> None:
    targets = list(tiny_family.targets())
    lora = saved(tmp_path / "lora.safetensors", BOB, targets)
    loha = saved(tmp_path / "loha.safetensors", Loha(rank=2), targets)
    out = tmp_path / "both.safetensors"
    with pytest.raises(ModelFileError, match=r"E-MOD-051 .*loha\.safetensors.*no plain LoRA.*--rank"):
        combine([(lora, 1.0), (loha, 1.0)], out, None, base=str(tiny_base))
    combine([(lora, 1.0), (loha, 1.0)], out, Rule(rank=100), base=str(tiny_base))
    parts = [merged_deltas(file.load(path)[0], targets) for path in (lora, loha)]
    for name, delta in deltas(out).items():
        torch.testing.assert_close(delta.float(), parts[0][name] + parts[1][name], atol=1e-5, rtol=1e-4)


def test_mixed_precisions_become_the_one_that_holds_all(tmp_path: Path, tiny_family: Family) -> None:
    targets = list(tiny_family.targets())
    one = saved(tmp_path / "1.safetensors", BOB, targets, precision="bf16")
    two = saved(tmp_path / "2.safetensors", BOB, targets, precision="fp16")
    combine([(one, 1.0), (two, 1.0)], tmp_path / "3.safetensors", None)
    combine([(one, 1.0), (one, 1.0)], tmp_path / "4.safetensors", None)
    found = [{each.dtype for each in file.load(tmp_path / f"{at}.safetensors")[0].values()} for at in (3, 4)]
    assert found == [{torch.float32}, {torch.bfloat16}]


def test_the_file_tells_what_it_was_made_of(pair: tuple[Path, Path]) -> None:
    anne, bob = pair
    out = anne.with_name("both.safetensors")
    combine([(anne, 1.0), (bob, 0.5)], out, None)
    told = file.load(out)[1]
    assert told["modelspec.merged_from"] == "anne.safetensors, bob.safetensors"
    assert json.loads(told["impasto.made"])["files"] == {"anne.safetensors": 1.0, "bob.safetensors": 0.5}


def test_adapters_of_different_bases_are_refused(tmp_path: Path) -> None:
    for name, width in (("a", 6), ("b", 7)):
        tensors = {"lora_unet_x.lora_down.weight": torch.ones(2, width), "lora_unet_x.lora_up.weight": torch.ones(5, 2)}
        file.write(tmp_path / f"{name}.safetensors", tensors, {}, "fp32")
    with pytest.raises(ModelFileError, match=r"E-MOD-053 .*\[5, 7\].*\[5, 6\]"):
        combine([(tmp_path / f"{each}.safetensors", 1.0) for each in "ab"], tmp_path / "c.safetensors", None)


def test_kinds_that_depend_on_the_base_are_refused(tmp_path: Path, tiny_family: Family) -> None:
    path = saved(tmp_path / "a.safetensors", Oft(), tiny_family.targets())
    with pytest.raises(ModelFileError, match=r"E-MOD-051 .*--into"):
        combine([(path, 1.0)], tmp_path / "b.safetensors", Rule(rank=2))
