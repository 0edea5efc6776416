"""A folder of pictures as somebody looks through it: thousands at once, so nothing is decoded to list them.

Captions are read by the code that trains. Sizes come from the heads of files; how sharp a picture is and what it looks
like (to find copies) is found out beside, and all of it is remembered for as long as a file does not change.
"""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from impasto import files
from impasto.data import decode, traces
from impasto.data.companions import Companions
from impasto.data.config import Captions
from impasto.data.folders import walk
from impasto.data.texts import Text, read_caption
from impasto.errors import DiskError

PATIENCE = 1.5
"""Seconds for which a look is fresh enough."""

RULES = Captions(lines="random", missing="empty")
"""All lines of a caption file are shown; training takes the first unless told otherwise."""

SHARP = 0.012
"""Below it a picture is called blurred: the share of its contrast that is between neighbours, at 384 pixels."""

PAUSE = 0.003
"""Seconds between two pictures, in which pages are answered."""

ENOUGH = 384
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
FORMAT = 1

Size = tuple[int, int]
Mark = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a file."""

    mark: Mark
    size: Size | None = None
    trace: str = ""
    sharp: float | None = None
    fault: str = ""
    closely: bool = False
    """Whether it was decoded."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture in the folder."""

    id: str
    """Its path from the folder, as text that can always be written."""
    path: str
    mark: Mark
    bytes: int
    caption: str
    file: str
    """Its caption file, be it there or not."""
    fault: str
    """What is wrong with the caption file."""


class Gallery:
    """One folder, and what is known of its pictures."""

    def __init__(self, root: Path, memo: Path, inside: Callable[[str], bool]) -> None:
        """`memo` is a file of ours. `inside` tells whether what a link leads to may be looked at."""
        self.root = root
        self._memo, self._inside = memo, inside
        self._seen: dict[str, Seen] = _remembered(memo)
        self._texts: dict[str, tuple[Mark, Text]] = {}
        self._pictures: dict[str, Picture] = {}
        self._looked = -PATIENCE
        self._turn = threading.RLock()
        self._copies: list[list[str]] = []
        self._grouped = False
        self._looker: threading.Thread | None = None
        self._closed = False

    def pictures(self, *, now: bool = False) -> dict[str, Picture]:
        """All pictures by id, in order."""
        with self._turn:
            if now or time.monotonic() - self._looked > PATIENCE:
                self._pictures = {each.id: each for each in self._look()}
                self._looked = time.monotonic()
            return self._pictures

    def seen(self, picture: Picture) -> Seen:
        """What is known of a picture; its head is read now if need be."""
        found = self._seen.get(picture.id)
        if found is None or found.mark != picture.mark:
            found = self._seen[picture.id] = _head(picture)
        return found

    def known(self, picture: Picture) -> Seen | None:
        """The same, if it is known already."""
        found = self._seen.get(picture.id)
        return found if found is not None and found.mark == picture.mark else None

    def looked_closely(self) -> int:
        """At how many pictures; all but one until copies are known too."""
        pictures = self._pictures.values()
        found = sum((seen := self.known(each)) is not None and seen.closely for each in pictures)
        return found if self._grouped else min(found, max(0, len(pictures) - 1))

    def look_closely(self) -> None:
        """Look at all pictures beside everything else: after that, copies and blurred ones are known."""
        with self._turn:
            if self._looker is None or not self._looker.is_alive():
                self._looker = threading.Thread(target=self._all_closely, name="gallery", daemon=True)
                self._looker.start()

    def close(self) -> None:
        """Look no further."""
        self._closed = True

    def wait(self, seconds: float) -> None:
        """Until all are looked at, but not longer."""
        if self._looker is not None:
            self._looker.join(seconds)

    def copies(self) -> list[list[str]]:
        """Ids of pictures that look the same, group by group. Nothing before all were looked at closely."""
        return self._copies

    def _look(self) -> Iterable[Picture]:
        folders = [each for each in walk(self.root)[0] if self._is_inside(each.path)]
        beside = Companions(RULES, self.root, folders)
        for below in folders:
            for name in below.pictures:
                path = os.path.join(below.path, name)
                found = self._stat(path)
                if found is None:
                    continue
                caption = beside.file(below, name)
                text = Text("") if caption is None else self._text(caption)
                id = _readable(os.path.join(below.relative, name).replace(os.sep, "/"))
                yield Picture(
                    id, path, _mark(found), found.st_size, text.caption or "",
                    caption or os.path.splitext(path)[0] + RULES.extensions[0],
                    text.findings[0].problem.what if text.caption is None else "",
                )  # fmt: skip

    def _stat(self, path: str) -> os.stat_result | None:
        try:
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode):
                found = os.stat(path) if self._is_inside(path) else found
            return found if stat.S_ISREG(found.st_mode) else None
        except OSError:
            return None

    def _is_inside(self, path: str) -> bool:
        whole = os.path.realpath(path)
        return whole == str(self.root) or whole.startswith(f"{self.root}{os.sep}") or self._inside(whole)

    def _text(self, path: str) -> Text:
        found = self._stat(path)
        if found is None:
            return Text("")
        kept = self._texts.get(path)
        if kept is None or kept[0] != _mark(found):
            kept = self._texts[path] = _mark(found), read_caption(Path(path), every_line=True)
        return kept[1]

    def _all_closely(self) -> None:
        fresh = 0
        pictures = list(self._pictures.values())
        for picture in pictures:
            if self._closed:
                return
            seen = self.known(picture)
            if seen is None or not seen.closely:
                self._seen[picture.id] = _closely(picture)
                fresh += 1
                time.sleep(PAUSE)
        if fresh or not self._grouped:
            self._copies = _alike([(each.id, seen.trace) for each in pictures if (seen := self.known(each))])
            self._grouped = True
        if fresh:
            self._keep()

    def _keep(self) -> None:
        told = {
            id: [*each.mark, each.size, each.trace, each.sharp, each.fault]
            for id, each in list(self._seen.items()) if each.closely
        }  # fmt: skip
        try:
            files.make_folder(self._memo.parent)
            content = json.dumps({"format": FORMAT, "seen": told}, separators=(",", ":")).encode()
            files.write(self._memo, content, durable=False)
        except (OSError, DiskError):  # it is looked at again the next time
            pass


