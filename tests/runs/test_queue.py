"""The line of jobs, and workers that take from it and die."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from impasto.errors import ConfigError, LockedError
from impasto.runs import worker as working
from impasto.runs.folder import RunFolder
from impasto.runs.queue import Job, Queue, default_path
from impasto.runs.worker import Worker, verdict
from tests.runs.trains import main as train

PAUSE = 0.005


def runs(folder: Path, count: int) -> list[Path]:
    return [RunFolder.create(folder / f"run-{at:03}", f'name = "run-{at:03}"\n', {}).path for at in range(count)]


def spawn(notes: Path, seconds: float = 0.0) -> working.Spawn:
    command = [sys.executable, "-m", "tests.runs.trains", str(notes), str(seconds)]
    return working.start(command, dict(os.environ))


def worker(queue: Queue, notes: Path, seconds: float = 0.0, lane: str = "cpu") -> Worker:
    return Worker(queue, lane, spawn(notes, seconds), lambda text: None, pause=PAUSE)


def taken(queue: Queue, lane: str = "cpu") -> Job | None:
    return queue.claim(lane, lambda job: 0)


def wait_until(true: object, seconds: float = 90.0) -> None:
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(PAUSE)


def test_jobs_are_taken_in_the_order_of_the_line_and_only_on_their_lane(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "q.db")
    one, two, three = (
        queue.add([path], lane=lane) for path, lane in zip(runs(tmp_path, 3), (None, "cuda:1", None), strict=True)
    )
    queue.move(three.id, before=one.id)
    assert [job.id for job in queue.jobs("queued")] == [three.id, one.id, two.id]
    assert [job.id if (job := taken(queue)) else None for _ in range(3)] == [three.id, one.id, None]
    found = taken(queue, "cuda:1")
    assert found is not None
    assert (found.id, found.worker, found.attempts) == (two.id, "cuda:1", 1)
    assert [(each.state, each.reason) for each in queue.changes(two.id)] == [
        ("queued", "added"),
        ("running", "taken by lane cuda:1"),
    ]


def test_a_job_moves_to_the_end_and_between_others(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "q.db")
    ids = [queue.add([path]).id for path in runs(tmp_path, 4)]
    queue.move(ids[0], before=None)
    queue.move(ids[3], before=ids[2])
    assert [job.id for job in queue.jobs()] == [ids[1], ids[3], ids[2], ids[0]]


def test_a_lane_that_is_held_takes_nothing_until_it_is_released(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "q.db")
    queue.add(runs(tmp_path, 1))
    queue.hold("cpu", on=True)
    assert taken(queue) is None
    assert queue.held() == {"cpu"}
    queue.hold("cpu", on=False)
    assert taken(queue) is not None


def test_a_run_stands_in_the_line_once(tmp_path: Path) -> None:
    queue, (path,) = Queue(tmp_path / "q.db"), runs(tmp_path, 1)
    job = queue.add([path])
    with pytest.raises(ConfigError) as caught:
        queue.add([path])
    assert caught.value.problems[0].code == "E-QUE-001"
    queue.mark(job.id, "done", "all steps are trained")
    assert queue.forget() == 1
    assert queue.add([path]).id != job.id


def test_eight_threads_take_sixty_jobs_each_once(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "q.db")
    for number in range(60):
        queue.add([tmp_path / str(number)])
    found: list[int] = []

    def take() -> None:
        while job := taken(queue):
            found.append(job.id)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [job.id for job in sorted(queue.jobs(), key=lambda job: job.id)]


def test_a_worker_trains_what_is_in_the_line(tmp_path: Path) -> None:
    queue, paths = Queue(tmp_path / "q.db"), runs(tmp_path, 3)
    queue.add(paths[:2])
    queue.add(paths[2:])
    worker(queue, tmp_path / "notes").serve(lambda: False, until_empty=True)
    assert [job.state for job in queue.jobs()] == ["done", "done"]
    assert (tmp_path / "notes").read_text().split() == ["run-000", "run-001", "run-002"]


def test_a_lane_has_one_worker(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "q.db")
    with working.Lock(working.lane_lock(queue, "cpu")), pytest.raises(LockedError) as caught:
        worker(queue, tmp_path / "notes").serve(lambda: True)
    assert caught.value.problems[0].code == "E-QUE-005"
    worker(queue, tmp_path / "notes", lane="cuda:0").serve(lambda: True)


def test_a_training_outlives_its_worker_and_is_watched_again(tmp_path: Path) -> None:
    queue, paths = Queue(tmp_path / "q.db"), runs(tmp_path, 1)
    job = queue.add(paths)
    run = RunFolder(paths[0])
    worker(queue, tmp_path / "notes", 1.0).serve(lambda: run.state().stage == "running")
    assert queue.job(job.id).state == "running"
    worker(queue, tmp_path / "notes", 0.0).serve(lambda: False, until_empty=True)
    assert queue.job(job.id).state == "done"
    assert (tmp_path / "notes").read_text().split() == ["run-000"]


def test_a_killed_training_goes_on_if_it_had_got_further_and_else_is_lost(tmp_path: Path) -> None:
    queue, paths = Queue(tmp_path / "q.db"), runs(tmp_path, 1)
    job = queue.add(paths)
    (paths[0] / "die").touch()
    worker(queue, tmp_path / "notes", 5.0).serve(lambda: False, until_empty=True)
    found = queue.job(job.id)
    assert (found.state, found.attempts) == ("lost", 2)
    assert "killed by signal 9" in found.reason
    assert any("had got further" in each.reason for each in queue.changes(job.id))


def test_a_job_that_waits_is_cancelled_at_once_and_one_that_trains_is_asked(tmp_path: Path) -> None:
    queue, paths = Queue(tmp_path / "q.db"), runs(tmp_path, 2)
    first, second = (queue.add([path]) for path in paths)
    ended = threading.Event()
    serving = threading.Thread(
        target=worker(queue, tmp_path / "notes", 90.0).serve, args=(ended.is_set,), kwargs={"until_empty": True}
    )
    serving.start()
    try:
        wait_until(lambda: RunFolder(paths[0]).state().stage == "running")
        working.cancel(queue, second)
        working.cancel(queue, first)
        serving.join(90)
    finally:
        ended.set()
        serving.join(90)
    assert [job.state for job in queue.jobs()] == ["stopped", "stopped"]
    assert queue.job(first.id).reason == "it was asked to stop"
    with pytest.raises(ConfigError):
        working.cancel(queue, queue.job(first.id))


def test_what_became_of_a_job_is_told_by_its_folder_not_by_its_exit_code(tmp_path: Path) -> None:
    queue, paths = Queue(tmp_path / "q.db"), runs(tmp_path, 1)
    job = queue.add(paths)
    assert verdict(job, 2, "")[0] == "failed"
    assert verdict(job, None, "its worker had died")[0] == "queued"
    assert train(tmp_path / "notes", 0.0, [RunFolder(paths[0])]) == 0
    assert verdict(job, 2, "")[0] == "done"


def test_workers_that_are_killed_lose_no_job_and_train_none_twice(tmp_path: Path) -> None:
    queue, paths, dice = Queue(tmp_path / "q.db"), runs(tmp_path, 8), random.Random(7)
    for path in paths:
        queue.add([path])
    serve = (
        "import sys; from pathlib import Path; from impasto.runs.queue import Queue\n"
        "from tests.runs.test_queue import worker\n"
        f"worker(Queue(Path({str(queue.path)!r})), Path({str(tmp_path / 'notes')!r}), 0.05, sys.argv[1])"
        ".serve(lambda: False, until_empty=True)"
    )
    lanes: dict[str, subprocess.Popen[bytes]] = {}
    kills, end = 0, time.monotonic() + 120
    while len(queue.jobs("done")) < len(paths):
        assert time.monotonic() < end, queue.jobs()
        for lane in ("cpu", "cuda:0"):
            if lane not in lanes or lanes[lane].poll() is not None:
                lanes[lane] = subprocess.Popen([sys.executable, "-c", serve, lane], stderr=subprocess.DEVNULL)
        time.sleep(dice.uniform(0.3, 1.2))
        lane = dice.choice(list(lanes))
        if kills < 5 and lanes[lane].poll() is None:
            lanes[lane].send_signal(signal.SIGKILL)
            lanes[lane].wait()
            kills += 1
    for each in lanes.values():
        each.wait(90)
    assert kills
    assert Counter((tmp_path / "notes").read_text().split()) == Counter(path.name for path in paths)


def test_a_damaged_file_is_set_aside_and_a_newer_one_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    Queue(path).add(runs(tmp_path, 1))
    path.write_bytes(b"no database" * 1000)
    queue = Queue(path)
    assert queue.jobs() == []
    assert queue.damaged is not None
    assert queue.damaged.read_bytes().startswith(b"no database")
    with queue._open() as table:
        table.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError) as caught:
        Queue(path)
    assert caught.value.problems[0].code == "E-QUE-002"


def test_the_line_lies_where_each_system_keeps_such_things() -> None:
    assert default_path({"XDG_STATE_HOME": "/s"}) == Path("/s/impasto/queue.db")
    assert default_path({"HOME": "/h"}, "linux") == Path("/h/.local/state/impasto/queue.db")
    assert default_path({"HOME": "/h"}, "darwin") == Path("/h/Library/Application Support/impasto/queue.db")
