"""Buckets: the golden vectors under the old rule, and symmetry and safety under ours."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impasto.data.buckets import Bucket, Placement, layout, place, place_alone, place_no_upscale, scattered, sizes
from impasto.data.config import Buckets, Data
from impasto.errors import ConfigError

SQUARE_512 = "256x832 256x896 256x960 256x1024 320x704 320x768 384x640 448x576 512x512"
SQUARE_768 = "256x1024 320x1024 384x1024 448x1024 512x1024 576x960 576x1024 640x896 704x832 768x768"
TALL_512 = (
    "256x1024 320x1024 384x896 384x960 384x1024 448x832 512x704 512x768 576x576 576x640 640x576 704x512 768x512 "
    "832x448 896x384 960x384 1024x256 1024x320 1024x384"
)
SQUARE_1024 = (
    "512x1856 512x1920 512x1984 512x2048 576x1664 576x1728 576x1792 640x1536 640x1600 704x1408 704x1472 768x1280 "
    "768x1344 832x1216 896x1152 960x1088 1024x1024"
)
WIDE_1024 = f"256x2048 320x2048 384x2048 448x2048 {SQUARE_1024}"

SELECTION = """
640x480   | 576x448 597x448   | 512x384 512x384   | 1152x896 1195x896   | 640x448 640x480
480x640   | 448x576 448x597   | 384x512 384x512   | 896x1152 896x1195   | 448x640 480x640
1920x1080 | 640x384 683x384   | 640x384 683x384   | 1344x768 1365x768   | 1344x768 1365x768
300x200   | 640x384 640x427   | 256x192 300x200   | 1216x832 1248x832   | 256x192 300x200
1000x1500 | 384x640 427x640   | 384x576 384x576   | 832x1216 832x1248   | 832x1216 832x1248
3000x1000 | 832x256 832x277   | 768x256 768x256   | 1728x576 1728x576   | 1728x576 1728x576
4000x500  | 1024x256 2048x256 | 1024x128 1024x128 | 2048x256 2048x256   | 2560x320 2560x320
700x699   | 512x512 513x512   | 512x512 513x512   | 1024x1024 1025x1024 | 640x640 700x699
257x1000  | 256x1024 263x1024 | 256x960 257x1000  | 512x1984 512x1992   | 256x960 257x1000
513x511   | 512x512 514x512   | 512x448 513x511   | 1024x1024 1028x1024 | 512x448 513x511
"""


def size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


def both_ways(text: str) -> list[Bucket]:
    upright = {size(each) for each in text.split()}
    return [Bucket(*each) for each in sorted(upright | {(height, width) for width, height in upright})]


@pytest.mark.parametrize(
    ("resolution", "smallest", "largest", "expected", "count"),
    [
        ((512, 512), 256, 1024, SQUARE_512, 17),
        ((512, 512), 256, 2048, SQUARE_512, 17),
        ((768, 768), 256, 1024, SQUARE_768, 19),
        ((512, 768), 256, 1024, TALL_512, 19),
        ((1024, 1024), 512, 2048, SQUARE_1024, 33),
        ((1024, 1024), 256, 2048, WIDE_1024, 41),
    ],
)
def test_bucket_lists_are_the_golden_ones(
    resolution: tuple[int, int], smallest: int, largest: int, expected: str, count: int
) -> None:
    found = sizes(resolution, smallest, largest, 64)
    assert list(found) == both_ways(expected)
    assert len(found) == count


def test_smaller_steps_make_more_buckets() -> None:
    assert len(sizes((1024, 1024), 256, 2048, 32)) == 81


def test_limits_are_rounded_outwards() -> None:
    assert sizes((512, 512), 300, 1000, 64) == sizes((512, 512), 256, 1024, 64)


@pytest.mark.parametrize("line", SELECTION.strip().splitlines())
def test_the_old_rule_chooses_the_golden_buckets(line: str) -> None:
    image, *expected = [each.strip() for each in line.split("|")]
    small, large = sizes((512, 512), 256, 1024, 64), sizes((1024, 1024), 256, 2048, 64)
    found = [
        place(size(image), small, "kohya"),
        place_no_upscale(size(image), small, (512, 512), 64, "kohya"),
        place(size(image), large, "kohya"),
        place_no_upscale(size(image), large, (1024, 1024), 64, "kohya"),
    ]
    for placement, text in zip(found, expected, strict=True):
        bucket, resized = text.split()
        assert (placement.bucket, placement.resized) == (Bucket(*size(bucket)), size(resized))
        assert placement.crop == (placement.excess[0] // 2, placement.excess[1] // 2)


def test_the_old_rule_without_upscaling_at_other_steps() -> None:
    for step, image, bucket in ((32, (1000, 1500), (832, 1248)), (8, (1000, 1500), (832, 1248))):
        assert place_no_upscale(image, [], (1024, 1024), step, "kohya").bucket == Bucket(*bucket)
    assert place_no_upscale((1023, 1025), [], (1024, 1024), 32, "kohya").bucket == Bucket(992, 1024)
    assert place_no_upscale((1023, 1025), [], (1024, 1024), 8, "kohya").bucket == Bucket(1016, 1024)


def test_where_the_old_rule_is_lopsided_ours_is_not() -> None:
    buckets = sizes((512, 512), 256, 1024, 64)
    assert place((880, 1000), buckets, "kohya").bucket == Bucket(448, 576)
    assert place((1000, 880), buckets, "kohya").bucket == Bucket(512, 512)
    assert place((880, 1000), buckets).bucket == Bucket(448, 576)
    assert place((1000, 880), buckets).bucket == Bucket(576, 448)


def test_a_hair_too_small_is_enlarged_rather_than_cut() -> None:
    buckets = sizes((512, 512), 256, 1024, 64)
    assert place_no_upscale((513, 511), buckets, (512, 512), 64).bucket == Bucket(512, 512)
    assert place_no_upscale((300, 200), buckets, (512, 512), 64).resized == (300, 200)


def on_its_side(placement: Placement) -> Placement:
    bucket = Bucket(placement.bucket.height, placement.bucket.width)
    return Placement(bucket, placement.resized[::-1], placement.crop[::-1])


sides = st.integers(1, 20_000)
resolutions = st.sampled_from([64, 512, 768, 1000, 1024])
steps = st.sampled_from([8, 32, 64])


@settings(max_examples=200, deadline=None)
@given(sides, sides, resolutions, steps, st.booleans())
def test_ours_is_symmetric_and_covers(width: int, height: int, side: int, step: int, upscale: bool) -> None:
    data = Data(buckets=Buckets(step=step, upscale=upscale))
    found = layout(data, (width, height), (side, side), 64)
    assert layout(data, (height, width), (side, side), 64) == on_its_side(found)
    check(found, step)
    assert found.bucket.area <= side * side
    if not upscale and min(width, height) >= step:
        assert found.enlarged((width, height)) <= 1.06


@settings(max_examples=200, deadline=None)
@given(sides, sides, resolutions, steps, st.booleans())
def test_the_old_rule_never_crashes(width: int, height: int, side: int, step: int, upscale: bool) -> None:
    data = Data(buckets=Buckets(step=step, upscale=upscale, rule="kohya"))
    check(layout(data, (width, height), (side, side), 64), step)


def check(placement: Placement, step: int) -> None:
    """In whole steps, covered, and cut inside the picture."""
    bucket = placement.bucket
    assert bucket.width % step == bucket.height % step == 0
    assert min(bucket.width, bucket.height) >= step
    assert 0 <= placement.crop[0] <= placement.resized[0] - bucket.width
    assert 0 <= placement.crop[1] <= placement.resized[1] - bucket.height


def test_without_buckets_everything_covers_the_resolution() -> None:
    data = Data(buckets=Buckets(enabled=False))
    for image in ((640, 480), (100, 900), (512, 512)):
        found = layout(data, image, (512, 512), 64)
        assert found.bucket == Bucket(512, 512)
        assert min(found.resized) == 512
    with pytest.raises(ConfigError, match="multiple of 8"):
        place_alone((640, 480), (500, 500))


def test_a_random_cut_stays_inside_and_reaches_every_offset() -> None:
    centre = place((640, 480), sizes((512, 512), 256, 1024, 64))
    rng = Random(0)
    cuts = {scattered(centre, rng).crop for _ in range(500)}
    assert {top for _, top in cuts} == {0}
    assert {left for left, _ in cuts} == set(range(centre.excess[0] + 1))


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        (Buckets(smallest=600), "smallest"),
        (Buckets(largest=400), "largest"),
        (Buckets(step=600), "step"),
    ],
)
def test_limits_that_leave_out_the_resolution_are_refused(rules: Buckets, named: str) -> None:
    with pytest.raises(ConfigError, match=f"data.buckets.{named}"):
        layout(Data(buckets=rules), (640, 480), (512, 512), 64)
