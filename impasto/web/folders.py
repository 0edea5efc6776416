"""Which folders of pictures somebody looks at: a list in the app's own folder. Forgetting one deletes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from impasto import files
from impasto.data.folders import PICTURES, ending
from impasto.data.gallery import Gallery
from impasto.data.history import History
from impasto.errors import Problem
from impasto.web.problems import Refused, absent
from impasto.web.site import Site
from impasto.web.views_datasets import FolderRow, Folders

COUNTED = 1000
MOST = 500


@dataclass(frozen=True)
class Folder:
    """A folder of pictures that is looked at."""

    id: str
    path: str
    added: float


class Shelf:
    """All of them, with what is open."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._file = site.state / "datasets.json"
        self._open: dict[str, Gallery] = {}
        self._histories: dict[str, History] = {}
        self._turn = threading.Lock()

    def all(self) -> list[Folder]:
        """In the order they were added. At the first time: the folders of pictures in the roots."""
        told = self._told()
        found = self._first() if told is None else told
        return [each for each in found if self._site.id_of(Path(each.path), "data", "runs") is not None]

    def add(self, path: Path) -> Folder:
        """Look at a folder from now on."""
        with self._turn:
            known = self.all()
            same = next((each for each in known if each.path == str(path)), None)
            if same is not None:
                return same
            made = Folder(_name(path, {each.id for each in known}), str(path), time.time())
            self._write([*known, made])
            return made

    def forget(self, id: str) -> None:
        """Look at it no more. What is in it stays, and so does its history."""
        with self._turn:
            known = self.all()
            left = [each for each in known if each.id != id]
            if len(left) == len(known):
                raise absent(id)
            self._write(left)
            gallery = self._open.pop(id, None)
            if gallery is not None:
                gallery.close()

    def folder(self, id: str) -> Folder:
        """The one of this id, if it is there."""
        found = next((each for each in self.all() if each.id == id), None)
        if found is None or not Path(found.path).is_dir():
            raise absent(id)
        return found

    def gallery(self, folder: Folder) -> Gallery:
        """Its pictures."""
        with self._turn:
            found = self._open.get(folder.id)
            if found is None or str(found.root) != folder.path:
                memo = self._site.cache / "pictures" / f"{_key(folder)}.json"
                found = self._open[folder.id] = Gallery(Path(folder.path), memo, self._is_inside)
            return found

    def history(self, folder: Folder) -> History:
        """What was saved into it."""
        with self._turn:
            key = _key(folder)
            return self._histories.setdefault(key, History(self._site.state / "captions" / key))

    def close(self) -> None:
        """Look no further."""
        for each in self._open.values():
            each.close()

    def _is_inside(self, path: str) -> bool:
        return self._site.id_of(Path(path), "data", "runs") is not None

    def _first(self) -> list[Folder]:
        found: list[Folder] = []
        for root in self._site.of("data"):
            for path in (root.path, *_inner(root.path)):
                if pictures_in(path) and not any(each.path == str(path) for each in found):
                    found.append(Folder(_name(path, {each.id for each in found}), str(path), 0.0))
        return found[:MOST]

    def _told(self) -> list[Folder] | None:
        try:
            told: Any = json.loads(files.read(self._file))
            return [Folder(str(each["id"]), str(each["path"]), float(each["added"])) for each in told["datasets"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def _write(self, folders: list[Folder]) -> None:
        if len(folders) > MOST:
            raise Refused(422, Problem("E-WEB-023", f"more than {MOST} folders", "", "forget some of them"))
        files.make_folder(self._file.parent)
        files.write(self._file, json.dumps({"datasets": [asdict(each) for each in folders]}, indent=1).encode())


def named(given: str, site: Site) -> Path:
    """The folder that a path or a `root/relative` means; a 404 for all that is outside of the roots."""
    path = Path(given)
    try:
        id = site.id_of(path, "data", "runs") if path.is_absolute() else given
    except (OSError, ValueError, RuntimeError):
        id = None
    if id is None:
        raise absent(given)
    found = site.inside(id, "data", "runs")
    if not found.is_dir():
        raise absent(given)
    return found


def within(given: str, site: Site) -> Folders:
    """The folders in a folder, or the roots."""
    if not given:
        rows = [_row(each.path.name or str(each.path), each.path) for each in site.of("data")]
        return Folders(path="", parent=None, folders=rows)
    path = named(given, site)
    above = path.parent if site.id_of(path.parent, "data", "runs") is not None else None
    return Folders(
        path=_readable(str(path)), parent=_readable(str(above)) if above else "",
        folders=[_row(each.name, each) for each in _inner(path) if site.id_of(each, "data", "runs") is not None],
    )  # fmt: skip


def pictures_in(path: Path) -> int:
    """Pictures in a folder itself."""
    found = 0
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                found += ending(entry.name) in PICTURES and not entry.name.startswith(".")
                if found >= COUNTED:
                    break
    except OSError:
        return 0
    return found


def _inner(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            names = sorted(each.name for each in entries if not each.name.startswith(".") and each.is_dir())
    except OSError:
        return []
    return [path / each for each in names[:COUNTED]]


def _row(name: str, path: Path) -> FolderRow:
    return FolderRow(name=_readable(name), path=_readable(str(path)), pictures=pictures_in(path))


def _name(path: Path, taken: set[str]) -> str:
    stem = re.sub(r"[^a-z0-9]+", "-", path.name.lower()).strip("-")[:60] or "pictures"
    return next(name for number in count(1) if (name := stem if number == 1 else f"{stem}-{number}") not in taken)


def _key(folder: Folder) -> str:
    return hashlib.blake2b(os.fsencode(folder.path), digest_size=12).hexdigest()


def _readable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
