"""What a process says of its own memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not say what a process held at most")
def test_what_a_process_held_is_its_own_not_that_of_the_one_that_started_it() -> None:
    large = np.ones(200_000_000)  # 1.6 GB here, which no import of the child comes near
    program = "from impasto.engine.device import resident_peak; print(resident_peak())"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 10e6 < int(found.stdout) < large.nbytes
