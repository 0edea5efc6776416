"""Settings from the command line, laid over those of a file: `adapter.rank=8`."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from impasto.errors import Problem
from impasto.schema import Section
from impasto.settings import fields
from impasto.settings.fields import Either, Shape, Text
from impasto.settings.places import Key
from impasto.settings.source import dotted, shown
from impasto.settings.suggest import right_type
from impasto.settings.toml import DEEPEST, parse_value

LONGEST = 1 << 16


def lay(
    values: Mapping[str, Any], overrides: Sequence[str], root: type[Section]
) -> tuple[dict[str, Any], frozenset[Key], list[Problem]]:
    """The values with the overrides over them, the keys so given, and what is wrong with them."""
    result: dict[str, Any] = copy.deepcopy(dict(values))
    given: dict[Key, str] = {}
    problems: list[Problem] = []
    for text in overrides:
        try:
            key, value = _parse(text, root)
            if key in given:
                raise _Unusable("E-CFG-004", f"{dotted(key)} is given twice", "keep one of them")
            laid = copy.deepcopy(result)
            _put(laid, key, value)
            result, given[key] = laid, text  # a setting that cannot be laid over leaves nothing of itself
        except _Unusable as error:
            problems.append(Problem(error.code, error.what, "command line", error.fix))
    return result, frozenset(given), problems


_UNSET = object()


class _Unusable(Exception):
    def __init__(self, code: str, what: str, fix: str) -> None:
        self.code, self.what, self.fix = code, what, fix
        super().__init__(what)


def _parse(text: str, root: type[Section]) -> tuple[Key, Any]:
    name, equals, written = text.partition("=")
    parts = name.strip().split(".")
    if not equals or not all(parts) or len(parts) > DEEPEST:
        fix = "write section.setting=value, for instance adapter.rank=8"
        raise _Unusable("E-CFG-006", f"{shown(text)} is not a setting with a value", fix)
    if len(text) > LONGEST or (not text.isascii() and _broken(text)):
        raise _Unusable("E-CFG-006", f"{shown(name)} has a value that is too long or not UTF-8", "put it into a file")
    key: Key = tuple(int(part) if part.isdecimal() and len(part) < 6 else part for part in parts)
    return key, _value(written.strip(), key, root)


def _broken(text: str) -> bool:
    return any("\ud800" <= sign <= "\udfff" for sign in text)


def _value(written: str, key: Key, root: type[Section]) -> Any:
    """As TOML reads it, else the text itself. An empty value takes the setting away, so that its default holds."""
    if not written:
        return _UNSET
    shapes = [setting.shape for setting in fields.at(root, key)]
    try:
        value = parse_value(written)
    except ValueError:
        return written
    text_alone = any(map(_holds_text, shapes)) and not any(right_type(shape, value) for shape in shapes)
    return written if text_alone else value


def _holds_text(shape: Shape) -> bool:
    return isinstance(shape, Text) or (isinstance(shape, Either) and any(map(_holds_text, shape.options)))


def _put(values: dict[str, Any], key: Key, value: Any) -> None:
    inside: Any = values
    for number, part in enumerate(key):
        last = number == len(key) - 1
        _check_step(inside, part, key[:number])
        if isinstance(inside, list):
            index = int(part)
            if last and value is _UNSET:
                del inside[index : index + 1]
                return
            if index == len(inside):
                inside.append(_empty(key, number))
            if last:
                inside[index] = value
            inside = inside[index]
        elif last and value is _UNSET:
            inside.pop(part, None)
        elif last:
            inside[part] = value
        else:
            inside = inside.setdefault(part, _empty(key, number))


def _empty(key: Key, number: int) -> Any:
    return [] if number + 1 < len(key) and isinstance(key[number + 1], int) else {}


def _check_step(inside: Any, part: str | int, above: Key) -> None:
    if isinstance(inside, list) and isinstance(part, int):
        if part > len(inside):
            fix = f"the next one is {dotted((*above, len(inside)))}"
            raise _Unusable("E-CFG-006", f"{dotted((*above, part))} leaves a gap: there are {len(inside)} so far", fix)
    elif not isinstance(inside, dict) or isinstance(part, int):
        kind = "a list" if isinstance(inside, list) else "a section" if isinstance(inside, dict) else "a single value"
        what = f"{dotted(above) or 'the top'} is {kind}, so it has no {dotted((part,))}"
        fix = "number its items: 0, 1, 2 …" if isinstance(inside, list) else "check the dotted name"
        raise _Unusable("E-CFG-006", what, fix)
