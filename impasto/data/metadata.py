"""One file with the captions of many pictures, and what else is known of them: JSON lines, or one JSON object.

{"file_name": "a.png", "text": "a dog"}        a line of .jsonl; `image_path` and `caption`, `tags` are read too
{"a.png": "a dog", "b": {"caption": "..."}}    a .json; keys may lack the ending
{..., "weight": 0.5, "face": [30, 20, 64, 64]}  how much it counts, and where the face is
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from impasto.data.config import Captions
from impasto.data.findings import Finding, shown, stop
from impasto.data.reading import read

MAX_BYTES = 300_000_000

_NAMES = ("file_name", "image_path")
_TEXTS = ("text", "caption")


Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels of the upright picture."""


@dataclass(frozen=True)
class About:
    """What is known of a picture besides its caption."""

    weight: float = 1.0
    face: Box | None = None


@dataclass(frozen=True)
class Metadata:
    """Captions and the rest by picture: the path from the dataset's folder, with `/`."""

    captions: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, About] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class _Entry:
    where: str
    name: object
    value: object


def read_metadata(rules: Captions, root: Path, pictures: Iterable[str]) -> Metadata:
    """The captions of a metadata file. `pictures` are the paths, from the folder, that it may name."""
    if rules.metadata is None:
        return Metadata()
    inside = root / rules.metadata
    path = inside if inside.exists() else rules.metadata
    content = read(path, limit=MAX_BYTES)
    if not isinstance(content, bytes):
        return _refused(path, f"the file of captions {content.what}")
    if len(content) > MAX_BYTES:
        return _refused(path, f"has more than {MAX_BYTES:,} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return _refused(path, f"is not UTF-8: byte {error.start:,} is 0x{content[error.start]:02x}", "save it as UTF-8")
    lines = path.suffix.lower() != ".json"
    entries, findings = _lines(text, path) if lines else _object(text, path)
    return _matched(entries, findings, rules, root, pictures)


# what is below serves the above


def _refused(path: Path, what: str, fix: str = "correct data.captions.metadata") -> Metadata:
    return Metadata(findings=(stop("E-CAP-014", what, shown(path), fix),))


def _lines(text: str, path: Path) -> tuple[list[_Entry], list[Finding]]:
    entries, findings = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{shown(path)}:{number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            findings.append(stop("E-CAP-010", f"is not JSON ({error})", where, "mend or remove this line"))
            continue
        name = _first(value, _NAMES) if isinstance(value, dict) else None
        entries.append(_Entry(where, name, value))
    return entries, findings


def _object(text: str, path: Path) -> tuple[list[_Entry], list[Finding]]:
    where = shown(path)
    try:
        # pairs, not a dict: a key that is there twice must not vanish in silence
        content = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        return [], [stop("E-CAP-010", f"is not JSON ({error})", where, "mend it")]
    if not isinstance(content, _Pairs):
        fix = 'it should look like {"a.png": "a dog"}'
        return [], [stop("E-CAP-010", "is not an object of picture to caption", where, fix)]
    return [_Entry(where, name, dict(each) if isinstance(each, _Pairs) else each) for name, each in content], []


class _Pairs(list[tuple[str, object]]):
    """An object as it is written."""


def _matched(
    entries: Iterable[_Entry], findings: list[Finding], rules: Captions, root: Path, pictures: Iterable[str]
) -> Metadata:
    find = _finder(pictures)
    captions: dict[str, str] = {}
    known: dict[str, About] = {}
    for entry in entries:
        caption, about = _caption(entry.value, rules), _about(entry.value)
        if isinstance(about, str):
            findings.append(stop("E-CAP-015", about, entry.where, "correct it, or take it out"))
            continue
        if not isinstance(entry.name, str) or (caption is None and about == About()):
            fix = 'it should look like {"file_name": "a.png", "text": "a dog"}'
            findings.append(stop("E-CAP-010", "names no picture, or no text for it", entry.where, fix))
            continue
        name = _inside(entry.name, root)
        if name is None:
            what = f"{shown(entry.name)} is outside of the dataset's folder"
            findings.append(stop("E-CAP-013", what, entry.where, "give its path from that folder"))
            continue
        found = find(name)
        if not found:
            what = f"{shown(entry.name)} is not among the pictures"
            findings.append(stop("E-CAP-012", what, entry.where, "remove it or correct its name"))
        if any(each in known for each in found):
            what = f"{shown(entry.name)} has a caption already"
            findings.append(stop("E-CAP-011", what, entry.where, "keep one of them"))
        known |= dict.fromkeys(found, about)
        if caption is not None:
            captions |= dict.fromkeys(found, caption)
    return Metadata(captions, known, tuple(findings))


def _caption(value: object, rules: Captions) -> str | None:
    """A text, or an object with text, tags or both."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return None
    parts = [_first(value, _TEXTS), value.get("tags")]
    if any(part is not None and not isinstance(part, str) for part in parts):
        return None
    given = [part for part in parts if isinstance(part, str)]
    return f"{rules.separator} ".join(part for part in given if part) if given else None


def _about(value: object) -> About | str:
    """What is known of a picture, or what is wrong with it."""
    if not isinstance(value, dict):
        return About()
    weight, face = value.get("weight", 1.0), value.get("face")
    if not _is_number(weight) or not 0 <= weight <= 1e9:
        return "its weight is not a number from 0 up"
    if face is None:
        return About(float(weight))
    if not isinstance(face, list) or len(face) != 4 or not all(map(_is_number, face)) or min(face[2:]) <= 0:
        return "its face is not [left, top, width, height] in pixels"
    left, top, width, height = map(float, face)
    return About(float(weight), (left, top, width, height))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _first(value: Mapping[str, object], names: Iterable[str]) -> object:
    return next((value[name] for name in names if name in value), None)


def _inside(name: str, root: Path) -> str | None:
    """The path from the dataset's folder, if it stays in it."""
    top = os.path.abspath(root)
    path = os.path.normpath(os.path.join(top, name.replace("\\", "/")))
    return os.path.relpath(path, top).replace(os.sep, "/") if path.startswith(top + os.sep) else None


def _finder(pictures: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """A picture by its path, or those whose path is this but for the ending."""
    whole: dict[str, tuple[str, ...]] = {}
    stems: dict[str, tuple[str, ...]] = {}
    for each in pictures:
        whole[each] = (each,)
        stem = os.path.splitext(each)[0]
        stems[stem] = (*stems.get(stem, ()), each)
    return lambda name: whole.get(name) or stems.get(name) or ()
