"""What each picture costs: losses against those of the others at the same noise level."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from impasto import events
from impasto.cli.runs import booked
from impasto.data.examples import Example
from impasto.engine.ledger import Ledger
from impasto.engine.session import Session
from impasto.runs import ledger as ledgers
from tests.engine.test_validate import QUIET, config, pictures, train, weights

assert pictures  # a fixture

STEPS = 400


def example(at: int) -> Example:
    return Example(
        id=f"{at:064x}", path=Path(f"{at}.png"), size=(64, 64), caption="", source="empty", repeats=1, set=0,
        role="train",
    )  # fmt: skip


def simulated(seed: int, *, resisting: set[int] = frozenset(), dull: int = -1, count: int = 16) -> Ledger:  # type: ignore[assignment]
    """Losses as they fall in a training: noise levels differ twentyfold, pictures by a third, looks by a third."""
    rng = random.Random(seed)
    found = Ledger([example(at) for at in range(count)], total=STEPS, low=0, high=1000)
    worth = [rng.lognormvariate(0, 0.3) for _ in range(count)]
    for step in range(STEPS):
        for at in rng.sample(range(count), 4):
            t = rng.randrange(1000)
            learnt = 1.0 if at in resisting else 0.55 + 0.45 * 0.99**step
            level = 0.02 + 0.4 * (t / 1000) ** 2
            loss = level * worth[at] * learnt * rng.lognormvariate(0, 0.35) * (0.2 if at == dull else 1.0)
            found.add(step, f"0:{at:064x}:0:{step}", t, loss)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_pictures_that_resist_while_the_others_are_learnt_are_found(seed: int) -> None:
    lists = ledgers.listed(simulated(seed, resisting={3, 8}).rows())
    assert {row.name for row in lists["never_learned"][:2]} == {"3.png", "8.png"}
    assert len(lists["never_learned"]) <= 2 == 16 // ledgers.MOST


@pytest.mark.parametrize("seed", range(5))
def test_what_is_cheap_where_pictures_show_themselves_and_not_where_words_tell_is_out_of_place(seed: int) -> None:
    rng, strange = random.Random(seed), {2, 9}
    found = Ledger([example(at) for at in range(16)], total=STEPS, low=0, high=1000)
    for step in range(STEPS):
        for at in rng.sample(range(16), 4):
            t = rng.randrange(1000)
            known = 0.4 if at in strange and t < 500 else 1.0
            found.add(step, f"0:{at:064x}:0:{step}", t, (0.02 + (t / 1000) ** 2) * known * rng.lognormvariate(0, 0.35))
    names = [row.name for row in ledgers.listed(found.rows())["out_of_place"]]
    assert set(names[:2]) == {"2.png", "9.png"}
    assert len(names) <= 16 // ledgers.MOST


def test_the_edge_of_a_bin_is_not_blamed_on_the_picture() -> None:
    found = Ledger([example(at) for at in range(2)], total=400, low=0, high=1000)
    for step in range(200):
        for at in range(2):  # one is always looked at low in a bin, the other high
            t = 62 * (step % 16) + (50 if at else 10)
            found.add(step, f"0:{at:064x}:0:{step}", t, math.exp(t / 100))
    assert [row.at(1) for row in found.rows()] == pytest.approx([0.0, 0.0], abs=0.06)


def test_what_costs_next_to_nothing_has_stopped_teaching() -> None:
    lists = ledgers.listed(simulated(0, dull=5).rows())
    assert lists["stopped_teaching"][0].name == "5.png"


def test_a_cost_is_that_of_the_noise_level_too() -> None:
    found = Ledger([example(at) for at in range(2)], total=100, low=0, high=1000)
    for step in range(100):
        found.add(step, f"0:{0:064x}:0:{step}", 50, 0.01)
        found.add(step, f"0:{1:064x}:0:{step}", 950, 1.0)
    assert [row.late for row in found.rows()] == pytest.approx([1.0, 1.0])


def test_nothing_is_said_of_few_pictures_or_few_looks() -> None:
    few = Ledger([example(at) for at in range(9)], total=100, low=0, high=1000)
    for at in range(9):
        few.add(at, f"0:{at:064x}:0:0", 500, float(at))
    assert not any(ledgers.listed(few.rows()).values())
    assert not any(ledgers.listed(simulated(0, count=7, resisting={1}).rows()).values())


def test_losses_that_are_no_numbers_and_pictures_of_others_are_left_out() -> None:
    found = simulated(0)
    before = found.page(STEPS)
    found.add(5, f"0:{1:064x}:0:0", 500, float("nan"))
    found.add(5, f"0:{1:064x}:0:0", 500, 0.0)
    found.add(5, f"1:{999:064x}:0:0", 500, 1.0)
    assert found.page(STEPS) == before


def test_a_run_puts_down_every_look_and_goes_on_exactly(tiny_base: Path, pictures: Path) -> None:
    both = {"share": 0.25, "every_steps": 3, "bins": 1}
    (whole,) = train(config(tiny_base, pictures, "whole", train={"steps": 6}, validation=both))
    train(config(tiny_base, pictures, "parts", train={"steps": 3}, validation=both))
    page = json.loads(whole.ledger.read_text())
    rows = ledgers.read(whole.ledger)
    assert page["step"] == 6
    assert len(rows) == 6  # two of eight are held out
    assert sum(row.count for row in rows) == 9  # two shapes of three pictures: micro-batches of two and one
    assert {len(row.looks) for row in rows} == {ledgers.ERAS}
    assert "picture" in booked(rows)[0]
    assert booked([]) == ["nothing was put down yet: a run does so with each checkpoint"]


def test_a_resume_keeps_the_same_books(tiny_base: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = {**QUIET, "every_steps": 2}
    (whole,) = train(config(tiny_base, pictures, "whole", save=quiet, validation={"pictures": 0}))
    pages = []
    finish = Session.finish

    def stopped(self: Session, *rest: object) -> None:
        pages.append(self.folder.ledger.read_bytes())
        raise RuntimeError("as if it were killed")

    monkeypatch.setattr(Session, "finish", stopped)
    settings = config(tiny_base, pictures, "parts", save=quiet, validation={"pictures": 0})
    with pytest.raises(RuntimeError):
        train(settings)
    monkeypatch.setattr(Session, "finish", finish)
    (parts,) = train(settings)
    assert json.loads(pages[0])["step"] == 2
    assert [each.step for each in events.read(parts.events) if isinstance(each, events.Resumed)] == [2]
    assert parts.ledger.read_bytes() == whole.ledger.read_bytes()
    assert weights(parts).keys() == weights(whole).keys()
