"""From a folder of pictures to a run, and what the other commands say of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from impasto.__main__ import main
from impasto.config import load

QUICK = ["train.steps=2", "save.proof=off", "device.name=cpu", "device.threads=1", "data.resolution=64"]


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two captioned pictures, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "10_anna"
    folder.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("a picture")
    return folder


def test_a_folder_of_pictures_becomes_a_run_that_can_be_looked_at_and_resumed(
    pictures: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "10_anna", f"model.path={tiny_base}", *QUICK]) == 0
    run = Path("runs/anna")
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(run.absolute())]
    assert "anna: finished 2 steps" in said.err
    assert load(run / "config.toml").data.sets[0].path == pictures

    assert main(["runs"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["anna", "finished", "2/2"]
    assert main(["show", "anna"]) == 0
    shown = capsys.readouterr().out
    assert "anna: finished, step 2 of 2" in shown
    assert "train.steps = 2" in shown
    assert "data.sets.0.role" not in shown
    assert "anna.safetensors" in shown

    assert main(["stop", "anna"]) == 2
    assert "is not running: it is finished" in capsys.readouterr().err
    run.rename("runs/moved")
    assert main(["resume", "runs/moved", "train.steps=3"]) == 0
    assert "goes on from step 2" in capsys.readouterr().err
    assert main(["show", "movd"]) == 2
    assert "did you mean moved?" in capsys.readouterr().err

    refused = ["train", "10_anna", f"model.path={tiny_base}", *QUICK, "name=moved", "adapter.rank=8"]
    assert main(refused) == 8
    assert "adapter.rank was 4 and is now 8" in capsys.readouterr().err


def test_problems_of_all_files_are_told_at_once(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("one.toml").write_text("nam = 1")
    Path("two.toml").write_text("[[data.sets]]\npath = 'gone'\n")
    assert main(["train", "one.toml", "two.toml", "train.steps=1"]) == 2
    told = capsys.readouterr().err
    assert "one.toml:1 nam" in told
    assert "two.toml:2 data.sets.0.path" in told


def test_two_files_of_one_name_cannot_share_a_folder(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one.toml", "two.toml"):
        Path(name).write_text("[[data.sets]]\npath = '10_anna'\n")
    assert main(["train", "one.toml", "two.toml"]) == 2
    assert "E-CFG-035" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["10_anna", "my.toml"], "files and folders of pictures together"),
        (["10_anna", "output.folder=10_anna"], "which is never written to"),
        (["10_anna", "--runs", "10_anna"], "which is never written to"),
        (["10_anna", "--runs", "a", "output.folder=b"], "given twice"),
        (["run"], "is the folder of a run"),
        (["10_anna", "10_anna"], "given twice"),
        (["train.steps=5"], "there are no pictures"),
        (["data.sets.0.path=gone"], "there is no folder"),
        (["10_anna", "name=CON"], "device"),
        (["10_anna", "adapter.rank"], "neither a file"),
    ],
)
def test_what_cannot_be_trained_is_explained_before_anything_starts(
    pictures: Path, line: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("my.toml").write_text("[[data.sets]]\npath = '10_anna'\n")
    Path("run").mkdir()
    Path("run/events.jsonl").touch()
    assert main(["train", *line]) == 2
    assert words in capsys.readouterr().err
    assert not Path("runs").exists()
