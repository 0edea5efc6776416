"""What a caption is at one visit: functions of (caption, rules, dice), without files or state.

    prefix and suffix -> left out whole? -> split into tags -> shuffled -> some left out -> joined

The order is sd-scripts'. What it does badly is done right: tags are joined as the caption itself joins them, and empty
tags vanish.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from math import comb, factorial
from random import Random

from impasto.data.config import Captions

WITHOUT_WORDS = ""
"""The caption of a visit that leaves the words out."""


def visited(caption: str, rules: Captions, rng: Random) -> str:
    """The caption of one visit."""
    caption = complete(caption, rules)
    if rng.random() < rules.dropout:
        return WITHOUT_WORDS
    if not _takes_tags_apart(rules):
        return caption
    kept, loose = _tags(caption, rules)
    if rules.shuffle:
        rng.shuffle(loose)
    loose = [tag for tag in loose if rng.random() >= rules.tag_dropout]
    return _joiner(caption, rules).join(kept + loose)


def complete(caption: str, rules: Captions) -> str:
    """The caption with prefix and suffix, nothing shuffled or left out: what validation measures."""
    return f"{rules.prefix}{caption}{rules.suffix}"


def changes_per_visit(rules: Captions) -> bool:
    """Whether a caption can differ from visit to visit."""
    return rules.shuffle or 0.0 < rules.tag_dropout < 1.0 or 0.0 < rules.dropout < 1.0


def variants(caption: str, rules: Captions, *, limit: int = 64) -> tuple[str, ...] | None:
    """Every caption that a visit can have, sorted; None if there may be more than `limit`."""
    if rules.dropout == 1.0:
        return (WITHOUT_WORDS,)
    caption = complete(caption, rules)
    found = {WITHOUT_WORDS} if rules.dropout else set()
    if not _takes_tags_apart(rules):
        return tuple(sorted(found | {caption}))
    kept, loose = _tags(caption, rules)
    if _arrangements(len(loose), rules) > limit:
        return None
    joiner = _joiner(caption, rules)
    found.update(joiner.join((*kept, *some)) for some in _arranged(loose, rules))
    return tuple(sorted(found))


# what is below serves the above


def _takes_tags_apart(rules: Captions) -> bool:
    return rules.shuffle or rules.tag_dropout > 0.0


def _tags(caption: str, rules: Captions) -> tuple[list[str], list[str]]:
    """The tags that stay, and the loose ones."""
    tags = [tag for part in caption.split(rules.separator) if (tag := part.strip())]
    return tags[: rules.keep_tokens], tags[rules.keep_tokens :]


def _joiner(caption: str, rules: Captions) -> str:
    """The separator with the white space that follows it in this caption: `a,b` stays dense, `a, b` stays airy."""
    rest = caption.partition(rules.separator)[2]
    return rules.separator + rest[: len(rest) - len(rest.lstrip())]


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
