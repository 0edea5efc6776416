"""The head of a safetensors file, read with distrust: every limit is checked before any tensor is touched.

    8 bytes: length of the head | the head, a JSON object | the tensors' bytes, end to end

The library that reads the tensors later is less strict: it takes a name that occurs twice, a head of blanks and any
number of tensors. Nothing here runs code from the file, and nothing needs torch.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impasto.errors import ModelFileError, Problem
from impasto.weights import sniff

LONGEST = 16 * 2**20
"""Bytes of the longest head that is read."""

MOST_TENSORS = 100_000
MOST_PIECES = 2_000_000
"""Commas and brackets in a head, those inside of texts too: this bounds the memory that reading it takes."""

MOST_DIMENSIONS = 8

BYTES: Mapping[str, int] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""The element types that are read, with their bytes."""

NUMPY: Mapping[str, str] = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}
FETCH_AGAIN = "fetch or write the file again"
NAME_ANOTHER = "name a .safetensors file that this account may read"
CANNOT_BE_OPENED = {
    errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies, and how it is to be read."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int
    """Bytes from the end of the head."""

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a file says of itself, checked against its size."""

    tensors: Mapping[str, Entry]
    metadata: Mapping[str, str]
    start: int
    """Where the tensors' bytes begin."""

    size: int
    """Bytes of the whole file."""


def read(path: Path) -> Header:
    """The head of the safetensors file at `path`. Raises ModelFileError with exactly what is wrong with it."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode) and not path.is_dir():  # opening a pipe would wait for its writer
            raise _refused("E-MOD-001", "is no file but a pipe, a socket or a device", path, NAME_ANOTHER)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = _length(path, file.read(sniff.ENOUGH), size)
            file.seek(8)
            raw = file.read(length)
    except OSError as error:
        if error.errno not in CANNOT_BE_OPENED:
            raise
        raise _refused("E-MOD-001", f"cannot be opened ({error.strerror})", path, NAME_ANOTHER) from error
    tensors, metadata = _parsed(path, raw)
    _check_places(path, tensors, size - 8 - length)
    return Header(tensors, metadata, 8 + length, size)


def tensors(paths: Iterable[Path]) -> dict[str, Entry]:
    """What several files hold together. Raises ModelFileError where one is not whole, or a name is in two of them."""
    found: dict[str, Entry] = {}
    for path in paths:
        held = read(path).tensors
        if twice := sorted(found.keys() & held.keys()):
            what = f"holds {shown(twice[0])}, which another file beside it holds too"
            raise _refused("E-MOD-007", what, path, FETCH_AGAIN)
        found |= held
    return found


def numbers(path: Path, header: Header, name: str) -> NDArray[np.float32]:
    """The numbers of one tensor, without torch. KeyError for element types that numpy has no word for."""
    entry = header.tensors[name]
    kind = np.dtype(NUMPY[entry.dtype])
    with path.open("rb") as file:
        file.seek(header.start + entry.start)
        raw = np.frombuffer(file.read(entry.stop - entry.start), kind).reshape(entry.shape)
    if entry.dtype == "BF16":  # the upper half of a float32
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32)


def _length(path: Path, first: bytes, size: int) -> int:
    """The length of the head, if this can be a safetensors file at all."""
    if size == 0:
        raise _refused("E-MOD-002", "is empty", path, FETCH_AGAIN)
    length = int.from_bytes(first[:8], "little")
    opens = size > 8 and first[8:9] == b"{"
    if opens and length <= LONGEST:
        if length <= size - 8:
            return length
        what = f"is cut off: its head should have {length:,} bytes, the whole file has {size:,}"
        raise _refused("E-MOD-005", what, path, FETCH_AGAIN)
    if found := sniff.kind(first):
        raise _refused(found.code, found.what, path, found.fix)
    if opens:
        what = f"says that its head has {length:,} bytes; more than {LONGEST:,} are not read"
        raise _refused("E-MOD-005", what, path, FETCH_AGAIN)
    if size < 8:
        raise _refused("E-MOD-002", f"has only {size} bytes; the shortest safetensors file has 10", path, FETCH_AGAIN)
    raise _refused("E-MOD-003", "is not a safetensors file: no head where it should be", path, "use another file")


def _parsed(path: Path, raw: bytes) -> tuple[dict[str, Entry], dict[str, str]]:
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") > MOST_PIECES:
        raise _refused("E-MOD-007", f"has a head of more than {MOST_PIECES:,} pieces", path, FETCH_AGAIN)
    try:
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise _refused("E-MOD-006", "has a head that is nested too deeply", path, FETCH_AGAIN) from error
    except _Twice as error:
        what = f"names {shown(str(error))} twice, so nobody can tell which one is meant"
        raise _refused("E-MOD-007", what, path, FETCH_AGAIN) from error
    except ValueError as error:
        raise _refused("E-MOD-006", f"has a head that is not JSON ({error})", path, FETCH_AGAIN) from error
    if not isinstance(found, dict):
        raise _refused("E-MOD-006", "has a head that is no JSON object", path, FETCH_AGAIN)
    metadata = found.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(each, str) for each in metadata.values()):
        raise _refused("E-MOD-006", "has metadata that is not text", path, FETCH_AGAIN)
    if len(found) > MOST_TENSORS:
        what = f"holds {len(found):,} tensors; more than {MOST_TENSORS:,} are not read"
        raise _refused("E-MOD-007", what, path, "no adapter or model has so many; use another file")
    return {name: _entry(path, name, value) for name, value in found.items()}, metadata


class _Twice(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _Twice(name)
        found[name] = value
    return found


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _entry(path: Path, name: str, value: Any) -> Entry:
    """One tensor's description, its size checked against its type and shape."""
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise _bad_tensor(path, name, "needs dtype, shape and data_offsets, and nothing else")
    dtype, shape, places = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise _bad_tensor(path, name, f"has the type {shown(dtype)}, which is not known")
    if not _naturals(shape) or len(shape) > MOST_DIMENSIONS:
        raise _bad_tensor(path, name, f"has the shape {shown(shape)}, which no tensor can have")
    if not _naturals(places) or len(places) != 2:
        raise _bad_tensor(path, name, f"lies at {shown(places)}, which is no place in a file")
    start, stop = places
    needed = prod(shape) * BYTES[dtype]
    if stop - start != needed:
        what = f"is {dtype} {shown(shape)} and needs {needed:,} bytes, but lies at bytes {start:,} to {stop:,}"
        raise _bad_tensor(path, name, what)
    return Entry(dtype, tuple(shape), start, stop)


def _naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(each) is int and 0 <= each < 2**63 for each in values)


