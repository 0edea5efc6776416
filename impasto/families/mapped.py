"""Tensors of safetensors files, mapped into memory: one is at hand at a time, in place of the whole file.

Or read plainly, each in one piece: over a network, pages that are fetched one by one as they are touched are slow.

The pages of what was read count as the program's memory until they are let go, and are let go when the next tensor is
asked for. A tensor that is still held then stays right: its pages come back from the file when they are touched.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from impasto import files
from impasto.errors import ModelFileError, Problem
from impasto.weights import header
from impasto.weights.header import Entry, Header

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


class Mapped:
    """The tensors of one file, or of several that hold a part together."""

    def __init__(self, paths: Iterable[Path], *, mapped: bool = True) -> None:
        """Raises ModelFileError when one of them is no whole safetensors file."""
        self._maps: dict[Path, tuple[Header, mmap.mmap | None]] = {}
        self._where: dict[str, Path] = {}
        self._last: tuple[mmap.mmap, int, int] | None = None
        for path in paths:
            head = header.read(path)
            self._where |= dict.fromkeys(head.tensors, path)
            if not mapped:
                self._maps[path] = head, None
                continue
            with path.open("rb") as file:
                # private and writable: torch warns of memory that it may not write; nobody writes
                pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            if hasattr(mmap, "MADV_SEQUENTIAL"):
                pages.madvise(mmap.MADV_SEQUENTIAL)  # a tensor is read from its first byte to its last: read ahead
            self._maps[path] = head, pages

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def path(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._where[name]

    def entry(self, name: str) -> Entry:
        """What its file says of a tensor."""
        return self._maps[self._where[name]][0].tensors[name]

    def get_tensor(self, name: str) -> Tensor:
        """One tensor as it stands in its file. Copy it to keep it. Called as in safetensors' own reader."""
        self._let_go()
        head, pages = self._maps[self._where[name]]
        entry = head.tensors[name]
        dtype, start = DTYPES[entry.dtype], head.start + entry.start
        if not entry.count:
            return torch.empty(entry.shape, dtype=dtype)
        if pages is None:
            return torch.frombuffer(self._read(name, start, entry.stop - entry.start), dtype=dtype).view(entry.shape)
        self._last = pages, start, head.start + entry.stop
        if start % dtype.itemsize:  # an odd head puts every tensor off its place; some devices do not read so
            raw = torch.frombuffer(bytearray(pages[start : head.start + entry.stop]), dtype=dtype)
        else:
            raw = torch.frombuffer(pages, dtype=dtype, count=entry.count, offset=start)
        return raw.view(entry.shape)

    def _read(self, name: str, start: int, size: int) -> bytearray:
        """Bytes of a tensor's file."""
        path, found = self._where[name], bytearray(size)
        with files.explained(path), path.open("rb", buffering=0) as file:
            file.seek(start)
            view = memoryview(found)
            while view:
                count = file.readinto(view)
                if not count:
                    raise ModelFileError(Problem("E-MOD-005", "has become shorter", str(path), "fetch the file again"))
                view = view[count:]
        return found

    def _let_go(self) -> None:
        if self._last is None or not hasattr(mmap, "MADV_DONTNEED"):  # Windows has no such advice
            return
        pages, start, stop = self._last
        first = start - start % mmap.PAGESIZE
        pages.madvise(mmap.MADV_DONTNEED, first, min(stop, len(pages)) - first)
        self._last = None
