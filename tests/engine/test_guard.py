"""What watches the numbers of a run, and helps it on where that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from impasto import events
from impasto.engine import checkpoint
from impasto.engine import config as settings
from impasto.engine.guard import IN_A_ROW, TRIES, Guard
from impasto.engine.member import Member
from impasto.engine.trainer import Trainer
from impasto.errors import DivergedError, UserError
from impasto.events import Step, Warned
from impasto.weights import file
from tests.engine import forks
from tests.engine.test_validate import config, pictures, train

assert pictures  # a fixture


def step(number: int, *, loss: float = 0.1, norm: float = 1.0, seconds: float = 1.0) -> Step:
    return Step(step=number, epoch=0, loss=loss, rates={}, norm=norm, seconds=seconds)


def told(guard: Guard, *steps: Step) -> list[tuple[int, str]]:
    return [(each.step, warning.code) for each in steps for warning in guard.watch(each)]


def test_an_explosion_is_told_once_and_what_is_usual_is_not() -> None:
    usual = [step(at, loss=0.1 * (1 + at % 5), norm=1.0 + at % 3) for at in range(1, 60)]
    guard = Guard(settings.Guard())
    assert told(guard, *usual) == []
    assert told(guard, step(60, loss=4.0), step(61, loss=5.0), step(62, norm=30.0)) == [
        (60, "W-NUM-002"),
        (62, "W-NUM-003"),
    ]
    assert told(guard, step(300, loss=9.0)) == [(300, "W-NUM-002")]
    assert told(Guard(settings.Guard()), *usual[:5], step(6, loss=99.0)) == []  # of five steps nothing is usual


def test_slowness_is_told_when_it_lasts() -> None:
    guard = Guard(settings.Guard())
    assert told(guard, *(step(at) for at in range(1, 60)), step(60, seconds=9.0), step(61)) == []
    assert told(guard, *(step(at, seconds=9.0) for at in range(62, 90))) == [(71, "W-SPD-001")]


def test_a_few_skips_are_patience_and_many_are_not() -> None:
    guard = Guard(settings.Guard())
    for skipped in (True, True, False, True, True):
        guard.skip(skipped)
        assert not guard.too_many(scaled=False)
    guard.skip(True)
    assert guard.too_many(scaled=False)
    assert not guard.too_many(scaled=True)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps in which the loss of every member is no number."""
    steps: list[int] = []
    drawn = Trainer._draw_all

    def draw(self: Trainer) -> tuple[list[object], dict[Member, UserError]]:
        parts, failed = drawn(self)
        for part in parts:
            if part.member.step in steps:
                part.noised.target.fill_(float("nan"))
        return parts, failed

    monkeypatch.setattr(Trainer, "_draw_all", draw)
    return steps


@pytest.mark.parametrize("policy", ["halve_rate", "roll_back"])
def test_a_run_is_helped_on(tiny_base: Path, pictures: Path, broken: list[int], policy: str) -> None:
    broken += [3, 4, 5]
    guard = {"on_nonfinite": policy, "remember_every": 2}
    (run,) = train(config(tiny_base, pictures, train={"steps": 8}, guard=guard, validation={"pictures": 0}))
    log = events.read(run.events)
    (warning,) = [each for each in log if isinstance(each, Warned) and each.code[:5] == "W-NUM"]
    assert warning.code == "W-NUM-004"
    assert ("weights" in warning.text) == (policy == "roll_back")
    rates = [each.rates["unet"] for each in log if isinstance(each, Step)]
    assert rates[6:] == [rate / 2 for rate in rates[4:6]]
    assert all(value.isfinite().all() for value in file.load(run.final)[0].values())


@pytest.mark.parametrize("parting", [3, 4, 6])  # before, amid and behind the steps that are none
def test_help_is_the_same_after_a_resume(tiny_base: Path, pictures: Path, broken: list[int], parting: int) -> None:
    broken += [3, 4, 5]
    guard = {"on_nonfinite": "roll_back", "remember_every": 2}
    still = {"guard": guard, "validation": {"pictures": 0}}
    (whole,) = train(config(tiny_base, pictures, "whole", train={"steps": 8}, **still))
    train(config(tiny_base, pictures, "parts", train={"steps": parting}, **still))
    (parts,) = train(config(tiny_base, pictures, "parts", train={"steps": 8}, **still))
    one, other = (checkpoint.latest(each)[0] for each in (parts, whole))
    assert one is not None
    assert other is not None
    assert one.state["guard"] == other.state["guard"]
    assert one.tensors.keys() == other.tensors.keys() >= {"good-adapter", "good-optimizer"}
    for name in other.tensors.keys() - {"ledger"}:  # which goes by quarters of all steps, as many as were asked for
        assert forks.same(one.tensors[name], other.tensors[name]), name


def test_without_a_word_three_such_steps_end_the_run(tiny_base: Path, pictures: Path, broken: list[int]) -> None:
    broken += [1, 2, 3]
    with pytest.raises(DivergedError, match="E-NUM-001"):
        train(config(tiny_base, pictures, train={"steps": 6}, validation={"pictures": 0}))


def test_help_comes_to_an_end() -> None:
    guard, member = Guard(settings.Guard(on_nonfinite="halve_rate")), Member.__new__(Member)
    member.halvings, member.step = 0, 9
    for _ in range(TRIES):
        guard.skipped += [True] * IN_A_ROW
        assert "from step 9 on" in (guard.help(member) or "")
        assert guard.skipped == []
    assert guard.help(member) is None
    assert member.halvings == TRIES
