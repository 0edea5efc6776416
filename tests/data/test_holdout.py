"""Which pictures are held out, by what is in them; and when they are measured, by what it costs."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from impasto.data import traces
from impasto.data.config import Data, Dataset, Role
from impasto.data.examples import Example, Scan, scan
from impasto.data.holdout import COST, due, measured, split


@dataclass(frozen=True)
class Wanted:
    share: float | None = None
    pictures: int = 8
    every_steps: int | None = None
    levels: int = 4


def picture(at: int, *, set: int = 0, role: Role = "train", trace: str | None = None) -> Example:
    rng = random.Random(at)
    return Example(
        id=f"{rng.getrandbits(256):064x}", path=Path(f"{at}.png"), size=(64, 64), caption="", source="empty", repeats=1,
        set=set, role=role, trace=rng.randbytes(traces.LENGTH).hex() if trace is None else trace,
    )  # fmt: skip


def found(*sets: list[Example]) -> Scan:
    return Scan(tuple(map(tuple, sets)), (), tuple(map(len, sets)))


def out(scan: Scan) -> list[str]:
    return [each.path.name for some in scan.examples for each in some if each.role == "validation"]


@pytest.mark.parametrize(
    ("pictures", "wanted", "count"),
    [
        (19, Wanted(), 0),
        (20, Wanted(), 2),
        (60, Wanted(), 3),
        (400, Wanted(), 8),
        (400, Wanted(pictures=3), 3),
        (400, Wanted(pictures=0), 0),
        (400, Wanted(share=0.0), 0),
        (400, Wanted(share=0.1), 40),
        (5, Wanted(share=0.1), 1),
    ],
)
def test_so_many_are_held_out(pictures: int, wanted: Wanted, count: int) -> None:
    assert len(out(split(found([picture(at) for at in range(pictures)]), wanted))) == count


def test_none_are_held_out_beside_a_set_for_it_unless_a_share_is_asked_for() -> None:
    own = found([picture(at) for at in range(40)], [picture(at, set=1, role="validation") for at in range(100, 103)])
    assert split(own, Wanted()) == own
    assert len(out(split(own, Wanted(share=0.1)))) == 3 + 4


def test_the_same_pictures_are_held_out_whatever_they_are_called_and_however_they_lie() -> None:
    pictures = [picture(at) for at in range(40)]
    chosen = {each.id for each in split(found(pictures), Wanted(share=0.2)).examples[0] if each.role == "validation"}
    moved = [replace(each, path=Path("other") / each.path) for each in reversed(pictures)]
    again = split(found(moved), Wanted(share=0.2)).examples[0]
    assert {each.id for each in again if each.role == "validation"} == chosen
    more = split(found([*pictures, *(picture(at) for at in range(40, 44))]), Wanted(share=0.2)).examples[0]
    assert len({each.id for each in more if each.role == "validation"} & chosen) >= len(chosen) - 3


def test_whoever_looks_like_a_held_out_picture_is_held_out_too(tmp_path: Path) -> None:
    for at in range(12):
        soft = np.random.default_rng(at).integers(0, 256, (6, 6, 3), np.uint8)
        whole = Image.fromarray(soft).resize((256, 256), Image.Resampling.BICUBIC)
        whole.save(tmp_path / f"{at:02}-a.png")
        whole.resize((200, 200)).save(tmp_path / f"{at:02}-b.jpg", quality=80)
        ImageOps.mirror(whole).save(tmp_path / f"{at:02}-c.png")
        (tmp_path / f"{at:02}-d.png").write_bytes((tmp_path / f"{at:02}-a.png").read_bytes())
    data = Data.model_validate({"sets": [{"path": tmp_path}], "captions": {"text": "a thing"}})
    held = out(split(scan(data), Wanted(share=0.3)))
    assert len({name[:2] for name in held}) == 3  # of 36 that differ to the byte 11: three of twelve times three
    assert sorted(name[3] for name in held) == sorted("abcd" * 3)


def test_a_picture_of_the_class_keeps_its_twin_in_the_training() -> None:
    pictures = [picture(at) for at in range(20)]
    general = [replace(each, set=1, role="regularization") for each in pictures]
    assert out(split(found(pictures, general), Wanted(share=0.2))) == []


def test_if_all_look_the_same_none_is_held_out() -> None:
    alike = [picture(at, trace=picture(0).trace) for at in range(30)]
    assert out(split(found(alike), Wanted())) == []
    pairs = [picture(at, trace=picture(at // 2).trace) for at in range(10)]
    assert len(out(split(found(pairs), Wanted(share=0.1)))) == 2


def test_as_many_training_pictures_are_measured_as_held_out_ones_each_once() -> None:
    pictures = [picture(at) for at in range(40)]
    held, beside = measured(split(found([*pictures, *pictures]), Wanted()), Wanted())
    assert len(held) == len(beside) == 2
    assert len({each.id for each in (*held, *beside)}) == 4
    assert [each.role for each in (*held, *beside)] == ["validation", "validation", "train", "train"]
    own = found(pictures, [picture(at, set=1, role="validation") for at in range(100, 130)])
    assert [len(some) for some in measured(own, Wanted(pictures=5))] == [5, 5]


@pytest.mark.parametrize(
    ("count", "wanted", "beside"),
    [(9, Wanted(), 0), (9, Wanted(every_steps=5), 4), (10, Wanted(), 4), (10, Wanted(pictures=0), 0)],
)
def test_of_few_pictures_some_are_measured_as_they_are_learnt(count: int, wanted: Wanted, beside: int) -> None:
    scan = split(found([picture(at) for at in range(count)]), wanted)
    assert [len(some) for some in measured(scan, wanted)] == [0, beside]


@pytest.mark.parametrize("total", [1, 10, 100, 1000, 30_000])
@pytest.mark.parametrize("looks", [1.0, 3.7, 8.0])
@pytest.mark.parametrize("pictures", [2, 8])
def test_measuring_is_cheap_where_nobody_says_when(total: int, looks: float, pictures: int) -> None:
    steps = due(Wanted(), held=pictures, beside=pictures, total=total, looks=looks)
    assert steps[-1] == total
    assert steps == tuple(sorted(set(steps)))
    if len(steps) > 1:
        assert steps[0] == 0
        assert len(steps) * 2 * pictures * 4 <= COST * 2 * total * looks
        gaps = np.diff(steps)
        assert gaps.max() - gaps.min() <= 1


def test_it_is_measured_when_it_is_asked_for() -> None:
    assert due(Wanted(every_steps=4), held=2, beside=2, total=10, looks=1.0) == (4, 8, 10)
    assert due(Wanted(every_steps=4), held=0, beside=0, total=10, looks=1.0) == ()
    assert due(Wanted(), held=0, beside=4, total=10, looks=1.0) == ()


def test_a_folder_with_few_pictures_is_left_whole(tmp_path: Path) -> None:
    for at in range(4):
        Image.new("RGB", (32, 32), (60 * at, 0, 0)).save(tmp_path / f"{at}.png")
    sets = (Dataset(path=tmp_path),)
    looked = scan(Data.model_validate({"sets": sets, "captions": {"text": "a thing"}}))
    assert split(looked, Wanted()) is looked
