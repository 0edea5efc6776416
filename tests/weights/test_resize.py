"""Other ranks: the best approximation there is, at the scale there was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from impasto.adapters.config import Adapter as Config
from impasto.adapters.config import Boft, Full, Glora, Ia3, Loha, Lokr, Lora, Oft
from impasto.errors import ModelFileError
from impasto.families.config import Precision
from impasto.families.family import Family
from impasto.weights import file
from impasto.weights.low_rank import Product, Rule, decompose
from impasto.weights.merge import by_layer
from impasto.weights.resize import resize
from tests.weights.adapters import deltas, merged_deltas, saved, trained

LORA = Lora(rank=4, alpha=2.0, conv_rank=4, conv_alpha=1.0)
ADDITIVE: list[Config] = [LORA, Loha(rank=2, conv_rank=2), Lokr(rank=2, conv_rank=2), Lokr(full_matrix=True), Full()]
BOUND: list[Config] = [Lora(decompose=True), Glora(), Ia3(), Oft(), Boft()]


@pytest.mark.parametrize("config", ADDITIVE, ids=[each.kind for each in ADDITIVE])
def test_at_full_rank_every_additive_kind_keeps_what_it_adds(
    tmp_path: Path, tiny_base: Path, tiny_family: Family, config: Config
) -> None:
    targets = list(tiny_family.targets())
    path = saved(tmp_path / "a.safetensors", config, targets)
    resize(path, out := tmp_path / "b.safetensors", Rule(rank=1000), base=str(tiny_base))
    wanted = merged_deltas(file.load(path)[0], targets)
    found = deltas(out)
    assert found.keys() == wanted.keys()
    for name, delta in wanted.items():
        torch.testing.assert_close(found[name].float(), delta, atol=1e-5, rtol=1e-4)


def test_the_scale_of_every_layer_stays_and_its_factors_are_of_equal_norm(tmp_path: Path, tiny_family: Family) -> None:
    path = saved(tmp_path / "a.safetensors", LORA, tiny_family.targets())
    report = resize(path, out := tmp_path / "b.safetensors", Rule(rank=2))
    before, after = by_layer(file.load(path)[0]), by_layer(file.load(out)[0])
    for name, held in after.items():
        assert len(held["lora_down.weight"]) == 2
        assert float(held["alpha"]) / 2 == float(before[name]["alpha"]) / 4
        torch.testing.assert_close(held["lora_down.weight"].norm(), held["lora_up.weight"].norm())
    assert {(line.before, line.after) for line in report.lines} == {(4, 2)}


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.95, 0.999, 1.0])
@pytest.mark.parametrize("rank", [None, 2])
def test_the_rank_is_the_smallest_that_keeps_the_energy(
    tmp_path: Path, tiny_family: Family, energy: float, rank: int | None
) -> None:
    path = saved(tmp_path / "a.safetensors", LORA, tiny_family.targets())
    report = resize(path, out := tmp_path / "b.safetensors", Rule(rank, energy))
    wanted, found = deltas(path), deltas(out)
    for line in report.lines:
        values = np.linalg.svd(wanted[line.name].flatten(1).numpy(), compute_uv=False)[:4]
        shares = np.cumsum(values**2) / np.sum(values**2)
        needed = int(np.argmax(shares >= energy - 1e-12)) + 1
        assert line.after == (needed if rank is None else min(rank, needed))
        assert line.kept / line.energy == pytest.approx(shares[line.after - 1], rel=1e-9)
        missing = (wanted[line.name] - found[line.name]).norm().item()
        assert missing == pytest.approx(np.sqrt(np.sum(values[line.after :] ** 2)), abs=1e-5)  # Eckart and Young


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=12), st.floats(0.01, 1), st.none() | st.integers(1, 6))
def test_no_smaller_rank_would_do(values: list[float], energy: float, rank: int | None) -> None:
    ordered = torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    kept = Rule(rank, energy).keep(ordered)
    sums = ordered.square().cumsum(0)
    assert 1 <= kept <= len(values)
    assert kept == rank or sums[kept - 1] >= energy * sums[-1]
    assert kept == 1 or sums[kept - 2] < energy * sums[-1]


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (12, 12), (1, 5)])
def test_a_matrix_is_taken_apart_as_numpy_does(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for found in (decompose(matrix), decompose(Product(matrix, torch.eye(shape[1], dtype=torch.float64)))):
        np.testing.assert_allclose(found.values, np.linalg.svd(matrix, compute_uv=False), rtol=1e-9)
        torch.testing.assert_close(found.left * found.values @ found.right, matrix)


def test_a_layer_that_adds_nothing_stays_one_that_adds_nothing(tmp_path: Path) -> None:
    tensors = {
        "lora_unet_a.lora_down.weight": torch.ones(4, 6), "lora_unet_a.lora_up.weight": torch.zeros(5, 4),
        "lora_unet_b.lora_down.weight": torch.ones(4, 6), "lora_unet_b.lora_up.weight": torch.ones(5, 4),
        "lora_unet_b.alpha": torch.tensor(0.0),
    }  # fmt: skip
    file.write(path := tmp_path / "a.safetensors", tensors, {}, "fp32")
    resize(path, out := tmp_path / "b.safetensors", Rule(None, 0.95))
    assert all(not delta.any() for delta in deltas(out).values())
    assert all(len(held["lora_down.weight"]) == 1 for held in by_layer(file.load(out)[0]).values())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_precision_stays_and_an_alpha_that_it_rounds_is_made_up_for(tmp_path: Path, precision: Precision) -> None:
    down, up = torch.randn(3, 40, generator=torch.Generator().manual_seed(1)), torch.eye(30, 3)
    tensors = {"lora_unet_a.lora_down.weight": down, "lora_unet_a.lora_up.weight": up}
    file.write(path := tmp_path / "a.safetensors", tensors | {"lora_unet_a.alpha": torch.tensor(1.0)}, {}, precision)
    resize(path, out := tmp_path / "b.safetensors", Rule(rank=2))
    found, _ = file.load(out)
    assert {tensor.dtype for tensor in found.values()} == {file.DTYPES[precision]}
    best = decompose(deltas(path)["lora_unet_a"])
    wanted = best.left[:, :2] * best.values[:2] @ best.right[:2]
    step = 2**-8 if precision == "bf16" else 2**-11
    assert (deltas(out)["lora_unet_a"] - wanted).norm() < 2 * step * wanted.norm()  # alpha 2/3 alone is off by 0.3 %


def test_the_metadata_is_kept_noted_and_put_right(tmp_path: Path, tiny_family: Family) -> None:
    path = saved(tmp_path / "a.safetensors", LORA, tiny_family.targets())
    resize(path, out := tmp_path / "b.safetensors", Rule(rank=2))
    told = file.load(out)[1]
    assert (told["ss_output_name"], told["ss_network_dim"], told["ss_network_alpha"]) == ("a", "2", "Dynamic")
    assert json.loads(told["impasto.made"]) == {"made": "resize", "from": "a.safetensors", "rank": 2}
    assert told["sshs_model_hash"] != file.load(path)[1]["sshs_model_hash"]


def test_the_report_adds_up_by_block(tmp_path: Path, tiny_family: Family) -> None:
    path = saved(tmp_path / "a.safetensors", LORA, tiny_family.targets())
    report = resize(path, tmp_path / "b.safetensors", Rule(None, 0.8))
    rows = list(report.rows())
    assert [row.name for row in rows] == [
        "text encoder layer 0", "text encoder layer 1", "unet down block 0", "unet down block 1", "unet mid block",
        "unet up block 0", "unet up block 1", "all",
    ]  # fmt: skip
    assert sum(row.layers for row in rows[:-1]) == rows[-1].layers == len(report.lines)
    assert 0.8 <= rows[-1].share < 1


@pytest.mark.parametrize("config", BOUND, ids=["dora", *(each.kind for each in BOUND[1:])])
def test_kinds_that_depend_on_the_base_are_refused(tmp_path: Path, tiny_family: Family, config: Config) -> None:
    path = saved(tmp_path / "a.safetensors", config, tiny_family.targets())
    with pytest.raises(ModelFileError, match=r"E-MOD-051 .*depends on the base.*--into"):
        resize(path, tmp_path / "b.safetensors", Rule(rank=2))
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_kind_that_does_not_tell_its_shape_asks_for_the_base(tmp_path: Path, tiny_family: Family) -> None:
    path = saved(tmp_path / "a.safetensors", Loha(rank=2), tiny_family.targets())
    with pytest.raises(ModelFileError, match=r"E-MOD-052 .*--base"):
        resize(path, tmp_path / "b.safetensors", Rule(rank=2))


def test_what_no_lora_holds_is_told(tmp_path: Path, tiny_family: Family) -> None:
    path = saved(tmp_path / "a.safetensors", Full(), tiny_family.targets())
    report = resize(path, tmp_path / "b.safetensors", Rule(rank=2))
    assert any("bias is left out" in remark for remark in report.remarks)


def test_numbers_that_are_not_finite_are_refused_by_name(tmp_path: Path, tiny_family: Family) -> None:
    from safetensors.torch import save_file

    tensors = trained(LORA, tiny_family.targets())
    name = next(name for name in tensors if name.endswith("lora_up.weight"))
    tensors[name][0, 0] = float("inf")
    save_file(tensors, path := tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match=f"E-MOD-010 .*{name}"):
        resize(path, tmp_path / "b.safetensors", Rule(rank=2))
    assert not (tmp_path / "b.safetensors").exists()


def test_a_base_a_foreign_layout_and_stray_tensors_are_refused(tmp_path: Path, tiny_base: Path) -> None:
    out, path = tmp_path / "b.safetensors", tmp_path / "a.safetensors"
    with pytest.raises(ModelFileError, match=r"E-MOD-050 .*no adapter but a denoiser"):
        resize(tiny_base / "unet" / "diffusion_pytorch_model.safetensors", out, Rule(rank=2))
    file.write(path, {"unet.a.lora_A.weight": torch.ones(2, 4), "unet.a.lora_B.weight": torch.ones(4, 2)}, {}, "fp32")
    with pytest.raises(ModelFileError, match=r"E-MOD-040 .*first 'unet.a'.*name the base"):
        resize(path, out, Rule(rank=2))
    plain = {"lora_unet_a.lora_down.weight": torch.ones(2, 4), "lora_unet_a.lora_up.weight": torch.ones(4, 2)}
    file.write(path, plain | {"emb": torch.ones(3)}, {}, "fp32")
    with pytest.raises(ModelFileError, match=r"E-MOD-050 .*'emb'"):
        resize(path, out, Rule(rank=2))
    file.write(path, plain | {"lora_unet_a.lora_up.weight": torch.ones(4, 3)}, {}, "fp32")
    with pytest.raises(ModelFileError, match=r"E-MOD-051 .*do not fit together"):
        resize(path, out, Rule(rank=2))
