"""From folders to examples: every picture looked at once, every caption found, and everything wrong with them told.

Nothing is ever written into a dataset. What is wrong is told all at once, before any model is loaded.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Literal

from impasto.data.buckets import Size
from impasto.data.companions import Companions, Source
from impasto.data.config import Data, Dataset, Role
from impasto.data.decode import MAX_BYTES, quiet
from impasto.data.findings import Finding, listed, note, shown
from impasto.data.folders import Below, folded, others_notes, repeats_notes, walk
from impasto.data.masks import Mask, MaskFiles
from impasto.data.memo import Known, Memo
from impasto.data.metadata import Box
from impasto.data.pixels import examine
from impasto.data.reading import read
from impasto.errors import DataError, DiskError, Problem

Progress = Callable[[int, int], None]
"""Is told how many pictures are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Example:
    """A picture that can be trained on, with its caption."""

    id: str
    """SHA-256 of the file's bytes, in hexadecimal."""

    path: Path
    size: Size
    """Upright."""

    caption: str
    source: Source
    """Where the caption comes from."""

    repeats: int
    """How often it is seen in an epoch."""

    set: int
    """The place of its set in data.sets."""

    role: Role

    weight: float = 1.0
    """How much it counts among the pictures of its set."""

    face: Box | None = None
    """Where the face is."""

    mask: Mask | None = None
    """What of it counts; None: all."""

    trace: str = ""
    """What it looks like from far away, for finding pictures that look the same."""


@dataclass(frozen=True)
class Scan:
    """What was found, set by set."""

    examples: tuple[tuple[Example, ...], ...]
    findings: tuple[Finding, ...]
    looked_at: tuple[int, ...]
    """Files of each set that should be pictures."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was found, whatever comes of it."""
        return tuple(finding.problem for finding in self.findings)

    def of(self, outcome: Literal["note", "skip", "stop"]) -> tuple[Problem, ...]:
        """What was found that has this outcome."""
        return tuple(finding.problem for finding in self.findings if finding.outcome == outcome)

    def check(self, data: Data) -> None:
        """Raise everything that must be mended before a run can start, all at once."""
        problems = [*self.of("stop"), *self._nothing(data), *self._too_bad(data)]
        if problems:
            raise DataError(*problems)

    def _nothing(self, data: Data) -> Iterable[Problem]:
        if not data.sets:
            yield Problem("E-DAT-004", "no folder of pictures is given", "data.sets", 'name one: path = "pictures"')
        unreadable = {
            problem.where for problem in self.of("stop") if problem.code in ("E-DAT-001", "E-DAT-002", "E-DAT-003")
        }
        for dataset, found, looked_at in zip(data.sets, self.examples, self.looked_at, strict=True):
            where = shown(dataset.path)
            if not found and where not in unreadable:
                what = "holds no pictures" if not looked_at else f"none of its {looked_at} pictures can be used"
                fix = "PNG, JPEG, WebP, AVIF, GIF, BMP and TIFF are read; is it the right folder?"
                yield Problem("E-DAT-005", what, where, fix)

    def _too_bad(self, data: Data) -> Iterable[Problem]:
        bad = [problem for problem in self.of("skip") if problem.code not in _NEVER_PICTURES]
        if not bad:
            return
        if data.bad_pictures == "stop":
            yield from bad
            return
        share = len(bad) / (len(bad) + sum(map(len, self.examples)))
        if share <= data.bad_share:
            return
        kinds = Counter(problem.code for problem in bad)
        reasons = listed([f"{count} {code}" for code, count in sorted(kinds.items())])
        what = f"{len(bad)} pictures ({share:.1%}) cannot be used, more than {data.bad_share:.1%}: {reasons}. First: "
        first = "; ".join(f"{problem.where} {problem.what}" for problem in bad[:3])
        if kinds["E-IMG-032"] / (len(bad) + sum(map(len, self.examples))) > data.bad_share:
            raise DiskError(Problem("E-DSK-020", what + first, "data.sets", "check the disk or the network"))
        fix = "mend or remove them, or raise data.bad_share"
        yield Problem("E-DAT-006", what + first, "data.bad_share", fix)


_NEVER_PICTURES = frozenset(("E-IMG-021", "E-DAT-003"))
"""Left out without counting as bad: drawings, videos and documents that lie among pictures; folders."""


def scan(data: Data, *, memo: Path | None = None, progress: Progress | None = None) -> Scan:
    """Look through all sets. `memo` names a file, outside of them, that remembers unchanged pictures."""
    inside = _inside(data, memo)
    remembered = Memo(None if inside else memo)
    walks = [walk(dataset.path) for dataset in data.sets]
    wanted = [_wanted(dataset, below) for dataset, (below, _) in zip(data.sets, walks, strict=True)]
    masks = [MaskFiles(data.masks_of(each), each.path, below) for each, below in zip(data.sets, wanted, strict=True)]
    folders = [each.apart(below) for each, below in zip(masks, wanted, strict=True)]
    paths = {path for each in folders for path in _paths(each)}
    paths |= {path for each, below in zip(masks, folders, strict=True) for path in _masks(each, below)}
    known = _look_at_all(sorted(paths), remembered, progress)
    sets: list[tuple[Example, ...]] = []
    findings: list[Finding] = []
    for at, (dataset, (_, told), below) in enumerate(zip(data.sets, walks, folders, strict=True)):
        companions = Companions(data.captions_of(dataset), dataset.path, below)
        found, more = _set(at, dataset, below, known, companions, masks[at])
        findings += _faceless(data, dataset, found)
        sets.append(found)
        findings += [*told, *_remarks(data, dataset, walks[at][0]), *more]
    unkept = inside or remembered.save()
    findings += [*_twice(sets), *([Finding("note", unkept)] if unkept else [])]
    return Scan(tuple(sets), tuple(findings), tuple(len(list(_paths(each))) for each in folders))


