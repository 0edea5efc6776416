"""What a sweep found is told from pairs of runs that differ in one setting alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import impasto
from impasto.__main__ import main
from impasto.sweeps.axes import Axis
from impasto.sweeps.report import Row, difference, effects, recommended
from tests.engine import forks, sweeps


def row(rank: int, rate: float, seed: int, loss: float | None, step: int = 100) -> Row:
    losses = {} if loss is None else {step: loss, 10: loss + 1}
    name = f"r{rank}-{rate:g}-s{seed}"
    return Row(name, rank * 100 + int(rate * 1e6), {"rank": rank, "rate": rate}, seed, "finished", step, losses)


def test_the_effect_of_a_value_is_the_mean_of_paired_differences_with_students_interval() -> None:
    rows = [row(rank, rate, seed, 1.0 + 0.1 * seed + (rank == 8) * (0.2 + 0.01 * seed) - 5 * rate)
            for rank in (4, 8) for rate in (0.1, 0.2) for seed in (0, 1)]  # fmt: skip
    rank, rate = effects(rows, [Axis("rank", (4, 8)), Axis("rate", (0.1, 0.2))])
    assert rank.difference.pairs == rate.difference.pairs == 4
    assert rank.difference.mean == pytest.approx(0.205)
    assert (rank.difference.low, rank.difference.high) == pytest.approx((0.205 - 0.009186, 0.205 + 0.009186), abs=1e-5)
    assert rate.difference.mean == pytest.approx(-0.5)
    assert rank.difference.certain


def test_runs_that_were_stopped_are_compared_at_the_last_step_both_have() -> None:
    rows = [row(4, 0.1, 0, 0.5), row(8, 0.1, 0, 0.2, step=10)]
    (found,) = effects(rows, [Axis("rank", (4, 8))])
    assert found.difference.mean == pytest.approx(1.2 - 1.5)


def test_one_pair_tells_no_interval() -> None:
    assert (difference([0.5]).low, difference([0.5]).certain) == (None, False)


def test_the_recommendation_is_the_least_mean_loss_of_those_trained_furthest_and_says_how_sure_it_is() -> None:
    clear = [row(rank, 0.1, seed, loss + 0.05 * seed) for rank, loss in ((4, 0.5), (8, 0.4)) for seed in range(3)]
    found = recommended([*clear, row(16, 0.1, 0, 0.1, step=10)])
    assert found is not None
    assert found.names == ("r8-0.1-s0", "r8-0.1-s1", "r8-0.1-s2")
    assert "luck" not in found.reason
    vague = [row(4, 0.1, 0, 0.5), row(4, 0.1, 1, 0.3), row(8, 0.1, 0, 0.3), row(8, 0.1, 1, 0.49)]
    unsure = recommended(vague)
    assert unsure is not None
    assert "may be luck" in unsure.reason
    alone = recommended([row(4, 0.1, 0, 0.5), row(8, 0.1, 0, 0.4, step=10)])
    assert alone is not None
    assert "stopped before" in alone.reason
    assert recommended([row(4, 0.1, 0, None)]) is None


def test_a_sweep_from_python_and_its_report_on_the_command_line(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forks.pictures(tmp_path / "held", 2)
    file = sweeps.settings(tmp_path, tiny_base, forks.pictures(tmp_path / "pictures"), steps=2)
    folder = impasto.sweep(file, ["adapter.rank=2,4"])
    assert main(["sweep", "report", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "small: 2 runs, 4 of 4 (100%) steps trained" in told
    assert "adapter.rank" in told
    assert "one pair of runs does not tell whether that is luck" in told
    assert main(["sweep", str(folder)]) == 0  # finished: nothing to train, the same report
    assert told.splitlines()[-1] in capsys.readouterr().out
    assert main(["sweep", "report", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["stage"] for each in found["rows"]] == ["finished", "finished"]
    assert found == json.loads((folder / "report.json").read_text())
    assert main(["sweep", "report", str(tmp_path)]) == 2
    assert "E-SWP-004" in capsys.readouterr().err
