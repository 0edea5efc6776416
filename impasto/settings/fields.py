"""What each setting may hold, read from the sections' annotations: one source for messages, help, docs and tests."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from impasto.schema import Section
from impasto.settings.places import Key


@dataclass(frozen=True)
class Flag:
    """true or false."""


@dataclass(frozen=True)
class Number:
    """A number, with its limits."""

    whole: bool
    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    step: int | None = None
    """It must be a multiple of this."""


@dataclass(frozen=True)
class Text:
    """Text, perhaps of a certain form; or a path."""

    path: bool = False
    pattern: str | None = None
    shortest: int = 0
    longest: int | None = None


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[str | int, ...]


@dataclass(frozen=True)
class Pair:
    """A list of a fixed length."""

    items: tuple[Shape, ...]


@dataclass(frozen=True)
class Listing:
    """A list of any length."""

    item: Shape
    shortest: int = 0


@dataclass(frozen=True)
class Table:
    """A section."""

    section: type[Section]


@dataclass(frozen=True)
class Kinds:
    """A section whose `kind` chooses its other fields."""

    sections: tuple[tuple[str, type[Section]], ...]

    def chosen(self, value: object, default: object) -> type[Section] | None:
        """The section that a table's `kind` names; None where it names none of several."""
        if len(self.sections) == 1:
            return self.sections[0][1]
        usual = getattr(default, "kind", self.sections[0][0])
        kind = value.get("kind", usual) if isinstance(value, dict) else usual
        return next((section for name, section in self.sections if name == kind), None)


@dataclass(frozen=True)
class Either:
    """Any of several shapes."""

    options: tuple[Shape, ...]


@dataclass(frozen=True)
class Options:
    """Values by names that are not known here."""


@dataclass(frozen=True)
class Anything:
    """Not described further."""


Shape = Flag | Number | Text | Choice | Pair | Listing | Table | Kinds | Either | Options | Anything


@dataclass(frozen=True)
class Setting:
    """One field of a section."""

    name: str
    shape: Shape
    default: Any
    """PydanticUndefined where it must be given; None where it may stay unset."""
    help: str
    section: type[Section]

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is PydanticUndefined


@cache
def settings(section: type[Section]) -> dict[str, Setting]:
    """The fields of a section, in order."""
    hints = get_type_hints(section, include_extras=True)
    return {
        name: Setting(name, _shape(hints[name], ()), _default(field), _one_line(field.description), section)
        for name, field in section.model_fields.items()
    }


def inner(shape: Shape) -> tuple[type[Section], ...]:
    """The sections that may stand inside a shape."""
    match shape:
        case Table(section):
            return (section,)
        case Kinds(sections):
            return tuple(section for _, section in sections)
        case Listing(item):
            return inner(item)
        case Either(options):
            return tuple(section for option in options for section in inner(option))
        case _:
            return ()


def walk(section: type[Section], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Setting]]:
    """Every setting with its dotted key; `*` stands for the place in a list. Kinds share a key's beginning."""
    for setting in settings(section).values():
        key = (*above, setting.name)
        yield key, setting
        below = (*key, "*") if isinstance(setting.shape, Listing) else key
        for each in inner(setting.shape):
            yield from walk(each, below)


def at(section: type[Section], key: Key) -> tuple[Setting, ...]:
    """The settings a dotted key may mean: several only where kinds differ; none where there is no such key."""
    wanted = tuple("*" if isinstance(part, int) else part for part in key)
    return tuple(setting for path, setting in _index(section).get(wanted, ()))


@cache
def _index(section: type[Section]) -> dict[tuple[str, ...], list[tuple[tuple[str, ...], Setting]]]:
    found: dict[tuple[str, ...], list[tuple[tuple[str, ...], Setting]]] = {}
    for path, setting in walk(section):
        found.setdefault(path, []).append((path, setting))
    return found


def usual_section(shape: Shape, value: object, default: object) -> type[Section] | None:
    """The section that describes a table standing at a shape."""
    match shape:
        case Table(section):
            return section
        case Kinds():
            return shape.chosen(value, default)
        case Either(options):
            return next((each for option in options if (each := usual_section(option, value, default))), None)
        case _:
            return None


def help_of(section: type[Section]) -> str:
    """What a section is for."""
    return _one_line(section.__doc__)


def expected(shape: Shape) -> str:
    """In words, what belongs there: "a whole number > 0"."""
    match shape:
        case Flag():
            return "true or false"
        case Number(whole):
            noun = "a whole number" if whole else "a number"
            return f"{noun} {limits}" if (limits := _limits(shape)) else noun
        case Text(path=True):
            return "a path in quotes"
        case Text():
            return _expected_text(shape)
        case Choice((only,)):
            return repr_choice(only)
        case Choice(values):
            return "one of " + ", ".join(map(repr_choice, values))
        case Pair(items):
            return f"a list of {len(items)}, each {expected(items[0])}"
        case Listing(Table() | Kinds()):
            return "a list of sections"
        case Listing(item, shortest):
            return f"a list, each {expected(item)}" + (f", at least {shortest}" if shortest else "")
        case Table():
            return "a section"
        case Kinds(sections):
            return "a section of kind " + ", ".join(repr_choice(kind) for kind, _ in sections)
        case Either(options):
            return ", or ".join(map(expected, options))
        case Options():
            return "a section with plain values of any name"
        case Anything():
            return "a value"


