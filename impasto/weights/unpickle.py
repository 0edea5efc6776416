"""A PyTorch pickle file written again as safetensors, by a process of its own with little memory and time.

Nothing in the file is looked up or called (see `pickled`); only what stands for a tensor is taken, and its numbers are
copied from where the archive holds them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from impasto import files
from impasto.errors import ModelFileError, Problem
from impasto.weights import header, pickled
from impasto.weights.pickled import Global, Held, Limited, Made, PickleError

MEMORY = 3 * 2**30
LARGEST = 512 * 2**20
"""Bytes of the largest tensor that is not in order and has to be held whole."""

MOST_DIMENSIONS = 8
SECONDS = 1800
STORAGES = {
    "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16", "DoubleStorage": "F64",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
INSIDE = ("state_dict", "model", "module", "params")
"""Where checkpoints keep their tensors, besides at the top."""


@dataclass(frozen=True)
class Place:
    """Where a tensor's numbers lie: in which storage, from which number on, with which steps."""

    key: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.shape) * header.BYTES[self.dtype]


def convert(path: Path, out: Path) -> list[str]:
    """Write the tensors of the pickle file at `path` to `out`; returns what there is to tell."""
    with files.replacing(out) as tmp:
        command = [sys.executable, "-P", "-m", "impasto.weights.unpickle", str(path.absolute()), str(tmp.absolute())]
        root = str(Path(__file__).parents[2])
        try:
            done = subprocess.run(
                command, env={"PYTHONPATH": root, "OPENBLAS_NUM_THREADS": "1"}, stdin=subprocess.DEVNULL,
                capture_output=True, timeout=SECONDS, check=False,
            )  # fmt: skip
            said = json.loads(done.stdout[: 2**20])
        except (subprocess.TimeoutExpired, ValueError) as error:
            what = "took more memory or time to read than any checkpoint does"
            raise ModelFileError(Problem("E-MOD-022", what, str(path), "get the same model as .safetensors")) from error
        if "wrong" in said:
            raise ModelFileError(
                Problem("E-MOD-021", header.shown(said["wrong"])[1:-1], str(path), "get the same model as .safetensors")
            )
        header.read(tmp)
    return [header.shown(each)[1:-1] for each in said["notes"]]


