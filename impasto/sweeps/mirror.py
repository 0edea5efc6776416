"""Folders of runs on a storage that every machine can reach, as they were at one moment.

STORAGE/zorb-sweep-1a2b3c4d/0/index-0001-000007.json    which files there are, by the SHA-256 of what they hold
STORAGE/zorb-sweep-1a2b3c4d/0/blobs/SHA256

An index is written when all that it names is there, so whoever reads the newest sees a whole moment, one that a sweep
can go on from. A later attempt's index is newer than any of an earlier one: a machine that was thought lost, and is
not, cannot undo what was done in its place.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from impasto import files
from impasto.errors import ConfigError, DiskError, Problem

KEPT = 2
"""Indices that are kept: the newest, and one for whoever is reading it."""


class Superseded(Exception):
    """Another attempt has taken over."""


@dataclass(frozen=True)
class Index:
    """What a folder held at one moment."""

    attempt: int
    number: int
    files: dict[str, str]
    by: str
    """Which machine wrote it; for people."""

    @property
    def name(self) -> str:
        return f"index-{self.attempt:04}-{self.number:06}.json"


@dataclass
class Mirror:
    """A place on a storage for the files of one group."""

    storage: str
    """Any path that fsspec knows."""

    place: str
    attempt: int = 0
    """Which try this is, of those that write."""

    by: str = field(default_factory=socket.gethostname)
    _known: Index | None = field(default=None, init=False)
    _hashes: dict[tuple[str, int, int], str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._fs, root = _opened(self.storage)
        self._root = f"{root.rstrip('/')}/{self.place}"

    def newest(self) -> Index | None:
        """The last whole moment, if there is one."""
        for name in reversed(self._indices()):
            try:
                with self._explained():
                    told = json.loads(self._fs.cat_file(f"{self._root}/{name}"))
                return Index(int(told["attempt"]), int(told["number"]), dict(told["files"]), str(told["by"]))
            except (ValueError, KeyError, FileNotFoundError):  # its writer was killed, or it has just been replaced
                continue
        return None

    def pull(self, root: Path, folders: Sequence[str]) -> bool:
        """Make `folders` of `root` what they were at the last moment. False if nothing is new since the last call."""
        index = self.newest()
        if index is None or index == self._known:
            return False
        self._known = index
        for relative in sorted(_found(root, folders) - index.files.keys()):
            files.unlink(root / relative)
            _without_empty(root / relative, root)
        whole: dict[Path, dict[str, str]] = {}
        for relative, digest in index.files.items():
            path = root / relative
            if path.parent.parent.name == "checkpoints" and not path.parent.exists():
                whole.setdefault(path.parent, {})[path.name] = digest
            elif not path.is_file() or self._hash(path) != digest:
                files.make_folder(path.parent)
                with files.replacing(path) as tmp:
                    self._fetch(digest, tmp)
        for folder, inside in whole.items():  # a checkpoint is there, or it is not
            tmp = files.temporary(folder)
            files.make_folder(tmp)
            for name, digest in inside.items():
                self._fetch(digest, tmp / name)
            files.commit_folder(tmp, folder)
        return True

    def push(self, root: Path, folders: Sequence[str]) -> None:
        """Keep `folders` of `root` as they are now. Raises Superseded if a later attempt has begun."""
        before = self.newest()
        if before is not None and before.attempt > self.attempt:
            raise Superseded
        now = {relative: self._hash(root / relative) for relative in sorted(_found(root, folders))}
        there = set(before.files.values()) if before else set()
        if before is not None and before.attempt == self.attempt and before.files == now:
            return
        number = before.number + 1 if before is not None and before.attempt == self.attempt else 0
        index = Index(self.attempt, number, now, self.by)
        with self._explained():
            self._fs.makedirs(f"{self._root}/blobs", exist_ok=True)
            for relative, digest in now.items():
                if digest not in there:
                    self._fs.put_file(str(root / relative), f"{self._root}/blobs/{digest}")
                    there.add(digest)
            text = json.dumps({"version": 1, **index.__dict__}).encode()
            self._fs.pipe_file(f"{self._root}/{index.name}", text)
        self._forget(there - set(now.values()) - (set(before.files.values()) if before else set()))
        self._known = index

    def _forget(self, unused: set[str]) -> None:
        """Drop indices that nobody reads any more, and what they alone named."""
        old = self._indices()[:-KEPT]
        with self._explained():
            for name in old:
                try:
                    unused |= set(json.loads(self._fs.cat_file(f"{self._root}/{name}"))["files"].values())
                except (ValueError, KeyError, FileNotFoundError):
                    continue
            for name in self._indices()[-KEPT:]:
                try:
                    unused -= set(json.loads(self._fs.cat_file(f"{self._root}/{name}"))["files"].values())
                except (ValueError, KeyError, FileNotFoundError):
                    return
            gone = [*(f"{self._root}/{name}" for name in old), *(f"{self._root}/blobs/{each}" for each in unused)]
            for path in gone:
                if self._fs.exists(path):
                    self._fs.rm_file(path)

    def _indices(self) -> list[str]:
        self._fs.invalidate_cache()
        try:
            with self._explained():
                listed = self._fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        names = (str(each).rstrip("/").rpartition("/")[2] for each in listed)
        return sorted(name for name in names if name.startswith("index-") and name.endswith(".json"))

    def _fetch(self, digest: str, to: Path) -> None:
        with self._explained():
            self._fs.get_file(f"{self._root}/blobs/{digest}", str(to))
        if files.sha256(to) != digest:
            raise DiskError(
                Problem("E-SWP-010", "a file on the storage is damaged", f"{self._root}/blobs/{digest}", "delete it")
            )

    def _hash(self, path: Path) -> str:
        stat = path.stat()
        key = (str(path), stat.st_size, stat.st_mtime_ns)
        if key not in self._hashes or path.suffix in (".json", ".jsonl"):  # those change within one tick of a clock
            self._hashes[key] = files.sha256(path)
        return self._hashes[key]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            fix = "can this machine reach it, and is it allowed to write there?"
            raise DiskError(Problem("E-SWP-010", f"the storage cannot be used: {error}", self.storage, fix)) from error


def _opened(storage: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs

        fs, root = url_to_fs(storage)
    except ImportError as error:
        fix = f"install what it needs: {error}"
        raise ConfigError(
            Problem("E-SWP-009", f"{storage} cannot be reached from here", "sweep.storage", fix)
        ) from None
    except ValueError as error:
        fix = "a folder, or an address as s3://bucket/sweeps"
        raise ConfigError(Problem("E-SWP-009", f"{storage}: {error}", "sweep.storage", fix)) from None
    return fs, str(root)


def _found(root: Path, folders: Sequence[str]) -> set[str]:
    """The files in folders, without locks and what is half done."""
    found = set()
    for folder in folders:
        for parent, inside, names in os.walk(root / folder):
            here = Path(parent)
            inside[:] = [each for each in inside if not files.is_temporary(here / each)]
            found |= {
                (here / name).relative_to(root).as_posix()
                for name in names
                if name != "lock" and not files.is_temporary(here / name)
            }
    return found


def _without_empty(path: Path, root: Path) -> None:
    """Remove the folders above a removed file that are empty now."""
    for folder in path.parents:
        if folder == root or any(folder.iterdir()):
            return
        folder.rmdir()
