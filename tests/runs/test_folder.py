"""The folder is the run: everything that is known of it is read from there."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from pathlib import Path

import pytest

from impasto import files
from impasto.errors import ConfigError, DiskError, LockedError
from impasto.events import Event, EventLog, Failed, Finished, Phase, Resumed, Started, Step
from impasto.runs.folder import RunFolder, runs_in
from tests.files import faults


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "2026-11-23-anna", 'name = "anna"\n', {"seed": 7})


def tell(run: RunFolder, *events: Event) -> None:
    with EventLog(run.events) as log:
        for event in events:
            log.write(event)


def step(number: int) -> Step:
    return Step(step=number, epoch=0, loss=0.5, rates={"unet": 1e-4})


def test_everything_in_a_run_has_its_place(run: RunFolder) -> None:
    assert run.adapter(500).relative_to(run.path) == Path("adapters/anna-00000500.safetensors")
    assert run.preview(500, 2).relative_to(run.path) == Path("previews/00000500-2.png")
    assert run.checkpoint(500).relative_to(run.path) == Path("checkpoints/00000500")
    assert run.final.relative_to(run.path) == Path("anna.safetensors")
    assert run.curve.relative_to(run.path) == Path("loss.png")


def test_a_run_whose_settings_cannot_be_read_is_called_like_its_folder(run: RunFolder) -> None:
    for text in ("name = 3", "name = '../up'", "name = ", ""):
        run.config.write_text(text)
        assert run.name == "2026-11-23-anna"


def test_a_folder_that_holds_other_work_is_left_alone(run: RunFolder) -> None:
    with pytest.raises(LockedError, match="E-RUN-002") as caught:
        RunFolder.create(run.path, "", {})
    assert caught.value.exit_code == 8
    assert run.config.read_text() == 'name = "anna"\n'


def test_an_empty_folder_can_become_a_run(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert RunFolder.create(tmp_path / "empty", 'name = "a"', {}).name == "a"


def test_killed_at_any_call_of_its_making_a_run_exists_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = faults.Disk()
    monkeypatch.setattr(files, "System", disk)
    RunFolder.create(tmp_path / "counted", "name = 'a'", {"seed": 1})

    for at in range(1, disk.count + 1):
        for fault in (faults.killed, faults.killed_half_way, faults.power_cut):
            path = tmp_path / f"{at}-{fault.__name__}"
            monkeypatch.setattr(files, "System", faults.Disk(at, fault, forked=False))
            with pytest.raises(faults.Gone):
                RunFolder.create(path, "name = 'a'", {"seed": 1})
            monkeypatch.undo()
            run = RunFolder(path)
            assert not path.exists() or (run.name == "a" and run.record() == {"seed": 1})


def test_what_is_no_run_is_told_and_nothing_in_it_touched(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "stop").touch()
    with pytest.raises(ConfigError, match="E-RUN-003"):
        RunFolder.open(tmp_path)
    with pytest.raises(ConfigError, match="E-RUN-003"), RunFolder(tmp_path).hold():
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["control", "stop"]


def test_runs_are_listed_by_name_and_half_made_ones_are_not(tmp_path: Path) -> None:
    for name in ("b", "a"):
        RunFolder.create(tmp_path / name, "", {})
    (tmp_path / "pictures").mkdir()
    (tmp_path / "notes.txt").touch()
    (files.temporary(tmp_path / "c")).mkdir()

    assert [found.path.name for found in runs_in(tmp_path)] == ["a", "b"]
    assert runs_in(tmp_path / "nowhere") == []


def test_the_record_is_added_to(run: RunFolder) -> None:
    run.update_record({"device": "cpu", "versions": {"torch": "2"}})
    assert run.record() == {"seed": 7, "device": "cpu", "versions": {"torch": "2"}}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_record_is_old_or_new_whatever_fails(run: RunFolder, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    for at in range(1, 16):
        monkeypatch.setattr(files, "System", faults.Disk(at, faults.error(number)))
        with contextlib.suppress(DiskError):
            run.update_record({"at": at})
        monkeypatch.undo()
        assert run.record()["seed"] == 7


def test_a_damaged_record_stops_nothing(run: RunFolder) -> None:
    (run.path / "record.json").write_bytes(b'{"seed": 7, "vers')
    assert run.record() == {}
    run.update_record({"seed": 8})
    assert run.record() == {"seed": 8}


def test_adapter_files_are_listed_by_step(run: RunFolder) -> None:
    for number in (200, 1000, 50):
        run.adapter(number).touch()
    (run.adapters_folder / "readme.txt").touch()

    assert run.adapters() == [run.adapter(50), run.adapter(200), run.adapter(1000)]


def test_a_new_run_is_new(run: RunFolder) -> None:
    state = run.state()
    assert (state.stage, state.step, state.saved) == ("new", 0, None)


def test_a_held_run_is_running_and_tells_who_holds_it(run: RunFolder) -> None:
    tell(run, Started(run="anna", steps=10), step(1), step(2))
    with run.hold():
        state = run.state()
    assert (state.stage, state.step) == ("running", 2)
    assert state.holder is not None
    assert state.holder.pid == os.getpid()


def test_a_killed_run_is_interrupted_and_can_be_held_again(run: RunFolder) -> None:
    def train() -> None:
        with run.hold():
            tell(run, Started(run="anna", steps=10), step(1), step(2), step(3))
            run.checkpoint(2).mkdir()
            files.temporary(run.checkpoint(4)).mkdir()
            (run.path / "held").touch()
            time.sleep(60)

    trainer = faults.start(train)
    while not (run.path / "held").exists():
        time.sleep(0.001)
    assert run.state().stage == "running"
    with pytest.raises(LockedError, match=f"process {trainer} "), run.hold():
        pass
    os.kill(trainer, signal.SIGKILL)
    os.waitpid(trainer, 0)

    state = run.state()
    assert (state.stage, state.step, state.saved) == ("interrupted", 3, 2)
    with run.hold():
        assert not faults.leftovers(run.path)


def test_an_ended_run_tells_how(run: RunFolder) -> None:
    tell(run, Started(run="anna", steps=3), step(1), step(2), Failed(code="E-NUM-001", text="the numbers left"))
    state = run.state()
    assert (state.stage, state.step, state.error) == ("failed", 2, "the numbers left")

    tell(run, Started(run="anna", steps=3, resumed_from=1), Resumed(step=1))
    assert (run.state().stage, run.state().step) == ("interrupted", 1)

    tell(run, step(2), step(3), Finished(step=3, seconds=1.0, file="anna.safetensors"))
    assert (run.state().stage, run.state().step) == ("finished", 3)


def test_the_state_of_a_long_run_is_found_at_its_end(run: RunFolder) -> None:
    with EventLog(run.events, clock=lambda: 1.0) as log:
        log.write(step(1))
        for number in range(2000):
            log.write(Phase(name="encode", done=number, total=2000))
    assert run.events.stat().st_size > 1 << 16
    assert (run.state().stage, run.state().step) == ("interrupted", 1)


def test_the_clock_decides_nothing(run: RunFolder) -> None:
    times = iter([5e9, 3.0, 1e9, 1.0])
    with EventLog(run.events, clock=lambda: next(times)) as log:
        log.write(Started(run="anna", steps=2))
        log.write(step(1))
        log.write(step(2))
        log.write(Finished(step=2, seconds=1.0, file="anna.safetensors"))
    assert (run.state().stage, run.state().step) == ("finished", 2)
