"""Files written a tensor at a time are those that are written at once, and need no room for all of it."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import torch
from torch import Tensor

from impasto.errors import DiskError, ModelFileError
from impasto.weights import file, header, stream


def tensors() -> dict[str, Tensor]:
    found = {f"lora_unet_{at}.lora_up.weight": torch.randn(500, 700) for at in range(5)}
    return found | {"lora_unet_0.dora_scale": torch.ones(500, 1), "lora_unet_0.alpha": torch.tensor(2.0)}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_tensors_make_the_same_bytes_as_at_once(tmp_path: Path, precision: str) -> None:
    one, two, told = tmp_path / "1", tmp_path / "2", {"ss_steps": "1", "x": "y"}
    file.write(one, held := tensors(), told, precision)
    with stream.spooled(two, precision) as spool:
        for name, tensor in reversed(held.items()):
            spool.add(name, tensor)
        spool.commit(told)
    assert two.read_bytes() == one.read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["1", "2"]


def test_a_number_that_is_not_finite_leaves_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(ModelFileError, match="E-MOD-010"),
        stream.spooled(tmp_path / "a", "fp32") as spool,
    ):
        spool.add("a", torch.tensor(float("nan")))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(DiskError, match="E-DSK-001"), stream.spooled(tmp_path / "a", "fp32"):
        pass


def test_a_file_of_many_tensors_takes_the_memory_of_one(tmp_path: Path) -> None:
    path, out = tmp_path / "a", tmp_path / "b"
    file.write(path, {f"{at}": torch.randn(250_000) for at in range(64)}, {}, "fp32")  # 64 MB
    tracemalloc.start()
    try:
        with stream.opened(path) as reader:
            stream.rewrite(reader, out, lambda _, value: value, reader.head.metadata)
            with stream.spooled(tmp_path / "c", "fp32") as spool:
                for name in reader.head.tensors:
                    spool.add(name, reader.tensor(name))
                spool.commit({})
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()
    assert out.read_bytes() == path.read_bytes() == (tmp_path / "c").read_bytes()


def test_the_precision_is_that_of_most_numbers(tmp_path: Path) -> None:
    for precision in ("fp32", "bf16", "fp16"):
        file.write(tmp_path / "a", tensors(), {}, precision)
        assert stream.precision_of(header.read(tmp_path / "a")) == precision
