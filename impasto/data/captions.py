"""What a caption is at one visit: functions of (caption, rules, moment, dice), without files or state.

    a line -> prefix and suffix -> left out whole? -> wildcards -> kept | loose | kept
           -> as many as the warm-up allows -> shuffled -> some left out -> joined

The order is sd-scripts'. What it does badly is done right: tags are joined as the caption itself joins them, empty tags
vanish, marks never stay in the text, and prefix and suffix are part of every line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations, product
from math import comb, factorial, prod
from random import Random

from impasto.data.config import Captions

WITHOUT_WORDS = ""
"""The caption of a visit that leaves the words out."""

_CHOICE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")
"""A brace that stays, or parts to choose from."""


@dataclass(frozen=True)
class Moment:
    """When in a run a visit is."""

    step: int = 0
    """Optimizer steps done."""

    steps: int = 1
    """Of all."""

    epoch: int = 0


def visited(caption: str, rules: Captions, rng: Random, moment: Moment | None = None) -> str:
    """The caption of one visit."""
    moment = moment or Moment()
    dropped = rng.random() < rules.dropout
    if dropped or (rules.dropout_every_epochs and (moment.epoch + 1) % rules.dropout_every_epochs == 0):
        return WITHOUT_WORDS
    lines = _lines(caption, rules)
    text = _framed(lines[0] if len(lines) == 1 else rng.choice(lines), rules)
    if rules.wildcards:
        text = _CHOICE.sub(lambda found: rng.choice(_choices(found)), text)
    if not _takes_tags_apart(text, rules):
        return _spread(text, text, rules)
    tags = _tags(text, rules)
    loose = list(tags.loose[: _allowed(len(tags.loose), rules, moment)])
    if rules.shuffle:
        rng.shuffle(loose)
    loose = [tag for tag in loose if rng.random() >= rules.tag_dropout]
    return _joined(text, tags, loose, rules)


def complete(caption: str, rules: Captions) -> str:
    """The caption with nothing shuffled, left out or chosen by dice, every first choice taken: what validation
    measures."""
    text = _framed(_lines(caption, rules)[0], rules)
    if rules.wildcards:
        text = _CHOICE.sub(lambda found: _choices(found)[0], text)
    if not (rules.keep_tokens_separator and rules.keep_tokens_separator in text):
        return _spread(text, text, rules)
    tags = _tags(text, rules)
    return _joined(text, tags, tags.loose, rules)


def changes_per_visit(rules: Captions) -> bool:
    """Whether a caption can differ from visit to visit."""
    chance = 0.0 < rules.tag_dropout < 1.0 or 0.0 < rules.dropout < 1.0
    chosen = rules.shuffle or rules.wildcards or rules.lines == "random"
    return chance or chosen or rules.tag_warmup is not None or rules.dropout_every_epochs is not None


def variants(caption: str, rules: Captions, *, limit: int = 64) -> tuple[str, ...] | None:
    """Every caption that a visit can have, sorted; None if there may be more than `limit`."""
    if rules.dropout == 1.0 or rules.dropout_every_epochs == 1:
        return (WITHOUT_WORDS,)
    found = {WITHOUT_WORDS} if rules.dropout or rules.dropout_every_epochs else set()
    texts = [_framed(line, rules) for line in _lines(caption, rules)]
    if rules.wildcards:
        if sum(_expansions(text) for text in texts) > limit:
            return None
        texts = [each for text in texts for each in _expanded(text)]
    total = 0
    for text in texts:
        if not _takes_tags_apart(text, rules):
            found.add(_spread(text, text, rules))
            continue
        tags = _tags(text, rules)
        lengths = _lengths(len(tags.loose), rules)
        total += sum(_arrangements(length, rules) for length in lengths)
        if total > limit:
            return None
        for length in lengths:
            found.update(_joined(text, tags, some, rules) for some in _arranged(tags.loose[:length], rules))
    return tuple(sorted(found))


# what is below serves the above


@dataclass(frozen=True)
class _Tags:
    """The tags that stay in front, the loose ones, and those that stay at the end."""

    first: tuple[str, ...]
    loose: tuple[str, ...]
    last: tuple[str, ...] = ()


def _lines(caption: str, rules: Captions) -> Sequence[str]:
    lines = [line for line in caption.split("\n") if line.strip()] or [caption]
    return lines if rules.lines == "random" else lines[:1]


def _framed(line: str, rules: Captions) -> str:
    return f"{rules.prefix}{line}{rules.suffix}"


def _choices(found: re.Match[str]) -> Sequence[str]:
    """What a brace may become."""
    return found[0][0] if found[1] is None else found[1].split("|")


def _expansions(text: str) -> int:
    return prod(len(_choices(found)) for found in _CHOICE.finditer(text))


def _expanded(text: str) -> Iterator[str]:
    """Every way in which the wildcards of a text can fall."""
    parts: list[Sequence[str]] = []
    end = 0
    for found in _CHOICE.finditer(text):
        parts += [[text[end : found.start()]], _choices(found)]
        end = found.end()
    return map("".join, product(*parts, [text[end:]]))


def _takes_tags_apart(text: str, rules: Captions) -> bool:
    marked = bool(rules.keep_tokens_separator) and rules.keep_tokens_separator in text
    return marked or rules.shuffle or rules.tag_dropout > 0.0 or rules.tag_warmup is not None


def _tags(text: str, rules: Captions) -> _Tags:
    if rules.keep_tokens_separator and rules.keep_tokens_separator in text:
        parts = text.split(rules.keep_tokens_separator)
        first, loose, *rest = (_split(part, rules) for part in parts)
        return _Tags(first, loose, tuple(tag for part in rest for tag in part))
    tags = _split(text, rules)
    return _Tags(tags[: rules.keep_tokens], tags[rules.keep_tokens :])


def _split(text: str, rules: Captions) -> tuple[str, ...]:
    return tuple(tag for part in text.split(rules.separator) if (tag := part.strip()))


def _joined(text: str, tags: _Tags, loose: Sequence[str], rules: Captions) -> str:
    return _spread(_joiner(text, rules).join((*tags.first, *loose, *tags.last)), text, rules)


def _spread(text: str, written: str, rules: Captions) -> str:
    """Tags that moved as one become tags like the others of the caption as it is written."""
    if not rules.secondary_separator or rules.secondary_separator not in text:
        return text
    return _joiner(written, rules).join(part.strip() for part in text.split(rules.secondary_separator) if part.strip())


def _joiner(text: str, rules: Captions) -> str:
    """The separator with the white space that follows it, or the first mark, in this caption: `a,b` stays dense,
    `a, b` stays airy."""
    marks = (rules.separator, rules.keep_tokens_separator, rules.secondary_separator)
    rest = next((text.partition(mark)[2] for mark in marks if mark and mark in text), "")
    return rules.separator + rest[: len(rest) - len(rest.lstrip())]


def _allowed(tags: int, rules: Captions, moment: Moment) -> int:
    """How many loose tags the warm-up lets through."""
    if rules.tag_warmup is None:
        return tags
    over = rules.tag_warmup if isinstance(rules.tag_warmup, int) else int(rules.tag_warmup * moment.steps)
    least = min(rules.tag_warmup_from, tags)
    return tags if moment.step >= over else moment.step * (tags - least) // over + least


def _lengths(tags: int, rules: Captions) -> range:
    """What `_allowed` can be in the course of a run."""
    return range(tags if rules.tag_warmup is None else min(rules.tag_warmup_from, tags), tags + 1)


def _sizes(tags: int, rules: Captions) -> Sequence[int]:
    """How many loose tags may be left."""
    if rules.tag_dropout == 0.0:
        return (tags,)
    return (0,) if rules.tag_dropout == 1.0 else range(tags + 1)


def _arrangements(tags: int, rules: Captions) -> int:
    return sum(comb(tags, size) * (factorial(size) if rules.shuffle else 1) for size in _sizes(tags, rules))


def _arranged(tags: Sequence[str], rules: Captions) -> Iterator[tuple[str, ...]]:
    choose = permutations if rules.shuffle else combinations
    for size in _sizes(len(tags), rules):
        yield from choose(tags, size)
