"""Captions changed in bulk: found and replaced, tags added, taken out, put in order. Pure, so it can be shown first.

A tag is what stands between commas. A caption keeps how it joins them: `a,b` stays dense, `a, b` stays airy.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from impasto.errors import DataError, Problem

SEPARATOR = ","
PATIENCE = 5.0
"""Seconds for a regular expression: some never end."""

PAIRED = 40
"""The most frequent tags, of which it is told how often they stand together."""


@dataclass(frozen=True)
class Edit:
    """What is done to captions, in this order."""

    find: str = ""
    replace: str = ""
    regex: bool = False
    case: bool = True
    """Whether capitals count when something is looked for."""
    remove: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    at: Literal["start", "end"] = "end"
    sort: Literal["no", "alphabet", "count"] = "no"
    """count: the most frequent first."""
    keep: int = 0
    """Tags at the start that stay in front when tags are sorted."""
    unique: bool = False
    """Take out tags that are there twice."""


def edited(captions: Mapping[str, str], edit: Edit, counts: Mapping[str, int]) -> dict[str, tuple[str, str]]:
    """The captions that change, each before and after. Raises DataError for a pattern that cannot be used."""
    found = _replaced(captions, edit) if edit.find else dict(captions)
    after = {
        name: "\n".join(_retagged(line, edit, counts) for line in text.split("\n")) for name, text in found.items()
    }
    return {name: (captions[name], text) for name, text in after.items() if text != captions[name]}


def tags(caption: str) -> list[str]:
    """The tags of a caption, in order."""
    return [tag for line in caption.split("\n") for part in line.split(SEPARATOR) if (tag := part.strip())]


def counted(captions: Iterable[str]) -> Counter[str]:
    """How many captions have each tag."""
    return Counter(tag for caption in captions for tag in dict.fromkeys(tags(caption)))


def together(captions: Iterable[str], counts: Counter[str]) -> Counter[tuple[str, str]]:
    """How many captions have both of two frequent tags."""
    often = {tag: place for place, (tag, _) in enumerate(counts.most_common(PAIRED))}
    pairs: Counter[tuple[str, str]] = Counter()
    for caption in captions:
        own = sorted({tag for tag in tags(caption) if tag in often}, key=often.__getitem__)
        pairs.update(combinations(own, 2))
    return pairs


# what is below serves the above


def _retagged(line: str, edit: Edit, counts: Mapping[str, int]) -> str:
    if not (edit.add or edit.remove or edit.sort != "no" or edit.unique):
        return line
    own = tags(line)
    gone = {_plain(each, edit) for each in edit.remove}
    own = [each for each in own if _plain(each, edit) not in gone]
    fresh = [each for each in map(str.strip, edit.add) if each and each not in own]
    own = [*fresh, *own] if edit.at == "start" else [*own, *fresh]
    if edit.unique:
        own = list(dict.fromkeys(own))
    first, rest = own[: edit.keep], own[edit.keep :]
    match edit.sort:
        case "alphabet":
            rest = sorted(rest, key=lambda each: (each.casefold(), each))
        case "count":
            rest = sorted(rest, key=lambda each: (-counts.get(each, 0), each))
        case "no":
            pass
    return _joiner(line).join([*first, *rest])


def _plain(tag: str, edit: Edit) -> str:
    return tag.strip() if edit.case else tag.strip().casefold()


def _joiner(line: str) -> str:
    rest = line.partition(SEPARATOR)[2]
    return SEPARATOR + (rest[: len(rest) - len(rest.lstrip())] if rest else " ")


def _replaced(captions: Mapping[str, str], edit: Edit) -> dict[str, str]:
    if edit.regex:
        return _by_pattern(captions, edit)
    if edit.case:
        return {name: text.replace(edit.find, edit.replace) for name, text in captions.items()}
    pattern = re.compile(re.escape(edit.find), re.IGNORECASE)
    return {name: pattern.sub(lambda _: edit.replace, text) for name, text in captions.items()}


_WORK = """
import json, re, sys
pattern, replace, flags, texts = json.load(sys.stdin)
json.dump([re.sub(pattern, replace, each, flags=flags) for each in texts], sys.stdout)
"""


def _by_pattern(captions: Mapping[str, str], edit: Edit) -> dict[str, str]:
    """In a process of its own: some patterns take for ever, and nothing else stops them."""
    try:
        re.compile(edit.find)
        flags = 0 if edit.case else int(re.IGNORECASE)
        given = json.dumps([edit.find, edit.replace, flags, list(captions.values())])
        done = subprocess.run(
            [sys.executable, "-I", "-c", _WORK], input=given, capture_output=True, text=True, timeout=PATIENCE,
            check=False,
        )  # fmt: skip
    except (re.error, RecursionError, OverflowError) as error:
        raise _unusable(f"this is no regular expression: {error}", edit.find) from None
    except subprocess.TimeoutExpired:
        raise _unusable(f"it did not end within {PATIENCE:g} seconds", edit.find) from None
    if done.returncode:
        last: Sequence[str] = done.stderr.strip().splitlines()[-1:] or ["the replacement cannot be used"]
        raise _unusable(last[0], edit.replace)
    return dict(zip(captions, json.loads(done.stdout), strict=True))


def _unusable(what: str, where: str) -> DataError:
    return DataError(Problem("E-CAP-020", what[:200], where[:100], "correct the pattern, or look for plain text"))
