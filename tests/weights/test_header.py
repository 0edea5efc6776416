"""Broken and hostile files: each is refused at once, with exactly what is wrong with it, and nothing of it runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from impasto.errors import ModelFileError
from impasto.weights import file, header

SHARE = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


def packed(head: object, data: bytes = b"\0\0\0\0", length: int | None = None) -> bytes:
    """A file with this head: text, bytes or JSON."""
    text = head if isinstance(head, bytes) else (head if isinstance(head, str) else json.dumps(head)).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def one(**changes: Any) -> dict[str, Any]:
    """A head with one tensor of 4 bytes, changed."""
    return {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changes}


def two(first: list[int], second: list[int]) -> dict[str, Any]:
    """A head with two tensors of 4 bytes at these places."""
    return {
        "a": {"dtype": "F32", "shape": [1], "data_offsets": first},
        "b": {"dtype": "F32", "shape": [1], "data_offsets": second},
    }


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def zipped() -> bytes:
    """As torch.save writes since 1.6."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    return buffer.getvalue()


def tarred() -> bytes:
    """As torch.save wrote before 0.1.2."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("pickle")
        entry.size = len(pickle.dumps(Bomb()))
        archive.addfile(entry, io.BytesIO(pickle.dumps(Bomb())))
    return buffer.getvalue()


def array() -> bytes:
    """A numpy file of objects, which is a pickle inside."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()], dtype=object), allow_pickle=True)
    return buffer.getvalue()


