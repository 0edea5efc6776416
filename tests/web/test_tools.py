"""Models on disk, work on files, storage, the machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file
from starlette.testclient import TestClient

from impasto import pocket
from impasto.store import Store
from impasto.web import health
from impasto.web.app import create
from impasto.web.chores import Chore
from impasto.web.site import Site
from tests.web import made
from tests.web.conftest import HOST, TOKEN


def lora(path: Path, rank: int = 4) -> Path:
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    dice = np.random.default_rng(0)
    tensors = {
        f"{name}.lora_down.weight": dice.normal(size=(rank, 32)).astype(np.float32),
        f"{name}.lora_up.weight": dice.normal(size=(32, rank)).astype(np.float32),
        f"{name}.alpha": np.array(1.0, np.float32),
    }
    save_file(tensors, str(path))
    return path


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir(exist_ok=True)
    lora(folder / "anna.safetensors")
    (folder / "old.ckpt").write_bytes(b"PK\x03\x04")
    (folder / "bad.safetensors").write_bytes(b"x" * 100)
    (folder / "notes.txt").write_text("x")
    return folder


def get(client: TestClient, route: str) -> Any:
    answer = client.get(f"/api{route}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def done(client: TestClient, route: str, **body: Any) -> Any:
    answer = client.post(f"/api{route}", json=body)
    assert answer.status_code == 200, answer.text
    for _ in range(600):
        told = get(client, f"/tools/jobs/{answer.json()['job']}")
        if told["state"] in ("done", "failed"):
            return told
        time.sleep(0.05)
    raise AssertionError("it did not end")


def test_models_are_listed_with_what_they_are(client: TestClient, models: Path) -> None:
    shutil.copytree(pocket.folder(), models / "tiny")
    found = {each["id"]: each for each in get(client, "/tools/models")["models"]}
    assert {id: each["kind"] for id, each in found.items()} == {
        "pocket": "base", "models/anna.safetensors": "adapter", "models/bad.safetensors": "other",
        "models/old.ckpt": "other", "models/tiny": "base",
    }  # fmt: skip
    assert "rank 4" in found["models/anna.safetensors"]["what"]
    assert found["models/tiny"]["path"] == str(models / "tiny")
    assert "pickle" in found["models/old.ckpt"]["what"]


def test_a_file_is_looked_into_by_a_process_of_its_own(client: TestClient, models: Path) -> None:
    told = done(client, "/tools/weights/inspect", file="models/anna.safetensors")
    assert (told["state"], told["problems"]) == ("done", [])
    assert told["result"].startswith("'anna.safetensors': LoRA") or "LoRA" in told["result"]
    told = done(client, "/tools/weights/inspect", file="models/bad.safetensors")
    assert told["state"] == "failed"
    assert told["problems"][0]["code"].startswith("E-MOD")
    assert [each["id"] for each in get(client, "/tools/jobs")["jobs"]] == ["2", "1"]


def test_an_adapter_is_resized_into_a_file_that_is_free(client: TestClient, models: Path) -> None:
    told = done(client, "/tools/weights/resize", file="models/anna.safetensors", out="models/small.safetensors", rank=2)
    assert told["state"] == "done", told
    assert (models / "small.safetensors").is_file()
    again = {"file": "models/anna.safetensors", "out": "models/small.safetensors", "rank": 2}
    assert client.post("/api/tools/weights/resize", json=again).status_code == 409


@pytest.mark.parametrize(
    ("file", "out"),
    [
        ("models/../x", "models/y.safetensors"),
        ("models/anna.safetensors", "models/../y.safetensors"),
        ("models/anna.safetensors", "pictures/y.safetensors"),
        ("models/anna.safetensors", "/tmp/y.safetensors"),
        ("models/anna.safetensors", "models/.y.safetensors"),
        ("models/anna.safetensors", "models/y.py"),
        ("models", "models/y.safetensors"),
        ("models/anna.safetensors", "models/a\x00.safetensors"),
        ("models/anna.safetensors", f"models/{'a' * 300}.safetensors"),
        ("--help", "models/y.safetensors"),
        ("models/anna.safetensors", "models/no/y.safetensors"),
    ],
)
def test_no_file_elsewhere_is_read_or_written(client: TestClient, models: Path, file: str, out: str) -> None:
    answer = client.post("/api/tools/weights/convert", json={"file": file, "out": out, "to": "kohya"})
    assert answer.status_code in (404, 422), answer.text
    assert get(client, "/tools/jobs")["jobs"] == []


def test_work_is_ended_on_request(client: TestClient, models: Path) -> None:
    answer = client.post("/api/tools/weights/inspect", json={"file": "models/anna.safetensors"}).json()
    client.post(f"/api/tools/jobs/{answer['job']}/cancel")
    for _ in range(200):
        if get(client, f"/tools/jobs/{answer['job']}")["state"] == "failed":
            return
        time.sleep(0.02)
    raise AssertionError("it went on")


def test_cleaning_lists_first_and_then_removes(client: TestClient, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache" / "store")
    for number in range(3):
        store.put({"kind": "latents", "n": number}, b"x" * 1000)
    run = made.finished(tmp_path / "runs" / "anna")
    (run.checkpoint(20) / "state.safetensors").write_bytes(b"x" * 5000)
    time.sleep(0.3)  # the table of runs is that fresh
    told = {each["id"]: each for each in get(client, "/tools/storage")["items"]}
    assert (told["cache:latents"]["files"], told["checkpoints:runs:anna"]["size"]) == (3, 5000)
    ids = ["cache:latents", "checkpoints:runs:anna", "cache:../..", "nonsense"]
    answer = client.post("/api/tools/storage/clean", json={"ids": ids}).json()
    assert (answer["files"], answer["done"]) == (4, False)
    assert len(list(store.entries())) == 3
    assert client.post("/api/tools/storage/clean", json={"ids": ids, "go": True}).json()["files"] == 4
    assert list(store.entries()) == []
    assert not run.checkpoints.exists()
    assert run.final.is_file()
    assert client.post("/api/tools/storage/clean", json={"ids": ["checkpoints:runs:none"]}).status_code == 404


def test_old_things_alone_are_cleaned(client: TestClient, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache" / "store")
    store.put({"kind": "latents"}, b"x")
    answer = client.post("/api/tools/storage/clean", json={"ids": ["cache:latents"], "days": 1, "go": True}).json()
    assert (answer["files"], len(list(store.entries()))) == (0, 1)


def test_the_doctors_lines_are_checks() -> None:
    assert health.check("disk here    1.2 GB free").state == "warn"
    assert health.check("disk here    120.5 GB free").state == "good"
    found = health.check("peft         missing: install impasto again, or this package by itself")
    assert (found.name, found.state, found.fix) == ("peft", "bad", "install impasto again, or this package by itself")


def test_the_server_does_all_this_without_torch(tmp_path: Path, models: Path) -> None:
    code = f"""
        import sys
        from pathlib import Path
        from starlette.testclient import TestClient
        from impasto.web.app import create
        from impasto.web.site import Site, roots
        top = Path({str(tmp_path)!r})
        (top / "runs").mkdir(exist_ok=True)
        site = Site("t" * 30, roots([("runs", top / "runs"), ("data", top), ("models", top / "models")]),
                    top / "queue.db", top / "cache", top / "state")
        with TestClient(create(site), base_url="http://127.0.0.1", headers={{"X-Impasto-Token": "t" * 30}}) as client:
            assert client.get("/api/tools/models").status_code == 200
            assert client.get("/api/presets").status_code == 200
            assert client.get("/api/datasets").status_code == 200
            assert client.post("/api/configs/plan", json={{"toml": ""}}).status_code == 200
        sys.exit("torch" in sys.modules)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False).returncode == 0


def test_tokens_are_told_to_be_there_and_never_told(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = "hf_abcdefghijklmnop"
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with TestClient(
        create(replace(site, webhook="https://hooks.example/services/T0/secret")), base_url=f"http://{HOST}",
        headers={"X-Impasto-Token": TOKEN},
    ) as client:  # fmt: skip
        told = get(client, "/tools/tokens")
        assert (told["hub"]["is_set"], told["webhook"]) == (False, {"is_set": True, "host": "hooks.example"})
        monkeypatch.setenv("HF_TOKEN", secret)
        assert get(client, "/tools/tokens")["hub"]["source"] == "environment"
        monkeypatch.delenv("HF_TOKEN")
        (tmp_path / "token").write_text(secret)
        told = client.get("/api/tools/tokens").text
        assert '"source":"file"' in told
        assert secret not in told
        assert "services" not in told


def test_the_time_that_is_left_follows_from_the_pace_since_the_first_word() -> None:
    chore = Chore("1", "compare", [], state="running")
    assert chore.left(100.0) is None
    chore.first, chore.done, chore.total = (100.0, 1), 1, 9
    assert chore.left(103.0) is None
    chore.done = 3
    assert chore.left(110.0) == pytest.approx(30.0)
