"""The desk on which a recipe becomes settings: takes arguments up, puts settings down, notes what became of each."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from impasto.compat.recipe import Given, Outcome, Recipe, Result
from impasto.compat.tables import LISTS, flags
from impasto.config import RunConfig
from impasto.settings import fields
from impasto.settings.places import Key
from impasto.settings.suggest import nearest
from impasto.settings.toml import literal

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "none", "")


class Odd(ValueError):
    """A value that is not of the kind it should be."""

    def __init__(self, what: str, name: str = "") -> None:
        super().__init__(what)
        self.name = name


@dataclass
class Desk:
    """One translation under way."""

    recipe: Recipe
    exact: bool = False
    """Where impasto can do both: as sd-scripts does, in place of what is better."""

    values: dict[str, Any] = field(default_factory=dict)
    comments: dict[Key, str] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    looked_at: str = ""
    """The argument whose value was asked for last."""

    trains: bool = field(init=False)
    """Whether there is more than a dataset: then what nobody said has its usual value."""

    def __post_init__(self) -> None:
        self.trains = bool(self.recipe.args)

    # -- taking up --------------------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether an argument was given and not dealt with yet."""
        return name in self.recipe.args

    def peek(self, name: str) -> Any:
        """Its value, without dealing with it."""
        self.looked_at = name
        given = self.recipe.args.get(name)
        return None if given is None else given.value

    def flag(self, name: str) -> bool:
        """A switch. Text counts by what it says (Q-N6)."""
        value = self.peek(name)
        if isinstance(value, str):
            word = value.strip().casefold()
            if word not in (*_TRUE, *_FALSE):
                raise Odd(f"{value!r} is neither true nor false")
            return word in _TRUE
        return bool(value)

    def number(self, name: str) -> float | None:
        """A number, also where it is written as text. None if it was not given."""
        value = self.peek(name)
        return None if value is None else as_number(value)

    def whole(self, name: str) -> int | None:
        """A whole number."""
        value = self.number(name)
        if value is None:
            return None
        if value != int(value):
            raise Odd(f"{value:g} is no whole number")
        return int(value)

    def text(self, name: str) -> str | None:
        """Text; several words are one again."""
        value = self.peek(name)
        if value is None or value is True:
            return None
        return " ".join(map(str, value)) if isinstance(value, list) else str(value)

    def several(self, name: str) -> list[Any]:
        """A list, however it was written."""
        value = self.peek(name)
        if value is None or value == "":
            return []
        if isinstance(value, list | tuple):
            return list(value)
        return [each.strip() for each in str(value).strip("[]() ").split(",") if each.strip()]

    # -- putting down -----------------------------------------------------------------------------------------------

    def put(
        self, name: str, *settings: tuple[str, Any], why: str = "", quirks: Sequence[str] = (), plain: bool = False
    ) -> None:
        """Settings that an argument becomes. Unless it is `plain`, the table of flags says whether that is better."""
        row = flags().get(name.partition(".")[0]) if self.recipe.program == "sd-scripts" else None
        outcome: Outcome = "same"
        if why or quirks:
            outcome = "better" if quirks else "same"
        elif row and row.verdict == "better" and not plain and "." not in name:
            outcome, why, quirks = "better", row.reason, row.quirks
        given = self.recipe.args.get(name)
        for key, value in settings:
            self.set(key, value, remark(why, quirks, "not in the file: the usual value there" if _usual(given) else ""))
        self.done(name, outcome, why, quirks, [f"{key} = {literal(value)}" for key, value in settings])

    def set(self, dotted: str, value: Any, comment: str = "") -> None:
        """A setting, with a word on it."""
        *above, last = dotted.split(".")
        place = self.values
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
        if comment:
            self.comments[tuple(dotted.split("."))] = comment

    def get(self, dotted: str) -> Any:
        """A setting that was put down."""
        place: Any = self.values
        for part in dotted.split("."):
            place = place.get(part) if isinstance(place, dict) else None
        return place

    def drop(self, dotted: str) -> None:
        """Take a setting off again."""
        *above, last = dotted.split(".")
        place = self.values
        for part in above:
            place = place.get(part, {})
        place.pop(last, None)
        self.comments.pop(tuple(dotted.split(".")), None)

    def better(self, name: str, why: str, *quirks: str) -> None:
        """No setting: what it was for is seen to."""
        self.done(name, "better", why, quirks)

    def same(self, name: str, why: str = "") -> None:
        """No setting is needed."""
        self.done(name, "same", why)

    def lost(self, name: str, why: str) -> None:
        """It is not carried over."""
        self.done(name, "lost", why)

    def done(
        self, name: str, outcome: Outcome, why: str, quirks: Sequence[str] = (), settings: Sequence[str] = ()
    ) -> None:
        """Note what became of an argument."""
        given = self.recipe.args.pop(name, None)
        if given is not None:
            value = given.value if given.told is None else given.told
            made = Result(given.name, value, outcome, tuple(settings), why, tuple(quirks), given.usual)
            self.results.append(made)

    def difference(self, name: str, outcome: Outcome, why: str, *quirks: str) -> None:
        """Something that differs although nothing was said about it."""
        self.results.append(Result(name, None, outcome, (), why, quirks, usual=True))

    # -- what is left -------------------------------------------------------------------------------------------------

    def known(self, dotted: str) -> bool:
        """Whether this version has such a setting."""
        return bool(fields.at(RunConfig, tuple(dotted.split("."))))

    def rest(self) -> None:
        """Whatever nobody took up: by the table of flags, or unknown and listed with the nearest name."""
        for name in list(self.recipe.args):
            given = self.recipe.args[name]
            row = flags().get(name)
            if name.startswith("launch."):
                self.same(name, "how the process is started there")
            elif row is None:
                self._unknown(name, given)
            elif given.value in (False, None, "", 0, "no", "none") and not row.settings:
                self.same(name, "off")
            elif row.verdict in ("absent", "later"):
                self.lost(name, row.reason)
            elif row.verdict == "better":
                self.better(name, row.reason, *row.quirks)
            else:
                self.same(name, row.reason)

    def _unknown(self, name: str, given: Given) -> None:
        if name.partition(".")[0] in LISTS:
            self.lost(name, "nothing here is called so, or it has no meaning for this kind")
            return
        near = nearest(name, flags())
        why = f"unknown there too; the nearest name is {near}" if near else "unknown there too"
        self.done(name, "unknown", why)


