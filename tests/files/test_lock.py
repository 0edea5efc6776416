"""One holder at a time, and none that is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from impasto import lock
from impasto.errors import LockedError
from impasto.lock import Lock
from tests.files import faults


def hold_for_ever(path: Path) -> None:
    with Lock(path):
        path.with_name("held").touch()
        time.sleep(60)


def start_holder(path: Path) -> int:
    pid = faults.start(lambda: hold_for_ever(path))
    while not path.with_name("held").exists():
        time.sleep(0.001)
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_second_process_is_refused_with_the_first_ones_number(tmp_path: Path) -> None:
    pid = start_holder(tmp_path / "lock")

    with pytest.raises(LockedError, match=f"E-RUN-001 .*held by process {pid} on .* since ") as caught:
        Lock(tmp_path / "lock").take()

    assert caught.value.exit_code == 8
    held = lock.holder(tmp_path / "lock")
    assert held is not None
    assert held.pid == pid
    end(pid)


def test_a_lock_is_free_when_its_holder_is_killed(tmp_path: Path) -> None:
    end(start_holder(tmp_path / "lock"))

    assert lock.holder(tmp_path / "lock") is None
    with Lock(tmp_path / "lock"):
        held = lock.holder(tmp_path / "lock")
        assert held is not None
        assert held.pid == os.getpid()
    assert lock.holder(tmp_path / "lock") is None


def test_a_lock_file_with_a_living_number_is_not_a_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(f'{{"pid": {os.getpid()}, "host": "here", "since": "now"}}')

    assert lock.holder(tmp_path / "lock") is None


def test_a_child_does_not_hold_its_parents_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    def parent() -> None:
        held = Lock(path)
        held.take()  # never released: dies with the process
        child = faults.start(lambda: time.sleep(20))
        (tmp_path / "child").write_text(str(child))

    assert faults.in_child(parent) == 0

    assert lock.holder(path) is None
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_a_started_program_does_not_hold_the_lock_either(tmp_path: Path) -> None:
    with Lock(tmp_path / "lock"):
        program = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    assert lock.holder(tmp_path / "lock") is None
    program.communicate(b"\n")


def test_onlookers_never_keep_a_run_from_starting(tmp_path: Path) -> None:
    def look() -> None:
        until = time.monotonic() + 1
        while time.monotonic() < until:
            lock.holder(tmp_path / "lock")

    (tmp_path / "lock").touch()
    onlooker = faults.start(look)
    for _ in range(50):
        with Lock(tmp_path / "lock"):
            pass
    os.waitpid(onlooker, 0)


def test_turns_are_taken_one_at_a_time_and_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "turn"
    inside = tmp_path / "inside"

    def work() -> None:
        for _ in range(20):
            with lock.turn(path):
                inside.mkdir()  # fails if another is inside
                inside.rmdir()

    children = [faults.start(work) for _ in range(4)]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 4
    assert not path.exists()


def test_a_lock_with_a_beat_is_touched_until_its_process_is_stopped(tmp_path: Path) -> None:
    def hold() -> None:
        with Lock(tmp_path / "lock", beat=0.05):
            (tmp_path / "held").touch()
            time.sleep(60)

    def is_touched(seconds: float) -> bool:
        before, until = (tmp_path / "lock").stat().st_mtime_ns, time.monotonic() + seconds
        while time.monotonic() < until:
            if (tmp_path / "lock").stat().st_mtime_ns != before:
                return True
            time.sleep(0.01)
        return False

    pid = faults.start(hold)
    while not (tmp_path / "held").exists():
        time.sleep(0.001)
    held = lock.holder(tmp_path / "lock")
    assert held is not None
    assert (held.pid, held.beat) == (pid, 0.05)
    assert is_touched(10)
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    assert not is_touched(0.3)
    assert lock.holder(tmp_path / "lock") is not None
    os.kill(pid, signal.SIGCONT)
    assert is_touched(10)
    end(pid)
