"""What an axis holds: a list of values, or a range of numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from impasto.config import RunConfig
from impasto.errors import ConfigError, Problem
from impasto.settings import fields
from impasto.settings.fields import Either, Number, Shape
from impasto.settings.places import Key
from impasto.settings.source import shown

FIGURES = 3
"""Numbers out of a range are rounded to so many figures: they stand in names and tables."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(log|linear))?(?::(\d+))?")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, evenly or by equal ratios."""

    low: float
    high: float
    log: bool
    whole: bool

    def at(self, share: float) -> float | int:
        """The number that lies `share` of the way from low to high."""
        if self.log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        return self.near(value)

    def near(self, value: float) -> float | int:
        """The number of the range that is nearest, of those with few figures."""
        if self.whole:
            return round(value)
        return min(self.high, max(self.low, float(f"{value:.{FIGURES}g}")))


@dataclass(frozen=True)
class Axis:
    """A setting that varies."""

    key: str
    values: tuple[Any, ...]
    """What it may be; nothing for a range without a number of values."""

    range: Range | None = None

    def at(self, share: float) -> Any:
        """The value `share` of the way, 0 <= share < 1."""
        if self.values:
            return self.values[int(share * len(self.values))]
        assert self.range is not None
        return self.range.at(share)


def is_axis(text: str) -> bool:
    """Whether a value on the command line says several: commas outside of brackets and quotes, or a range."""
    return len(list(split(text))) > 1 or _RANGE.fullmatch(text.strip()) is not None


def split(text: str) -> Iterator[str]:
    """The parts between commas that stand in no brackets and no quotes."""
    depth, quote, start = 0, "", 0
    for at, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
        elif sign == "," and depth == 0:
            yield text[start:at].strip()
            start = at + 1
    yield text[start:].strip()


def flat(axes: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Axes by dotted name, also where the file has them as tables: `adapter.rank = [4, 8]`."""
    for name, value in axes.items():
        key = f"{above}.{name}" if above else name
        if isinstance(value, dict):
            yield from flat(value, key)
        else:
            yield key, value


def axis(key: str, given: Any) -> Axis:
    """The axis that a file or a command line describes. Raises ConfigError where it is none."""
    if isinstance(given, str) and (found := _RANGE.fullmatch(given.strip())):
        return _ranged(key, found)
    if not isinstance(given, list) or not given:
        fix = f'"{key}" = [1, 2, 3], or "{key}" = "1..8:log:4"'
        raise _wrong(key, f"{shown(given)} is no list of values and no range", fix)
    different = [each for at, each in enumerate(given) if not any(_same(each, other) for other in given[:at])]
    if len(different) < len(given):
        raise _wrong(key, "a value is given twice", "delete one of them")
    return Axis(key, tuple(given))


def path_of(key: str) -> Key:
    """`data.sets.0.path` as the parts of a key."""
    return tuple(int(part) if part.isdecimal() else part for part in key.split("."))


def _ranged(key: str, found: re.Match[str]) -> Axis:
    low, high, log = float(found[1]), float(found[2]), found[3] == "log"
    shapes = [setting.shape for setting in fields.at(RunConfig, path_of(key))]
    if not low < high:
        raise _wrong(key, f"the range {found[0]} does not rise", f"{found[2]}..{found[1]}")
    if log and low <= 0:
        raise _wrong(
            key, f"the range {found[0]} begins at {found[1]}, and equal ratios begin above 0", "1e-6..1e-3:log"
        )
    span = Range(low, high, log, whole=any(map(_is_whole, shapes)))
    if found[4] is None:
        return Axis(key, (), span)
    count = int(found[4])
    if not 2 <= count <= 1000:
        raise _wrong(key, f"{count} values of a range", "2 to 1000")
    values = [span.at(number / (count - 1)) for number in range(count)]
    return Axis(key, tuple(dict.fromkeys(values)), span)


def _is_whole(shape: Shape) -> bool:
    match shape:
        case Number(whole):
            return whole
        case Either(options):
            numbers = [each for each in options if isinstance(each, Number)]
            return bool(numbers) and all(each.whole for each in numbers)
        case _:
            return False


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def _wrong(key: str, what: str, fix: str) -> ConfigError:
    return ConfigError(Problem("E-SWP-001", what, f"sweep.axes {key}", fix))