def repr_choice(value: str | int) -> str:
    """A choice as it is written in the file."""
    return f'"{value}"' if isinstance(value, str) else str(value)


def _expected_text(shape: Text) -> str:
    if shape.pattern in _FORMS:
        return _FORMS[shape.pattern]
    words = "text in quotes"
    if shape.pattern:
        words += f" of the form {shape.pattern}"
    if shape.longest is not None:
        words += f", {shape.shortest or 0} to {shape.longest} characters"
    elif shape.shortest:
        words += ", not empty"
    return words


_FORMS = {
    r"^A-\d{3}$": 'a code of advice, as "A-101"',
    r"^[^/\\\x00-\x1f<>:\"|?*]{1,100}$": "text of 1 to 100 characters without / \\ < > : | ? * and double quotes",
    r"^[^/\\]*$": "text without / and \\",
    r"^\.[^/\\]+$": 'the ending of a file name with its dot, such as ".txt"',
    r"^(sine|cosine|linear|reverse_linear|zeros)(\+\d*\.?\d+)?$": (
        'one of "sine", "cosine", "linear", "reverse_linear", "zeros", perhaps with "+0.25" at its end'
    ),
    r"^[A-Za-z0-9_-]{1,32}$": "text of 1 to 32 letters, digits, _ and -",
    r"^[\w.-]{1,100}$": "text of 1 to 100 letters, digits, _, . and -",
    r"^(auto|cpu|mps|(cuda|xpu)(:\d+)?)$": '"auto", "cpu", "mps", "cuda", "cuda:0", "xpu" or "xpu:0"',
}
"""Patterns in words."""


def _limits(shape: Number) -> str:
    signs = ((">", shape.above), (">=", shape.least), ("<", shape.below), ("<=", shape.most))
    limits = [(sign, limit) for sign, limit in signs if limit is not None and limit < 10**9]
    words = " and ".join(f"{sign} {plain(limit)}" for sign, limit in limits)
    if [sign for sign, _ in limits] == [">=", "<="]:
        words = f"from {plain(limits[0][1])} to {plain(limits[1][1])}"
    return words if shape.step is None else f"{words}, a multiple of {shape.step}".lstrip(", ")


def plain(number: float) -> str:
    """A limit without a needless fraction."""
    return str(int(number)) if number == int(number) else repr(number)


# --- annotations to shapes -------------------------------------------------------------------------------------------


def _shape(annotation: Any, marks: tuple[Any, ...]) -> Shape:
    origin = get_origin(annotation)
    if origin is Annotated:
        bare, *found = get_args(annotation)
        return _shape(bare, (*_flat(found), *marks))
    if origin is Union or isinstance(annotation, types.UnionType):
        return _union([each for each in get_args(annotation) if each is not type(None)], marks)
    if origin is Literal:
        return Choice(get_args(annotation))
    if origin is dict:
        return Options()
    if origin is tuple:
        items = get_args(annotation)
        if items[-1] is Ellipsis:
            return Listing(_shape(items[0], ()), _mark(marks, "min_length") or 0)
        return Pair(tuple(_shape(item, ()) for item in items))
    if origin is None and isinstance(annotation, type):
        return _plain(annotation, marks)
    return Anything()


def _plain(annotation: type, marks: tuple[Any, ...]) -> Shape:
    if issubclass(annotation, Section):
        return Kinds(((kind, annotation),)) if (kind := kind_of(annotation)) else Table(annotation)
    if annotation is bool:
        return Flag()
    if annotation in (int, float):
        above, least, below, most, step = (_mark(marks, name) for name in ("gt", "ge", "lt", "le", "multiple_of"))
        return Number(annotation is int, above, least, below, most, step)
    if annotation is str:
        return Text(False, _mark(marks, "pattern"), _mark(marks, "min_length") or 0, _mark(marks, "max_length"))
    return Text(path=True) if annotation is Path else Anything()


def _union(options: list[Any], marks: tuple[Any, ...]) -> Shape:
    shapes = tuple(_shape(option, marks if len(options) == 1 else ()) for option in options)
    if len(shapes) == 1:
        return shapes[0]
    if all(isinstance(shape, Kinds) for shape in shapes):
        return Kinds(tuple(pair for shape in shapes if isinstance(shape, Kinds) for pair in shape.sections))
    return Either(shapes)


def kind_of(section: type[Section]) -> str | None:
    """The `kind` by which a file names this section, if it is one of several."""
    field = section.model_fields.get("kind")
    return get_args(field.annotation)[0] if field and get_origin(field.annotation) is Literal else None


def _flat(marks: list[Any]) -> Iterator[Any]:
    for mark in marks:
        if isinstance(mark, FieldInfo):
            yield from mark.metadata
        else:
            yield mark


def _mark(marks: tuple[Any, ...], name: str) -> Any:
    return next((value for mark in marks if (value := getattr(mark, name, None)) is not None), None)


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True) if not field.is_required() else PydanticUndefined


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())
