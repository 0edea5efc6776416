"""Which caption belongs to which picture: metadata, then the file beside it, then the rule for those without."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from impasto.data.config import Captions
from impasto.data.findings import Finding, listed, note, shown, stop
from impasto.data.folders import Below, ending, folded
from impasto.data.metadata import About, read_metadata
from impasto.data.texts import Text, cleaned, read_caption

Source = Literal["metadata", "file", "text", "folder", "empty"]
"""Where a caption comes from."""


class Companions:
    """The captions of one set."""

    def __init__(self, rules: Captions, root: Path, folders: Sequence[Below]) -> None:
        self._rules = rules
        self._every_line = rules.lines == "random"
        self._root = root
        self._beside = {below.path: _Beside(below, rules.extensions) for below in folders}
        pictures = [_relative(below, name) for below in folders for name in below.pictures]
        self._metadata = read_metadata(rules, root, pictures)
        self._texts: dict[str, Text] = {}
        self._without: list[str] = []
        self._shared: Counter[str] = Counter()
        self.findings: tuple[Finding, ...] = self._metadata.findings

    def caption(self, below: Below, name: str, findings: list[Finding]) -> tuple[str, Source]:
        """The caption of a picture and where it comes from; what is to be told goes to `findings`."""
        where = shown(os.path.join(below.path, name))
        own = self._metadata.captions.get(_relative(below, name))
        if own is not None and (text := _told(cleaned(own, where, every_line=self._every_line), findings)):
            return text, "metadata"
        path = self._beside[below.path].of(name)
        if path is not None:
            text = self._read(path, findings)
            if text or text is None:
                return text or "", "file"
        return self._fallback(below, where)

    def file(self, below: Below, name: str) -> str | None:
        """The caption file of a picture, if it has one."""
        return self._beside[below.path].of(name)

    def about(self, below: Below, name: str) -> About:
        """What is known of a picture besides its caption."""
        return self._metadata.about.get(_relative(below, name), About())

    def remarks(self) -> Iterable[Finding]:
        """What is to be told once all captions are asked for."""
        where = shown(self._root)
        if self._without:
            what = f"{len(self._without)} pictures have no caption, or an empty one: {listed(self._without)}"
            fix = 'write captions, or set data.captions.text, or data.captions.missing = "empty" or "folder"'
            yield stop("E-CAP-001", what, where, fix)
        shared = [shown(path) for path, count in sorted(self._shared.items()) if count > 1]
        if shared:
            yield note("E-CAP-054", f"is the caption of several pictures: {listed(shared, 5)}", where)
        idle = sorted(shown(path) for beside in self._beside.values() for path in beside.paths - set(self._shared))
        if idle:
            yield note("E-CAP-055", f"{len(idle)} caption files belong to no picture: {listed(idle, 5)}", where)

    def _read(self, path: str, findings: list[Finding]) -> str | None:
        """None: the file is unusable, which stops the run."""
        self._shared[path] += 1
        if path not in self._texts:
            self._texts[path] = read_caption(Path(path), every_line=self._every_line)
            findings += self._texts[path].findings
        return self._texts[path].caption

    def _fallback(self, below: Below, where: str) -> tuple[str, Source]:
        if self._rules.text is not None:
            return self._rules.text, "text"
        match self._rules.missing:
            case "folder":
                return below.concept, "folder"
            case "error":
                self._without.append(where)
        return "", "empty"


class _Beside:
    """The caption files of one folder."""

    def __init__(self, below: Below, extensions: Sequence[str]) -> None:
        wanted = [each.lower() for each in extensions]
        self._exact: dict[str, list[tuple[int, str]]] = {}
        for name in (*below.files, *below.folders):  # a folder there is a mistake to tell, not to pass over
            if (end := ending(name)) in wanted:
                stem = os.path.splitext(name)[0]
                self._exact.setdefault(stem, []).append((wanted.index(end), os.path.join(below.path, name)))
        self._folded: dict[str, list[tuple[int, str]]] = {}
        stems = {os.path.splitext(name)[0] for name in below.pictures}
        for stem, found in self._exact.items():
            if stem not in stems:  # else it belongs to the picture that is spelled like it
                self._folded.setdefault(folded(stem), []).extend(found)
        self.paths = {path for found in self._exact.values() for _, path in found}

    def of(self, picture: str) -> str | None:
        """The caption file of a picture: spelled like it if there is one, by the order of extensions."""
        stem = os.path.splitext(picture)[0]
        found = self._exact.get(stem) or self._folded.get(folded(stem))
        return min(found)[1] if found else None


def _relative(below: Below, name: str) -> str:
    return os.path.join(below.relative, name).replace(os.sep, "/")


def _told(text: Text, findings: list[Finding]) -> str | None:
    findings += text.findings
    return text.caption
