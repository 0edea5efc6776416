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

_AT_ONCE = 1 << 16


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
    whole = np.frombuffer(bytes.fromhex("".join(traces)), np.uint8).reshape(len(traces), LENGTH)
    # Exact copies are one: a folder of nothing else would make a pair of every two.
    raw, which = np.unique(whole, axis=0, return_inverse=True)
    bits, colours = np.ascontiguousarray(raw[:, :16]).view(np.uint64), raw[:, 16:].astype(np.int16)
    first = list(range(len(raw)))
    for members in _bands(raw[:, :16]):
        for one, other in _pairs(members, bits, colours):
            a, b = _root(first, int(one)), _root(first, int(other))
            first[max(a, b)] = min(a, b)
    groups: dict[int, list[int]] = {}
    for place, one in enumerate(which.reshape(-1).tolist()):
        groups.setdefault(_root(first, one), []).append(place)
    return [places for places in groups.values() if len(places) > 1]


class Lookup:
    """Finds whatever looks like a picture, as it is or mirrored, and what looks like that, and so on."""

    def __init__(self, traces: Sequence[str], names: Sequence[str]) -> None:
        """Pictures of one name are one picture; of one without a trace nothing else is known."""
        self._names = names
        known = [bytes.fromhex(trace) if trace else bytes(LENGTH) for trace in traces]
        self._known = np.array([bool(trace) for trace in traces], bool)
        raw = np.frombuffer(b"".join(known), np.uint8).reshape(len(known), LENGTH)
        bits = np.unpackbits(raw[:, :16], axis=1).reshape(-1, 2, POINTS - 1, POINTS - 1)
        self._bits = bits
        self._colours = raw[:, 16:].astype(np.int16).reshape(-1, COARSE, COARSE, 3)

    def group(self, place: int) -> set[int]:
        """The places of all that look like the picture at `place`, itself among them."""
        found, fresh = {place}, [place]
        while fresh:
            near = self._near(fresh.pop()) - found
            found |= near
            fresh += near
        return found

    def _near(self, place: int) -> set[int]:
        same = {at for at, name in enumerate(self._names) if name == self._names[place]}
        if not self._known[place]:
            return same
        straight = (self._bits != self._bits[place]).sum((1, 2, 3)) <= BITS
        straight &= np.abs(self._colours - self._colours[place]).max((1, 2, 3)) <= SHADES
        # Of a mirrored picture all but one column of what gets brighter downwards is known.
        down = self._bits[place, 1][:, :0:-1]
        mirrored = (self._bits[:, 1, :, 1:] != down).sum((1, 2)) <= BITS * down.size // 128
        mirrored &= np.abs(self._colours - self._colours[place][:, ::-1]).max((1, 2, 3)) <= SHADES
        return same | {int(at) for at in np.flatnonzero((straight | mirrored) & self._known)}


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
        one, other = np.nonzero(differ <= BITS)
        a, b = rows[one], members[other]
        a, b = a[a < b], b[a < b]
        for part in range(0, len(a), _AT_ONCE):
            some = slice(part, part + _AT_ONCE)
            near = np.abs(colours[a[some]] - colours[b[some]]).max(axis=1) <= SHADES
            found += zip(a[some][near].tolist(), b[some][near].tolist(), strict=True)
    return found


def _root(first: list[int], place: int) -> int:
    while first[place] != place:
        first[place] = first[first[place]]
        place = first[place]
    return place
