"""The line of trainings from the command line, with real trainings."""

from __future__ import annotations

from pathlib import Path

import pytest

from impasto.__main__ import main
from impasto.runs.folder import RunFolder
from tests.engine import forks

QUICK = ["train.steps=2", "save.proof=off", "device.threads=1"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    forks.pictures(tmp_path / "pictures")


def test_trainings_wait_in_line_are_trained_by_a_worker_and_tell_what_became_of_them(
    tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["queue", "add", "pictures", f"model.path={tiny_base}", *QUICK]
    assert main([*asked, "name=one"]) == 0
    assert "start one with `impasto worker`" in capsys.readouterr().err
    assert main([*asked, "name=two", "--lane", "cpu"]) == 0
    assert main(["runs"]) == 0
    assert capsys.readouterr().out.count(" new ") == 2
    assert main(["queue", "move", "2"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["2", "1"]
    assert main([*asked, "name=one"]) == 8
    assert "there is something here already" in capsys.readouterr().err
    assert main(["queue", "add", "runs/one"]) == 2
    assert "in the queue already, as job 1" in capsys.readouterr().err

    config = Path("runs/two/config.toml")
    text = config.read_text()
    Path("empty").mkdir()
    config.write_text(text.replace(str(tiny_base), str(Path("empty").absolute())))
    assert main(["worker", "--lane", "cpu", "--until-empty"]) == 0
    told = capsys.readouterr().out
    first = told.index("job 2: failed, E-MOD-101")
    assert first < told.index("job 1: done"), Path("runs/one/worker.log").read_text()
    config.write_text(text)
    assert main(["queue", "retry", "2"]) == 0
    assert main(["worker", "--lane", "cpu", "--until-empty"]) == 0
    for name in ("one", "two"):
        run = RunFolder.open(Path("runs") / name)
        assert run.state().stage == "finished"
        assert run.final.is_file()
        assert "torch" in run.record()["libraries"]  # type: ignore[operator]
        assert "finished 2 steps" in (run.path / "worker.log").read_text()
    capsys.readouterr()
    assert main(["queue", "list"]) == 0
    assert capsys.readouterr().out == "the line is empty\n"
    assert main(["queue", "list", "--all"]) == 0
    assert capsys.readouterr().out.count("all steps are trained") == 2
    assert main(["queue", "forget"]) == 0
    assert capsys.readouterr().out == "forgot 2 jobs\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["add", "pictures", "--lane", "gpu"], "'gpu' is no lane"),
        (["add", "gone.toml"], "there is no file"),
        (["cancel", "7"], "there is no job 7"),
        (["retry", "7"], "there is no job 7"),
        (["hold", "0"], "'0' is no lane"),
    ],
)
def test_mistakes_are_named(line: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["queue", *line]) == 2
    assert said in capsys.readouterr().err
