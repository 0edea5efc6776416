"""Which mask belongs to which picture: a file of the same name in a folder of masks, or one beside it with a suffix."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from impasto.data.buckets import Size
from impasto.data.config import Masks
from impasto.data.findings import Finding, listed, note, shown, stop
from impasto.data.folders import Below, folded, walk
from impasto.data.memo import Known
from impasto.errors import Problem

ALIKE = 0.01
"""How much the shapes of a mask and its picture may differ: other programs round sizes their own way."""


@dataclass(frozen=True, slots=True)
class Mask:
    """The file of a mask."""

    id: str
    """SHA-256 of its bytes, in hexadecimal."""

    path: Path


class MaskFiles:
    """The masks of one set."""

    def __init__(self, rules: Masks, root: Path, folders: Sequence[Below]) -> None:
        self._rules = rules
        self._root = root
        self._top = None if rules.folder is None else os.path.realpath(rules.folder)
        self._files = self._found(folders)
        self._taken: set[str] = set()
        self._without: list[str] = []

    def apart(self, folders: Iterable[Below]) -> list[Below]:
        """The folders without the masks among them."""
        masks = set(self._files.values())
        outside = [each for each in folders if not self._is_masks_own(each)]
        return [
            replace(each, files=tuple(name for name in each.files if os.path.join(each.path, name) not in masks))
            for each in outside
        ]

    def path(self, below: Below, picture: str) -> str | None:
        """The mask file of a picture, if there is one."""
        return self._files.get((below.relative, folded(os.path.splitext(picture)[0])))

    def mask(
        self, below: Below, picture: str, size: Size, known: Mapping[str, Known], findings: list[Finding]
    ) -> Mask | None:
        """The mask of a picture of this size; what is wrong with it goes to `findings`."""
        path = self.path(below, picture)
        if path is None:
            if self._wants_files and self._rules.missing == "error":
                self._without.append(shown(os.path.join(below.path, picture)))
            return None
        self._taken.add(path)
        found = known[path]
        if isinstance(found.look, Problem):
            what = f"cannot be used as a mask: {found.look.what}"
            findings.append(stop("E-MSK-002", what, shown(path), found.look.fix))
            return None
        width, height = found.look.size
        if abs(width * size[1] - height * size[0]) > ALIKE * width * size[1]:
            what = f"is {width}x{height}, another shape than its picture of {size[0]}x{size[1]}"
            findings.append(stop("E-MSK-003", what, shown(path), "make it as large as the picture"))
            return None
        return Mask(found.id, Path(path))

    def remarks(self) -> Iterable[Finding]:
        """What is to be told once all masks are asked for."""
        where = shown(self._root)
        if self._without:
            what = f"{len(self._without)} pictures have no mask: {listed(self._without)}"
            yield stop("E-MSK-001", what, where, 'make them, or set data.masks.missing = "whole"')
        idle = sorted(shown(path) for path in set(self._files.values()) - self._taken)
        if idle:
            yield note("E-MSK-050", f"{len(idle)} masks belong to no picture: {listed(idle, 5)}", where)

    @property
    def _wants_files(self) -> bool:
        return self._rules.folder is not None or bool(self._rules.suffix)

    def _is_masks_own(self, below: Below) -> bool:
        """Whether a folder of the set is the folder of masks, or in it."""
        if self._top is None or self._top == os.path.realpath(self._root):
            return False
        path = os.path.realpath(below.path)
        return path == self._top or path.startswith(self._top + os.sep)

    def _found(self, folders: Sequence[Below]) -> dict[tuple[str, str], str]:
        """Mask files by their folder, from the top, and the folded name of their picture."""
        if not self._wants_files:
            return {}
        if self._rules.folder is not None:
            folders = walk(self._rules.folder)[0]
        suffix = folded(self._rules.suffix)
        found: dict[tuple[str, str], str] = {}
        for below in folders:
            for name in below.pictures:
                stem = folded(os.path.splitext(name)[0])
                if stem.endswith(suffix) and stem != suffix:
                    key = below.relative, stem.removesuffix(suffix)
                    found.setdefault(key, os.path.join(below.path, name))
        return found
