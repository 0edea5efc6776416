"""The picture of a plan says what it shows, be it of one bucket or of many."""

from __future__ import annotations

from io import BytesIO

import pytest
from matplotlib.figure import Figure
from PIL import Image

from impasto import config
from impasto.engine import plots
from impasto.engine.outlook import outlook
from impasto.preflight.report import BucketPlan

MANY = [BucketPlan(64 * (8 + at), 64 * (30 - at), 10 + at, 3) for at in range(20)]


@pytest.mark.parametrize(("found", "title"), [([BucketPlan(64, 96, 7, 4)], "1 bucket"),
                                              (MANY, "20 buckets, the 14 largest drawn")])  # fmt: skip
def test_each_bucket_has_a_bar_with_its_size_and_count(found: list[BucketPlan], title: str) -> None:
    axes = Figure().subplots()
    plots.buckets(axes, found)
    said = [each.get_text() for each in axes.texts]
    drawn = sorted(sorted(found, key=lambda each: -each.pictures)[:14], key=lambda each: each.width / each.height)
    assert said == [text for each in drawn for text in (str(each.pictures), f"{each.width} × {each.height}")]
    assert [bar[0].get_width() for bar in axes.containers] == [each.pictures for each in drawn]
    assert axes.get_title(loc="left") == title
    low, high = axes.get_ylim()
    assert low - high >= 5  # one bar alone does not fill the axes


def test_the_buckets_stand_beside_the_curves() -> None:
    made = outlook(config.load(None, ["train.steps=20"])).png("x", MANY[:1])
    with Image.open(BytesIO(made)) as picture:
        assert picture.size == (1920, 432)
