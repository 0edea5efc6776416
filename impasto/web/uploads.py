"""Pictures and captions from a browser, into a new folder of their own.

A file streams to a temporary name beside its place, is looked at, and is renamed: what was cut off leaves nothing.
Nothing that is there is replaced, and nothing goes into a folder that was not made here.
"""

from __future__ import annotations

import asyncio
import filecmp
import re
import shutil
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import BinaryIO

from starlette.requests import ClientDisconnect

from impasto import files
from impasto.data import sniff
from impasto.errors import DiskError, Problem
from impasto.web.problems import Refused, absent
from impasto.web.site import Site, is_plain

MOST = 10_000
"""Files of a folder."""
LARGEST_TEXT = 64 << 10
"""Bytes of a caption."""
SPARE = 5 << 30
"""Bytes that stay free on the disk, if that is less than a twentieth of it."""

_ENDINGS: dict[sniff.Kind, tuple[str, ...]] = {
    "jpeg": (".jpg", ".jpeg"), "png": (".png",), "webp": (".webp",), "gif": (".gif",), "bmp": (".bmp",),
    "tiff": (".tif", ".tiff"), "avif": (".avif",),
}  # fmt: skip
_TEXT = ".txt"
_LONGEST = 150
_HEAD = 64


class Uploads:
    """The folders that were made since the server started."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._made: set[Path] = set()

    def begin(self, name: str) -> Path:
        """A new folder in the first data root, called like `name` as far as that can be a folder's name."""
        root = self._site.of("data")
        if not root:
            raise absent("a folder for pictures")
        stem = re.sub(r"[^\w .-]+", "-", name)[:80].strip(" .-") or "pictures"
        names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
        folder = next(path for each in names if is_plain(each) and not (path := root[0].path / each).exists())
        _room(root[0].path, 0)
        files.make_folder(folder)
        self._made.add(folder)
        return folder

    def place(self, id: str, name: str) -> Path:
        """Where a file goes."""
        folder = self._site.inside(id, "data")
        if folder not in self._made:
            raise absent(id)
        known = {_TEXT, *(ending for endings in _ENDINGS.values() for ending in endings)}
        if not is_plain(name) or "/" in name or name.startswith(".") or len(name.encode()) > _LONGEST:
            raise Refused(422, Problem("E-WEB-006", "this cannot be a file's name here", name[:100]))
        if Path(name).suffix.lower() not in known:
            fix = f"pictures and captions are taken: {' '.join(sorted(known))}"
            raise Refused(415, Problem("E-WEB-004", "neither a picture nor a caption", name, fix))
        if sum(1 for _ in folder.iterdir()) >= MOST:
            raise Refused(413, Problem("E-WEB-004", f"a folder takes {MOST} files from here at most", id))
        return folder / name

    async def receive(self, path: Path, parts: AsyncIterator[bytes]) -> int:
        """Write a file as it comes. Returns its bytes."""
        await asyncio.to_thread(_room, path.parent, 0)
        tmp = files.temporary(path)
        try:
            with tmp.open("xb") as file:
                size = await _filled(file, parts, _TEXT if path.suffix.lower() == _TEXT else "")
            await asyncio.to_thread(_take, tmp, path)
        except ClientDisconnect:
            raise Refused(400, Problem("E-WEB-004", "it was cut off", path.name)) from None
        finally:
            tmp.unlink(missing_ok=True)
        return size


async def _filled(file: BinaryIO, parts: AsyncIterator[bytes], kind: str) -> int:
    size = 0
    async for part in parts:
        size += len(part)
        if kind == _TEXT and size > LARGEST_TEXT:
            raise Refused(413, Problem("E-WEB-004", f"a caption is larger than {LARGEST_TEXT >> 10} KiB"))
        await asyncio.to_thread(file.write, part)
    return size


def _take(tmp: Path, path: Path) -> None:
    """Look at a file that is whole, and let it have its name."""
    with tmp.open("rb") as file:
        head = file.read(_HEAD)
    if path.suffix.lower() == _TEXT:
        try:
            tmp.read_bytes().decode()
        except ValueError:
            raise Refused(415, Problem("E-WEB-004", "a caption must be UTF-8 text", path.name)) from None
    else:
        kind = sniff.kind(head) if head else None
        if kind is None or isinstance(kind, sniff.Other) or path.suffix.lower() not in _ENDINGS[kind]:
            what = f"it is {kind.name}" if isinstance(kind, sniff.Other) else f"it is {kind or 'empty'}"
            raise Refused(415, Problem("E-WEB-004", f"{what}, whatever its name says", path.name))
    if path.exists():
        if filecmp.cmp(tmp, path, shallow=False):
            return
        raise Refused(409, Problem("E-WEB-008", "another file of this name is there", path.name, "give it another"))
    files.move(tmp, path)


def _room(folder: Path, needed: int) -> None:
    """Raise DiskError unless the disk keeps some room."""
    usage = shutil.disk_usage(folder)
    if usage.free - needed < min(SPARE, usage.total // 20):
        what = f"the disk is nearly full: {usage.free:,} bytes are free"
        raise DiskError(Problem("E-DSK-001", what, str(folder), "free some space"))
