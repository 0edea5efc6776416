"""Old checkpoints become safetensors, and nothing that is in them is run."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from impasto.__main__ import main
from impasto.errors import ModelFileError
from impasto.weights.unpickle import convert


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_the_tensors_of_a_checkpoint_are_the_same_to_the_bit(tmp_path: Path) -> None:
    shared = torch.randn(4, 6)
    held = {
        "a": shared,
        "b": shared.T,
        "c": shared[1:3],
        "d": torch.ones(3, dtype=torch.bfloat16),
        "e": torch.tensor(7),
    }
    torch.save({"state_dict": held, "epoch": 3, "optimizer_states": [{"x": torch.zeros(2)}]}, tmp_path / "x.ckpt")
    assert main(["weights", "from-pickle", str(tmp_path / "x.ckpt")]) == 0
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == held.keys()
    assert all(torch.equal(found[name], held[name]) for name in held)


def test_a_bomb_is_told_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.ones(2)}, "callbacks": Bomb()}, "x.ckpt")
    (note,) = convert(Path("x.ckpt"), Path("x.safetensors"))
    assert "mkdir" in note
    assert not Path("ran").exists()
    assert torch.equal(load_file("x.safetensors")["a"], torch.ones(2))


HOSTILE = {
    "reduce": pickle.dumps(Bomb(), 2),
    "stack global": pickle.dumps(Bomb(), 4),
    "inst": b"(S'ran'\nios\nmkdir\n.",
    "obj": b"(cos\nmkdir\nS'ran'\no.",
    "build": b"cos\nsystem\n)\x81}S'x'\nS'mkdir ran'\nsb.",
    "extension": b"\x82\x01S'ran'\n\x85R.",
    "persistent": b"(S'storage'\ncos\nmkdir\nS'ran'\ntQ.",
    "memo": b"cos\nmkdir\nq\x000h\x00S'ran'\n\x85R.",
    "no end": b"]]]]",
    "nothing there": b"R.",
    "a long word": b"\x8d" + (2**62).to_bytes(8, "little") + b"x.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_runs_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("x.ckpt", "w") as archive:
        archive.writestr("x/data.pkl", HOSTILE[name])
    with pytest.raises(ModelFileError, match="E-MOD-02"):
        convert(Path("x.ckpt"), Path("x.safetensors"))
    assert [each.name for each in tmp_path.iterdir()] == ["x.ckpt"]


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.tensor([1.0, float("nan")])}, tmp_path / "x.pt")
    with pytest.raises(ModelFileError, match=r"E-MOD-021.*finite.*'a'"):
        convert(tmp_path / "x.pt", tmp_path / "x.safetensors")


def test_a_tensor_that_stands_for_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(2**40)}, tmp_path / "x.pt")
    with pytest.raises(ModelFileError, match="E-MOD-021"):
        convert(tmp_path / "x.pt", tmp_path / "x.safetensors")


def test_a_tensor_of_a_kind_that_cannot_be_read_is_never_left_out_silently(tmp_path: Path) -> None:
    few_bits = torch.ones(2).to(torch.float8_e4m3fn)
    torch.save({"a": torch.ones(2), "b": few_bits}, tmp_path / "x.pt")
    with pytest.raises(ModelFileError, match=r"E-MOD-021.*cannot be read.*_rebuild_tensor_v3.*'b'"):
        convert(tmp_path / "x.pt", tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()
