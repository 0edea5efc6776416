"""Forks, reruns and archives of runs."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

import impasto
from impasto import events
from impasto.__main__ import main
from impasto.config import RunConfig
from impasto.events import Step
from impasto.experiments.branch import same_tensors
from impasto.runs.folder import RunFolder
from tests.engine import forks


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A finished run of six steps with checkpoints at 3 and 6."""
    folder = tmp_path_factory.mktemp("branched")
    config = RunConfig.model_validate(
        {
            "name": "anna",
            "model": {"path": str(tiny_base)},
            "data": {"sets": [{"path": str(forks.pictures(folder / "pictures"))}]},
            "adapter": {"rank": 2, "alpha": 2.0},
            "optim": {"learning_rate": 1e-2},
            "train": {"steps": 6},
            "save": {"proof": "off", "every_steps": 3},
            "output": {"folder": str(folder / "runs")},
            "device": {"threads": 1},
        }
    )
    return impasto.train([config], cache=folder / "cache")[0]


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A copy of it, at `runs/anna` of the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(made, tmp_path / "runs/anna")
    return RunFolder.open(tmp_path / "runs/anna")


def test_a_fork_that_changes_nothing_ends_where_its_parent_did(run: RunFolder) -> None:
    assert main(["fork", "anna", "--at", "3", "--plain"]) == 0
    fork = RunFolder.open(run.path.parent / "anna-at-3")
    assert same_tensors(fork.final, run.final)
    assert _losses(fork) == _losses(run)
    parent = fork.record()["parent"]
    assert isinstance(parent, dict)
    assert (parent["run"], parent["step"], parent["changed"]) == ("anna", 3, [])


def test_a_fork_goes_another_way_and_leaves_its_parent_alone(run: RunFolder) -> None:
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    assert main(["fork", "anna", "--at", "3", "optim.learning_rate=3e-2", "name=faster", "--plain"]) == 0
    fork = RunFolder.open(run.path.parent / "faster")
    assert not same_tensors(fork.final, run.final)
    assert _losses(fork)[:3] == _losses(run)[:3]
    assert _losses(fork)[4:] != _losses(run)[4:]
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    assert fork.record()["parent"]["changed"] == ["optim.learning_rate"]  # type: ignore[index, call-overload]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--at", "4"], 2, "has no checkpoint of step 4; there are: 3, 6".partition(";")[0]),
        (["adapter.rank=8"], 8, "adapter.rank was 2 and is now 8"),
        (["optim.lerning_rate=1"], 2, "learning_rate"),
    ],
)
def test_what_cannot_be_forked_is_refused_before_a_folder_is_made(
    words: list[str], code: int, said: str, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fork", "anna", *words]) == code
    assert said in capsys.readouterr().err
    assert [path.name for path in run.path.parent.iterdir()] == ["anna"]


def test_a_rerun_gives_the_same_tensors_and_says_so(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rerun", "anna", "--plain"]) == 0
    assert "the same: every tensor" in capsys.readouterr().out
    assert same_tensors(run.path.parent / "anna-again/anna-again.safetensors", run.final)


def test_a_rerun_on_other_pictures_says_what_is_not_the_same(
    run: RunFolder, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made.parent.parent / "pictures", "other")
    Path("other/0.txt").write_text("another caption")
    text = run.config.read_text().replace(str(made.parent.parent / "pictures"), str(Path("other").absolute()))
    run.config.write_text(text)
    with pytest.raises(SystemExit):
        main(["rerun", "anna", "--plain"])
    told = capsys.readouterr().out
    assert "not the same as anna.safetensors" in told
    assert "pictures was" in told
    assert "libraries was" not in told


def test_a_fork_is_not_rerun_by_itself(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    run.update_record({"parent": {"run": "older", "step": 3}})
    assert main(["rerun", "anna"]) == 2
    assert "E-RUN-020" in capsys.readouterr().err


def test_an_archive_trains_again_elsewhere_and_tells_no_paths(run: RunFolder, made: Path, tmp_path: Path) -> None:
    assert main(["pack", "anna", "--pictures", "--out", "anna.zip"]) == 0
    assert main(["pack", "anna", "--pictures", "--out", "twin.zip"]) == 0
    assert Path("anna.zip").read_bytes() == Path("twin.zip").read_bytes()
    with zipfile.ZipFile("anna.zip") as archive:
        archive.extractall("elsewhere")
    place = Path("elsewhere/anna")
    for name in ("config.toml", "record.json", "events.jsonl"):
        assert str(made.parent.parent) not in (place / name).read_text()
    assert json.loads((place / "record.json").read_text())["seed"] == 0
    base = impasto.config.load(run.config).model.path
    assert main(["train", str(place / "config.toml"), f"model.path={base}", "--runs", "new", "--plain"]) == 0
    assert same_tensors(Path("new/anna/anna.safetensors"), run.final)


def test_a_run_that_has_made_no_file_is_not_packed(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    run.final.unlink()
    assert main(["pack", "anna"]) == 2
    assert "E-RUN-022" in capsys.readouterr().err


def _losses(run: RunFolder) -> list[float | None]:
    return [each.loss for each in events.history(events.read(run.events)) if isinstance(each, Step)]