BAD: dict[str, tuple[bytes, str]] = {
    # no safetensors at all
    "empty": (b"", "E-MOD-002.* is empty"),
    "seven bytes": (b"\x10\0\0\0\0\0\0", "E-MOD-002.* only 7 bytes"),
    "eight bytes": (b"\x10" + bytes(7), "E-MOD-003.* not a safetensors file"),
    "zeros": (bytes(4096), "E-MOD-003.* not a safetensors file"),
    "login page": (b"<!DOCTYPE html><html><title>Sign in</title>", "E-MOD-003.* web page.*Fix: download"),
    "page after blanks": (b"\n  <html lang=en>", "E-MOD-003.* web page"),
    "error in XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied", "E-MOD-003.* web page"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "E-MOD-003.*git lfs pull"),
    "JSON text": (b'{"error": "not found"}', "E-MOD-003.* JSON text"),
    "GGUF": (b"GGUF\3\0\0\0" + bytes(64), "E-MOD-003.* GGUF"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(64), "E-MOD-003.* PNG"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "E-MOD-003.* HDF5"),
    "gzip": (b"\x1f\x8b\x08" + bytes(64), "E-MOD-003.* gzip"),
    "ONNX": (b"\x08\x07\x12\x07pytorch" + bytes(64), "E-MOD-003.* ONNX"),
    "array of objects": (array(), "E-MOD-003.* numpy"),
    # pickles
    "zip with a pickle": (zipped(), "E-MOD-004.* pickle files are not opened"),
    "tar with a pickle": (tarred(), "E-MOD-004.* pickle files are not opened"),
    **{f"pickle {p}": (pickle.dumps({"a": Bomb()}, p), "E-MOD-004.* pickle") for p in (0, 2, 3, 4, 5)},
    "pickle by hand": (b"cos\nmkdir\n(S'ran'\ntR.", "E-MOD-004.* pickle"),
    # the head
    "head longer than the file": (packed(one(), length=5000), "E-MOD-005.* cut off.* 5,000 bytes"),
    "largest head": (packed(one(), length=2**64 - 1), "E-MOD-005.* more than 16,777,216"),
    "17 MiB of blanks": (packed(json.dumps(one()) + " " * 17 * 2**20), "E-MOD-005.* more than 16,777,216"),
    "no JSON": (packed("{what}"), "E-MOD-006.* not JSON"),
    "bad UTF-8": (packed(b'{"\xff\xfe": {}}'), "E-MOD-006.* not JSON"),
    "two objects": (packed(json.dumps(one()) + "{}"), "E-MOD-006.* not JSON"),
    "not a number": (packed('{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}'), "E-MOD-006.*NaN is no number"),
    "number of 5000 digits": (packed('{"a":' + "9" * 5000 + "}"), "E-MOD-006.* not JSON"),
    "nested": (packed('{"a":' + "[" * 200_000), "E-MOD-006.* nested"),
    "metadata of numbers": (packed({"__metadata__": {"a": 1}} | one()), "E-MOD-006.* metadata"),
    "metadata is a list": (packed({"__metadata__": []} | one()), "E-MOD-006.* metadata"),
    "a name twice": (packed(f'{{"a":{SHARE},"a":{SHARE}}}'), "E-MOD-007.* 'a' twice"),
    "a field twice": (packed('{"a":{"dtype":"F32","dtype":"F16"}}'), "E-MOD-007.* 'dtype' twice"),
    "metadata twice": (packed('{"__metadata__":{},"__metadata__":{}}'), "E-MOD-007.* twice"),
    "100,001 tensors": (
        packed({str(at): {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for at in range(100_001)}),
        "E-MOD-007.* 100,001 tensors",
    ),
    # a tensor
    "no object": (packed({"a": [1]}), "E-MOD-008.* 'a' needs"),
    "no shape": (packed({"a": {"dtype": "F32", "data_offsets": [0, 4]}}), "E-MOD-008.* 'a' needs"),
    "another field": (packed(one(code="x")), "E-MOD-008.* nothing else"),
    "unknown type": (packed(one(dtype="F33")), "E-MOD-008.*'F33', which is not known"),
    "type is a number": (packed(one(dtype=32)), "E-MOD-008.* not known"),
    "shape too large": (packed(one(shape=[2])), "E-MOD-008.* needs 8 bytes"),
    "shape too small": (packed(one(shape=[0])), "E-MOD-008.* needs 0 bytes"),
    "wrong type for its bytes": (packed(one(dtype="F64")), "E-MOD-008.* needs 8 bytes"),
    "negative shape": (packed(one(shape=[-1])), "E-MOD-008.* no tensor can have"),
    "shape of fractions": (packed(one(shape=[1.0])), "E-MOD-008.* no tensor can have"),
    "shape of truths": (packed(one(shape=[True])), "E-MOD-008.* no tensor can have"),
    "overflowing shape": (packed(one(shape=[2**62, 2**62])), "E-MOD-008.* needs "),
    "number past 64 bits": (packed(one(shape=[2**64])), "E-MOD-008.* no tensor can have"),
    "a million dimensions": (packed(one(shape=[2**62] * 500_000)), "E-MOD-008.* no tensor can have"),
    "backwards": (packed(one(data_offsets=[4, 0])), "E-MOD-008.* lies at bytes 4 to 0"),
    "one place": (packed(one(data_offsets=[4])), "E-MOD-008.* no place"),
    "negative place": (packed(one(data_offsets=[-4, 0])), "E-MOD-008.* no place"),
    # the tensors together
    "cut off": (packed(one(), b"\0"), "E-MOD-009.* 3 bytes are missing.* 'a'"),
    "extra tail": (packed(one(), bytes(9)), "E-MOD-009.* 5 bytes at its end"),
    "code behind the data": (packed(one(), bytes(4) + zipped()), "E-MOD-009.* belong to no tensor"),
    "nothing but a tail": (packed({}), "E-MOD-009.* 4 bytes at its end"),
    "hole": (packed(two([0, 4], [8, 12]), bytes(12)), "E-MOD-009.* 'b' leaves a hole after the tensor 'a'"),
    "hole before": (packed(one(data_offsets=[4, 8]), bytes(8)), "E-MOD-009.* leaves a hole after the head"),
    "overlap": (packed(two([0, 4], [2, 6]), bytes(6)), "E-MOD-009.* 'b' overlaps the tensor 'a'"),
    "same place": (packed(two([0, 4], [0, 4])), "E-MOD-009.* overlaps"),
    "far away": (packed(one(data_offsets=[2**62, 2**62 + 4])), "E-MOD-009.* hole"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_what_is_wrong(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where a bomb would leave its mark
    raw, expected = BAD[name]
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw)
    start = time.process_time()
    with pytest.raises(ModelFileError, match=f"(?s){expected}") as caught:
        file.load(path)
    assert time.process_time() - start < 5  # a tenth of it on an idle machine
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 800
    assert not (tmp_path / "ran").exists()


def test_names_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(packed({"\x1b[2J\ud800" + "x" * 5000: {}}))
    with pytest.raises(ModelFileError) as caught:
        header.read(path)
    assert str(caught.value).isprintable()


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="E-MOD-001"):
        header.read(tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match="E-MOD-001"):
        header.read(tmp_path)


@pytest.mark.parametrize("filler", ["{},", '"aa",'])
def test_the_largest_head_takes_little_memory(tmp_path: Path, filler: str) -> None:
    for pieces in (header.LONGEST // len(filler) - 10, header.MOST_PIECES // sum(map(filler.count, ",[{")) - 10):
        path = tmp_path / "a.safetensors"
        text = '{"x":[' + filler * min(pieces, header.LONGEST // len(filler) - 10) + "0]}"
        path.write_bytes(packed(text.ljust(header.LONGEST)))
        tracemalloc.start()
        try:
            with pytest.raises(ModelFileError):
                header.read(path)
            assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
        finally:
            tracemalloc.stop()


def test_a_good_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(packed({"__metadata__": {"k": "v"}} | two([4, 8], [0, 4]), bytes(8)))
    found = header.read(path)
    assert found.metadata == {"k": "v"}
    assert found.tensors["a"].shape == (1,)
    assert (found.tensors["a"].start, found.tensors["b"].start) == (4, 0)