def write(path: Path, out: Path) -> list[str]:
    """What the child does. Raises PickleError."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise PickleError("is no checkpoint as torch has written them since version 1.6, or it is damaged") from error
    with archive:
        entries = {each.filename: each for each in archive.infolist()}
        found = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(found) != 1:
            raise PickleError("is a zip archive, but no checkpoint of torch")
        if any(each.compress_type != zipfile.ZIP_STORED or each.flag_bits & 1 for each in entries.values()):
            raise PickleError("is packed or encrypted, as torch's own files never are")
        folder = found[0].removesuffix("data.pkl")
        with archive.open(found[0]) as file:
            root = pickled.read(Limited(file))
        tensors, notes = _tensors(root)
        sizes = {name: entries[f"{folder}data/{place.key}"].file_size if f"{folder}data/{place.key}" in entries else -1
                 for name, place in tensors.items()}  # fmt: skip
        _check(tensors, sizes, path.stat().st_size)
        with out.open("wb") as target:
            _write_head(target, tensors)
            for name, place in tensors.items():
                with archive.open(f"{folder}data/{place.key}") as source:
                    _copy(name, place, source, target)
    return notes


def _tensors(root: object) -> tuple[dict[str, Place], list[str]]:
    tops = [root[key] for key in INSIDE if isinstance(root, dict) and isinstance(root.get(key), dict)] + [root]
    for top in tops:
        if isinstance(top, dict):
            found = {name: place for name, value in top.items() if isinstance(name, str) and (place := _place(value))}
            for name, value in top.items():
                if name not in found and (way := _rebuilt(value)):
                    what = f"holds a tensor of a kind that cannot be read ({way}), {header.shown(str(name))}"
                    raise PickleError(what)
            if found:
                known = ("torch", "torch._utils", "collections")
                named = [str(each) for each in pickled.globals_in(root) if each.module not in known]
                notes = [f"it names programs, and none was run: {', '.join(named[:5])}"] if named else []
                return found, notes
    raise PickleError("holds no tensors where checkpoints keep them")


def _rebuilt(value: object) -> str | None:
    """How torch would have made a tensor of it; None if it is none."""
    by = value.by if isinstance(value, Made) else None
    known = isinstance(by, Global) and by.module.partition(".")[0] == "torch" and "_rebuild" in by.name
    return header.shown(by.name) if known and isinstance(by, Global) else None


def _place(value: object, depth: int = 0) -> Place | None:
    """The tensor that a call would have made, if it is one that torch writes."""
    if not isinstance(value, Made) or not isinstance(value.by, Global) or value.by.module != "torch._utils":
        return None
    arguments: Any = value.arguments
    match value.by.name, arguments:
        case "_rebuild_parameter", (inner, *_) if depth == 0:
            return _place(inner, 1)
        case "_rebuild_tensor_v2", (Held(("storage", Global("torch", kind), str(key), *_)), offset, shape, stride, *_):
            if kind in STORAGES and _whole((offset,)) and _whole(shape) and _whole(stride):
                return Place(key, STORAGES[kind], offset, shape, stride)
    return None


def _whole(values: object) -> bool:
    return (
        isinstance(values, tuple) and len(values) <= MOST_DIMENSIONS
        and all(type(each) is int and 0 <= each < 2**48 for each in values)
    )  # fmt: skip


def _check(tensors: dict[str, Place], sizes: dict[str, int], whole: int) -> None:
    total = 0
    for name, place in tensors.items():
        reach = sum((side - 1) * step for side, step in zip(place.shape, place.stride, strict=False))
        last = place.offset + reach + 1 if place.size else 0
        if len(place.shape) != len(place.stride) or last * header.BYTES[place.dtype] > sizes[name]:
            raise PickleError(f"is damaged: the tensor {header.shown(name)} lies outside of its storage")
        if not _in_order(place) and place.size > LARGEST:
            raise PickleError(f"holds a tensor that is too large to be put in order, {header.shown(name)}")
        total += place.size
    if total > 2 * whole + 2**20:
        raise PickleError("stands for far more numbers than it holds")


def _in_order(place: Place) -> bool:
    step = 1
    for side, found in zip(reversed(place.shape), reversed(place.stride), strict=True):
        if side != 1 and found != step:
            return False
        step *= side
    return True


def _write_head(target: BinaryIO, tensors: dict[str, Place]) -> None:
    head, end = {}, 0
    for name, place in tensors.items():
        spot = [end, end := end + place.size]
        head[name] = {"dtype": place.dtype, "shape": list(place.shape), "data_offsets": spot}
    raw = json.dumps(head).encode()
    target.write(len(raw).to_bytes(8, "little") + raw)


def _copy(name: str, place: Place, source: Any, target: BinaryIO) -> None:
    width = header.BYTES[place.dtype]
    source.seek(place.offset * width)
    left = place.size if _in_order(place) else 0
    while left:
        chunk = source.read(min(left, 2**24))
        if not chunk:
            raise PickleError(f"is cut off in the tensor {header.shown(name)}")
        _finite(name, place, chunk)
        target.write(chunk)
        left -= len(chunk)
    if not _in_order(place) and place.size:
        reach = sum((side - 1) * step for side, step in zip(place.shape, place.stride, strict=True)) + 1
        kind = np.dtype(f"<u{width}")
        held = np.frombuffer(source.read(reach * width), kind)
        strides = tuple(step * width for step in place.stride)
        raw = np.ascontiguousarray(np.lib.stride_tricks.as_strided(held, place.shape, strides)).tobytes()
        _finite(name, place, raw)
        target.write(raw)


def _finite(name: str, place: Place, raw: bytes) -> None:
    kind, top = {"F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80), "F32": ("<u4", 0x7F800000),
                 "F64": ("<u8", 0x7FF0000000000000)}.get(place.dtype, ("", 0))  # fmt: skip
    if kind and bool(((np.frombuffer(raw, kind) & np.asarray(top, kind)) == top).any()):
        raise PickleError(f"holds numbers that are not finite, first in {header.shown(name)}")


def _limit(path: Path) -> None:
    if sys.platform != "win32":
        import resource

        size = path.stat().st_size
        for what, most in (
            (resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, 120 + size // 2**24),
            (resource.RLIMIT_FSIZE, 2 * size + 2**26),
        ):  # fmt: skip
            resource.setrlimit(what, (most, most))


def main(path: Path, out: Path) -> None:
    _limit(path)
    try:
        print(json.dumps({"notes": write(path, out)}))
    except PickleError as error:
        print(json.dumps({"wrong": str(error)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
