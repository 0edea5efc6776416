"""The plan: who is seen when. Everything follows from pools, seed and one integer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impasto.data.buckets import Bucket, Placement, Size, around
from impasto.data.config import Augment, Role
from impasto.data.metadata import Box
from impasto.data.plan import Micro, Plan, batches, epoch_plan, measured, spread, steps_per_epoch
from impasto.data.pools import Entry, Pool
from impasto.errors import ConfigError

WIDE = Placement(Bucket(96, 64), (100, 70), (2, 3))
SQUARE = Placement(Bucket(64, 64), (64, 64), (0, 0))


@dataclass(frozen=True)
class Length:
    steps: int | None = None
    epochs: int | None = None


def pool(
    count: int,
    *,
    repeats: int = 1,
    batch: int = 4,
    role: Role = "train",
    wide: int = 0,
    name: str = "",
    flip: bool = False,
    random_crop: bool = False,
    color: float = 0.0,
) -> Pool:
    entries = tuple(Entry(f"{name or role}{n:03}", repeats, WIDE if n < wide else SQUARE) for n in range(count))
    return Pool(role, batch, entries, flip, random_crop, color)


def seen(micros: list[Micro] | tuple[Micro, ...]) -> Counter[str]:
    return Counter(visit.id for micro in micros for visit in micro.visits)


@pytest.mark.parametrize(
    ("pools", "accumulate", "epochs", "per_epoch", "steps"),
    [
        ((pool(20, repeats=10),), 1, 3, 50, 150),
        ((pool(20, repeats=10, wide=13),), 1, 3, 51, 153),
        ((pool(20, repeats=10),), 4, 3, 50, 39),
        ((pool(20, repeats=10), pool(7, role="regularization")), 1, 1, 100, 100),
    ],
)
def test_steps_are_the_golden_ones(
    pools: tuple[Pool, ...], accumulate: int, epochs: int, per_epoch: int, steps: int
) -> None:
    assert batches(pools, 0, 0) == len(epoch_plan(pools, 0, 0)) == per_epoch
    plan = Plan(pools, 0, accumulate)
    assert plan.total_steps(Length(epochs=epochs)) == steps
    assert plan.steps_per_epoch == steps_per_epoch(per_epoch, accumulate)
    assert plan.total_steps(Length(steps=1600)) == 1600


def test_a_run_without_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="neither steps nor epochs"):
        Plan((pool(3),), 0).total_steps(Length())


shapes = st.builds(
    pool,
    st.integers(1, 9),
    repeats=st.integers(1, 3),
    batch=st.integers(1, 5),
    wide=st.integers(0, 4),
    flip=st.booleans(),
    random_crop=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(shapes, min_size=1, max_size=3), st.integers(0, 2**40), st.integers(0, 50))
def test_every_picture_is_seen_as_often_as_it_repeats(pools: list[Pool], seed: int, epoch: int) -> None:
    micros = epoch_plan(pools, seed, epoch)
    counts = Counter((visit.set, visit.id) for micro in micros for visit in micro.visits)
    assert counts == {(at, entry.id): entry.repeats for at, one in enumerate(pools) for entry in one.entries}
    assert [micro.index for micro in micros] == list(range(len(micros)))
    keys = [key for micro in micros for key in micro.keys]
    assert len(set(keys)) == len(keys)
    for micro in micros:
        assert 0 < len(micro.visits) <= pools[micro.set].batch_size
        for visit in micro.visits:
            entry = pools[visit.set].entries[visit.example]
            assert (entry.id, visit.set) == (visit.id, micro.set)
            assert visit.placement.bucket == entry.placement.bucket == micro.bucket


@settings(max_examples=40, deadline=None)
@given(st.lists(shapes, min_size=1, max_size=3), st.integers(1, 4), st.booleans())
def test_steps_walk_through_the_epochs_without_gap(pools: list[Pool], accumulate: int, regular: bool) -> None:
    if regular:
        pools = [*pools, pool(5, role="regularization", wide=2, batch=2)]
    plan = Plan(tuple(pools), 3, accumulate)
    expected = [micro for epoch in range(3) for micro in epoch_plan(pools, 3, epoch)]
    total = plan.total_steps(Length(epochs=3))
    assert [micro for step in range(total) for micro in plan.step(step)] == expected
    ends = [plan.start_of(epoch) for epoch in range(4)]
    assert [step for step in range(total + 1) if plan.epochs_done(step) is not None] == ends[1:]
    assert plan.epoch_of(total - 1) == 2
    for step in Random(0).sample(range(total), min(total, 5)):  # from anywhere, at once
        assert Plan(tuple(pools), 3, accumulate).step(step) == plan.step(step)


def test_the_last_step_of_an_epoch_has_what_is_left() -> None:
    plan = Plan((pool(20, repeats=10),), 0, 4)
    assert [len(plan.step(step)) for step in (0, 11, 12, 13)] == [4, 4, 2, 4]


def test_partial_batches_are_kept() -> None:
    assert sorted(len(micro.visits) for micro in epoch_plan((pool(5),), 0, 0)) == [1, 4]


def test_the_order_is_shuffled_by_seed_and_epoch() -> None:
    pools = (pool(40),)
    orders = {tuple(visit.id for micro in epoch_plan(pools, *key) for visit in micro.visits) for key in EPOCHS}
    assert len(orders) == len(EPOCHS)


EPOCHS = [(seed, epoch) for seed in range(3) for epoch in range(3)]


def test_the_order_of_the_folder_does_not_matter() -> None:
    straight = pool(20, repeats=2, wide=7, flip=True, random_crop=True)
    entries = list(straight.entries)
    Random(1).shuffle(entries)
    shuffled = Pool("train", 4, tuple(entries), flip=True, random_crop=True)

    def shown(pools: tuple[Pool, ...]) -> list[list[tuple[object, ...]]]:
        plan = epoch_plan(pools, 5, 2)
        return [[(visit.key, visit.placement, visit.flip) for visit in micro.visits] for micro in plan]

    assert shown((straight,)) == shown((shuffled,))


def test_the_same_picture_twice_in_a_folder_has_dice_of_its_own() -> None:
    twins = Pool("train", 2, (Entry("a", 2, SQUARE), Entry("a", 1, SQUARE)))
    visits = [visit for micro in epoch_plan((twins,), 0, 0) for visit in micro.visits]
    assert sorted((visit.visit, visit.example) for visit in visits) == [(0, 0), (1, 0), (2, 1)]


def test_flips_crops_and_colours_fall_by_visit() -> None:
    pools = (pool(60, wide=60, repeats=3, flip=True, random_crop=True, color=0.25),)
    visits = [visit for micro in epoch_plan(pools, 0, 0) for visit in micro.visits]
    assert 60 < sum(visit.flip for visit in visits) < 120
    assert {visit.placement.crop for visit in visits} == {(x, y) for x in range(5) for y in range(7)}
    assert 25 < sum(visit.color is not None for visit in visits) < 65
    assert [visit for micro in epoch_plan(pools, 0, 0) for visit in micro.visits] == visits


def test_without_augmentation_a_visit_is_plain() -> None:
    visits = [visit for micro in epoch_plan((pool(9, wide=9),), 0, 0) for visit in micro.visits]
    assert all((visit.flip, visit.color, visit.placement) == (False, None, WIDE) for visit in visits)


@pytest.mark.parametrize(
    ("train", "regular", "repeats", "expected"),
    [(30, 4, 2, [7, 7, 8, 8]), (5, 3, 4, [1, 2, 2]), (6, 10, 1, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1])],
)
def test_regularization_pictures_are_as_many_as_training_pictures(
    train: int, regular: int, repeats: int, expected: list[int]
) -> None:
    pools = (pool(train), pool(regular, repeats=repeats, role="regularization"))
    for epoch in range(4):
        counts = seen(epoch_plan(pools, 0, epoch))
        drawn = [counts[entry.id] for entry in pools[1].entries]
        assert sorted(drawn) == expected
        assert sum(drawn) == train


def test_regularization_pictures_take_turns_across_epochs() -> None:
    pools = (pool(6), pool(10, role="regularization"), pool(3, role="regularization", name="other"))
    total: Counter[str] = Counter()
    for epoch in range(13):
        counts = seen(epoch_plan(pools, 0, epoch))
        total += Counter({id: count for id, count in counts.items() if not id.startswith("train")})
    assert set(total.values()) == {6}  # 13 epochs of 6 are 6 laps of 13
    assert len(total) == 13


def test_a_picture_that_repeats_more_often_takes_more_turns() -> None:
    entries = (Entry("often", 3, SQUARE), Entry("once", 1, SQUARE))
    pools = (pool(40), Pool("regularization", 4, entries))
    counts = seen(epoch_plan(pools, 0, 0))
    assert (counts["often"], counts["once"]) == (30, 10)


def chosen(pools: tuple[Pool, ...]) -> set[tuple[int, str]]:
    return {
        (at, each.id)
        for at, one in enumerate(pools) for each in one.entries
        if each.held_out or one.role == "validation"
    }  # fmt: skip


def test_validation_pictures_are_never_trained_on() -> None:
    pools = (pool(4), pool(3, role="validation", wide=1, batch=2, flip=True))
    assert all(not id.startswith("validation") for epoch in range(3) for id in seen(epoch_plan(pools, 0, epoch)))
    found = measured(pools, chosen(pools))
    assert seen(found) == {f"validation{n:03}": 1 for n in range(3)}
    assert [len(micro.visits) for micro in found] == [2, 1]
    assert not any(visit.flip for micro in found for visit in micro.visits)
    assert all(micro.measured for micro in found)


def test_pictures_of_a_set_can_be_held_out_and_the_others_are_planned_as_if_they_were_alone() -> None:
    whole = pool(9, wide=4, repeats=3, batch=2, flip=True)
    out = {1, 5, 6}
    entries = tuple(replace(each, held_out=at in out) for at, each in enumerate(whole.entries))
    held = replace(whole, entries=entries)
    alone = replace(whole, entries=tuple(each for at, each in enumerate(entries) if at not in out))
    for epoch in range(3):
        one, other = epoch_plan([held], 7, epoch), epoch_plan([alone], 7, epoch)
        assert [micro.keys for micro in one] == [micro.keys for micro in other]
        assert [[each.flip for each in micro.visits] for micro in one] == [
            [each.flip for each in micro.visits] for micro in other
        ]
    found = measured([held], chosen((held,)))
    assert seen(found) == {f"train{at:03}": 1 for at in out}
    assert not any(visit.flip for micro in found for visit in micro.visits)
    views = [(view.example, view.flip) for view in Plan((held,), 0).views() if view.example in out]
    assert sorted(views) == [(at, False) for at in sorted(out)]


def test_views_are_all_that_visits_show() -> None:
    pools = (pool(6, wide=2, flip=True), pool(4, role="regularization"), pool(2, role="validation"))
    plan = Plan(pools, 0)
    views = {(view.id, view.placement, view.flip) for view in plan.views()}
    micros = [*(micro for epoch in range(12) for micro in plan.epoch(epoch)), *measured(pools, chosen(pools))]
    assert views == {(each.id, each.placement, each.flip) for micro in micros for each in micro.visits}
    assert Plan((*pools, pool(5, name="live", random_crop=True)), 0).views() == plan.views()


def test_a_later_start_of_a_long_run_is_quick() -> None:
    plan = Plan((pool(200), pool(30, role="regularization", wide=9)), 0)
    assert plan.step(plan.start_of(100))[0].epoch == 100


# -- cuts around faces, and cuts that are kept -------------------------------------------------------------------------

FACE = (240.0, 40.0, 80.0, 64.0)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(40, 400), st.integers(40, 400)),
    st.tuples(st.floats(-20, 400), st.floats(-20, 400), st.floats(1, 300), st.floats(1, 300)),
    st.floats(0.5, 8.0),
)
def test_a_cut_around_a_face_is_always_inside_its_picture(size: Size, face: Box, times: float) -> None:
    placed = around(size, face, Bucket(64, 48), times)
    assert min(placed.crop) >= 0
    assert min(placed.excess[0] - placed.crop[0], placed.excess[1] - placed.crop[1]) >= 0
    cover = max(64 / size[0], 48 / size[1])
    assert placed.resized[0] / size[0] <= max(1.0, cover) + 1 / min(size)


def test_a_cut_around_a_face_shows_as_much_as_asked_with_the_face_in_the_middle() -> None:
    placed = around((400, 400), (190.0, 90.0, 40.0, 30.0), Bucket(64, 64), 4.0)
    assert placed.resized == (160, 160)  # 160 pixels of the picture on 64, which is 4 times the face of 40
    assert placed.crop == (round(210 * 0.4 - 32), round(105 * 0.4 - 32))
    assert around((400, 400), (0.0, 0.0, 10.0, 10.0), Bucket(64, 64), 4.0).resized == (400, 400)
    assert around((400, 400), (0.0, 0.0, 10.0, 10.0), Bucket(64, 64), 4.0).crop == (0, 0)


def faces(times: tuple[float, float], variants: int | None = None) -> Pool:
    entries = tuple(Entry(f"{n}", 2, SQUARE, (400, 320), FACE if n % 2 else None) for n in range(6))
    return Pool("train", 2, entries, face_crop=times, variants=variants, random_crop=True)


def test_faces_are_in_every_cut_and_pictures_without_are_cut_as_the_others() -> None:
    visits = [
        visit for epoch in range(4) for micro in epoch_plan((faces((1.5, 3.0)),), 0, epoch) for visit in micro.visits
    ]
    with_face = [visit.placement for visit in visits if int(visit.id) % 2]
    assert len({placed.resized for placed in with_face}) > 3
    for placed in with_face:
        across = placed.resized[0] / 400
        assert placed.crop[0] <= 240 * across + 1
        assert 320 * across - 1 <= placed.crop[0] + 64
    assert {visit.placement.resized for visit in visits if not int(visit.id) % 2} == {SQUARE.resized}


def test_one_look_at_a_face_is_always_the_same_and_can_be_kept() -> None:
    entries = (Entry("a", 3, SQUARE, (400, 320), FACE),)
    plan = Plan((Pool("train", 1, entries, face_crop=(2.0, 2.0)),), 0)
    (view,) = plan.views()
    assert view.placement != SQUARE
    assert {visit.placement for micro in plan.epoch(0) for visit in micro.visits} == {view.placement}


@pytest.mark.parametrize("seed", [0, 7])
def test_visits_choose_among_the_variants_that_are_kept(seed: int) -> None:
    pools = (Pool("train", 4, (Entry("a", 40, WIDE), Entry("b", 40, WIDE)), True, True, 0.5, variants=3),)
    plan = Plan(pools, seed)
    kept = {(view.id, view.placement, view.flip, view.color) for view in plan.views()}
    visits = [visit for epoch in range(3) for micro in plan.epoch(epoch) for visit in micro.visits]
    assert {(visit.id, visit.placement, visit.flip, visit.color) for visit in visits} == kept
    assert 6 < len(kept) <= 12
    assert plan.views() == Plan(pools, seed + 1).views()
    assert not pools[0].live
    assert not Plan((replace(pools[0], variants=None),), seed).views()


@pytest.mark.parametrize(
    ("augment", "what"),
    [({"variants": 4, "flip": True}, "nothing to vary"), ({"face_crop": [4.0, 2.0]}, "swap them")],
)
def test_augmentation_that_cannot_be_meant_is_refused(augment: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Augment.model_validate(augment)


@pytest.mark.parametrize(("total", "count", "steps"), [
    (100, 4, [25, 50, 75, 100]), (10, 3, [4, 7, 10]), (3, 10, [1, 2, 3]), (7, 1, [7]), (7, None, []),
])  # fmt: skip
def test_a_run_is_parted_evenly_and_its_end_is_one_of_the_ends(total: int, count: int | None, steps: list[int]) -> None:
    assert sorted(spread(total, count)) == steps
