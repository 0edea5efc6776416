"""Adapter files: whole, finite, the same bytes each time, and readable by everyone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from impasto.errors import ModelFileError
from impasto.families.config import Precision
from impasto.weights import file, header

GOLDEN = "9b06f7cb7497388d68b52f5ae12211e41d2309da854e7f91d04224906919110e"
DTYPES = [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.safetensors"


def tensors() -> dict[str, Tensor]:
    return {
        "a.alpha": torch.tensor(1.0),
        "a.lora_down.weight": torch.arange(6.0).reshape(2, 3),
        "a.lora_up.weight": torch.zeros(4, 2),
    }


def test_the_hash_is_the_one_other_programs_compute(path: Path) -> None:
    file.write(path, tensors(), {"ss_steps": "1"}, "fp32")
    _, told = file.load(path)
    assert told["sshs_model_hash"] == GOLDEN
    assert told["sshs_legacy_hash"] == "e3b0c442"  # of nothing: the file is shorter than 1 MiB


def test_the_legacy_hash_looks_into_files_that_are_long_enough(path: Path) -> None:
    hashes = []
    for change in ({}, {"impasto.seed": "1"}, {"ss_steps": "1"}):
        file.write(path, {"a": torch.arange(500_000.0)}, change, "fp32")
        hashes.append(file.load(path)[1]["sshs_legacy_hash"])
    assert hashes[0] == hashes[1] != hashes[2]  # only the ss_ metadata counts


@pytest.mark.parametrize(("precision", "dtype"), DTYPES)
def test_what_is_written_is_read(path: Path, precision: Precision, dtype: torch.dtype) -> None:
    file.write(path, tensors(), {"a": "b", "ü": "日本"}, precision)
    found, told = file.load(path)
    assert all(torch.equal(found[name], value.to(dtype)) for name, value in tensors().items())
    assert (told["a"], told["ü"]) == ("b", "日本")
    with safe_open(path, "pt") as theirs:
        assert set(theirs.keys()) == tensors().keys()
        assert theirs.metadata()["ü"] == "日本"


def test_the_same_tensors_make_the_same_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    file.write(one, tensors(), {"a": "1", "b": "2"}, "fp16")
    file.write(two, dict(reversed(tensors().items())), {"b": "2", "a": "1"}, "fp16")
    assert one.read_bytes() == two.read_bytes()


def test_text_that_is_no_text_does_not_spoil_the_file(path: Path) -> None:
    file.write(path, tensors(), {"folder": "caf\udce9"}, "fp32")
    assert file.load(path)[1]["folder"] == "caf?"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_never_written(path: Path, value: float) -> None:
    spoiled = tensors() | {"a.lora_up.weight": torch.tensor([[value]])}
    with pytest.raises(ModelFileError, match=r"E-MOD-010 .*a\.lora_up\.weight is not finite"):
        file.write(path, spoiled, {}, "fp32")
    assert not path.exists()


def test_numbers_too_large_for_a_short_precision_are_not_written(path: Path) -> None:
    large = tensors() | {"a.lora_up.weight": torch.tensor([[1e5]])}
    with pytest.raises(ModelFileError, match=r"E-MOD-011 .*too large for fp16.*bf16"):
        file.write(path, large, {}, "fp16")
    file.write(path, large, {}, "bf16")


def test_numbers_that_are_not_finite_are_not_loaded(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.tensor([1.0]), "b": torch.tensor([float("nan")])}, path)
    with pytest.raises(ModelFileError, match=r"E-MOD-010 .*first in 'b'"):
        file.load(path)


@pytest.mark.parametrize(("precision", "dtype"), DTYPES)
def test_numbers_are_read_without_torch(path: Path, precision: Precision, dtype: torch.dtype) -> None:
    file.write(path, {"a": torch.tensor([[0.1, -3.0, 1e-3]])}, {}, precision)
    found = header.numbers(path, header.read(path), "a")
    np.testing.assert_array_equal(found, torch.tensor([[0.1, -3.0, 1e-3]], dtype=dtype).float().numpy())


def test_a_file_that_is_there_is_replaced_whole(path: Path) -> None:
    path.write_text("old")
    file.write(path, tensors(), {}, "fp32")
    assert file.load(path)[0].keys() == tensors().keys()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), shapes, min_size=1))
def test_any_names_and_shapes_come_back(tmp_path_factory: pytest.TempPathFactory, given: dict[str, tuple[int]]) -> None:
    path = tmp_path_factory.mktemp("any") / "a.safetensors"
    wanted = {name: torch.rand(shape) for name, shape in given.items() if name != "__metadata__"} or tensors()
    file.write(path, wanted, {"x": json.dumps(list(given))}, "fp32")
    found, _ = file.load(path)
    assert {name: tuple(value.shape) for name, value in header.read(path).tensors.items()} == {
        name: tuple(value.shape) for name, value in wanted.items()
    }
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
