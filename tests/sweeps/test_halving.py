"""Which variants go on is arithmetic: the same whenever it is asked for."""

from __future__ import annotations

import math

from impasto.sweeps.config import Halving
from impasto.sweeps.fleets import Need, pack
from impasto.sweeps.halving import decide, rungs, share_of_cost, survivors


def test_rungs_divide_the_run_by_eta_but_not_before_a_tenth() -> None:
    assert rungs(Halving(eta=3), 12, 240) == [27, 80]
    assert rungs(Halving(eta=2), 16, 200) == [25, 50, 100]
    assert rungs(Halving(eta=3), 2, 90) == [30]
    assert rungs(Halving(eta=3), 1, 90) == []
    assert rungs(Halving(eta=3, rungs=(50, 10, 500)), 12, 100) == [10, 50]


def test_the_better_share_goes_on_and_at_least_those_to_keep() -> None:
    assert [survivors(Halving(eta=3), count) for count in (12, 4, 2, 1)] == [4, 2, 1, 1]
    assert survivors(Halving(eta=3, keep=3), 4) == 3
    assert math.isclose(share_of_cost(Halving(eta=3), 12, 240), (12 * 27 + 4 * 53 + 2 * 160) / (12 * 240))


def test_variants_are_compared_by_the_mean_of_their_runs() -> None:
    verdict = decide(Halving(eta=2), {0: [0.5, 0.1], 1: [0.2, 0.2], 2: [0.4, 0.3], 3: [0.1, None]}, 25)
    assert verdict.kept == (1, 0)
    assert verdict.dropped == {
        2: "place 3 of 4 after 25 steps, and 2 go on: validation loss 0.35, the last that goes on has 0.3",
        3: "place 4 of 4 after 25 steps, and 2 go on: it has no loss that is a number",
    }


def test_of_equals_the_earlier_one_goes_on() -> None:
    assert decide(Halving(eta=2), {5: [0.1], 2: [0.1]}, 1).kept == (2,)


def test_runs_are_packed_as_they_fit_and_rows_follow_from_what_is_left() -> None:
    need = Need(base=100.0, state=40.0, row=10.0, batch=4)
    assert pack([need] * 4, None).fleets == ((0, 1, 2, 3),)
    packing = pack([need] * 4, 100 + 2 * 50 + 50 + 13)
    assert packing.fleets == ((0, 1), (2, 3))
    assert packing.rows == 5
    assert pack([need] * 4, 1e6).rows == 0
    assert pack([need] * 3, 1.0).fleets == ((0,), (1,), (2,))  # too little for one: it is tried alone
    assert pack([need] * 3, None, most=2).fleets == ((0, 1), (2,))
    assert pack([Need(0.0, None, 1.0, 1)] * 5, 1e9).fleets == ((0, 1, 2, 3), (4,))
