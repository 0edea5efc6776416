"""What the validation says, in words: each problem with its place, the value, what is expected and a fix."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from impasto.errors import Problem
from impasto.schema import Section
from impasto.settings import fields
from impasto.settings.fields import Choice, Either, Flag, Kinds, Listing, Number, Pair, Setting, Shape, Table, Text
from impasto.settings.places import Key
from impasto.settings.secrets import without_secrets
from impasto.settings.source import Source, dotted, shown
from impasto.settings.suggest import fitting, nearest, right_type
from impasto.settings.unknown import unknown

MOST = 50


@dataclass(frozen=True)
class _Spot:
    """What stands where an error was found."""

    key: Key
    shape: Shape
    value: Any
    default: Any
    section: type[Section]
    """The section the key is in: what it is called there is its last part."""
    known: bool = True
    siblings: tuple[Any, ...] = ()
    """The whole list, where it stands in one."""


def explain(error: ValidationError, values: Mapping[str, Any], root: type[Section], source: Source) -> list[Problem]:
    """One problem for each setting that is wrong."""
    problems: list[Problem] = []
    seen: set[tuple[Key, bool]] = set()
    errors = error.errors(include_url=False, include_input=False)
    misspelt: set[Key] = set()
    missing: list[tuple[Key, Problem]] = []
    for each in errors:
        spot = _find(root, values, each["loc"])
        crossed = each["type"] == "value_error"
        if (spot.key, crossed) in seen:
            continue
        seen.add((spot.key, crossed))
        if len(problems) >= MOST:
            problems.append(
                Problem("E-CFG-017", f"there are more problems than these {MOST}", source.file, "mend these")
            )
            break
        if crossed:
            problems.append(_crossed(spot, str(each["ctx"]["error"]), source))
        elif each["type"] == "missing" and spot.value is PydanticUndefined:
            missing.append((spot.key, _missing(spot, source)))
        elif not spot.known:
            meant, problem = unknown(spot.key, spot.section, spot.value, root, source)
            problems.append(problem)
            if meant:
                misspelt.add((*spot.key[:-1], meant))
        else:
            problems.append(_wrong(spot, source))
    return problems + [problem for key, problem in missing if key not in misspelt]


def _find(root: type[Section], values: Mapping[str, Any], loc: tuple[int | str, ...]) -> _Spot:
    """Follow pydantic's location through the settings: it also names union members, which no file does."""
    spot = _Spot((), Table(root), values, PydanticUndefined, root)
    parts = list(loc)
    while parts:
        section = fields.usual_section(spot.shape, spot.value, spot.default)
        if section is not None and isinstance(spot.value, dict):
            if isinstance(spot.shape, Kinds) and len(spot.shape.sections) > 1:
                parts.pop(0)  # the kind
                if not parts:
                    break
            spot = _step(spot, section, str(parts.pop(0)))
        elif isinstance(spot.shape, Listing) and isinstance(parts[0], int) and isinstance(spot.value, list):
            number = int(parts.pop(0))
            key, items = (*spot.key, number), tuple(spot.value)
            spot = _Spot(key, spot.shape.item, items[number], PydanticUndefined, spot.section, siblings=items)
        else:
            break
        if not spot.known:
            break
    return spot


def _step(spot: _Spot, section: type[Section], name: str) -> _Spot:
    key = (*spot.key, name)
    value = spot.value.get(name, PydanticUndefined)
    setting = fields.settings(section).get(name)
    if setting is None:
        return _Spot(key, fields.Anything(), value, PydanticUndefined, section, known=False)
    return _Spot(key, setting.shape, value, setting.default, section)


def _wrong(spot: _Spot, source: Source) -> Problem:
    key, shape, value = spot.key, spot.shape, spot.value
    if isinstance(shape, Kinds) and isinstance(value, dict):
        return _wrong_kind(spot, shape, source)
    if isinstance(shape, Table | Kinds):
        what = f"{shown(value)} is not a section. Expected [{dotted(key)}] with settings under it"
        fix = f"{dotted(key)}.…=…" if source.from_command_line(key) else f"write a line [{dotted(key)}]"
        return Problem("E-CFG-012", what, source.place(key), fix)
    fit = fitting(shape, value, spot.default)
    expected = f"Expected {fields.expected(shape)}{_instance(shape, spot.default, fit)}"
    code, verdict = _verdict(shape, value)
    if isinstance(shape, Listing) and fields.inner(shape):
        fix = f"write a line [[{dotted(key)}]]"
    elif spot.siblings:
        number = int(key[-1])
        fix = source.assign(key[:-1], [*spot.siblings[:number], fit, *spot.siblings[number + 1 :]])
    else:
        fix = source.assign(key, fit)
    return Problem(code, f"{shown(value)} {verdict}. {expected}", source.place(key), fix)


def _wrong_kind(spot: _Spot, shape: Kinds, source: Source) -> Problem:
    kinds = [kind for kind, _ in shape.sections]
    given = spot.value.get("kind")
    fit = (nearest(given[:100], kinds) if isinstance(given, str) else None) or getattr(spot.default, "kind", kinds[0])
    key = (*spot.key, "kind")
    what = f"{shown(given)} is no kind of {dotted(spot.key)}. Expected {fields.expected(Choice(tuple(kinds)))}"
    return Problem("E-CFG-014", what, source.place(key), source.assign(key, fit))


def _verdict(shape: Shape, value: object) -> tuple[str, str]:
    if not right_type(shape, value):
        return "E-CFG-012", f"is not {_noun(shape)}"
    if isinstance(value, float) and not math.isfinite(value):
        return "E-CFG-013", "is not a finite number"
    match shape:
        case Number(step=int(step)) if isinstance(value, int) and value % step:
            return "E-CFG-013", f"is not a multiple of {step}"
        case Number():
            return "E-CFG-013", "is out of range"
        case Choice():
            return "E-CFG-014", "is not one of the choices"
        case Either(options):
            return _verdict(next(option for option in options if right_type(option, value)), value)
        case _:
            return "E-CFG-015", "has not the right form"


def _noun(shape: Shape) -> str:
    match shape:
        case Flag():
            return "true or false"
        case Number(whole):
            return "a whole number" if whole else "a number"
        case Text():
            return "text"
        case Choice(values):
            return "text" if isinstance(values[0], str) else "a whole number"
        case Listing() | Pair():
            return "a list"
        case Either(options):
            return " or ".join(dict.fromkeys(map(_noun, options)))
        case _:
            return "what belongs here"


def _instance(shape: Shape, default: object, fit: object) -> str:
    if not isinstance(shape, Number | Either):
        return ""
    usual = fit if default is None or default is PydanticUndefined else default
    return f", for instance {shown(usual)}"


def _missing(spot: _Spot, source: Source) -> Problem:
    setting = fields.settings(spot.section)[str(spot.key[-1])]
    what = f"is missing. Expected {fields.expected(setting.shape)}: {_first_sentence(setting)}"
    return Problem(
        "E-CFG-011", what, source.place(spot.key), source.assign(spot.key, fitting(setting.shape, None, None))
    )


def _first_sentence(setting: Setting) -> str:
    return setting.help.split(". ")[0].rstrip(".")


def _crossed(spot: _Spot, message: str, source: Source) -> Problem:
    what, _, fix = without_secrets(message).partition("; ")
    section = ".".join(str(part) for part in spot.key if isinstance(part, str))
    return Problem("E-CFG-016", what, source.place(spot.key), fix or f"see `impasto explain {section}`")
