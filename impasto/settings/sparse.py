"""Values out as TOML: those that were given and no others, in the order of the settings, with remarks above them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from impasto.schema import Section
from impasto.settings import fields
from impasto.settings.fields import Shape
from impasto.settings.places import Key
from impasto.settings.toml import bare_or_quoted, literal
from impasto.settings.writer import comment


def lines(values: Mapping[str, Any], section: type[Section], remarks: Mapping[Key, str]) -> Iterator[str]:
    """The lines of the file. Names that the section does not know come last, as they are."""
    return _body(values, section, (), remarks)


def document(values: Mapping[str, Any], section: type[Section], remarks: Mapping[Key, str] | None = None) -> str:
    """The whole file."""
    return "\n".join(lines(values, section, remarks or {})).strip() + "\n"


def one_line(text: str) -> str:
    """The text without anything that would end its line."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _body(values: Mapping[str, Any], section: type[Section], at: Key, remarks: Mapping[Key, str]) -> Iterator[str]:
    """Plain values first: in TOML, what follows a header belongs to it."""
    tables: list[tuple[str, Any, fields.Setting]] = []
    known = fields.settings(section)
    kind_first = sorted(known, key=lambda name: name != "kind")
    for name in (*kind_first, *(each for each in values if each not in known)):
        if name not in values:
            continue
        value = values[name]
        if name in known and _is_table(value, known[name].shape):
            tables.append((name, value, known[name]))
            continue
        yield from comment(one_line(remarks.get((*at, name), "")))
        yield f"{bare_or_quoted(name)} = {literal(value)}"
    for name, value, setting in tables:
        yield from _table(name, value, setting, at, remarks)


def _is_table(value: object, shape: Shape) -> bool:
    if isinstance(value, list):
        return bool(value) and bool(fields.inner(shape)) and all(isinstance(each, dict) for each in value)
    return isinstance(value, dict)


def _table(name: str, value: Any, setting: fields.Setting, at: Key, remarks: Mapping[Key, str]) -> Iterator[str]:
    key = (*at, name)
    dotted = ".".join(bare_or_quoted(part) for part in key if isinstance(part, str))
    for number, each in enumerate(value if isinstance(value, list) else [value]):
        header = f"[[{dotted}]]" if isinstance(value, list) else f"[{dotted}]"
        place = (*key, number) if isinstance(value, list) else key
        options = fields.inner(setting.shape)
        inner = fields.usual_section(setting.shape, each, setting.default) or (options[0] if options else None)
        body = list(_free(each) if inner is None else _body(each, inner, place, remarks))
        if isinstance(value, dict) and body and not body[0]:  # nothing but tables: their headers say all
            yield from body
        else:
            yield from ["", *comment(one_line(remarks.get(place, ""))), header, *body]


def _free(values: Mapping[str, Any]) -> Iterator[str]:
    """A table whose names are nobody's business here."""
    yield from (f"{bare_or_quoted(name)} = {literal(value)}" for name, value in values.items())
