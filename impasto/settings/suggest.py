"""What was meant: the nearest name, the value that would fit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from impasto.settings.fields import Choice, Either, Flag, Kinds, Listing, Number, Options, Pair, Shape, Table, Text

FARTHEST = 2


def nearest(name: str, known: Iterable[str], farthest: int = FARTHEST) -> str | None:
    """The known name with the fewest slips of the finger between, if they are few."""
    plain = _plain(name)
    reach = min(farthest, max(1, (len(plain) + 1) // 2))
    near = [(slips, each) for each in known if (slips := _slips(plain, _plain(each), reach)) <= reach]
    return min(near, key=lambda pair: pair[0])[1] if near else None


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_")


def _slips(left: str, right: str, enough: int) -> int:
    """Letters added, lost, changed or swapped with their neighbour (optimal string alignment)."""
    if abs(len(left) - len(right)) > enough:
        return enough + 1
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        older, before, row = before, row, [i]
        for j, b in enumerate(right, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]


def right_type(shape: Shape, value: object) -> bool:
    """Whether a value is of the right type, be it in range or not."""
    match shape:
        case Flag():
            return isinstance(value, bool)
        case Number(whole):
            return isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        case Text():
            return isinstance(value, str)
        case Choice(values):
            return type(value) in {type(each) for each in values}
        case Pair() | Listing():
            return isinstance(value, list)
        case Table() | Kinds() | Options():
            return isinstance(value, dict)
        case Either(options):
            return any(right_type(option, value) for option in options)
        case _:
            return True


def accepts(shape: Shape, value: Any) -> bool:
    """Whether a plain value fits. Sections are not looked into."""
    if not right_type(shape, value):
        return False
    match shape:
        case Number(_, above, least, below, most, step):
            return (
                math.isfinite(value)
                and (above is None or value > above)
                and (least is None or value >= least)
                and (below is None or value < below)
                and (most is None or value <= most)
                and (step is None or value % step == 0)
            )
        case Text(_, pattern, shortest, longest):
            long_enough = shortest <= len(value) and (longest is None or len(value) <= longest)
            return long_enough and (pattern is None or re.search(pattern, value) is not None)
        case Choice(values):
            return value in values
        case Pair(items):
            return len(value) == len(items) and all(map(accepts, items, value))
        case Listing(item, shortest):
            return len(value) >= shortest and all(accepts(item, each) for each in value)
        case Either(options):
            return any(accepts(option, value) for option in options)
        case _:
            return True


def fitting(shape: Shape, value: object, default: object) -> Any:
    """A value that fits: what was meant if that can be told, else the default, else any that would do."""
    for candidate in (*_meant(shape, value), default):
        if isinstance(candidate, tuple):
            candidate = list(candidate)
        elif isinstance(candidate, Path):
            candidate = str(candidate)
        if candidate is not PydanticUndefined and accepts(shape, candidate):
            return candidate
    return example(shape)


def example(shape: Shape) -> Any:
    """Some value that fits."""
    match shape:
        case Flag():
            return True
        case Number(whole, above, least, below, most):
            low = least if least is not None else (above or 0) + 1
            high = most if most is not None else below
            return low if whole else float(low) if high is None or low < high else ((above or 0) + high) / 2
        case Text(path=True):
            return "pictures"
        case Text(pattern=pattern):
            return next((each for each in ("text", ".txt", "auto") if not pattern or re.search(pattern, each)), "text")
        case Choice(values):
            return values[0]
        case Pair(items):
            return [example(item) for item in items]
        case Listing(item, shortest):
            return [example(item)] * max(shortest, 1)
        case Either(options):
            return example(options[0])
        case _:
            return {}


_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def _meant(shape: Shape, value: object) -> list[Any]:
    word = str(value).strip().casefold() if isinstance(value, str | bool | float) else ""
    match shape:
        case Flag() if word in _TRUE or value == 1:
            return [True]
        case Flag() if word in _FALSE or value == 0:
            return [False]
        case Number() if isinstance(value, str):
            found = re.search(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d{1,3})?", word.replace(",", ".")[:100])
            return _numbers(shape, float(found[0])) if found else []
        case Number() if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
            return _numbers(shape, float(value))
        case Text(pattern=pattern) if isinstance(value, str) and pattern:
            return [re.sub(r'[/\\\x00-\x1f<>:"|?*]+', "-", value)[:100], f".{value.lstrip('*.')}"]
        case Text() if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
            return [str(value)]
        case Choice(values) if isinstance(values[0], str) and isinstance(value, str):
            return [nearest(value[:100], [str(each) for each in values])]
        case Choice(values):
            return [each for number in _meant(Number(True), value) for each in values if each == number]
        case Listing(item) if not isinstance(value, list | dict):
            return [[value], *([each] for each in _meant(item, value))]
        case Either(options):
            return [each for option in options for each in _meant(option, value)]
        case _:
            return []


def _numbers(shape: Number, value: float) -> list[float]:
    if not math.isfinite(value):
        return []
    near: list[float] = [value]
    if shape.least is not None and value < shape.least:
        near.append(shape.least)
    if shape.most is not None and shape.most < 10**9 and value > shape.most:
        near.append(shape.most)
    if shape.step is not None:
        near = [round(each / shape.step) * shape.step for each in near]
    return [round(each) for each in near] if shape.whole else near
