"""A sweep that is killed goes on, decides the same and ends the same."""

from __future__ import annotations

import os
import subprocess
import sys


def test_a_sweep_killed_at_random_moments_ends_as_if_nothing_had_happened() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.sweeps", "--kills", "3"], capture_output=True, text=True, env=environment
    )  # forks, which a process with threads must not
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert "3 kills survived" in done.stdout