# what is below serves the above


def _inside(data: Data, memo: Path | None) -> Problem | None:
    """Nothing of ours may lie in a dataset."""
    if memo is not None and any(memo.resolve().is_relative_to(each.path.resolve()) for each in data.sets):
        what = "lies in a folder of pictures, where nothing is ever written; every picture is read anew"
        return Problem("E-DAT-058", what, shown(memo), "keep caches and pictures in folders of their own")
    return None


def _remarks(data: Data, dataset: Dataset, below: Sequence[Below]) -> Iterable[Finding]:
    if dataset.repeats is None:
        yield from repeats_notes(below)
    yield from others_notes(dataset.path, below, data.captions_of(dataset).extensions)


def _wanted(dataset: Dataset, below: Iterable[Below]) -> list[Below]:
    """Without folders whose names ask for 0 repeats."""
    return [each for each in below if dataset.repeats is not None or each.repeats != 0]


def _paths(folders: Iterable[Below]) -> Iterable[str]:
    return (os.path.join(below.path, name) for below in folders for name in below.pictures)


def _masks(masks: MaskFiles, folders: Iterable[Below]) -> Iterable[str]:
    found = (masks.path(below, name) for below in folders for name in below.pictures)
    return (path for path in found if path is not None)


def _look_at_all(paths: Sequence[str], memo: Memo, progress: Progress | None) -> dict[str, Known]:
    known: dict[str, Known] = {}
    with quiet(), ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="scan") as pool:
        for path, found in zip(paths, pool.map(_look_at, paths, repeat(memo)), strict=True):
            known[path] = found
            if progress is not None:
                progress(len(known), len(paths))
    return known


def _look_at(name: str, memo: Memo) -> Known:
    path = Path(name)
    try:
        before = os.stat(name)
    except OSError:
        before = None
    if before is not None and (kept := memo.get(name, before)) is not None:
        return kept
    content = read(path, limit=MAX_BYTES)
    if isinstance(content, Problem):
        return Known("", content)
    known = Known(hashlib.sha256(content).hexdigest(), examine(content, path))
    if before is not None and before.st_size == len(content):
        memo.put(name, before, known)
    return known


def _set(
    at: int,
    dataset: Dataset,
    folders: Iterable[Below],
    known: dict[str, Known],
    companions: Companions,
    masks: MaskFiles,
) -> tuple[tuple[Example, ...], list[Finding]]:
    """The examples of a set, and what is to be told of it."""
    examples, findings = [], list(companions.findings)
    for below in folders:
        for name in below.pictures:
            path = os.path.join(below.path, name)
            look = known[path].look
            if isinstance(look, Problem):
                findings.append(Finding("skip", look))
                continue
            findings += [Finding("note", each) for each in look.notes]
            caption, source = companions.caption(below, name, findings)
            repeats = next(each for each in (dataset.repeats, below.repeats, 1) if each is not None)
            about, mask = companions.about(below, name), masks.mask(below, name, look.size, known, findings)
            examples.append(
                Example(
                    known[path].id, Path(path), look.size, caption, source, repeats, at, dataset.role,
                    weight=about.weight, face=about.face, mask=mask, trace=look.trace,
                )
            )  # fmt: skip
        findings += _alike(below)
    return tuple(examples), [*findings, *companions.remarks(), *masks.remarks()]


def _faceless(data: Data, dataset: Dataset, examples: Sequence[Example]) -> Iterable[Finding]:
    """Pictures that cannot be cut around their faces."""
    without = [shown(each.path.name) for each in examples if each.face is None]
    if dataset.role != "validation" and data.augment_of(dataset).face_crop is not None and without:
        what = (
            f"{len(without)} pictures have no face in metadata and are cut as without face_crop: {listed(without, 5)}"
        )
        yield note("E-DAT-059", what, shown(dataset.path), 'add "face": [left, top, width, height] to their metadata')


def _alike(below: Below) -> Iterable[Finding]:
    """Names that some disks cannot tell apart."""
    seen: dict[str, str] = {}
    for name in below.pictures:
        other = seen.setdefault(folded(name), name)
        if other != name:
            what = f"{shown(other)} and {shown(name)} are one name to disks that know no case or accents"
            yield note("E-DAT-054", what, shown(below.path), "rename one before copying them")


def _twice(sets: Sequence[Sequence[Example]]) -> Iterable[Finding]:
    """The same picture, to the byte, more than once."""
    seen: dict[str, Example] = {}
    for example in (each for found in sets for each in found):
        first = seen.setdefault(example.id, example)
        if first is example or (first.path == example.path and first.role == example.role):
            continue
        if "validation" in (first.role, example.role) and first.role != example.role:
            what = f"is trained on and measured: the same picture as {shown(first.path)}"
            yield note("E-DAT-056", what, shown(example.path), "keep validation pictures out of the other sets")
        else:
            yield note("E-DAT-055", f"is the same picture as {shown(first.path)}", shown(example.path))
