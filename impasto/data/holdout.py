"""Which pictures are held out of the training, and when they are measured.

Pictures are chosen by what is in them, not by name or order: the same ones in every run and after any renaming, and
most of them stay when others are added. Whatever looks like one of them, mirrored too, is held out with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from impasto import dice
from impasto.data import traces
from impasto.data.examples import Example, Scan

FEWEST = 10
"""With fewer pictures nothing is measured unless it is asked for."""

ENOUGH = 20
"""With fewer pictures none is held out unless it is asked for: each is worth more learnt than measured."""

USUAL, LEAST = 0.05, 2
"""Of enough pictures this share is held out, and at least so many: one picture alone says too little."""

BESIDE = 4
"""Training pictures that are measured where none are held out."""

COST = 0.04
"""Of the time of training, what measuring may take where nobody says when: below the promised 5 %."""

PASSES = 2
"""A training step on a picture takes at least as long as so many forward passes: its own, and the way back."""

MOST = 40
"""Measurements of a run where nobody says when."""


class Measuring(Protocol):
    """What is measured, and when."""

    @property
    def share(self) -> float | None: ...
    @property
    def pictures(self) -> int: ...
    @property
    def every_steps(self) -> int | None: ...
    @property
    def levels(self) -> int:
        """Noise levels of each picture."""
        ...


def split(found: Scan, wanted: Measuring) -> Scan:
    """The same pictures, some of which have become validation pictures of their set."""
    learnt = [each for some in found.examples for each in some if each.role != "validation"]
    own = len(learnt) < sum(map(len, found.examples))
    count = _count(wanted, len({each.id for each in learnt if each.role == "train"}), own=own)
    out = {id(each) for each in _chosen(learnt, count)}
    if not out:
        return found
    examples = (
        tuple(replace(each, role="validation") if id(each) in out else each for each in some)
        for some in found.examples
    )  # fmt: skip
    return replace(found, examples=tuple(examples))


def measured(found: Scan, wanted: Measuring) -> tuple[list[Example], list[Example]]:
    """The held-out pictures that are measured, and as many of the training pictures."""
    some = [each for examples in found.examples for each in examples]
    held = _first([each for each in some if each.role == "validation"], wanted.pictures)
    learnt = [each for each in some if each.role == "train"]
    if held:
        return held, _first(learnt, len(held))
    enough = len({each.id for each in learnt}) >= FEWEST or wanted.every_steps is not None
    return [], _first(learnt, min(BESIDE, wanted.pictures)) if enough else []


def due(wanted: Measuring, *, held: int, beside: int, total: int, looks: float) -> tuple[int, ...]:
    """The steps of a run of `total` after which its `held` and `beside` pictures are measured; a step looks at `looks`
    pictures. Where nobody says when: at the start, at the end and evenly between them, as often as is cheap."""
    forwards = (held + beside) * wanted.levels
    if not forwards or not total:
        return ()
    if wanted.every_steps is not None:
        return tuple(sorted({*range(wanted.every_steps, total + 1, wanted.every_steps), total}))
    times = min(MOST, int(COST * PASSES * total * looks / forwards), total + 1)
    if times < 2:
        return (total,) if held else ()
    return tuple(sorted({round(total * at / (times - 1)) for at in range(times)}))


# -- what is below serves the above ----------------------------------------------------------------------------------


def _count(wanted: Measuring, pictures: int, *, own: bool) -> int:
    """How many of so many different pictures are to be held out; `own`: there is a set for it already."""
    if wanted.share is None:
        usual = min(max(LEAST, round(USUAL * pictures)), wanted.pictures)
        return 0 if own or pictures < ENOUGH else usual
    return max(1, round(wanted.share * pictures)) if wanted.share else 0


def _chosen(learnt: Sequence[Example], count: int) -> list[Example]:
    """About `count` pictures, never more, with all that look like them; but at least one with its like, if there is
    any whose like is not half of all."""
    if not count:
        return []
    alike = traces.Lookup([each.trace for each in learnt], [each.id for each in learnt])
    taken: set[int] = set()
    smallest: set[int] | None = None
    tried: set[int] = set()
    for place in _by_content(learnt):
        if len({learnt[each].id for each in taken}) >= count or place in tried or learnt[place].role != "train":
            continue
        group = alike.group(place)
        tried |= group
        if any(learnt[each].role != "train" for each in group):
            continue  # the class pictures show it too
        if len({learnt[each].id for each in taken | group}) <= count:
            taken |= group
        elif smallest is None or len(group) < len(smallest):
            smallest = group
    if not taken and smallest is not None and 2 * len(smallest) <= len(learnt):
        taken = smallest
    return [learnt[place] for place in sorted(taken)]


def _first(examples: Sequence[Example], count: int) -> list[Example]:
    """So many different pictures, the same ones every time."""
    found = {examples[place].id: examples[place] for place in reversed(list(_by_content(examples)))}
    return [found[id] for id in sorted(found, key=_rank)[:count]]


def _by_content(examples: Sequence[Example]) -> Iterable[int]:
    return sorted(range(len(examples)), key=lambda place: (_rank(examples[place].id), place))


def _rank(id: str) -> int:
    return dice.seed("held out", id)
