"""Runs as the browser sees them."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from impasto import events, lock
from impasto.runs.folder import RunFolder
from impasto.runs.queue import Queue
from impasto.web import live, shelf
from impasto.web.site import Site
from tests.web import made


@pytest.fixture(autouse=True)
def _looked_at_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "PATIENCE", -1.0)
    monkeypatch.setattr(shelf.Shelf.summaries, "__kwdefaults__", {"patience": -1.0})


def listed(client: TestClient) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in client.get("/api/runs").json()["runs"]}


def test_a_file_that_comes_or_goes_after_the_last_event_is_seen(client: TestClient, tmp_path: Path) -> None:
    run = made.finished(tmp_path / "runs" / "anna")
    assert listed(client)["runs:anna"]["file"] == "anna.safetensors"
    run.final.rename(run.path / "elsewhere")
    assert listed(client)["runs:anna"]["file"] is None
    (run.path / "elsewhere").rename(run.final)
    assert listed(client)["runs:anna"]["file"] == "anna.safetensors"


def test_a_finished_run_is_told_in_a_line_of_the_table(client: TestClient, tmp_path: Path) -> None:
    made.finished(tmp_path / "runs" / "anna")
    (found,) = listed(client).values()
    assert (found["id"], found["state"], found["step"], found["total"]) == ("runs:anna", "done", 20, 20)
    assert (found["recommended"], found["file"], found["warnings"]) == ("anna.safetensors", "anna.safetensors", 1)
    assert (found["kind"], found["preview"], found["validation"]) == ("lora", "00000020-0.png", pytest.approx(0.2))


def test_runs_of_a_sweep_are_found_in_its_folder(client: TestClient, tmp_path: Path) -> None:
    sweep = tmp_path / "runs" / "rates-sweep"
    made.finished(sweep / "rates-1")
    (sweep / "sweep.toml").write_text("")
    (found,) = listed(client).values()
    assert (found["id"], found["sweep"]) == ("runs:rates-sweep:rates-1", "runs/rates-sweep")


def test_a_run_that_leaves_is_gone(client: TestClient, tmp_path: Path) -> None:
    run = made.finished(tmp_path / "runs" / "anna")
    assert listed(client)
    run.path.rename(tmp_path / "elsewhere")
    assert not listed(client)
    assert client.get("/api/runs/runs:anna").status_code == 404


def test_the_state_follows_what_the_run_tells_and_its_lock(client: TestClient, tmp_path: Path) -> None:
    run = made.run(tmp_path / "runs" / "anna")

    def state() -> str:
        return str(listed(client)["runs:anna"]["state"])

    assert state() == "planned"
    with lock.Lock(run.lock):
        made.tell(run, events.Phase(name="encode pictures", done=1, total=9))
        assert state() == "preparing"
        made.tell(run, events.Started(run="anna", steps=4), *made.steps(1, 2))
        assert state() == "training"
        made.tell(run, *made.steps(3, 4), events.Phase(name="proof"))
        assert state() == "finishing"
    assert state() == "lost"
    with lock.Lock(run.lock):
        made.tell(run, events.Phase(name="scan"))
        assert state() == "preparing"
        made.tell(run, events.Started(run="anna", steps=6, resumed_from=4), events.Halted(text="asked to"))
    assert state() == "stopped"
    made.tell(run, events.Failed(code="E-NUM-001", text="not finite"))
    assert state() == "failed"
    assert listed(client)["runs:anna"]["reason"] == "not finite"


def test_settings_that_cannot_be_read_make_a_draft(client: TestClient, tmp_path: Path) -> None:
    run = made.run(tmp_path / "runs" / "anna")
    run.config.write_text("name = ")
    assert listed(client)["runs:anna"]["state"] == "draft"
    assert client.get("/api/runs/runs:anna").json()["problems"]


def test_a_trainer_that_is_killed_is_lost_within_two_looks(client: TestClient, tmp_path: Path) -> None:
    run = made.run(tmp_path / "runs" / "anna", events.Started(run="anna", steps=9), *made.steps(1, 3))
    code = "import sys, time, pathlib; from impasto.lock import Lock; l = Lock(pathlib.Path(sys.argv[1])); l.take(); "
    code += "print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(run.lock)], stdout=subprocess.PIPE) as trainer:
        assert trainer.stdout is not None
        trainer.stdout.readline()
        assert listed(client)["runs:anna"]["state"] == "training"
        trainer.kill()
    assert listed(client)["runs:anna"]["state"] == "lost"
    assert client.get("/api/runs/runs:anna").json()["can"] == ["resume"]


@pytest.mark.skipif(os.name == "nt", reason="processes cannot be stopped there")
def test_a_trainer_that_is_stopped_is_lost_comes_back_when_it_goes_on_and_can_be_ended(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "SILENCE", 1.5)
    run = made.run(tmp_path / "runs" / "anna", events.Started(run="anna", steps=9), *made.steps(1, 3))
    code = "import sys, time, pathlib; from impasto.lock import Lock; l = Lock(pathlib.Path(sys.argv[1]), beat=0.1); "
    code += "l.take(); print('held', flush=True); time.sleep(60)"
    ask = "/api/runs/runs:anna/requests"

    def until(state: str) -> dict[str, Any]:
        begun = time.monotonic()
        while (found := listed(client)["runs:anna"])["state"] != state:
            assert time.monotonic() - begun < 15, found
            time.sleep(0.1)
        return found

    with subprocess.Popen([sys.executable, "-c", code, str(run.lock)], stdout=subprocess.PIPE) as trainer:
        assert trainer.stdout is not None
        trainer.stdout.readline()
        until("training")
        assert client.post(ask, json={"kind": "end"}).status_code == 409
        trainer.send_signal(signal.SIGSTOP)
        assert "gives no sign of life" in until("lost")["reason"]
        assert client.get("/api/runs/runs:anna").json()["can"] == ["end"]
        trainer.send_signal(signal.SIGCONT)
        until("training")
        trainer.send_signal(signal.SIGSTOP)
        until("lost")
        assert client.post(ask, json={"kind": "end"}).json()["text"].startswith(f"process {trainer.pid} is ended")
        assert trainer.wait(10) == -signal.SIGKILL
    assert client.get("/api/runs/runs:anna").json()["can"] == ["resume"]


def test_the_detail_holds_settings_checkpoints_and_previews(client: TestClient, tmp_path: Path) -> None:
    made.finished(tmp_path / "runs" / "anna")
    found = client.get("/api/runs/runs:anna").json()
    (checkpoint,) = found["checkpoints"]
    assert (checkpoint["step"], checkpoint["proven"], checkpoint["recommended"]) == (20, True, True)
    assert (checkpoint["resumable"], checkpoint["file"]) == (True, "anna.safetensors")
    assert found["previews"] == [{"step": 20, "prompt": 0, "picture": "00000020-0.png"}]
    assert {each["key"]: each["source"] for each in found["settings"]}["name"] == "set"
    assert found["config_toml"] == (tmp_path / "runs" / "anna" / "config.toml").read_text()


def test_what_a_resume_took_back_is_on_no_curve(client: TestClient, tmp_path: Path) -> None:
    told = [events.Started(run="anna", steps=9), *made.steps(1, 6), events.Resumed(step=3), *made.steps(4, 5)]
    made.run(tmp_path / "runs" / "anna", *told)
    found = client.get("/api/runs/runs:anna/series").json()
    assert found["series"]["loss"]["x"] == [1, 2, 3, 4, 5]
    assert found["series"]["rate.unet"]["y"][0] == 1e-4
    only = client.get("/api/runs/runs:anna/series?after=3").json()
    assert only["series"]["loss"]["x"] == [4, 5]


def test_a_long_curve_is_thinned_and_keeps_its_peak(client: TestClient, tmp_path: Path) -> None:
    told = made.steps(1, 3000)
    told[1234] = events.Step(step=1235, epoch=0, loss=77.0, rates={})
    made.run(tmp_path / "runs" / "anna", events.Started(run="anna", steps=3000), *told)
    found = client.get("/api/runs/runs:anna/series?points=100").json()["series"]["loss"]
    assert len(found["x"]) <= 100
    assert max(found["y"]) == 77.0
    assert (found["x"][0], found["x"][-1]) == (1, 3000)


def test_a_loss_that_is_no_number_leaves_a_gap(client: TestClient, tmp_path: Path) -> None:
    run = made.run(tmp_path / "runs" / "anna", events.Started(run="anna", steps=3), *made.steps(1, 2))
    with run.events.open("a") as file:
        file.write('{"version":1,"time":5,"kind":"step","step":3,"epoch":0,"loss":NaN,"rates":{"unet":Infinity}}\n')
    found = client.get("/api/runs/runs:anna/series").json()["series"]
    assert (found["loss"]["y"], found["rate.unet"]["y"]) == ([1.0, 0.5, None], [1e-4, 1e-4, None])


def test_the_log_says_in_words_what_happened(client: TestClient, tmp_path: Path) -> None:
    run = made.finished(tmp_path / "runs" / "anna")
    (run.path / "worker.log").write_bytes(b"\xff printed \x1b[31mred")
    found = client.get("/api/runs/runs:anna/log").json()
    words = [each["text"] for each in found["messages"]]
    assert "begins, 20 steps in all" in words
    assert "recommends step 20: the lowest loss" in words
    assert [each["text"] for each in found["messages"] if each["level"] == "warning"] == ["little memory is left"]
    assert "printed" in found["output"]
    last = found["messages"][-1]["line"]
    assert client.get(f"/api/runs/runs:anna/log?after={last - 1}").json()["messages"] == [found["messages"][-1]]


def test_a_picture_is_encoded_anew_and_made_smaller(client: TestClient, site: Site, tmp_path: Path) -> None:
    run = made.finished(tmp_path / "runs" / "anna")
    Image.new("RGB", (800, 600)).save(run.previews / "00000020-1.png", pnginfo=None)
    answer = client.get("/api/runs/runs:anna/pictures/00000020-1.png?w=256")
    assert answer.headers["content-type"] == "image/webp"
    with Image.open(io.BytesIO(answer.content)) as shown:
        assert (shown.format, shown.size) == ("WEBP", (256, 192))
    assert list((site.cache / "thumbnails").rglob("*.webp"))
    again = {"If-None-Match": answer.headers["etag"]}
    assert client.get("/api/runs/runs:anna/pictures/00000020-1.png?w=256", headers=again).status_code == 304
    assert client.get("/api/runs/runs:anna/pictures/00000020-1.png?w=250").content == answer.content


@pytest.mark.parametrize(
    "name", ["config.toml", "events.jsonl", "..%2Fanna%2Floss.png", "no.png", "fake.png", "out.png"]
)
def test_what_is_no_picture_of_the_run_is_not_shown(client: TestClient, tmp_path: Path, name: str) -> None:
    run = made.finished(tmp_path / "runs" / "anna")
    (run.previews / "fake.png").write_text("<svg onload=alert(1)>")
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    (run.previews / "out.png").symlink_to(tmp_path / "secret.png")
    assert client.get(f"/api/runs/runs:anna/pictures/{name}").status_code == 404


def test_marks_are_kept_beside_the_run_and_not_in_its_record(client: TestClient, tmp_path: Path) -> None:
    run = made.finished(tmp_path / "runs" / "anna")
    record = run.record()
    client.patch("/api/runs/runs:anna/marks", json={"tags": ["good", "good", "<b>"], "note": "too dark"})
    client.patch("/api/runs/runs:anna/marks", json={"star": True})
    found = listed(client)["runs:anna"]
    assert (found["tags"], found["star"], found["note"]) == (["good", "<b>"], True, "too dark")
    assert run.record() == record
    assert json.loads((run.path / "marks.json").read_text())["star"] is True


def test_a_training_run_can_be_asked_to_pause_and_is_paused_when_it_ends(client: TestClient, tmp_path: Path) -> None:
    run = made.run(tmp_path / "runs" / "anna", events.Started(run="anna", steps=9), *made.steps(1, 3))
    ask = "/api/runs/runs:anna/requests"
    assert client.post(ask, json={"kind": "pause"}).status_code == 409
    with lock.Lock(run.lock):
        assert client.post(ask, json={"kind": "preview"}).status_code == 200
        assert client.post(ask, json={"kind": "pause"}).status_code == 200
        assert {each.name for each in run.control.iterdir()} == {"stop", "preview"}
        assert listed(client)["runs:anna"]["reason"] == "it pauses after its next step"
        made.tell(run, events.Halted(text="stopped on request"))
    assert listed(client)["runs:anna"]["state"] == "paused"
    assert client.post(ask, json={"kind": "resume"}).status_code == 200
    assert listed(client)["runs:anna"]["state"] == "queued"
    assert client.post(ask, json={"kind": "stop"}).json() == {"text": "taken out of the line"}
    assert listed(client)["runs:anna"]["state"] == "stopped"


def test_a_fork_begins_at_a_step_with_other_settings(client: TestClient, tmp_path: Path) -> None:
    run = made.finished(tmp_path / "runs" / "anna", record={"session": "abc"})
    for name in ("state.json", "MANIFEST.json"):
        (run.checkpoint(20) / name).write_text("{}")
    answer = client.post("/api/runs/runs:anna/fork", json={"at": 7})
    assert answer.status_code == 409
    answer = client.post(
        "/api/runs/runs:anna/fork", json={"at": 20, "settings": {"optim.learning_rate": 5e-5}, "enqueue": False}
    )
    assert answer.json() == {"id": "runs:anna-at-20", "job": None}
    tree = client.get("/api/runs/runs:anna-at-20").json()["tree"]
    assert [(each["name"], each["parent"], each["step"]) for each in tree] == [
        ("anna", None, None),
        ("anna-at-20", "runs:anna", 20),
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"output.folder": "/tmp"},
        {"model.path": "/etc"},
        {"adapter.start": {"path": "/etc/passwd"}},
        {"data.sets.0.path": "/etc"},
        {"a b": 1},
        {"model.trust_remote_code": True},
        {"name": "../evil"},
    ],
)
def test_a_fork_names_nothing_outside_the_roots(client: TestClient, tmp_path: Path, settings: dict[str, Any]) -> None:
    made.finished(tmp_path / "runs" / "anna")
    before = sorted(tmp_path.rglob("*"))
    assert client.post("/api/runs/runs:anna/fork", json={"settings": settings}).status_code in (409, 422)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_quickstart_is_put_into_the_line_by_one_request(client: TestClient, site: Site) -> None:
    found = client.post("/api/quickstart").json()
    assert found == {"id": "runs:quickstart:zorb", "job": 1}
    assert len(client.get("/api/runs/runs:quickstart:zorb").json()["prompts"]) == 4
    assert listed(client)[found["id"]]["state"] == "queued"
    assert client.post("/api/quickstart").json()["id"] == "runs:quickstart-2:zorb"
    (job, _) = Queue(site.queue).jobs()
    assert job.folders == (RunFolder(site.of("runs")[0].path / "quickstart" / "zorb").path,)


def test_five_hundred_runs_with_200_000_events_list_quickly(client: TestClient, tmp_path: Path) -> None:
    made.run(tmp_path / "runs" / "run-000", events.Started(run="r", steps=400), *made.steps(1, 400))
    model = tmp_path / "runs" / "run-000"
    for number in range(1, 500):
        copy = tmp_path / "runs" / f"run-{number:03}"
        copy.mkdir()
        for name in ("config.toml", "record.json", "events.jsonl"):
            (copy / name).write_bytes((model / name).read_bytes())
    begun = time.process_time()
    while client.get("/api/runs").json()["reading"]:
        assert time.process_time() - begun < 20
    first = time.process_time()
    assert len(listed(client)) == 500
    assert time.process_time() - first < 1.0, "a look at runs that have not changed is quick"


@pytest.mark.skipif(os.name == "nt", reason="names on Windows are text")
def test_a_folder_whose_name_is_no_text_can_be_looked_at(client: TestClient, tmp_path: Path) -> None:
    run = made.finished(tmp_path / "runs" / "anna")
    os.rename(run.path, os.fsencode(tmp_path / "runs") + b"/b\xff:%d")
    (found,) = listed(client)
    assert found == "runs:b%FF%3A%25d"
    assert live.of(client.app).shelf.run(found).path.name == os.fsdecode(b"b\xff:%d")  # type: ignore[arg-type]
