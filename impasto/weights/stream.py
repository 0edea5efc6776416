"""Safetensors files one tensor at a time, so that memory is bounded by the largest layer and not by the file."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from impasto import files
from impasto.families.config import Precision
from impasto.families.mapped import Mapped
from impasto.weights import file, header

CHUNK = 4 * 2**20
"""Bytes that are copied at a time."""

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""Types of numbers that another precision can be chosen for."""

PRECISIONS: Mapping[str, Precision] = {"F16": "fp16", "BF16": "bf16"}

OWN: Mapping[torch.dtype, Precision] = {dtype: precision for precision, dtype in file.DTYPES.items()}
"""The precision of a type of numbers."""


class Reader:
    """A file, or several that hold a part together, checked from head to end and mapped into memory."""

    def __init__(self, path: Path, head: header.Header, held: Mapped) -> None:
        self.path = path
        self.head = head
        self._held = held

    def tensor(self, name: str) -> Tensor:
        """One tensor as it stands in its file. Raises ModelFileError when it is not finite."""
        found = self._held.get_tensor(name)
        file.check_finite(self._held.path(name), name, found)
        return found


@contextmanager
def opened(path: Path, *others: Path) -> Iterator[Reader]:
    """The safetensors file at `path`, and `others` that go with it, for as long as the `with` lasts.

    Raises ModelFileError when one is not whole.
    """
    head = header.read(path)
    if others:
        head = replace(head, tensors=header.tensors((path, *others)))
    yield Reader(path, head, Mapped((path, *others)))


class Spool:
    """Takes the tensors of an adapter file as they come; they wait on the disk until all are there."""

    def __init__(self, path: Path, precision: Precision, waiting: IO[bytes]) -> None:
        self._path = path
        self._precision = precision
        self._waiting = waiting
        self._starts: dict[str, int] = {}
        self._shapes: dict[str, Tensor] = {}

    def add(self, name: str, tensor: Tensor, *, as_is: bool = False) -> None:
        """Keep a tensor, in the file's precision or in its own.

        Raises ModelFileError when a number is not finite or does not fit.
        """
        assert name not in self._starts, f"{name} comes twice"
        own = OWN.get(tensor.dtype) if as_is else None
        cast = file.cast(self._path, name, tensor, own or self._precision)
        self._starts[name] = self._waiting.tell()
        self._shapes[name] = torch.empty_like(cast, device="meta")
        with files.explained(self._path, needed=cast.nbytes):
            self._waiting.write(file.raw(cast))

    def commit(self, metadata: Mapping[str, str]) -> None:
        """Write the file in one stroke: the same bytes as `file.write` makes of the same tensors."""
        assert self._starts, "an adapter without layers is no file"
        named = file.in_order(self._shapes)
        begin = _first(self._bytes(named), file.LEGACY.stop)
        digest = hashlib.sha256()
        for chunk in self._bytes(named):
            digest.update(chunk)
        head = file.head(named, file.hashed(named, digest.hexdigest(), begin, metadata))
        with files.replacing(self._path) as tmp, tmp.open("wb") as out:
            out.write(head)
            for chunk in self._bytes(named):
                out.write(chunk)

    def _bytes(self, named: file.Named) -> Iterator[bytes]:
        for name, shape in named:
            yield from _stretch(self._waiting, self._starts[name], shape.nbytes)


@contextmanager
def spooled(path: Path, precision: Precision) -> Iterator[Spool]:
    """A spool beside `path`. What waits in it has no name in its folder, so that a kill leaves nothing behind."""
    with files.explained(path), tempfile.TemporaryFile(dir=path.absolute().parent) as waiting:
        yield Spool(path, precision, waiting)


def rewrite(
    reader: Reader,
    out: Path,
    change: Callable[[str, Tensor], Tensor],
    metadata: Mapping[str, str],
    precision: Precision | None = None,
) -> None:
    """Write the file again to `out`, with the same names and shapes in the same order; `change` makes the numbers.

    Types stay as they are, or floating numbers are held in `precision`; `change` gives them in that type. Raises
    ModelFileError, and writes nothing, when a number is not finite.
    """
    order = sorted(reader.head.tensors.items(), key=lambda each: (each[1].start, each[1].stop))
    described: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, entry in order:
        dtype = file.WORDS[file.DTYPES[precision]] if precision and entry.dtype in FLOATS else entry.dtype
        start, end = end, end + entry.count * header.BYTES[dtype]
        described[name] = {"dtype": dtype, "shape": list(entry.shape), "data_offsets": [start, end]}
    text = json.dumps(described, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    text += b" " * (-len(text) % 8)
    with files.replacing(out) as tmp, tmp.open("wb") as target:
        target.write(len(text).to_bytes(8, "little") + text)
        for name, entry in order:
            made = change(name, reader.tensor(name))
            assert tuple(made.shape) == entry.shape
            file.check_finite(out, name, made)
            target.write(file.raw(made.contiguous()))
        assert target.tell() == 8 + len(text) + end


def precision_of(head: header.Header) -> Precision:
    """In which precision an adapter's tensors are held: what most of its numbers are."""
    counts: dict[Precision, int] = {"fp32": 0}
    for entry in head.tensors.values():
        precision = PRECISIONS.get(entry.dtype, "fp32")
        counts[precision] = counts.get(precision, 0) + entry.count
    return max(counts, key=lambda each: counts[each])


def _stretch(source: IO[bytes], start: int, length: int) -> Iterator[bytes]:
    source.seek(start)
    while length:
        chunk = source.read(min(CHUNK, length))
        assert chunk, "the file became shorter while it was read"
        length -= len(chunk)
        start += len(chunk)
        yield chunk
        source.seek(start)  # another reader may have moved on


def _first(chunks: Iterator[bytes], length: int) -> bytes:
    found = b""
    for chunk in chunks:
        found += chunk
        if len(found) >= length:
            break
    return found[:length]
