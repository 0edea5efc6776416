"""Points that fill a space evenly (Sobol 1967; direction numbers by Joe and Kuo 2008, "new-joe-kuo-6")."""

from __future__ import annotations

from collections.abc import Iterator

from impasto import dice

BITS = 30
_DIRECTIONS: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (1, 0, (1,)),
    (2, 1, (1, 3)),
    (3, 1, (1, 3, 1)),
    (3, 2, (1, 1, 1)),
    (4, 1, (1, 1, 3, 3)),
    (4, 4, (1, 3, 5, 13)),
    (5, 2, (1, 1, 5, 5, 17)),
    (5, 4, (1, 1, 5, 5, 5)),
    (5, 7, (1, 1, 7, 11, 19)),
)
"""Degree, coefficients and first numbers of each dimension's polynomial, from the second dimension on."""

DIMENSIONS = len(_DIRECTIONS) + 1


def points(dimensions: int, seed: int | None) -> Iterator[tuple[float, ...]]:
    """Points in [0, 1)^d without end, each coordinate shifted by the digits that `seed` gives; None: not shifted."""
    assert dimensions <= DIMENSIONS
    numbers = [_directions(at) for at in range(dimensions)]
    shifts = [0 if seed is None else dice.seed("sobol", seed, at) % (1 << BITS) for at in range(dimensions)]
    state, index = [0] * dimensions, 0
    while True:
        yield tuple((each ^ shift) / (1 << BITS) for each, shift in zip(state, shifts, strict=True))
        bit = (~index & (index + 1)).bit_length() - 1  # the lowest zero bit: Gray code (Antonov and Saleev 1979)
        state = [each ^ own[bit] for each, own in zip(state, numbers, strict=True)]
        index += 1


def _directions(dimension: int) -> list[int]:
    if dimension == 0:
        return [1 << (BITS - 1 - at) for at in range(BITS)]
    degree, coefficients, first = _DIRECTIONS[dimension - 1]
    found = [first[at] << (BITS - 1 - at) for at in range(degree)]
    for at in range(degree, BITS):
        value = found[at - degree] ^ (found[at - degree] >> degree)
        for back in range(1, degree):
            if coefficients >> (degree - 1 - back) & 1:
                value ^= found[at - back]
        found.append(value)
    return found
