"""Weighted captions: `(word)` counts 1.1 times, `(word:1.3)` 1.3 times, `[word]` 1 / 1.1 times; brackets nest.

`\\(` and the like are brackets that are meant as such. A bracket left open reaches to the end; a closing one that was
never opened is text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

STEP = 1.1
"""What a pair of brackets without a number multiplies or divides by."""

_SIGNS = re.compile(r"\\([()\[\]\\])|(\(|\[)|(?::\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*)?\)|\]")


@dataclass
class _Reading:
    """What is read so far: pieces of text with their weights, and where open brackets began."""

    pieces: list[tuple[str, float]] = field(default_factory=list)
    round: list[int] = field(default_factory=list)
    square: list[int] = field(default_factory=list)

    def add(self, text: str) -> None:
        if text:
            self.pieces.append((text, 1.0))

    def close(self, opened: list[int], by: float) -> None:
        start = opened.pop()
        self.pieces[start:] = [(text, weight * by) for text, weight in self.pieces[start:]]


def parse(text: str) -> list[tuple[str, float]]:
    """The pieces of a caption with their weights; neighbours of equal weight are one piece."""
    reading, end = _Reading(), 0
    for found in _SIGNS.finditer(text):
        reading.add(text[end : found.start()])
        end = found.end()
        _sign(found, reading)
    reading.add(text[end:])
    while reading.round:
        reading.close(reading.round, STEP)
    while reading.square:
        reading.close(reading.square, 1 / STEP)
    return _merged(reading.pieces) or [("", 1.0)]


# what is below serves the above


def _sign(found: re.Match[str], reading: _Reading) -> None:
    """A bracket, or a sign that is meant as such."""
    escaped, opening, number = found[1], found[2], found[3]
    if escaped:
        reading.add(escaped)
    elif opening:
        (reading.round if opening == "(" else reading.square).append(len(reading.pieces))
    elif found[0] == "]" and reading.square:
        reading.close(reading.square, 1 / STEP)
    elif found[0] != "]" and reading.round:
        reading.close(reading.round, STEP if number is None else float(number))
    else:
        reading.add(found[0])


def _merged(pieces: list[tuple[str, float]]) -> list[tuple[str, float]]:
    merged: list[tuple[str, float]] = []
    for text, weight in pieces:
        if merged and merged[-1][1] == weight:
            merged[-1] = (merged[-1][0] + text, weight)
        else:
            merged.append((text, weight))
    return merged
