"""Sweeps, comparisons and votes, as the browser sees them."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from impasto import events
from impasto.sweeps import expand
from impasto.sweeps.folder import SweepFolder
from impasto.web.site import Site
from tests.web import made


@pytest.fixture
def sweep(site: Site) -> SweepFolder:
    """Two ranks with two seeds each, all measured; rank 8 is better by 0.02."""
    runs = site.of("runs")[0].path
    pictures = site.of("data")[0].path
    Image.new("RGB", (64, 64)).save(pictures / "a.png")
    given = [f'data.sets.0.path="{pictures}"', 'name="ranks"', f'output.folder="{runs}"', "adapter.rank=4,8"]
    plan = expand.read(None, [*given, "sweep.seeds=2"])
    folder = SweepFolder.create(plan, expand.runs(plan))
    for run in expand.runs(plan):
        told = made.run(folder.path / run.name, events.Started(run=run.name, steps=20, time=1000.0), *made.steps(1, 20))
        loss = (0.2 if run.point["adapter.rank"] == 4 else 0.18) + 0.001 * run.seed
        made.tell(told, events.Validated(step=20, losses={"500": loss}, time=1100.0))
    return folder


def test_a_sweep_tells_what_each_value_does_and_which_variant_to_take(sweep: SweepFolder, client: TestClient) -> None:
    (row,) = client.get("/api/lab/sweeps").json()["sweeps"]
    assert (row["id"], row["name"], row["axes"], row["runs"]) == ("runs/ranks-sweep", "ranks", ["adapter.rank"], 4)
    assert row["best"] == pytest.approx(0.18, abs=2e-3)

    found = client.get("/api/lab/sweeps/runs/ranks-sweep").json()
    (effect,) = found["effects"]
    assert (effect["key"], effect["base"], effect["value"], effect["pairs"]) == ("adapter.rank", 4, 8, 2)
    assert effect["mean"] == pytest.approx(-0.02)
    assert found["pick"]["point"] == {"adapter.rank": 8}
    assert {each["run"] for each in found["rows"]} == {f"runs:ranks-sweep:{each['name']}" for each in found["rows"]}


@pytest.mark.parametrize(
    "id", ["runs", "runs/nothing", "runs/../ranks-sweep", "pictures/ranks-sweep", "nowhere/ranks-sweep"]
)
def test_what_is_no_sweep_is_not_there(client: TestClient, sweep: SweepFolder, id: str) -> None:
    assert client.get(f"/api/lab/sweeps/{id}").status_code == 404


@pytest.fixture
def drawn(site: Site) -> str:
    """A comparison as `impasto compare` leaves it. Its id."""
    folder = site.of("runs")[0].path / "comparisons" / "20260101-120000-0123abcd"
    (folder / "cells").mkdir(parents=True)
    names = [[f"cells/{row:02d}-{column:02d}.png" for column in range(2)] for row in range(2)]
    for name in (each for row in names for each in row):
        Image.new("RGB", (64, 64), (9, 9, 90)).save(folder / name)
    told = {"rows": [{"label": "no adapter"}, {"label": "anna · × 0.6", "strength": 0.6}], "cells": names}
    told["columns"] = [{"label": "a"}, {"label": "b"}]
    (folder / "compare.json").write_text(json.dumps(told))
    (folder / "request.json").write_text(json.dumps({"title": "anna", "made": 5.0, "total": 4}))
    return folder.name


def test_a_comparison_is_shown_with_its_pictures(client: TestClient, site: Site, drawn: str, tmp_path: Path) -> None:
    (row,) = client.get("/api/lab/compare").json()["compares"]
    assert (row["id"], row["title"], row["state"], row["done"]) == (drawn, "anna", "done", 4)
    found = client.get(f"/api/lab/compare/{drawn}").json()
    assert [each["label"] for each in found["rows"]] == ["no adapter", "anna · × 0.6"]
    picture = client.get(f"/api/lab/compare/{drawn}/pictures/{found['cells'][1][0]}?w=64")
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/webp")
    outside = tmp_path / "outside.png"
    Image.new("RGB", (8, 8)).save(outside)
    (site.of("runs")[0].path / "comparisons" / drawn / "cells" / "08-08.png").symlink_to(outside)
    for name in ("08-08.png", "../compare.json", "..%2fcompare.json", "09-09.png", "request.json"):
        assert client.get(f"/api/lab/compare/{drawn}/pictures/{name}").status_code == 404


def test_votes_add_up_to_a_standing_that_the_command_line_reads_too(client: TestClient, site: Site, drawn: str) -> None:
    vote = {"left": "no adapter", "right": "anna · × 0.6", "better": "right"}
    for _ in range(3):
        told = client.post(f"/api/lab/compare/{drawn}/votes", json={"votes": [vote]}).json()
    assert [each["row"] for each in told["standings"]] == ["anna · × 0.6", "no adapter"]
    assert told["standings"][0]["won"] == 3
    kept = json.loads((site.of("runs")[0].path / "comparisons" / drawn / "votes.json").read_text())
    assert kept == {"version": 1, "votes": [vote] * 3}
    wrong = {**vote, "right": "somebody else"}
    assert client.post(f"/api/lab/compare/{drawn}/votes", json={"votes": [wrong]}).status_code == 422


def test_drawing_starts_the_command_line_with_what_was_asked(
    client: TestClient, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In place of python, a program that only writes down how it was called.
    spy = tmp_path / "spy"
    spy.write_text('#!/bin/sh\nfor each in "$@"; do echo "$each"; done > ' + str(tmp_path / "called") + "\nexit 3\n")
    spy.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(spy))
    run = made.finished(site.of("runs")[0].path / "anna")
    asked = {
        "rows": [{"run": "runs:anna", "strength": 0.6}, {"run": "runs:anna"}], "prompts": ["--out=/etc; rm -rf /"],
        "seeds": [1, 2],
    }  # fmt: skip
    id = client.post("/api/lab/compare", json=asked).json()["id"]
    for _ in range(100):
        if client.get(f"/api/lab/compare/{id}").json()["state"] == "failed":
            break
        time.sleep(0.05)
    assert client.get(f"/api/lab/compare/{id}").json()["problems"]
    called = (tmp_path / "called").read_text().splitlines()
    assert called[:5] == ["-m", "impasto", "compare", f"{run.path}:0.6", f"{run.path}"]
    assert called[5:7] == ["--out", str(site.of("runs")[0].path / "comparisons" / id)]
    assert called[7:] == ["--title=anna", "--prompt=--out=/etc; rm -rf /", "--seeds=1,2"]


@pytest.mark.parametrize(
    "row", [{"run": "runs:nobody"}, {"model": "models/../runs/x.safetensors"}, {"model": "models/x.pickle"}]
)
def test_only_runs_and_adapter_files_within_the_folders_are_drawn(client: TestClient, row: dict[str, str]) -> None:
    asked = {"rows": [row], "prompts": ["a"], "seeds": [1]}
    assert client.post("/api/lab/compare", json=asked).status_code == 404
    half = {"rows": [row], "prompts": ["a\0b"], "seeds": [1]}
    assert client.post("/api/lab/compare", json=half).status_code in (404, 422)
    many = {"rows": [row] * 64, "prompts": ["a"] * 32, "seeds": [1]}
    assert client.post("/api/lab/compare", json=many).status_code == 422
