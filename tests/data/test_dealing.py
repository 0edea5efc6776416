"""The examples of a step, dealt out to ranks."""

from __future__ import annotations

import pytest

from impasto.data.buckets import Bucket, Placement
from impasto.data.dealing import dealt, enough, most
from impasto.data.plan import Micro, Plan, Visit
from impasto.data.pools import Entry, Pool
from impasto.errors import ConfigError

PLACE = Placement(Bucket(64, 64), (64, 64), (0, 0))


def micros(*sizes: int) -> list[Micro]:
    return [
        Micro(0, at, 0, PLACE.bucket, tuple(Visit(0, 0, f"{at}-{row}", 0, PLACE) for row in range(size)))
        for at, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("sizes", [(4,), (4, 4, 2), (1,), (3, 1), (8, 8, 8, 5)])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_every_example_goes_to_one_rank_and_all_have_alike_much(sizes: tuple[int, ...], ranks: int) -> None:
    step = micros(*sizes)
    turns = [dealt(step, rank, ranks) for rank in range(ranks)]
    given = [key for turn in turns for piece in turn.pieces for key in piece.micro.keys]
    assert given == [key for micro in step for key in micro.keys]
    counts = [sum(len(piece.micro.keys) for piece in turn.pieces) for turn in turns]
    assert max(counts) - min(counts) <= 1
    assert turns[0].pieces, "rank 0 always has something to do"
    for turn in turns:
        whole = [key for keys in turn.keys for key in keys]
        for piece in turn.pieces:
            start = turn.start(piece.at) + piece.first
            assert tuple(whole[start : start + len(piece.micro.keys)]) == piece.micro.keys


def test_alone_a_rank_does_all_of_a_step() -> None:
    step = micros(4, 2)
    assert [piece.micro for piece in dealt(step, 0, 1).pieces] == step


def test_a_rank_that_has_to_be_busy_computes_the_first_example_for_company() -> None:
    (piece,) = dealt(micros(1), 1, 2, busy=True).pieces
    assert piece.idle
    assert piece.micro.keys == micros(1)[0].keys


def test_more_ranks_than_examples_in_any_step_are_refused() -> None:
    entries = tuple(Entry(str(at), 1, PLACE) for at in range(5))
    plan = Plan((Pool("train", 2, entries),), seed=0, accumulate=2)
    assert most(plan) == 4
    enough(plan, 4)
    with pytest.raises(ConfigError, match="--nproc 4"):
        enough(plan, 5)
