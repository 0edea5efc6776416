"""`--nproc`: the ranks of this machine look and end like one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from impasto import events
from impasto.__main__ import main
from impasto.engine.place import place_of
from impasto.errors import ConfigError
from tests.engine import forks

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def test_ranks_know_their_place_from_the_variables_of_torchrun() -> None:
    assert place_of({}, 1) is None
    assert place_of({"WORLD_SIZE": "1", "RANK": "0"}, 1) is None
    found = place_of({**TORCHRUN, "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_USE_AGENT_STORE": "True"}, 1)
    assert found is not None
    assert (found.rank, found.size, found.local_rank, found.port, found.met) == (1, 2, 1, 29500, True)


@pytest.mark.parametrize("wrong", [{"RANK": "2"}, {"MASTER_PORT": "no"}, {"MASTER_ADDR": ""}, {"LOCAL_RANK": "-1"}])
def test_variables_that_do_not_fit_together_are_told(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="E-RNK-001"):
        place_of({**TORCHRUN, **wrong}, 1)


def test_nproc_under_torchrun_is_refused_and_so_are_ranks_for_a_sweep(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    pictures = forks.pictures(tmp_path / "pictures")
    assert main(["train", str(pictures), f"model.path={tiny_base}", "--nproc", "2"]) == 2
    assert "E-RNK-002" in capsys.readouterr().err
    assert main(["sweep", str(pictures), "optim.learning_rate=[1e-4, 1e-3]"]) == 2
    assert "E-RNK-009" in capsys.readouterr().err


def test_a_signal_to_the_launcher_stops_all_ranks_after_the_same_step_and_leaves_nobody(
    tmp_path: Path, tiny_base: Path
) -> None:
    pictures, run = forks.pictures(tmp_path / "pictures"), tmp_path / "runs" / "pictures"
    settings = [f"model.path={tiny_base}", "train.steps=20000", "save.every_steps=4", "save.proof=off",
                "data.batch_size=2", "device.name=cpu"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "impasto", "train", str(pictures), *settings, "--nproc", "2"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as launcher:
        end = time.monotonic() + 120
        while not (run / "checkpoints" / "00000004").exists():
            assert launcher.poll() is None, launcher.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.05)
        launcher.send_signal(signal.SIGTERM)
        told = launcher.communicate(timeout=60)[1]
    assert launcher.returncode == 143, told
    assert "2 ranks share every step" in told
    assert "Traceback" not in told
    steps = [each.step for each in events.read(run / "events.jsonl") if isinstance(each, events.Step)]
    newest = max(int(each.name) for each in (run / "checkpoints").iterdir() if each.name.isdigit())
    assert newest == max(steps)
    if Path("/proc/self").exists():
        left = [each for each in Path("/proc").glob("[0-9]*/cmdline") if _says(each, str(pictures))]
        assert not left


def _says(file: Path, word: str) -> bool:
    try:
        return word in file.read_text("utf-8", "replace")
    except OSError:
        return False
