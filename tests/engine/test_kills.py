"""A training that is killed, stopped or hung up ends as if nothing had happened."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.timeout(1200)  # a minute or two on an idle core


def forks(*arguments: str) -> str:
    """A process of its own: it forks, which a process with threads must not."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.forks", *arguments], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return done.stdout


def test_thirty_kills_at_random_moments_twelve_of_them_within_a_save() -> None:
    told = forks("--kills", "30", "--aimed", "12")
    assert "30 kills survived" in told
    assert int(told.split("survived, ")[1].split()[0]) >= 12


def test_a_polite_signal_saves_and_ends_within_eight_seconds() -> None:
    assert "ended within" in forks("--signals")
