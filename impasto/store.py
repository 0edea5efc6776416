"""Results that can be made again, kept under the hash of what made them.

    <root>/<kind>/ab/<key>.blob

A recipe is everything a result depends on, so nothing here ever goes stale: another recipe is another blob. A blob
proves itself whenever it is read; one that is cut, bent or not ours counts as absent and is made again. Any number of
processes may share a store, and any of them may die at any moment.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from impasto import files, lock
from impasto.errors import DiskError, Problem

Recipe = Mapping[str, object]
"""A JSON object with a `kind`: everything a result depends on."""

FORMAT = 1
_MAGIC = b"impasto\0"
_HEAD = struct.Struct("<8sIIQ32s")  # magic, format, length of the recipe, length of the payload, hash of both
_KIND = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True)
class Entry:
    """A blob in a store."""

    key: str
    kind: str
    recipe: Recipe
    path: Path
    size: int
    used: float
    """Seconds since 1970, to the day."""


@dataclass(frozen=True)
class Swept:
    """What a sweep removed."""

    blobs: int
    size: int


class Store:
    """A folder of blobs."""

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.root = root
        self._clock = clock

    def get(self, recipe: Recipe) -> bytes | None:
        """What is kept under a recipe, or None if it is absent or not whole."""
        text = files.canonical(recipe)
        path = self._place(recipe, text)
        try:
            payload = _payload(files.read(path), text)
        except (OSError, DiskError):
            return None
        if payload is not None:
            self._used(path)
        return payload

    def put(self, recipe: Recipe, payload: bytes) -> None:
        """Keep a result. Raises DiskError if there is no room."""
        path = self.path(recipe)
        text = files.canonical(recipe)
        files.make_folder(path.parent)
        # No fsync: ten thousand of them take minutes, and what a power cut leaves half written does not pass `get`.
        files.write(path, _head(text, payload), text, payload, durable=False)

    def fetch(self, recipe: Recipe, make: Callable[[], bytes]) -> bytes:
        """What is kept under a recipe, or else made now and kept. Of several processes, one makes it."""
        found = self.get(recipe)
        if found is not None:
            return found
        path = self.path(recipe)
        files.make_folder(path.parent)
        with lock.turn(path.with_suffix(".lock")):
            found = self.get(recipe)
            if found is None:
                found = make()
                self.put(recipe, found)
        return found

    def missing(self, recipes: Iterable[Recipe]) -> list[Recipe]:
        """Those of the recipes that nothing is kept under, told by name only: `get` has the last word."""
        return [recipe for recipe in recipes if not os.path.exists(self.path(recipe))]

    def fingerprint(self, path: Path, *others: Path) -> str:
        """The SHA-256 of a file, or of those of several in their order."""
        own = self._fingerprint(path)
        if not others:
            return own
        every = [own, *(self._fingerprint(each) for each in others)]
        return hashlib.sha256(files.canonical(every)).hexdigest()

    def _fingerprint(self, path: Path) -> str:
        """The SHA-256 of a file, remembered for as long as the file has not been touched.

        The change time is the system's own, so new pixels under an old date are noticed too; a file that was changed
        a moment ago is not remembered, as its next change could carry the same time.
        """
        facts = path.stat()
        recipe = _of_file(path, facts)
        known = self.get(recipe)
        if known is not None:
            return known.decode()
        found = files.sha256(path)
        if self._clock() - max(facts.st_mtime, facts.st_ctime) > 2 and _unchanged(path, facts):
            self.put(recipe, found.encode())
        return found

    def knows(self, *paths: Path) -> bool:
        """Whether `fingerprint` need not read the files."""
        return not self.missing([_of_file(path, path.stat()) for path in paths])

    def entries(self) -> Iterator[Entry]:
        """All blobs whose head can be read."""
        for path in self._blobs():
            entry = _entry(path)
            if entry is not None:
                yield entry

    def verify(self) -> list[Problem]:
        """Read every blob; one problem for each that is not whole. It will be made again when it is next needed."""
        return [_damage(path) for path in self._blobs() if not _is_whole(path)]

    def sweep(self, *, older_than_days: float | None = None, keep: Iterable[Recipe] | None = None) -> Swept:
        """Remove blobs not used for so long, blobs that no recipe of `keep` asks for, or those that are both.

        What dead processes have left half done goes in any case.
        """
        kept = None if keep is None else {self.path(recipe) for recipe in keep}
        now = self._clock()
        oldest = None if older_than_days is None else now - older_than_days * files.DAY
        blobs = size = 0
        if kept is not None or oldest is not None:
            for path in list(self._blobs()):
                with contextlib.suppress(FileNotFoundError):
                    facts = path.stat()
                    if (oldest is None or facts.st_mtime < oldest) and (kept is None or path not in kept):
                        blobs, size = blobs + files.unlink(path), size + facts.st_size
        for folder in self._folders():
            files.sweep(folder, now=now)
            _sweep_locks(folder, now)
        return Swept(blobs, size)

    def path(self, recipe: Recipe) -> Path:
        """Where the blob of a recipe is, or would be."""
        return self._place(recipe, files.canonical(recipe))

    def _place(self, recipe: Recipe, text: bytes) -> Path:
        kind = recipe["kind"]
        assert isinstance(kind, str), "a recipe has a kind"
        assert _KIND.fullmatch(kind), "a kind is a plain word"
        name = hashlib.sha256(text).hexdigest()
        return self.root / kind / name[:2] / f"{name}.blob"

    def _used(self, path: Path) -> None:
        """Note the day of use, for a sweep by age; a store that may only be read has none."""
        now = self._clock()
        with contextlib.suppress(OSError):
            if abs(now - path.stat().st_mtime) > files.DAY:
                os.utime(path, (now, now))

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.root.glob("*/??") if path.is_dir())

    def _blobs(self) -> Iterator[Path]:
        for folder in self._folders():
            yield from sorted(folder.glob("*.blob"))


def key(recipe: Recipe) -> str:
    """The name of a recipe's result: equal for equal recipes, whatever their order."""
    return hashlib.sha256(files.canonical(recipe)).hexdigest()


