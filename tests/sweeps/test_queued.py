"""A sweep on the queue: whoever is killed, the next goes on, and it ends as in one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from impasto import lock
from impasto.__main__ import main
from impasto.engine.sweeping import train_group
from impasto.errors import DeviceError, ModelFileError
from impasto.runs.queue import Queue
from impasto.runs.worker import verdict
from impasto.sweeps import queued
from impasto.sweeps.folder import SweepFolder
from tests.engine import forks, sweeps

STEPS = 30


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    forks.pictures(tmp_path / "pictures")
    forks.pictures(tmp_path / "held", 2)


def test_a_sweep_on_the_queue_survives_kills_of_its_training_and_of_who_waits_for_it(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["adapter.rank=2,3", "sweep.halving.eta=2", f"train.steps={STEPS}"]
    file = sweeps.settings(tmp_path, tiny_base, tmp_path / "pictures", name="line")
    line = ["sweep", str(file), *given, "--on", "queue", "--queue", "line.db"]
    waits, works = _started(*line), _started("worker", "--lane", "cpu", "--queue", "line.db")
    try:
        folder = SweepFolder(tmp_path / "runs" / "line-sweep")
        first = folder.group(0)
        _until(lambda: first.is_there and bool(first.state().saved))
        holder = lock.holder(first.lock)
        assert holder is not None
        waits.kill()
        os.kill(holder.pid, signal.SIGKILL)
        waits.wait()
        assert main(line) == 0
    finally:
        works.kill()
        works.wait()
    told = capsys.readouterr().out
    assert "line-sweep base 1: job 1, " in told
    assert "line-sweep base 1: done, all steps are trained" in told
    assert "line: 2 runs" in told
    (job,) = Queue(Path("line.db")).jobs()
    assert (job.id, job.state, job.folders, job.attempts) == (1, "done", (first.path,), 2)
    alone = sweeps.begun(sweeps.settings(tmp_path, tiny_base, tmp_path / "pictures", name="alone"), given)
    alone.make_groups(alone.runs())
    train_group(alone, 0)
    mine, theirs = (
        sorted(run.final for run in each.group(0).runs() if run.final.is_file()) for each in (alone, folder)
    )
    assert len(mine) == len(theirs) == 1
    assert forks.same(*(sweeps.file.load(path)[0] for path in (*mine, *theirs)))


def test_a_group_that_fails_or_is_cancelled_is_told_as_what_it_is(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    file = sweeps.settings(tmp_path, tiny_base, tmp_path / "pictures")
    folder = sweeps.begun(file, [f"model.path={tiny_base},{tmp_path / 'gone'}", "adapter.rank=2,4"])
    line = Queue(tmp_path / "line.db")

    def ended(text: str) -> None:
        if "base 2: job" in text:
            for number, group in enumerate(folder.make_groups(folder.runs()), start=1):
                assert line.job(number).folders == (group.path,)
                line.mark(number, "stopped", "taken out of the line")

    with pytest.raises(DeviceError, match=r"E-SWP-008.*small-sweep base 1 did not .*: job 1 is stopped, taken out"):
        queued.train(folder, line, ended, pause=0.05)
    failing = folder.group(1)
    assert main(["resume", str(failing.path)]) == 7
    assert "E-MOD-101" in capsys.readouterr().err
    line.add([failing.path])
    assert verdict(line.job(3), 7, "") == ("failed", failing.state().error)
    assert main(["queue", "list", "--queue", "line.db"]) == 0
    assert "small-sweep base 2" in capsys.readouterr().out
    with pytest.raises(ModelFileError, match="E-MOD-101"):
        raise failing.ended().error() or AssertionError  # type: ignore[union-attr]


def _started(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "ignore", "-m", "impasto", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _until(came: object, patience: float = 200) -> None:
    end = time.monotonic() + patience
    while not came():  # type: ignore[operator]
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
