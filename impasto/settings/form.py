"""A file of settings as a form holds it, and back: what the file says, by dotted name.

    text -> values -> {"data.sets.0.path": "pictures", "adapter.rank": 8} -> values -> the same text, edited

Sections and lists of sections are taken apart; everything else (plain values, lists of them, free tables) is one value.
A table without anything in it is one too, `{}`. What a form changes is changed in the text, line by line, so that
comments and order stay; where that cannot be done the text is written anew.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from impasto.errors import ConfigError, Problem
from impasto.schema import Section
from impasto.settings import fields, sparse, toml
from impasto.settings.fields import Anything, Either, Listing, Shape, Table
from impasto.settings.places import Key, Places
from impasto.settings.toml import bare_or_quoted, literal

Flat = dict[str, Any]
"""Values by dotted name."""

_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[^.]+')
MOST = 10_000


def flat(values: Mapping[str, Any], root: type[Section]) -> Flat:
    """Values as a file holds them, taken apart."""
    return {name_of(key): value for key, value in _flat(values, Table(root), None, ()) if key}


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted name, put together. None leaves one out.

    Raises ConfigError for a name that is none, or that goes through a plain value.
    """
    tree = _Node()
    if len(values) > MOST:
        raise _unusable(f"{len(values)} values", "shorten it")
    for name, value in values.items():
        if value is None:
            continue
        key = key_of(name)
        inside = tree
        for part in key[:-1]:
            below = inside.setdefault(part, _Node())
            if not isinstance(below, _Node):
                raise _unusable(name, "a part of this name is a plain value already")
            inside = below
        if value == {} and isinstance(value, dict):
            value = _Node()
        there = inside.get(key[-1])
        if isinstance(there, _Node) and not isinstance(value, _Node):
            raise _unusable(name, "this is a section already")
        inside[key[-1]] = value if there is None else there
    found = _whole(tree)
    if not isinstance(found, dict):
        raise _unusable(next(iter(values)), "a setting has a name, not a number")
    return found


def edited(text: str, values: Mapping[str, Any], root: type[Section]) -> str:
    """The text with these values by dotted name and no others. What did not change stays as it is written."""
    wanted = nested(values)
    after = flat(wanted, root)
    try:
        before = flat(toml.parse(text, "").values, root)
        if _same(before, after):
            return text
        made = _patched(text, before, after)
        if _same(flat(toml.parse(made, "").values, root), after):
            return made
    except (ConfigError, _Elsewhere):
        pass
    return written(wanted, root)


def written(values: Mapping[str, Any], root: type[Section]) -> str:
    """Values as a new text. Raises ConfigError where one cannot be written as TOML."""
    try:
        text = sparse.document(values, root)
        toml.parse(text, "the form")
    except RecursionError:
        raise _unusable("the form", "nested too deep") from None
    return text


def remarks(text: str) -> dict[Key, str]:
    """The comment that stands right above each value, as one line."""
    places, found = Places(text), {}
    places.find()
    rows = text.split("\n")
    for key, start, _ in places.statements:
        above = text.count("\n", 0, start)
        words: list[str] = []
        while above > 0 and rows[above - 1].startswith("#"):
            above -= 1
            words.insert(0, rows[above].lstrip("#").strip())
        if words:
            found[key] = " ".join(words)
    return found


def name_of(key: Key) -> str:
    """A key with dots."""
    return ".".join(bare_or_quoted(part) if isinstance(part, str) else str(part) for part in key)


def key_of(name: str) -> Key:
    """A dotted name as a key. Raises ConfigError where it is none."""
    parts = _PART.findall(name)
    if ".".join(parts) != name or not parts or len(parts) > toml.DEEPEST or len(name) > 4096:
        raise _unusable(name, "this is no dotted name")
    return tuple(map(_part, parts))


def same(one: object, other: object) -> bool:
    """Whether two values are alike to a form, which does not tell 1 from 1.0."""
    return json.dumps(_plain(one), sort_keys=True, default=str) == json.dumps(
        _plain(other), sort_keys=True, default=str
    )


# what is below serves the above


class _Node(dict[str | int, Any]):
    """A section, or a list of sections by their places."""


class _Elsewhere(Exception):
    """The change cannot be made where the value stands."""


def _flat(value: object, shape: Shape, default: object, above: Key) -> Iterator[tuple[Key, Any]]:
    options = fields.inner(shape)
    if isinstance(value, dict) and options:
        if not value:
            yield above, {}
        section = fields.usual_section(shape, value, default) or (options[0] if len(options) == 1 else None)
        known = fields.settings(section) if section else {}
        for name, each in value.items():
            setting = known.get(name)
            inner = setting.shape if setting else Anything()
            yield from _flat(each, inner, setting.default if setting else None, (*above, str(name)))
    elif isinstance(value, list) and value and options and all(isinstance(each, dict) for each in value):
        for number, each in enumerate(value):
            yield from _flat(each, _item(shape), None, (*above, number))
    else:
        yield above, value


def _item(shape: Shape) -> Shape:
    match shape:
        case Listing(item):
            return item
        case Either(options):
            return next((_item(each) for each in options if isinstance(each, Listing)), Anything())
        case _:
            return Anything()


