"""Strengths from blind votes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from impasto.errors import ConfigError
from impasto.experiments import votes
from impasto.experiments.votes import Vote


def cast(wins: dict[tuple[str, str], int]) -> list[Vote]:
    """`(a, b): 3` is three votes for a over b, the sides by turns."""
    found = []
    for (better, worse), count in wins.items():
        for number in range(count):
            sides = (better, worse) if number % 2 else (worse, better)
            found.append(Vote(left=sides[0], right=sides[1], better="left" if number % 2 else "right"))
    return found


def test_two_rows_stand_apart_by_the_log_of_their_odds() -> None:
    found = votes.standings(cast({("a", "b"): 30, ("b", "a"): 10}))
    odds = math.log((30 + votes.PRIOR / 2) / (10 + votes.PRIOR / 2))
    assert [each.row for each in found] == ["a", "b"]
    assert found[0].strength - found[1].strength == pytest.approx(odds)
    assert found[0].strength + found[1].strength == pytest.approx(0.0)
    assert found[0].chance == pytest.approx(1 / (1 + math.exp(-odds)))
    assert (found[0].won, found[0].shown) == (30, 40)


def test_strengths_of_a_tournament_are_found_and_lie_within_their_intervals() -> None:
    true = {"a": 1.0, "b": 0.3, "c": -0.2, "d": -1.1}
    dice = np.random.default_rng(5)
    ballot = []
    for left in true:
        for right in true:
            for _ in range(60 if left != right else 0):
                chance = 1 / (1 + math.exp(true[right] - true[left]))
                ballot.append(Vote(left=left, right=right, better="left" if dice.random() < chance else "right"))
    found = votes.standings(ballot)
    assert [each.row for each in found] == ["a", "b", "c", "d"]
    assert all(each.low < true[each.row] < each.high for each in found)
    assert all(each.high - each.low < 0.8 for each in found)


def test_ties_say_that_two_rows_are_alike_and_a_row_that_never_lost_is_no_god() -> None:
    alike = votes.standings([Vote(left="a", right="b", better="neither")] * 9)
    assert [each.strength for each in alike] == pytest.approx([0.0, 0.0])
    never_lost = votes.standings(cast({("a", "b"): 1}))[0]
    assert never_lost.strength < 2
    assert never_lost.low < 0 < never_lost.high


def test_a_row_against_itself_says_nothing_and_one_row_alone_has_no_standing() -> None:
    assert votes.standings([Vote(left="a", right="a", better="left")]) == []


def test_votes_are_read_as_they_were_saved_and_other_files_are_refused(tmp_path: Path) -> None:
    ballot = cast({("a", "b"): 3})
    (tmp_path / "votes.json").write_text(votes.text(ballot))
    assert votes.read([tmp_path / "votes.json"] * 2) == ballot * 2
    (tmp_path / "other.json").write_text('{"votes": [{"left": "a"}]}')
    for name in ("other.json", "gone.json"):
        with pytest.raises(ConfigError) as caught:
            votes.read([tmp_path / name])
        assert caught.value.problems[0].code == "E-CMP-004"
