"""Wrong and hostile files in every place that takes a model: one line that says what to do, soon, and no code is run.

What a single safetensors file can be is tried in test_header.py; here are the places, and what is no file at all.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from impasto import families
from impasto.__main__ import main
from impasto.errors import ModelFileError
from impasto.families import detect
from impasto.families.config import Model
from tests.weights.test_header import BAD, Bomb, packed

LAYER = "lora_unet_down_blocks_0_attentions_0_proj_in"
LORA = {f"{LAYER}.lora_down.weight": torch.ones(2, 3), f"{LAYER}.lora_up.weight": torch.ones(3, 2)}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def listening(path: Path) -> None:
    place = os.getcwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(place)


def secret(path: Path) -> None:
    path.write_bytes(b"x")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this account may read everything")


PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (pipe, "E-MOD-001.* is no file but a pipe"),
    "socket": (listening, "E-MOD-001.* is no file but a pipe, a socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "E-MOD-001.* device"),
    "loop of links": (loop, "E-MOD-001.* cannot be opened"),
    "link to nothing": (lambda path: path.symlink_to("gone"), "E-MOD-001.* cannot be opened"),
    "folder": (lambda path: path.mkdir(), "E-MOD-001.* cannot be opened"),
    "link to a folder": (lambda path: path.symlink_to(path.parent), "E-MOD-001.* cannot be opened"),
    "unreadable": (secret, "E-MOD-001.* cannot be opened"),
    "head of 2^60 bytes": (lambda path: path.write_bytes(packed(LORA_HEAD, length=2**60)), "E-MOD-005"),
    "JSON bomb": (lambda path: path.write_bytes(packed('{"a":' + "[" * 10**6 + "]" * 10**6)), "E-MOD-00[67]"),
    "model.safetensors.index.json": (lambda path: path.write_text('{"weight_map": {}}'), "E-MOD-003.* JSON"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps(Bomb())), "E-MOD-004"),
    "web page": (lambda path: path.write_bytes(BAD["login page"][0]), "E-MOD-003.* web page"),
    "half a download": (lambda path: path.write_bytes(packed(LORA_HEAD, b"\0" * 10)), "E-MOD-009.* cut off"),
    "not finite": (lambda path: save_file(LORA | {f"{LAYER}.alpha": torch.tensor(float("nan"))}, path), "E-MOD-01"),
}
LORA_HEAD = {"a": {"dtype": "F32", "shape": [5], "data_offsets": [0, 20]}}
COMMANDS = [
    ["inspect"],
    ["weights", "norms"],
    ["weights", "resize", "--rank", "2"],
    ["weights", "convert", "--to", "diffusers"],
]


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(each[:2]) for each in COMMANDS])
def test_whatever_stands_in_an_adapters_place_is_answered_in_a_line(
    name: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "not finite" and command == ["inspect"]:
        pytest.skip("a head is looked at, not numbers")
    monkeypatch.chdir(tmp_path)
    make, expected = PLACES[name]
    make(tmp_path / "a.safetensors")
    start = time.process_time()
    assert main([*command, "a.safetensors"]) == 7
    (told,) = capsys.readouterr().err.splitlines()
    assert_is_an_answer(told, expected)
    assert time.process_time() - start < 30
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]


def assert_is_an_answer(told: str, expected: str) -> None:
    assert re.match(r"E-MOD-\d{3} .*: .* Fix: .", told), told
    assert re.search(expected, told), told
    assert told.isprintable()
    assert len(told) < 800


UNET, TEXT, VAE = (
    Path("unet") / "diffusion_pytorch_model.safetensors",
    Path("text_encoder") / "model.safetensors",
    Path("vae") / "diffusion_pytorch_model.safetensors",
)


def bytes_at(file: Path, data: bytes) -> Callable[[Path], object]:
    return lambda base: (base / file).write_bytes(data)


def tensors_at(file: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Callable[[Path], None]:
    return lambda base: save_file(change(load_file(base / file)), base / file)


def described(part: str, **values: Any) -> Callable[[Path], None]:
    def change(base: Path) -> None:
        path = base / part / "config.json"
        found = json.loads(path.read_text()) | values
        path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))

    return change


def replaced(file: Path, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(base: Path) -> None:
        (base / file).unlink()
        make(base / file)

    return change


def without_one(held: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in held.items() if name != sorted(held)[3]}


def spoiled(held: dict[str, Tensor]) -> dict[str, Tensor]:
    held[sorted(held)[3]].view(-1)[0] = float("inf")
    return held


def narrower(held: dict[str, Tensor]) -> dict[str, Tensor]:
    name = next(name for name in sorted(held) if held[name].ndim > 1)
    return held | {name: held[name][:-1].clone()}


def halved(file: Path) -> Callable[[Path], object]:
    return lambda base: (base / file).write_bytes((base / file).read_bytes()[: (base / file).stat().st_size // 2])


WRONG_IN_EACH: dict[str, tuple[Callable[[Path], Callable[[Path], object]], str]] = {
    "is a LoRA": (lambda file: tensors_at(file, lambda _: LORA), "E-MOD-113.* an adapter"),
    "lacks one": (lambda file: tensors_at(file, without_one), "E-MOD-108 .*1 tensors"),
    "has another shape": (lambda file: tensors_at(file, narrower), "E-MOD-109"),
    "is not finite": (lambda file: tensors_at(file, spoiled), "E-MOD-010"),
    "is cut off": (halved, "E-MOD-009"),
}
BASES: dict[str, tuple[Callable[[Path], object], str]] = {
    **{
        f"{file.parts[0]} {what}": (make(file), expected)
        for what, (make, expected) in WRONG_IN_EACH.items()
        for file in (UNET, TEXT, VAE)
    },
    "page as unet": (bytes_at(UNET, BAD["login page"][0]), "E-MOD-003.* web page"),
    "pickle as text encoder": (bytes_at(TEXT, pickle.dumps(Bomb())), "E-MOD-004"),
    "zip as vae": (bytes_at(VAE, BAD["zip with a pickle"][0]), "E-MOD-004"),
    "empty text encoder": (bytes_at(TEXT, b""), "E-MOD-002"),
    "pipe as unet": (replaced(UNET, pipe), "E-MOD-105"),
    "loop as vae": (replaced(VAE, loop), "E-MOD-105"),
    "folder as unet": (replaced(UNET, lambda path: path.mkdir()), "E-MOD-105"),
    "pipe as description": (replaced(Path("unet") / "config.json", pipe), "E-MOD-102.* no file"),
    "nested description": (bytes_at(Path("unet") / "config.json", b'{"a":' + b"[" * 200_000), "E-MOD-102"),
    "endless description": (bytes_at(Path("vae") / "config.json", b" " * (2**20 + 1)), "E-MOD-102.* more than"),
    "description of a list": (bytes_at(Path("vae") / "config.json", b"[]"), "E-MOD-102"),
    "no channels": (described("vae", block_out_channels=None), "E-MOD-102.* block_out_channels"),
    "channels of text": (described("unet", block_out_channels="x"), "E-MOD-102.* block_out_channels"),
    "channels without end": (described("unet", block_out_channels=[10**7] * 2), "E-MOD-102"),
    "a size of text": (described("unet", sample_size="x"), "E-MOD-102.* sample_size"),
    "a size without end": (described("unet", sample_size=10**9), "E-MOD-102.* sample_size"),
    "layers without end": (described("text_encoder", num_hidden_layers=10**6), "E-MOD-102.* num_hidden_layers"),
    "another model's text encoder": (described("text_encoder", hidden_size=8), "E-MOD-103"),
}  # fmt: skip


def loaded(base: str) -> object:
    model = Model(path=base)
    return families.load(detect.look(model), model, device=torch.device("cpu"), dtype=torch.float32)


@pytest.mark.parametrize("name", BASES)
def test_a_base_with_anything_wrong_in_it_is_refused_in_a_line(
    name: str, tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_base, base := tmp_path / "base")
    change, expected = BASES[name]
    change(base)
    capfd.readouterr()
    with pytest.raises(ModelFileError) as caught:
        loaded(str(base))
    assert_is_an_answer(str(caught.value), expected)
    assert capfd.readouterr().err == ""
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "x" * 4000, "a\0b", "gone", "/dev/null", "/proc/self/mem"])
def test_a_base_that_is_no_folder_is_refused_in_a_line(path: str) -> None:
    with pytest.raises(ModelFileError, match="E-MOD-101"):
        loaded(path)


def test_the_names_that_older_files_have_are_known(tmp_path: Path, tiny_base: Path) -> None:
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(name: str) -> str:
        for new, old in older.items():
            name = name.replace(f".{new}.", f".{old}.")
        return name

    shutil.copytree(tiny_base, base := tmp_path / "base")
    tensors_at(VAE, lambda held: {renamed(name): tensor for name, tensor in held.items()})(base)
    positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    nested = {f"text_model.{name.removeprefix('text_model.')}": each for name, each in load_file(base / TEXT).items()}
    save_file(nested | positions, base / TEXT, {"format": "pt"})
    assert loaded(str(base))
