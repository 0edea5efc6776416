"""Names of runs that say what differs: short, unique, and good as names of files everywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

LONGEST, LONGEST_VALUE = 90, 24
SHORT = {
    "learning_rate": "lr",
    "unet_learning_rate": "unet-lr",
    "text_encoder_learning_rate": "te-lr",
    "batch_size": "batch",
    "accumulate": "acc",
    "kind": "",
    "path": "",
}
"""Settings that people call otherwise, or whose value says enough."""


def names(
    base: str, points: Sequence[Mapping[str, Any]], seeds: Sequence[int], *, numbered: bool = False
) -> list[list[str]]:
    """For each point and each seed a name; the seed is in it where there are several. `numbered`: with its number
    before what differs, so that it stays what it is when others follow."""
    keys = list(dict.fromkeys(key for point in points for key in point))
    words = _words(keys)
    labels = [_unique_part(base, point, words) for point in points]
    if numbered:
        begins = [f"{base}-{at:03}" for at in range(1, len(points) + 1)]
        labels = [_unique_part(begin, point, words) for begin, point in zip(begins, points, strict=True)]
        labels = [label[:LONGEST].rstrip("-.") for label in labels]
        return [[f"{label}-s{seed}" if len(seeds) > 1 else label for seed in seeds] for label in labels]
    labels = [label if labels.count(label) == 1 else f"{label}-{at + 1:02}" for at, label in enumerate(labels)]
    if max(map(len, labels), default=0) > LONGEST:
        labels = [f"{label[: LONGEST - 3].rstrip('-.')}-{at + 1:02}" for at, label in enumerate(labels)]
    return [[f"{label}-s{seed}" if len(seeds) > 1 else label for seed in seeds] for label in labels]


def value_label(value: Any) -> str:
    """A value as a part of a name: `5e-5`, `loha`, the last name of a path."""
    match value:
        case bool():
            text = "on" if value else "off"
        case float():
            text = re.sub(r"e([-+]?)0*(\d)", r"e\1\2", f"{value:.4g}").replace("e+", "e")
            text = _tidy(text)
        case dict():
            text = "-".join(value_label(each) for each in value.values())
        case list() | tuple():
            text = "-".join(value_label(each) for each in value)
        case str() if "/" in value or "\\" in value:
            text = PurePath(value.replace("\\", "/")).name
        case _:
            text = str(value)
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-. ")[:LONGEST_VALUE].rstrip("-.") or "none"


def _tidy(text: str) -> str:
    """0.0001 is read more easily as 1e-4."""
    small = re.fullmatch(r"0\.0{2,}([1-9]\d*)", text)
    if not small:
        return text
    digits = small[1]
    power = len(text) - 2 - len(digits) + 1
    return f"{digits[0]}{'.' + digits[1:] if len(digits) > 1 else ''}e-{power}"


def _words(keys: Sequence[str]) -> dict[str, str]:
    """The shortest word for each setting that no other of them has."""
    parts = {key: [part for part in key.split(".")] for key in keys}
    found = {}
    for key in keys:
        own = SHORT.get(parts[key][-1], parts[key][-1].replace("_", "-"))
        alike = [other for other in keys if parts[other][-1] == parts[key][-1]]
        if len(alike) > 1 and len(parts[key]) > 1:
            own = "-".join([parts[key][-2].replace("_", "-"), *([own] if own else [])])
        found[key] = own
    return found


def _unique_part(base: str, point: Mapping[str, Any], words: Mapping[str, str]) -> str:
    parts = []
    for key, value in point.items():
        label = value_label(value)
        word = "" if isinstance(value, dict) else words[key]
        parts.append(f"{word}{'' if not word or label[0].isdigit() else '-'}{label}")
    return "-".join([base, *parts])