def _check_places(path: Path, tensors: Mapping[str, Entry], room: int) -> None:
    """The tensors must fill the file from the head to its end: no hole, no overlap, no tail."""
    end, before = 0, "the head"
    for name, entry in sorted(tensors.items(), key=lambda each: (each[1].start, each[1].stop)):
        if entry.start != end:
            fault = "leaves a hole after" if entry.start > end else "overlaps"
            raise _refused("E-MOD-009", f"is damaged: the tensor {shown(name)} {fault} {before}", path, FETCH_AGAIN)
        end, before = entry.stop, f"the tensor {shown(name)}"
    if end > room:
        name = next(name for name, entry in tensors.items() if entry.stop > room)
        what = f"is cut off: {end - room:,} bytes are missing at the end, first in the tensor {shown(name)}"
        raise _refused("E-MOD-009", what, path, "the download or copy is not complete; " + FETCH_AGAIN)
    if end < room:
        what = f"has {room - end:,} bytes at its end that belong to no tensor"
        raise _refused("E-MOD-009", what, path, FETCH_AGAIN)


def shown(value: object) -> str:
    """Text from a strange file, short and harmless to a terminal."""
    text = ascii(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _bad_tensor(path: Path, name: str, what: str) -> ModelFileError:
    return _refused("E-MOD-008", f"is damaged: the tensor {shown(name)} {what}", path, FETCH_AGAIN)


def _refused(code: str, what: str, path: Path, fix: str) -> ModelFileError:
    return ModelFileError(Problem(code, what, str(path), fix))