def as_number(value: Any, name: str = "") -> float:
    """A finite number, also from text; `name` is the argument that it belongs to."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        raise Odd(f"{value!r} is no number", name) from None
    if not math.isfinite(found):
        raise Odd(f"{value!r} is no finite number", name)
    return found


def tidy(number: float) -> int | float:
    """2.0 as 2."""
    return int(number) if number == int(number) and abs(number) < 1e15 else number


def remark(*parts: Any) -> str:
    """What a comment says: a reason, and the marks of the behaviours it avoids."""
    why, quirks, more = parts
    marks = f" ({', '.join(quirks)})" if quirks else ""
    return "; ".join(each for each in (f"{why}{marks}".strip(), more) if each)


def python_value(text: Any) -> Any:
    """`True`, `0.9,0.99`, `None` or a word, as they are written behind `=`."""
    if not isinstance(text, str):
        return text
    word = text.strip().strip("()[]")
    if word.casefold() in ("true", "false"):
        return word.casefold() == "true"
    if word.casefold() == "none":
        return None
    if "," in word:
        return [python_value(each) for each in word.split(",") if each.strip()]
    if re.fullmatch(r"[-+]?\d{1,15}", word):
        return int(word)
    try:
        return as_number(word)
    except Odd:
        return word.strip("'\"")


def _usual(given: Given | None) -> bool:
    return given is not None and given.usual
