"""Buckets: pictures of like shape, scaled to cover one size and cut to it. Pure arithmetic.

    size of a picture -> bucket, size after scaling, where the cut begins

Two rules. `kohya` gives the buckets of sd-scripts, to the pixel, for who must match a training made there. `log`, the
default, compares ratios by their logarithm: a picture and the same picture on its side get the same bucket on its side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log, sqrt
from random import Random
from typing import Literal

from impasto.data.config import Data
from impasto.errors import ConfigError, Problem

Size = tuple[int, int]
"""Width and height."""

Rule = Literal["log", "kohya"]

ENLARGE = (21, 20)
"""With `upscale` off, a picture may still grow this much (21/20 = 5 %) rather than lose a strip to a smaller bucket."""


@dataclass(frozen=True, order=True)
class Bucket:
    """A size that pictures are trained at."""

    width: int
    height: int

    @property
    def area(self) -> int:
        """Pixels in it."""
        return self.width * self.height


@dataclass(frozen=True, order=True)
class Placement:
    """How a picture becomes its bucket: scaled to `resized`, then cut out at `crop` (left, top)."""

    bucket: Bucket
    resized: Size
    crop: Size

    @property
    def excess(self) -> Size:
        """Pixels cut away in each direction."""
        return self.resized[0] - self.bucket.width, self.resized[1] - self.bucket.height

    def enlarged(self, size: Size) -> float:
        """How many times larger a picture of this size becomes; below 1 it shrinks."""
        return max(self.resized[0] / size[0], self.resized[1] / size[1])


def layout(data: Data, size: Size, resolution: Size, step: int) -> Placement:
    """Where a picture of this size goes. `step` is what the base model needs, unless the settings name another."""
    rules = data.buckets
    if not rules.enabled:
        return place_alone(size, resolution)
    step = step if rules.step is None else rules.step
    smallest = min(resolution) // 2 if rules.smallest is None else rules.smallest
    largest = max(resolution) * 2 if rules.largest is None else rules.largest
    buckets = sizes(resolution, smallest, largest, step)
    if rules.upscale:
        return place(size, buckets, rules.rule)
    return place_no_upscale(size, buckets, resolution, step, rules.rule)


@lru_cache(maxsize=64)
def sizes(resolution: Size, smallest: int, largest: int, step: int) -> tuple[Bucket, ...]:
    """All buckets: sides in multiples of `step` between the limits, none with more pixels than the resolution."""
    low, high = smallest // step * step, -(-largest // step) * step
    _check(resolution, smallest, largest, step)
    area = resolution[0] * resolution[1]
    side = int(sqrt(area) // step) * step
    found = {Bucket(side, side)}
    for width in range(max(low, step), high + 1, step):
        height = min(high, area // width // step * step)
        if height >= max(low, step):
            found |= {Bucket(width, height), Bucket(height, width)}
    return tuple(sorted(found))


def place(size: Size, buckets: Sequence[Bucket], rule: Rule = "log") -> Placement:
    """The bucket nearest in shape; the picture is scaled, up or down, until it covers it."""
    same = Bucket(*size)
    if same in buckets:
        return _middle(same, size)
    if rule == "kohya":
        ratio = size[0] / size[1]
        bucket = min(buckets, key=lambda each: abs(each.width / each.height - ratio))
        return _middle(bucket, _cover_kohya(size, bucket))
    bucket = min(buckets, key=lambda each: _distance(size, each))
    return _middle(bucket, _cover(size, bucket))


def place_no_upscale(
    size: Size, buckets: Sequence[Bucket], resolution: Size, step: int, rule: Rule = "log"
) -> Placement:
    """As `place`, but a picture that is too small keeps its size and loses less than a step at its edges."""
    if rule == "kohya" and (placed := _no_upscale_kohya(size, resolution, step)) is not None:
        return placed
    placed = place(size, buckets)
    more, less = ENLARGE
    if all(now * less <= was * more for now, was in zip(placed.resized, size, strict=True)):
        return placed
    return _own_size(size, buckets, step)


def place_alone(size: Size, resolution: Size) -> Placement:
    """Without buckets: scaled to cover the resolution, and cut to it."""
    if any(side % 8 for side in resolution):
        _refuse("data.resolution", f"{_x(resolution)} without buckets: each side must be a multiple of 8", "round it")
    bucket = Bucket(*resolution)
    return _middle(bucket, _cover(size, bucket))


def scattered(placement: Placement, rng: Random) -> Placement:
    """The same bucket, cut out where the dice fall."""
    across, down = placement.excess
    return replace(placement, crop=(rng.randint(0, across), rng.randint(0, down)))


def around(size: Size, face: tuple[float, float, float, float], bucket: Bucket, times: float) -> Placement:
    """A picture of this size in this bucket, whose shorter side shows `times` the longer side of `face` (left, top,
    width, height), with the face in the middle as far as the picture reaches. Scaled up only to cover the bucket."""
    left, top, across, down = face
    scale = min(1.0, min(bucket.width, bucket.height) / (times * max(across, down)))
    covering = _cover(size, bucket)
    resized = max(covering[0], round(size[0] * scale)), max(covering[1], round(size[1] * scale))
    middle = (left + across / 2) * resized[0] / size[0], (top + down / 2) * resized[1] / size[1]
    crop = (
        min(max(0, round(middle[0] - bucket.width / 2)), resized[0] - bucket.width),
        min(max(0, round(middle[1] - bucket.height / 2)), resized[1] - bucket.height),
    )
    return Placement(bucket, resized, crop)


# what is below serves the above


def _distance(size: Size, bucket: Bucket) -> tuple[float, float, int]:
    """How unlike the shapes are. Differences of logarithms are exactly the same for a picture on its side; of two
    equally near buckets the less elongated one is taken, then the larger."""
    shape = log(bucket.width) - log(bucket.height)
    return abs(shape - (log(size[0]) - log(size[1]))), abs(shape), -bucket.area


def _cover(size: Size, bucket: Bucket) -> Size:
    """The smallest size of the picture's shape that covers the bucket."""
    width, height = size
    if width * bucket.height > bucket.width * height:
        return max(bucket.width, _round(width * bucket.height, height)), bucket.height
    return bucket.width, max(bucket.height, _round(height * bucket.width, width))