def default_root(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """The usual place of the store: where this system keeps what can be made again."""
    if (given := environ.get("XDG_CACHE_HOME", "")) and os.path.isabs(given):
        return Path(given) / "impasto"
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    match platform:
        case "win32":
            local = environ.get("LOCALAPPDATA")
            return (Path(local) if local else home / "AppData" / "Local") / "impasto" / "cache"
        case "darwin":
            return home / "Library" / "Caches" / "impasto"
        case _:
            return home / ".cache" / "impasto"


def _of_file(path: Path, facts: os.stat_result) -> Recipe:
    return {
        "kind": "fingerprint",
        "path": os.path.abspath(path),
        "inode": [facts.st_dev, facts.st_ino],
        "size": facts.st_size,
        "changed": [facts.st_mtime_ns, facts.st_ctime_ns],
    }


def _head(recipe: bytes, payload: bytes) -> bytes:
    digest = hashlib.sha256(recipe)
    digest.update(payload)
    return _HEAD.pack(_MAGIC, FORMAT, len(recipe), len(payload), digest.digest())


def _payload(blob: bytes, recipe: bytes) -> bytes | None:
    """The payload of a blob, if the blob is whole and of this recipe."""
    start = _HEAD.size + len(recipe)
    payload = blob[start:]
    whole = blob[: _HEAD.size] == _head(recipe, payload) and blob[_HEAD.size : start] == recipe
    return payload if whole else None


def _recipe_in(blob: bytes) -> bytes | None:
    if len(blob) < _HEAD.size:
        return None
    magic, form, length, _, _ = _HEAD.unpack_from(blob)
    return blob[_HEAD.size : _HEAD.size + length] if (magic, form) == (_MAGIC, FORMAT) else None


def _is_whole(path: Path) -> bool:
    try:
        blob = files.read(path)
    except FileNotFoundError:
        return True  # swept meanwhile
    except DiskError:
        return False
    text = _recipe_in(blob)
    return text is not None and hashlib.sha256(text).hexdigest() == path.stem and _payload(blob, text) is not None


def _entry(path: Path) -> Entry | None:
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            head = file.read(_HEAD.size)
            if _recipe_in(head) is None:
                return None
            length = _HEAD.unpack(head)[2]
            recipe = json.loads(file.read(min(length, facts.st_size)))
    except (OSError, ValueError):
        return None
    kind = path.parents[1].name
    return Entry(path.stem, kind, recipe, path, facts.st_size, facts.st_mtime) if isinstance(recipe, dict) else None


def _damage(path: Path) -> Problem:
    fix = "nothing to do: it counts as absent and is made again when it is needed."
    return Problem("W-STO-001", "this cached result is not whole", str(path), fix)


def _unchanged(path: Path, before: os.stat_result) -> bool:
    now = path.stat()
    return (now.st_size, now.st_mtime_ns, now.st_ctime_ns) == (before.st_size, before.st_mtime_ns, before.st_ctime_ns)


def _sweep_locks(folder: Path, now: float) -> None:
    for path in folder.glob("*.lock"):
        with contextlib.suppress(FileNotFoundError):
            if now - path.stat().st_mtime > files.DAY and lock.holder(path) is None:
                files.unlink(path)
