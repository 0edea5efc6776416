"""Optuna proposes what a sweep tries next: better than chance, the same again for the same dice, and through kills."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from impasto import config as settings
from impasto import events
from impasto.__main__ import main
from impasto.events import EventLog
from impasto.runs.folder import RunFolder
from impasto.runs.queue import Queue
from impasto.sweeps import expand, report, search
from impasto.sweeps.config import Sweep
from impasto.sweeps.expand import Run
from impasto.sweeps.folder import SweepFolder
from tests.engine import forks, sweeps

optuna = pytest.importorskip("optuna", reason="Optuna is not installed (scripts/setup dev installs it)")

AXES = ("optim.learning_rate=1e-6..1e-1:log", "adapter.rank=1..64:log", "data.captions.shuffle=true,false")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "shown").mkdir()


def begun(name: str, *given: str, axes: tuple[str, ...] = AXES) -> SweepFolder:
    plan = expand.read(None, [f"name={name}", "data.sets.0.path=shown", "sweep.method=optuna", *axes, *given])
    return SweepFolder.create(plan, expand.runs(plan))


def bowl(run: Run) -> float:
    """A loss whose best is at a rate of 1e-3 and a rank of 16, shuffled."""
    point = run.point
    rate, rank = math.log10(point["optim.learning_rate"]) + 3, math.log2(point["adapter.rank"]) - 4
    return rate**2 + 0.1 * rank**2 + 0.5 * (not point["data.captions.shuffle"]) + 0.01 * (run.seed % 2)


def trained(loss: Callable[[Run], float | None] = bowl, dies: int = -1) -> Callable[[SweepFolder], None]:
    """What a training leaves in folders, for whatever has none; the program dies before run number `dies`."""

    def train(folder: SweepFolder) -> None:
        for number, run in enumerate(folder.runs()):
            own = folder.run(run.name)
            if number == dies:
                raise KeyboardInterrupt
            if own.path.exists():
                continue
            RunFolder.create(own.path, settings.dump(run.config), {})
            found = loss(run)
            with EventLog(own.events) as log:
                log.write(events.Started(run=run.name, steps=10))
                if found is not None:
                    told = {"500": found}
                    log.write(events.Validated(step=10, losses=told, training={}, pictures=2))
                    log.write(events.Finished(step=10, seconds=1.0, file=own.final.name))
                else:
                    log.write(events.Failed(code="E-NUM-001", text="no numbers"))

    return train


def points(folder: SweepFolder) -> list[dict[str, object]]:
    return expand.points(folder.plan())


@pytest.mark.parametrize("dice", [0, 1])
def test_what_optuna_proposes_is_better_than_what_fills_the_space_evenly(dice: int) -> None:
    folder = begun("seek", "sweep.pick=24", f"sweep.dice={dice}")
    search.train_all(folder, trained())
    found = [bowl(run) for run in folder.runs()]
    even = replace(folder.plan(), sweep=Sweep(axes=folder.plan().sweep.axes, method="sobol", pick=64))
    assert statistics.median(found[12:]) < 0.8 * statistics.median(map(bowl, expand.runs(even)))
    assert min(found[4:]) < min(found[:4])
    assert len({str(point) for point in points(folder)}) == 24
    best = report.report(folder).pick
    assert best is not None
    assert best.loss == pytest.approx(min(found))


def test_the_study_beside_the_sweep_is_optunas_own() -> None:
    folder = begun("kept", "sweep.pick=10", "sweep.seeds=2")
    search.train_all(folder, trained(lambda run: None if run.variant == 3 else bowl(run)))
    journal = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(folder.path / search.JOURNAL))
    )
    trials = optuna.load_study(study_name="kept", storage=journal).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 10
    assert trials[3].value == math.inf
    runs = folder.runs()
    assert trials[7].user_attrs["runs"] == [runs[14].name, runs[15].name]
    assert trials[7].value == pytest.approx((bowl(runs[14]) + bowl(runs[15])) / 2)
    assert [run.name.split("-")[1] for run in runs[:3]] == ["001", "001", "002"]
    assert [len(group) for group in expand.groups(runs)] == [8, 8, 4]


def test_the_same_dice_propose_the_same_through_any_kill() -> None:
    whole = begun("whole", "sweep.pick=12")
    search.train_all(whole, trained())
    other = begun("other", "sweep.pick=12", "sweep.dice=1")
    search.train_all(other, trained())
    assert points(other) != points(whole)
    killed = begun("killed", "sweep.pick=12")
    for dies in (2, 4, 5, 9, 11):
        with pytest.raises(KeyboardInterrupt):
            search.train_all(killed, trained(dies=dies))
        (killed.path / search.JOURNAL).write_bytes(b"half of a l")
        (killed.path / f"{search.JOURNAL}.lock").write_bytes(b"")
    search.train_all(SweepFolder.open(killed.path), trained())
    assert points(killed) == points(whole)
    assert search.propose(killed) is False


def test_a_small_grid_is_tried_once_and_whole_sections_may_vary() -> None:
    axes = ("adapter={kind='lora',rank=2},{kind='loha',rank=2}", "train.seed=1,2,3")
    folder = begun("grid", "sweep.pick=20", axes=axes)
    search.train_all(folder, trained(lambda run: 1.0 * run.seed))
    assert len({str(point) for point in points(folder)}) == 6


def test_runs_that_were_stopped_tell_optuna_how_far_they_came() -> None:
    rows = [
        report.Row("a", 0, {}, 0, "dropped", 4, {2: 0.5, 4: 0.4}),
        report.Row("b", 0, {}, 1, "dropped", 4, {4: 0.2}),
    ]
    told = search._result(rows, optuna.trial.TrialState)
    assert told["state"].name == "PRUNED"
    assert told["intermediate_values"] == {4: pytest.approx(0.3)}


def test_a_search_from_the_command_line(tiny_base: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    forks.pictures(tmp_path / "held", 2)
    file = sweeps.settings(tmp_path, tiny_base, forks.pictures(tmp_path / "pictures"), steps=1)
    line = ["sweep", str(file), "optim.learning_rate=1e-4..1e-2:log", "--method", "optuna", "--pick", "3"]
    assert main([*line, "sweep.at_a_time=2", "--dry"]) == 0
    assert "then 1 more variants, which Optuna proposes" in capsys.readouterr().out
    assert main([*line, "sweep.at_a_time=2"]) == 0
    assert "small: 3 runs, 3 of 3 (100%) steps trained" in capsys.readouterr().out
    folder = SweepFolder.open(tmp_path / "runs" / "small-sweep")
    assert len(sweeps.weights(folder)) == 3
    assert [folder.group(number).is_done for number in range(2)] == [True, True]
    assert main([*line[:3], "sweep.method=optuna", "name=loose"]) == 2
    assert "E-SWP-002" in capsys.readouterr().err


def test_a_search_is_one_job_of_the_line(tiny_base: Path, tmp_path: Path) -> None:
    forks.pictures(tmp_path / "held", 2)
    file = sweeps.settings(tmp_path, tiny_base, forks.pictures(tmp_path / "pictures"), name="line", steps=1)
    given = ["optim.learning_rate=1e-4..1e-2:log", "sweep.method=optuna", "sweep.pick=3", "sweep.at_a_time=2"]
    folder = sweeps.begun(file, given)
    whole = folder.make_whole(folder.runs())
    assert [len(whole.runs()), whole.state().stage] == [2, "new"]
    line = Queue(tmp_path / "line.db")
    job = line.add([whole.path])
    assert main(["worker", "--lane", "cpu", "--until-empty", "--queue", str(line.path)]) == 0
    assert line.job(job.id).state == "done"
    assert [len(whole.runs()), whole.state().stage, whole.is_done] == [3, "finished", True]
    assert len(sweeps.weights(folder)) == 3
    assert whole.state().step == 3, "steps of all rounds"