def _cover_kohya(size: Size, bucket: Bucket) -> Size:
    width, height = size
    wider = width / height > bucket.width / bucket.height
    scale = bucket.height / height if wider else bucket.width / width
    return int(width * scale + 0.5), int(height * scale + 0.5)


def _no_upscale_kohya(size: Size, resolution: Size, step: int) -> Placement | None:
    """sd-scripts' `bucket_no_upscale`, which knows no limits of sides. None where it would divide by zero."""
    width, height = size
    area, ratio = resolution[0] * resolution[1], size[0] / size[1]
    resized = size
    if width * height > area:
        across = _floor(sqrt(area * ratio) + 0.5, step)
        down = _floor(area / sqrt(area * ratio) + 0.5, step)
        beside, above = _floor(across / ratio + 0.5, step), _floor(down * ratio + 0.5, step)
        if not beside or not down:
            return None
        if abs(across / beside - ratio) < abs(above / down - ratio):
            resized = across, int(across / ratio + 0.5)
        else:
            resized = int(down * ratio + 0.5), down
    bucket = Bucket(_floor(resized[0], step), _floor(resized[1], step))
    return _middle(bucket, resized) if bucket.area else None


def _own_size(size: Size, buckets: Sequence[Bucket], step: int) -> Placement:
    """A bucket of the picture's own size, floored to steps and held within the largest side and area. Only a picture
    narrower than one step grows, to that step."""
    shorter = min(size)
    if shorter < step:
        size = (_round(size[0] * step, shorter), _round(size[1] * step, shorter))
    longest, most = max(each.width for each in buckets), max(each.area for each in buckets)
    sides = [min(_floor(side, step), longest) for side in size]
    while sides[0] * sides[1] > most and max(sides) > step:
        sides[sides.index(max(sides))] -= step
    return _middle(Bucket(*sides), size)


def _middle(bucket: Bucket, resized: Size) -> Placement:
    return Placement(bucket, resized, ((resized[0] - bucket.width) // 2, (resized[1] - bucket.height) // 2))


def _round(number: int, by: int) -> int:
    """number / by, to the nearest, halves up: in integers, so that no float decides a pixel."""
    return (2 * number + by) // (2 * by)


def _floor(number: float, step: int) -> int:
    return int(number) // step * step


def _check(resolution: Size, smallest: int, largest: int, step: int) -> None:
    """The limits must hold the resolution between them, or no bucket has its size."""
    if min(resolution) < step:
        _refuse("data.buckets.step", f"{step} is more than the resolution {_x(resolution)}", "a smaller step")
    if smallest // step * step > min(resolution):
        what = f"{smallest} is more than the resolution {_x(resolution)}"
        _refuse("data.buckets.smallest", what, f"{min(resolution)} or less")
    if -(-largest // step) * step < max(resolution):
        what = f"{largest} is less than the resolution {_x(resolution)}"
        _refuse("data.buckets.largest", what, f"{max(resolution)} or more")


def _refuse(where: str, what: str, fix: str) -> None:
    raise ConfigError(Problem("E-CFG-070", what, where, fix))


def _x(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
