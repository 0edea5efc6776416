"""Settings in the browser: read, written, planned, imported, started."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from impasto.config import RunConfig
from impasto.runs.queue import Queue
from impasto.settings import fields, form
from impasto.sweeps.config import WholeFile
from impasto.web.layout import STANDARD, layout
from impasto.web.site import Site


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures" / "anna"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (80, 64), (40 * number, 90, 200)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"anna, number {number}")
    return folder


def text(pictures: Path, *lines: str) -> str:
    return "\n".join(['name = "anna"', *lines, "[[data.sets]]", f'path = "{pictures}"'])


def post(client: TestClient, path: str, status: int = 200, **body: Any) -> Any:
    answer = client.post(f"/api{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_the_form_is_the_schema_and_a_layout_of_names_that_are_in_it(client: TestClient) -> None:
    told = client.get("/api/schema").json()
    assert told["schema"] == json.loads(
        json.dumps(WholeFile.model_json_schema() | {"$schema": told["schema"]["$schema"]})
    )
    assert told["layout"]["standard"] == list(STANDARD)
    for name in STANDARD:
        assert fields.at(WholeFile, tuple(0 if part == "*" else part for part in name.split("."))), name
    covered = {prefix for group in layout().groups for prefix in group.prefixes}
    assert covered == set(fields.settings(WholeFile))


def test_a_text_is_read_with_what_it_comes_to(client: TestClient, pictures: Path) -> None:
    told = post(client, "/configs/read", toml=text(pictures, "[adapter]", "rank = 8", "alpha = 1.0"))
    assert told["values"] == {
        "name": "anna", "adapter.rank": 8, "adapter.alpha": 1.0, "data.sets.0.path": str(pictures)
    }  # fmt: skip
    assert told["changed"] == ["name", "adapter.rank", "data.sets.0.path"]
    assert told["effective"]["train.epochs"] == 10
    assert told["problems"] == []


def test_what_is_wrong_is_told_by_its_setting(client: TestClient, pictures: Path) -> None:
    told = post(client, "/configs/read", toml=text(pictures, "[adapter]", "rnk = 8"))
    assert told["effective"] == {}
    (problem,) = told["problems"]
    assert (problem["where"], problem["code"]) == ("adapter.rnk", "E-CFG-010")
    (problem,) = post(client, "/configs/read", toml="name = \n")["problems"]
    assert problem["where"].startswith("settings:1:")


def test_values_are_put_into_a_text_that_keeps_its_comments(client: TestClient, pictures: Path) -> None:
    before = text(pictures, "# mine")
    read = post(client, "/configs/read", toml=before)["values"]
    told = post(client, "/configs/write", values={**read, "adapter.rank": 32}, toml=before)
    assert "# mine" in told["toml"]
    assert "rank = 32" in told["toml"]
    assert told["effective"]["adapter.rank"] == 32
    assert post(client, "/configs/write", values={}, toml="")["toml"] == ""
    assert post(client, "/configs/write", 422, values={"a..b": 1})["problems"][0]["code"] == "E-CFG-006"


@pytest.mark.parametrize("value", ["nan", "inf", "1979-05-27", "[[1, 2], [3]]", "{ a = { b = 1 } }", '"\\u0000"'])
def test_any_toml_can_be_told(client: TestClient, value: str) -> None:
    post(client, "/configs/read", toml=f"[adapter]\nrank = {value}\n[sweep.axes]\nname = {value}")
    post(client, "/configs/read", toml=f"output = {value}\nsweep = {value}")


def planned(client: TestClient, toml: str) -> Any:
    for _ in range(200):
        answer = client.post("/api/configs/plan", json={"toml": toml})
        if answer.status_code != 202:
            assert answer.status_code == 200, answer.text
            return answer.json()
        assert {"job", "done", "total", "text"} <= answer.json().keys()
        time.sleep(0.05)
    raise AssertionError("no plan came")


def test_a_plan_is_that_of_the_command_line(client: TestClient, pictures: Path) -> None:
    told = planned(client, text(pictures, "[train]", "steps = 50", "[adapter]", "rank = 128"))
    assert told["plan"]["steps"]["total"] == 50
    assert told["plan"]["pictures"]["used"] == 4
    assert {each["where"] for each in told["advice"]} >= {"adapter.rank"}
    assert told["problems"] == []


def test_nothing_outside_the_roots_is_planned_with(client: TestClient, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    for wrong in (outside, tmp_path / "nothing-here", "../../etc"):
        told = planned(client, f'[[data.sets]]\npath = "{wrong}"')
        assert told["plan"] is None
        assert [each["code"] for each in told["problems"]] == ["E-WEB-007"]
        post(client, "/configs/start", 422, toml=f'[[data.sets]]\npath = "{wrong}"')


def test_curves_are_sent_to_no_folder_but_those_of_runs(client: TestClient, pictures: Path) -> None:
    told = planned(client, text(pictures, "[track]", f'folder = "{pictures}"'))
    assert [each["code"] for each in told["problems"]] == ["E-WEB-007"]


def test_a_base_on_the_hub_is_not_fetched_for_a_plan(client: TestClient, pictures: Path) -> None:
    told = planned(client, text(pictures, "[model]", 'path = "somebody/something"'))
    assert told["plan"] is None
    assert told["advice"][0]["code"] == "E-WEB-020"


def test_kohyas_settings_become_ours_and_no_file_that_they_name_is_read(client: TestClient, tmp_path: Path) -> None:
    secret = tmp_path / "pictures" / "secret.txt"
    secret.write_text("a secret prompt")
    other = {"LoRA_type": "Standard", "network_dim": 16, "learning_rate": 1e-4, "epoch": 3,
             "train_data_dir": str(tmp_path / "pictures"), "pretrained_model_name_or_path": "x.safetensors",
             "sample_prompts": str(secret), "caption_extension": ".txt"}  # fmt: skip
    told = post(client, "/configs/import", name="kohya.json", text=json.dumps(other))
    assert "rank = 16" in told["toml"]
    assert {each["key"]: each["verdict"] for each in told["report"]}["network_dim"] == "same"
    for arguments in ({"config_file": str(secret)}, {"dataset_config": str(secret)}, {"sample_prompts": str(secret)}):
        toml = "\n".join(f'{key} = "{value}"' for key, value in arguments.items()) + "\nnetwork_dim = 4"
        told = post(client, "/configs/import", text=toml)
        assert "a secret prompt" not in json.dumps(told)
        assert "not carried over" in {each["verdict"] for each in told["report"]}
    assert post(client, "/configs/import", 422, text="hello")["problems"][0]["code"] == "E-CFG-003"


def test_a_run_is_started_under_a_name_that_is_free(client: TestClient, pictures: Path) -> None:
    first = post(client, "/configs/start", toml=text(pictures), go="queue")
    second = post(client, "/configs/start", toml=text(pictures), go="now")
    assert first["run_ids"] == ["runs:anna"]
    assert second["run_ids"] == ["runs:anna-2"]
    assert [each["id"] for each in client.get("/api/queue").json()["jobs"]] == second["jobs"] + first["jobs"]
    assert post(client, "/configs/start", toml=text(pictures), go="draft")["jobs"] == []


def test_a_sweep_is_started_from_the_form(client: TestClient, pictures: Path) -> None:
    values = {"name": "anna", "data.sets.0.path": str(pictures), "sweep.axes": {"adapter.rank": [2, 4, 8]}}
    draft = post(client, "/configs/write", values=values)
    assert draft["runs"] == 3
    assert draft["problems"] == []
    told = post(client, "/configs/start", toml=draft["toml"], go="queue")
    assert told["run_ids"] == [f"runs:anna-sweep:anna-rank{rank}" for rank in (2, 4, 8)]
    assert (told["sweep"], len(told["jobs"])) == ("runs/anna-sweep", 3)
    run = client.get("/api/runs/runs:anna-sweep:anna-rank4").json()
    assert (run["state"], run["rank"], run["sweep"]) == ("queued", 4, "runs/anna-sweep")


def test_runs_that_are_compared_while_they_train_are_one_job(client: TestClient, pictures: Path) -> None:
    values = {"name": "anna", "data.sets.0.path": str(pictures), "sweep.axes": {"adapter.rank": [2, 4, 8, 16]},
              "train.steps": 80, "validation.share": 0.4, "sweep.halving.keep": 1}  # fmt: skip
    draft = post(client, "/configs/write", values=values)
    assert draft["problems"] == []
    told = post(client, "/configs/start", toml=draft["toml"], go="queue")
    assert (len(told["run_ids"]), len(told["jobs"])) == (4, 1)
    for id in told["run_ids"]:
        assert client.get(f"/api/runs/{id}").json()["state"] == "queued"
    (job,) = client.get("/api/queue").json()["jobs"]
    assert job["runs"] == told["run_ids"]


def test_a_sweep_whose_points_are_not_known_ahead_is_one_job(
    client: TestClient, pictures: Path, site: Site, tmp_path: Path
) -> None:
    values = {"name": "anna", "data.sets.0.path": str(pictures),
              "sweep.axes": {"optim.learning_rate": "1e-4..1e-3:log"},
              "sweep.method": "optuna", "sweep.pick": 8, "validation.share": 0.4}  # fmt: skip
    draft = post(client, "/configs/write", values=values)
    told = post(client, "/configs/start", toml=draft["toml"], go="queue")
    assert len(told["run_ids"]) == 4, "those of the first round"
    (job,) = client.get("/api/queue").json()["jobs"]
    assert (job["id"], job["runs"]) == (told["jobs"][0], told["run_ids"])
    (queued,) = Queue(site.queue).jobs()
    assert queued.folders == (tmp_path / "runs" / "anna-sweep" / "groups" / "all",)


def test_settings_are_kept_as_a_recipe(client: TestClient) -> None:
    post(client, "/recipes", name="mine", toml="# x")
    assert [each["toml"] for each in client.get("/api/recipes").json()["recipes"]] == ["# x"]
    post(client, "/recipes", 422, name="../mine", toml="")
    assert client.delete("/api/recipes/mine").json() == {"recipes": []}
    assert client.delete("/api/recipes/mine").status_code == 404


def test_every_preset_can_be_put_into_the_form(client: TestClient) -> None:
    rows = client.get("/api/presets").json()["presets"]
    assert len(rows) == 27
    for row in rows:
        told = client.get(f"/api/presets/{row['name']}").json()
        read = post(client, "/configs/read", toml=told["toml"])
        assert read["values"].keys() == told["reasons"].keys()
        assert read["effective"] != {}
    assert client.get("/api/presets/none").status_code == 404


def test_the_server_never_imports_torch(tmp_path: Path) -> None:
    code = "import sys; import impasto.web.app, impasto.web.routes.configs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0


def test_a_form_reads_what_a_run_has_written(client: TestClient, pictures: Path) -> None:
    post(client, "/configs/start", toml=text(pictures), go="draft")
    written = client.get("/api/runs/runs:anna").json()["config_toml"]
    told = post(client, "/configs/read", toml=written)
    assert told["problems"] == []
    assert form.same(told["values"]["adapter.rank"], RunConfig().adapter.model_dump()["rank"])
