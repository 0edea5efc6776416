"""Where a run's time goes: every second counts once, and what is slower than it used to be is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from impasto import events
from impasto.engine.spent import ENOUGH, WARMING, Spending, Stopwatch, during
from impasto.events import Finished, Spent, Started
from impasto.preflight import pace
from tests.engine.test_validate import config, pictures, train

assert pictures  # a fixture


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Busy:
    """Something that spends time."""

    def __init__(self, time: Time) -> None:
        self.time, self.spending = time, Spending(clock=time)

    @during("save")
    def save(self, seconds: float) -> None:
        self.time.now += seconds / 2
        self.prove(1.0)
        self.time.now += seconds / 2

    @during("proof")
    def prove(self, seconds: float) -> None:
        self.time.now += seconds


class Held(Stopwatch):
    """A stopwatch that shows what it is told."""

    shown: dict[str, float]

    def read(self) -> dict[str, float]:
        return dict(self.shown)


@pytest.fixture
def watch() -> Held:
    found = Held(torch.device("cpu"))
    found.shown = {}
    return found


def test_every_second_counts_once(watch: Held) -> None:
    time = Time()
    busy = Busy(time)
    time.now += 1.0
    busy.spending.turn("load")
    time.now += 2.0
    start = busy.spending.told(0, watch)
    assert (start.steps, start.seconds, start.parts) == (0, 3.0, {"start": 1.0, "load": 2.0})
    busy.spending.begin(0, watch)
    watch.shown = {"data": 1.0, "forward": 2.0, "backward": 3.0}
    time.now += 10.0
    busy.save(4.0)
    busy.spending.lend(2.0, "others")
    told = busy.spending.told(7, watch)
    parts = {"save": 4.0, "proof": 1.0, "others": 2.0, "data": 1.0, "forward": 2.0, "backward": 3.0, "other": 2.0}
    assert (told.steps, told.seconds, told.parts) == (7, 15.0, parts)
    time.now += 1.0
    watch.shown["forward"] += 1.0
    again = busy.spending.told(8, watch)
    assert (again.steps, again.parts) == (1, {"forward": 1.0})


def test_waiting_beside_a_device_that_works_by_itself_costs_nothing(watch: Held) -> None:
    time = Time()
    spending = Spending(clock=time)
    spending.begin(0, watch)
    spending.told(0, watch)
    watch.alone = True
    watch.shown = {"data": 5.0, "forward": 3.0, "backward": 6.0}  # the host waited while the device computed
    time.now += 10.0
    assert spending.told(1, watch).parts == {"data": 1.0, "forward": 3.0, "backward": 6.0}


def test_what_is_slower_than_earlier_runs_is_told_once() -> None:
    def slow(seconds: float) -> list[str]:
        spending = Spending(expected=1.0)
        spending.step(0.0)
        spending._steps = 0
        return [told for _ in range(WARMING + 3 * ENOUGH) if (told := spending.step(seconds))]

    assert slow(1.2) == []
    assert slow(2.0) == ["a step takes 2 s, 2.0 times the 1 s of earlier runs of this kind here"]
    assert Spending().step(9.0) is None


def test_a_run_tells_all_of_its_time_and_the_next_one_knows_its_pace(tiny_base: Path, pictures: Path) -> None:
    settings = config(tiny_base, pictures, train={"steps": 30})
    (run,) = train(settings)
    log = events.read(run.events)
    told = [each for each in log if isinstance(each, Spent)]
    assert next(each.steps for each in told) == 0
    assert sum(each.steps for each in told) == 30
    assert {"forward", "backward", "update", "data", "save", "validation"} <= {
        part for each in told for part in each.parts
    }
    assert "load" in told[0].parts
    (begun,) = [each for each in log if isinstance(each, Started)]
    (end,) = [each for each in log if isinstance(each, Finished)]
    whole = sum(each.seconds for each in told)
    assert whole == pytest.approx(sum(sum(each.parts.values()) for each in told), rel=1e-6)
    assert end.time - begun.time - 1 < sum(each.seconds for each in told[1:]) < end.time - begun.time + 1
    assert all(each.expected is None for each in told)

    (other,) = train(config(tiny_base, pictures, "other", train={"steps": 30, "seed": 3}))
    expected = [each.expected for each in events.read(other.events) if isinstance(each, Spent) and each.steps]
    paces = [each.pace for each in told if each.pace]
    assert all(each is not None and each > 0 for each in expected)
    assert expected[0] == pytest.approx(paces[-1], rel=0.5) or len(paces) > 1

    cache = settings.output.folder.parent / "cache"
    assert pace.known(cache, "nothing") is None
    (wider,) = train(config(tiny_base, pictures, "wider", adapter={"rank": 4}, train={"steps": 6}))
    assert all(each.expected is None for each in events.read(wider.events) if isinstance(each, Spent))