def _whole(tree: _Node) -> Any:
    values = {part: _whole(each) if isinstance(each, _Node) else each for part, each in tree.items()}
    numbers = [part for part in values if isinstance(part, int)]
    if not numbers:
        return values
    if len(numbers) < len(values):
        raise _unusable(str(numbers[0]), "names and numbers are mixed here")
    return [values[part] for part in sorted(numbers)]


def _part(text: str) -> str | int:
    if text.startswith('"'):
        try:
            (name,) = tomllib.loads(f"{text} = 0")
        except ValueError:
            raise _unusable(text, "this is no name") from None
        return name
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 5 else text


def _same(one: Flat, other: Flat) -> bool:
    return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)


def _plain(value: object) -> object:
    match value:
        case dict():
            return {str(name): _plain(each) for name, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


def _unusable(name: str, what: str) -> ConfigError:
    return ConfigError(Problem("E-CFG-006", what, name[:100], "check the dotted name"))


# -- the text, changed where something changed ---------------------------------------------------------------------


def _patched(text: str, before: Flat, after: Flat) -> str:
    places = Places(text)
    places.find()
    edits: list[tuple[int, int, str]] = []
    after_keys = [key_of(name) for name in after]
    headers = {key for key, _, _ in places.headers}
    kept = {key[:end] for key in after_keys for end in range(len(key) + 1)}
    gone = [(key, start, end) for key, start, end in places.headers if key not in kept]
    edits += [(*_line(text, start, end), "") for _, start, end in gone]
    headers -= {key for key, _, _ in gone}
    statements = {key: (start, end) for key, start, end in places.statements}
    for name in before:
        key = key_of(name)
        if name in after:
            if not same(before[name], after[name]):
                edits.append((*_span(places, key), literal(after[name])))
        elif key in statements:
            edits.append((*_line(text, *statements[key]), ""))
        elif key not in kept and not any(each[0] == key for each in gone):
            raise _Elsewhere
    fresh: dict[Key, list[str]] = {}
    for name, key in zip(after, after_keys, strict=True):
        if name in before:
            continue
        if after[name] == {} and isinstance(after[name], dict):
            if key not in headers:
                fresh.setdefault(key, [])
        else:
            line = f"{bare_or_quoted(str(key[-1]))} = {literal(after[name])}"
            fresh.setdefault(key[:-1], []).append(line)
    for parent, rows in fresh.items():
        if parent and parent not in headers:
            at = _room(text, places, parent)
            edits.append((at, at, "\n" + "\n".join([_header(parent), *rows, ""])))
        elif rows:
            at = _behind(text, places, parent)
            edits.append((at, at, "".join(f"{row}\n" for row in rows)))
    return _applied(text, edits)


def _span(places: Places, key: Key) -> tuple[int, int]:
    if key not in places.spans:
        raise _Elsewhere
    return places.spans[key]


def _line(text: str, start: int, end: int) -> tuple[int, int]:
    """From the start of a line to the start of the next one."""
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", end)
    return first, len(text) if last < 0 else last + 1


def _behind(text: str, places: Places, table: Key) -> int:
    """Where a line of a table that is there can go: behind its last one."""
    at = next((end for key, _, end in places.headers if key == table), None)
    following = next((start for _, start, _ in places.headers if at is None or start > at), len(text))
    own = [end for _, start, end in places.statements if start < following and (at is None or start > at)]
    if own:
        return _line(text, own[-1], own[-1])[1]
    if at is not None:
        return _line(text, at, at)[1]
    return _above(text, following)


def _above(text: str, at: int) -> int:
    """Before the comments that belong to what begins at `at`."""
    rows = text[:at].split("\n")[:-1]
    while rows and rows[-1].startswith("#"):
        rows.pop()
    return min(at, sum(len(row) + 1 for row in rows)) if at < len(text) else at


def _room(text: str, places: Places, table: Key) -> int:
    """Where a new table can go: behind all that belongs to the same item of a list, or to the same section."""
    numbers = [end for end, part in enumerate(table, 1) if isinstance(part, int)]
    beginnings = [table[: numbers[-1]], table[: numbers[-1] - 1]] if numbers else []
    for beginning in (*beginnings, table[:1]):
        own = [at for at, (key, _, _) in enumerate(places.headers) if key[: len(beginning)] == beginning]
        if own and own[-1] + 1 < len(places.headers):
            return _above(text, places.headers[own[-1] + 1][1])
        if own:
            break
    return len(text)


def _header(table: Key) -> str:
    dotted = name_of(tuple(part for part in table if isinstance(part, str)))
    return f"[[{dotted}]]" if isinstance(table[-1], int) else f"[{dotted}]"


def _applied(text: str, edits: list[tuple[int, int, str]]) -> str:
    ordered = sorted(enumerate(edits), key=lambda each: (each[1][0], each[0]))
    parts, at = [], 0
    for _, (start, end, new) in ordered:
        if start < at:
            raise _Elsewhere
        before = text[at:start]
        if start == end and new and before and not before.endswith("\n") and start == len(text):
            new = "\n" + new
        parts += [before, new]
        at = end
    return "".join([*parts, text[at:]])
