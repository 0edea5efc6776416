"""What a picture looks like from far away, so that copies of it are found in other sizes, formats and qualities.

A trace is 64 bytes, written in hexadecimal: 16 bytes say of 9 by 9 points whether it gets brighter to the right and
downwards (a difference hash), 48 bytes are 4 by 4 points in colour. Two pictures look the same where hardly any of the
former and none of the latter differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

Words: TypeAlias = npt.NDArray[np.uint64]
Colours: TypeAlias = npt.NDArray[np.int16]

POINTS, COARSE = 9, 4
LENGTH = 16 + 3 * COARSE**2
BITS = 8
"""Of the 128 bits of brightness, how many may differ."""

SHADES = 20
"""Of 256, how far a point's colour may be off."""

BANDS = BITS + 1
"""Where at most `BITS` bits differ, at least one of so many bands of bits is the same."""

ROWS = 512
"""Pictures compared with all others of a band at a time: bounds the memory."""


def of(rgb: Image.Image) -> str:
    """The trace of a picture."""
    grey = np.asarray(rgb.convert("L").resize((POINTS, POINTS), Image.Resampling.BOX), np.int16)
    brighter = np.concatenate([(grey[:-1, 1:] > grey[:-1, :-1]).ravel(), (grey[1:, :-1] > grey[:-1, :-1]).ravel()])
    coarse = np.asarray(rgb.resize((COARSE, COARSE), Image.Resampling.BOX), np.uint8)
    return np.packbits(brighter).tobytes().hex() + coarse.tobytes().hex()


def alike(traces: Sequence[str]) -> list[list[int]]:
    """The places of pictures that look the same, group by group, by their first; those without their like are left out.

    Only pictures that agree in one of nine bands of bits are compared, which for pictures that differ are few.
    """
    raw = np.frombuffer(bytes.fromhex("".join(traces)), np.uint8).reshape(len(traces), LENGTH)
    bits, colours = np.ascontiguousarray(raw[:, :16]).view(np.uint64), raw[:, 16:].astype(np.int16)
    first = list(range(len(traces)))
    for members in _bands(raw[:, :16]):
        for one, other in _pairs(members, bits, colours):
            a, b = _root(first, int(one)), _root(first, int(other))
            first[max(a, b)] = min(a, b)
    groups: dict[int, list[int]] = {}
    for place in range(len(traces)):
        groups.setdefault(_root(first, place), []).append(place)
    return [places for places in groups.values() if len(places) > 1]


def _bands(raw: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.intp]]:
    """Places that agree in a band, two or more."""
    found = []
    for band in np.array_split(np.unpackbits(raw, axis=1), BANDS, axis=1):
        key = band.astype(np.int64) @ (1 << np.arange(band.shape[1], dtype=np.int64))
        order = np.argsort(key, kind="stable")
        edges = np.flatnonzero(np.diff(key[order])) + 1
        found += [group for group in np.split(order, edges) if len(group) > 1]
    return found


def _pairs(members: npt.NDArray[np.intp], bits: Words, colours: Colours) -> list[Any]:
    """Pairs of `members` that look the same."""
    found: list[Any] = []
    for start in range(0, len(members), ROWS):
        rows = members[start : start + ROWS]
        differ = np.zeros((len(rows), len(members)), np.uint16)
        for word in range(bits.shape[1]):
            differ += np.bitwise_count(bits[rows, word][:, None] ^ bits[members, word][None])
        for one, other in np.argwhere(differ <= BITS):
            a, b = rows[one], members[other]
            if a < b and np.abs(colours[a] - colours[b]).max() <= SHADES:
                found.append((a, b))
    return found


def _root(first: list[int], place: int) -> int:
    while first[place] != place:
        first[place] = first[first[place]]
        place = first[place]
    return place
