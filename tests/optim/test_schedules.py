"""Schedules against recorded values, and the ways they can be wrong."""

import pytest

from impasto.optim.schedule_config import (
    Constant,
    Cosine,
    CosineMinimum,
    CosineRestarts,
    InverseSqrt,
    Linear,
    PiecewiseConstant,
    Polynomial,
    Rex,
    WarmupStableDecay,
)
from impasto.optim.schedules import factor

RESTARTS = CosineRestarts(warmup=10, cycles=3)
STABLE = WarmupStableDecay(warmup=10, decay=20, minimum=0.1)
GOLDEN = [
    (Constant(warmup=10), {0: 0, 5: 0.5, 10: 1, 99: 1}),
    (Linear(warmup=10), {0: 0, 5: 0.5, 10: 1, 50: 0.555556, 75: 0.277778, 99: 0.011111}),
    (Cosine(warmup=10), {5: 0.5, 50: 0.586824, 75: 0.178606}),
    (RESTARTS, {5: 0.5, 39: 0.002739, 40: 1, 50: 0.75, 70: 1, 75: 0.933013, 100: 0}),
    (CosineMinimum(warmup=10, minimum=0.1), {0: 0, 50: 0.628142, 99: 0.100274, 100: 0.1}),
    (Rex(warmup=10), {0: 0, 5: 0.5, 10: 1, 55: 2 / 3, 70: 0.5, 100: 0}),
    (Polynomial(warmup=10, power=2.0), {5: 0.5, 50: 0.308642, 100: 1e-7}),
    (InverseSqrt(warmup=10), {5: 0.5, 10: 1, 50: 0.447214}),
    (STABLE, {0: 0.1, 5: 0.55, 10: 1, 79: 1, 80: 1, 99: 0.10554, 100: 0.1}),
    (PiecewiseConstant(until=(20, 60), factors=(1.0, 0.5, 0.25)), {0: 1, 19: 1, 20: 0.5, 59: 0.5, 60: 0.25, 99: 0.25}),
]
ALL = [schedule for schedule, _ in GOLDEN]


def kind(schedule):
    return schedule.kind if hasattr(schedule, "kind") else None


@pytest.mark.parametrize(("schedule", "values"), GOLDEN, ids=kind)
def test_factors_are_the_recorded_ones(schedule, values):
    found = {step: factor(schedule, step, 100, first_step_zero=True) for step in values}
    assert found == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("schedule", ALL, ids=kind)
def test_every_step_of_a_run_moves_something(schedule):
    assert all(0 < factor(schedule, step, 100) <= 1 for step in range(100))


def test_warm_up_starts_above_zero_and_arrives():
    assert [factor(Constant(warmup=4), step, 10) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


@pytest.mark.parametrize("schedule", ALL, ids=kind)
def test_a_warm_up_of_a_share_starts_above_zero(schedule):
    if schedule.kind != "warmup-stable-decay":
        warm = schedule.model_copy(update={"warmup": 0.1})
        assert [factor(warm, step, 100) for step in range(10)] == pytest.approx([(t + 1) / 10 for t in range(10)])


def test_the_two_ways_to_warm_up_agree_afterwards():
    for step in range(10, 101):
        assert factor(Cosine(warmup=10), step, 100) == factor(Cosine(warmup=10), step, 100, first_step_zero=True)


def test_warm_up_may_be_a_share_of_all_steps():
    assert factor(Linear(warmup=0.1), 50, 100) == factor(Linear(warmup=10), 50, 100)
    assert factor(WarmupStableDecay(decay=0.2), 85, 100) == factor(WarmupStableDecay(decay=20), 85, 100)


def test_more_steps_after_the_end_go_on_along_the_longer_curve():
    for schedule in (Linear(), Cosine(), CosineRestarts(), Rex(), Polynomial(), WarmupStableDecay(decay=0.2)):
        assert factor(schedule, 100, 100) == pytest.approx(0, abs=1e-6)
        assert factor(schedule, 100, 200) > 0.4


def test_steps_beyond_the_last_stay_at_the_end():
    assert factor(Linear(), 150, 100) == 0
    assert factor(CosineMinimum(minimum=0.3), 150, 100) == pytest.approx(0.3)


def test_restarts_begin_at_the_full_rate_wherever_they_fall():
    for total in range(5, 200):
        for cycles in (1, 2, 3, 5):
            for cycle in range(cycles):
                if cycle * total % cycles == 0:
                    assert factor(CosineRestarts(cycles=cycles), cycle * total // cycles, total) == 1


def test_inverse_square_root_has_a_timescale_of_its_own():
    assert factor(InverseSqrt(timescale=100), 100, 1000) == pytest.approx(0.5**0.5)
    assert factor(InverseSqrt(), 10_000, 20_000) == pytest.approx(0.5**0.5)


@pytest.mark.parametrize("schedule", [Constant(warmup=11), WarmupStableDecay(warmup=6, decay=5)])
def test_warm_up_and_fall_must_fit(schedule):
    with pytest.raises(ValueError, match="does not fit into 10 steps"):
        factor(schedule, 0, 10)


def test_a_warm_up_of_the_whole_run_is_allowed():
    assert [factor(Cosine(warmup=2), step, 2) for step in range(3)] == [0.5, 1, 0]
