"""A run is asked by files, and forgets what was asked of its predecessor."""

from __future__ import annotations

from pathlib import Path

import pytest

from impasto.errors import ConfigError
from impasto.runs import control
from impasto.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", "", {})


def test_a_request_is_seen_once(run: RunFolder) -> None:
    control.ask(run, "save")
    control.ask(run, "preview")
    control.ask(run, "save")

    assert control.requests(run) == {"save", "preview"}
    assert control.requests(run) == set()


def test_what_nobody_knows_is_left_alone(run: RunFolder) -> None:
    (run.control / "dance").touch()
    assert control.requests(run) == set()
    assert (run.control / "dance").exists()


def test_a_request_to_a_dead_process_does_not_stop_the_next_one(run: RunFolder) -> None:
    control.ask(run, "stop")
    with run.hold():
        assert control.requests(run) == set()
        control.ask(run, "stop")
        assert control.requests(run) == {"stop"}


def test_only_a_run_can_be_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="E-RUN-003"):
        control.ask(RunFolder(tmp_path / "nothing"), "stop")
    assert not (tmp_path / "nothing").exists()
