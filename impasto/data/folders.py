"""What lies in a dataset's folder: every file below it, in an order that no file system decides.

Links are followed, each place once. Nothing is opened.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path

from impasto.data.findings import Finding, listed, note, shown, skip, stop

PICTURES = frozenset(
    (
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif"),
        *(".heic", ".heif", ".jxl", ".jp2", ".exr", ".hdr", ".ico", ".svg", ".psd", ".pdf", ".eps"),
        *(".dng", ".nef", ".cr2", ".cr3", ".arw", ".raf", ".orf", ".rw2"),
        *(".mp4", ".mov", ".webm", ".mkv", ".avi"),
    )
)
"""Endings of files that are looked into: pictures, and what people take for pictures."""

_IGNORED_FOLDERS = frozenset(("__MACOSX", "$RECYCLE.BIN", "System Volume Information"))
_REPEATS = re.compile(r"([0-9]{1,9})_(.*)", re.DOTALL)


@dataclass(frozen=True)
class Below:
    """One folder at or below a dataset's."""

    path: str
    relative: str
    """From the dataset's folder, with `/`; empty for itself."""

    files: tuple[str, ...]
    folders: tuple[str, ...]
    repeats: int | None
    """What the nearest folder named like `10_name` says."""

    concept: str
    """Its name without repeats."""

    @property
    def pictures(self) -> tuple[str, ...]:
        """The names of the files that should be pictures."""
        return tuple(name for name in self.files if ending(name) in PICTURES)


def walk(root: Path) -> tuple[list[Below], list[Finding]]:
    """The folder and all below it, sorted, with what is remarkable about them."""
    where = shown(root)
    if not root.exists():
        return [], [stop("E-DAT-001", "there is no such folder", where, "correct the path of this set")]
    if not root.is_dir():
        return [], [stop("E-DAT-002", "is a file", where, "give the folder that holds it")]
    folders, findings = _walk(os.path.abspath(root))
    if not folders:
        return [], [stop("E-DAT-003", findings[0].problem.what, where, findings[0].problem.fix)]
    return sorted(folders, key=lambda each: each.relative), findings


def repeats_notes(folders: Iterable[Below]) -> Iterable[Finding]:
    """What the names of folders say about repeats: never applied in silence."""
    for each in folders:
        own = _named(os.path.basename(each.path))[1]
        if own == 0:
            yield note("E-DAT-051", "its name asks for 0 repeats: it is left out", shown(each.path))
        elif own is not None and each.pictures:
            what = f"by its name, each picture here is seen {own} times an epoch"
            yield note("E-DAT-050", what, shown(each.path), "set data.sets.repeats for another number")


def others_notes(root: Path, folders: Iterable[Below], captions: Iterable[str]) -> Iterable[Finding]:
    """Files that look like no pictures and no companions of pictures: counted, so that nothing is lost in silence."""
    expected = PICTURES | _COMPANIONS | {each.lower() for each in captions}
    kinds = Counter(ending(name) or "without ending" for each in folders for name in each.files)
    left = [f"{count} {kind}" for kind, count in sorted(kinds.items()) if kind not in expected]
    if left:
        yield note("E-DAT-053", f"files that are not looked into: {listed(left)}", shown(root))


def ending(name: str) -> str:
    """The ending of a file name, whatever its case; a space that crept in behind it does not count."""
    return os.path.splitext(name.rstrip())[1].lower()


def folded(text: str) -> str:
    """A name as file systems that know no case, or compose letters their own way, see it."""
    return unicodedata.normalize("NFC", text).casefold()


# what is below serves the above


def _walk(root: str) -> tuple[list[Below], list[Finding]]:
    """Real folders first and links to folders after them, so that a link never hides what it leads to."""
    folders: list[Below] = []
    findings: list[Finding] = []
    known: set[tuple[int, int]] = set()
    todo: list[tuple[bool, str, int | None]] = [(False, "", None)]
    while todo:
        is_link, relative, repeats = heappop(todo)
        path = os.path.join(root, relative) if relative else root
        concept, own = _named(os.path.basename(path))
        repeats = repeats if own is None else own
        try:
            place = os.stat(path)
            if (place.st_dev, place.st_ino) in known:
                findings.append(note("E-DAT-052", "is a link to a folder that is read already", shown(path)))
                continue
            known.add((place.st_dev, place.st_ino))
            files, below, links = _listed(path)
        except OSError as error:
            what = f"cannot be listed ({error.strerror})"
            findings.append(skip("E-DAT-003", what, shown(path), "let this account read it"))
            continue
        folders.append(Below(path, relative, files, (*below, *links), repeats, concept))
        for names, through_link in ((below, is_link), (links, True)):
            for name in names:
                heappush(todo, (through_link, os.path.join(relative, name), repeats))
    return folders, findings


def _listed(path: str) -> tuple[tuple[str, ...], list[str], list[str]]:
    """Files, folders, and links to folders, without hidden ones."""
    files, below, links = [], [], []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _IGNORED_FOLDERS:
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.name)
            elif _leads_to_folder(entry):
                links.append(entry.name)
            else:
                files.append(entry.name)
    return tuple(sorted(files)), below, links


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _named(folder: str) -> tuple[str, int | None]:
    """`10_sks dog` is ten times `sks dog`."""
    found = _REPEATS.fullmatch(folder)
    return (found[2], int(found[1])) if found else (folder, None)


_COMPANIONS = frozenset((".txt", ".caption", ".json", ".jsonl", ".npz", ".safetensors", ".md", ".db", ".ini"))