def _alike(known: list[tuple[str, str]]) -> list[list[str]]:
    """Ids of pictures whose traces are alike. Equal ones are put together first: there may be hundreds."""
    by: dict[str, list[str]] = {}
    for id, trace in known:
        if trace:
            by.setdefault(trace, []).append(id)
    unlike = list(by)
    near = traces.alike(unlike) if unlike else []
    joined = {at for group in near for at in group}
    groups = [[id for at in group for id in by[unlike[at]]] for group in near]
    groups += [by[trace] for at, trace in enumerate(unlike) if at not in joined and len(by[trace]) > 1]
    order = {id: at for at, (id, _) in enumerate(known)}
    return sorted((sorted(group, key=order.__getitem__) for group in groups), key=lambda group: order[group[0]])


def _mark(found: os.stat_result) -> Mark:
    return found.st_size, found.st_mtime_ns, found.st_ino


def _readable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _head(picture: Picture) -> Seen:
    """Its size, by the head of its file."""
    try:
        with Image.open(picture.path, formats=FORMATS) as image:
            turned = image.getexif().get(0x0112) in (5, 6, 7, 8)
            width, height = image.size
            return Seen(picture.mark, (height, width) if turned else (width, height))
    except Exception as error:  # a decoder may raise anything on a broken picture
        return Seen(picture.mark, fault=_fault(error))


def _closely(picture: Picture) -> Seen:
    """Decoded, but no larger than is needed."""
    seen = _head(picture)
    if seen.fault or picture.bytes > decode.MAX_BYTES:
        return replace(seen, closely=True)
    try:
        rgb = decode.decode(Path(picture.path).read_bytes(), enough=(ENOUGH, ENOUGH)).rgb
        return replace(seen, trace=traces.of(rgb), sharp=sharpness(rgb), closely=True)
    except Exception as error:
        return replace(seen, fault=_fault(error), closely=True)


def sharpness(rgb: Image.Image) -> float:
    """How much of a picture's contrast is between neighbours: little in one that is out of focus or was enlarged."""
    small = rgb.convert("L")
    small.thumbnail((ENOUGH, ENOUGH), Image.Resampling.BOX)
    grey = np.asarray(small, np.float32)
    if min(grey.shape) < 16:
        return 1.0
    edges = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    contrast = float(grey.var())
    return 1.0 if contrast < 25.0 else float(edges.var()) / contrast


def _fault(error: Exception) -> str:
    return _readable(f"it cannot be read ({type(error).__name__}: {str(error)[:100]})")


def _remembered(memo: Path) -> dict[str, Seen]:
    try:
        told: Any = json.loads(memo.read_bytes())
        if told["format"] != FORMAT:
            return {}
        return {id: _seen(each) for id, each in told["seen"].items()}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _seen(told: list[Any]) -> Seen:
    size, changed, number, pixels, trace, sharp, fault = told
    return Seen((size, changed, number), tuple(pixels) if pixels else None, trace, sharp, fault, closely=True)
