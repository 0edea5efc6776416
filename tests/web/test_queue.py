"""The line as the browser moves it, and the workers that this server starts."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from impasto import events, lock
from impasto.runs import worker as working
from impasto.runs.queue import Queue
from impasto.web import live, shelf
from impasto.web.app import create
from impasto.web.line import Line
from impasto.web.site import Site
from impasto.web.workers import PATIENCE, Workers
from tests.web import made
from tests.web.conftest import HOST, TOKEN

JOBS = int(os.environ.get("IMPASTO_TEST_JOBS", "12"))
KILLS = int(os.environ.get("IMPASTO_TEST_KILLS", "2"))
"""Of the test with two servers."""


@pytest.fixture(autouse=True)
def _looked_at_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf.Shelf.summaries, "__kwdefaults__", {"patience": -1.0})


@pytest.fixture
def three(tmp_path: Path) -> list[str]:
    return [f"runs:{made.run(tmp_path / 'runs' / name).path.name}" for name in ("anna", "bert", "carl")]


def line(client: TestClient) -> list[tuple[int, str]]:
    jobs: list[dict[str, Any]] = client.get("/api/queue").json()["jobs"]
    return [(each["id"], each["state"]) for each in jobs]


def test_runs_are_put_into_the_line_moved_taken_out_and_tried_again(client: TestClient, three: list[str]) -> None:
    assert client.post("/api/queue", json={"run_ids": three}).json() == {"jobs": [1, 2, 3]}
    assert client.post("/api/queue", json={"run_ids": three[:1]}).status_code == 409
    for to, order in (("first", [3, 1, 2]), ("down", [1, 3, 2]), ("last", [1, 2, 3]), ("up", [1, 3, 2])):
        assert client.post("/api/queue/3/move", json={"to": to}).status_code == 200
        assert [id for id, _ in line(client)] == order
    assert client.post("/api/queue/3/cancel").json() == {"text": "taken out of the line"}
    assert client.post("/api/queue/3/cancel").status_code == 409
    assert client.post("/api/queue/3/move", json={"to": "up"}).status_code == 409
    assert client.post("/api/queue/3/retry").status_code == 200
    assert client.post("/api/queue/3/retry").status_code == 409
    assert line(client) == [(1, "queued"), (3, "queued"), (2, "queued")]
    assert client.post("/api/queue/99/cancel").status_code == 404


def test_a_paused_run_goes_on_before_its_worker_has_noticed_that_it_ended(client: TestClient, tmp_path: Path) -> None:
    run = made.run(tmp_path / "runs" / "anna")
    other = made.run(tmp_path / "runs" / "bert")
    client.post("/api/queue", json={"run_ids": ["runs:anna", "runs:bert"], "together": True})
    queue = live.of(client.app).line.queue  # type: ignore[arg-type]
    assert queue.claim("cpu", lambda job: 0)
    with lock.Lock(other.lock):
        with lock.Lock(run.lock):
            made.tell(run, events.Started(run="anna", steps=9), *made.steps(1, 3, time=time.time()))
            client.post("/api/runs/runs:anna/requests", json={"kind": "pause"})
            made.tell(run, events.Halted(text="stopped on request"))
        assert client.post("/api/runs/runs:anna/requests", json={"kind": "resume"}).status_code == 409, "bert trains"
    assert client.post("/api/runs/runs:anna/requests", json={"kind": "resume"}).status_code == 200
    assert [(each.state, each.folders) for each in queue.jobs()] == [
        ("stopped", (run.path, other.path)),
        ("queued", (run.path,)),
    ]


def test_a_lane_is_held_and_released(client: TestClient, three: list[str]) -> None:
    client.post("/api/queue", json={"run_ids": three, "lane": "cuda:1", "together": True})
    client.post("/api/lanes/cuda:1/hold")
    (lane,) = client.get("/api/queue").json()["lanes"]
    assert (lane["name"], lane["held"], lane["worker"]) == ("cuda:1", True, None)
    client.post("/api/lanes/cuda:1/release")
    assert client.get("/api/queue").json()["lanes"][0]["held"] is False
    assert client.post("/api/lanes/nonsense; rm/hold").status_code == 422
    client.post("/api/queue/1/cancel")
    assert client.post("/api/queue/forget").json() == {"text": "forgot 1 jobs"}


def test_a_look_at_the_line_makes_no_file(client: TestClient, site: Site) -> None:
    assert client.get("/api/queue").json() == {"lanes": [], "jobs": [], "warning": ""}
    assert not site.queue.exists()


def test_a_line_that_cannot_be_read_is_set_aside_and_said(client: TestClient, site: Site, three: list[str]) -> None:
    site.queue.parent.mkdir(parents=True)
    site.queue.write_bytes(b"this is no database at all" * 100)
    assert client.post("/api/queue", json={"run_ids": three}).status_code == 200
    assert "set aside" in client.get("/api/queue").json()["warning"]


class Started:
    """Processes that were started, which do nothing."""

    def __init__(self) -> None:
        self.lanes: list[str] = []

    def __call__(self, lane: str) -> subprocess.Popen[bytes]:
        self.lanes.append(lane)
        child = subprocess.Popen([sys.executable, "-c", ""])
        child.wait()
        return child


def test_a_worker_is_started_where_there_is_work_and_nobody_serves(site: Site, three: list[str]) -> None:
    folders = [site.of("runs")[0].path / id.partition(":")[2] for id in three]
    queue, started = Queue(site.queue), Started()
    workers = Workers(Line(site.queue), ["cpu", "cuda:0"], started)
    workers.see_to()
    assert started.lanes == []
    queue.add(folders[:1], lane="cuda:0")
    queue.add(folders[1:2], lane="cuda:7")
    workers.see_to()
    workers.see_to()
    assert started.lanes == ["cuda:0"], "once, and time is given to it; nobody here serves cuda:7"
    workers._started["cuda:0"] -= PATIENCE
    with lock.Lock(working.lane_lock(queue, "cuda:0")):
        workers.see_to()
    assert started.lanes == ["cuda:0"], "it is served"
    queue.hold("cuda:0", on=True)
    workers.see_to()
    assert started.lanes == ["cuda:0"], "it is held"
    queue.hold("cuda:0", on=False)
    assert queue.claim("cuda:0", lambda job: 0)
    workers.see_to()
    assert started.lanes == ["cuda:0", "cuda:0"], "its worker died, and what it left is seen to"


@pytest.mark.skipif(os.name == "nt", reason="trainings are forks here")
def test_two_servers_and_workers_that_are_killed_lose_no_job_and_start_none_twice(site: Site, tmp_path: Path) -> None:
    """Two servers put runs into one line and see to its lanes, while workers are killed at random."""
    notes, dice = tmp_path / "notes", random.Random(7)
    ids = [f"runs:{made.run(tmp_path / 'runs' / f'run-{number:02}').path.name}" for number in range(JOBS)]
    running: list[subprocess.Popen[bytes]] = []

    def spawn(lane: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.web.works", str(site.queue), lane, str(notes)]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        running.append(child)
        return child

    headers = {"X-Impasto-Token": TOKEN, "Host": HOST}
    with (
        TestClient(create(site), base_url=f"http://{HOST}", headers=headers) as one,
        TestClient(create(replace(site)), base_url=f"http://{HOST}", headers=headers) as two,
    ):
        for client in (one, two):
            of_it = live.of(client.app)  # type: ignore[arg-type]
            of_it.workers = Workers(of_it.line, ["cpu", "cuda:0"], spawn)
        for id in ids:
            answers = [client.post("/api/queue", json={"run_ids": [id]}).status_code for client in (one, two)]
            assert sorted(answers) == [200, 409]
        begun, kills = time.monotonic(), 0
        while {"queued", "running"} & (states := {state for _, state in line(one)}):
            assert time.monotonic() - begun < 60 + JOBS
            for client in (one, two):
                of_it = live.of(client.app)  # type: ignore[arg-type]
                for lane in of_it.workers._started:
                    of_it.workers._started[lane] -= PATIENCE * 0.5
                of_it.workers.see_to()
            alive = [each for each in running if each.poll() is None]
            if alive and "running" in states and kills < KILLS and dice.random() < 0.5:
                dice.choice(alive).kill()
                kills += 1
            time.sleep(0.15)
        assert {state for _, state in line(two)} == {"done"}
    for child in running:
        child.wait()
    trained = notes.read_text().split()
    assert sorted(trained) == sorted(id[5:] for id in ids)
