"""Several ranks are one process that is quicker; and whoever of them dies, what was saved is whole."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from impasto.engine.place import Place
from impasto.engine.world import World
from impasto.errors import DeviceError

pytestmark = pytest.mark.timeout(600)  # a minute on an idle core


def test_a_busy_port_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = Place(0, 2, 0, 2, "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(DeviceError, match="E-RNK-003"):
            World(place, 600.0)


def several(*arguments: str) -> str:
    """A process of its own: it forks, which a process with threads must not."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.several", *arguments], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return done.stdout


def test_two_ranks_equal_one_process_whatever_the_accumulation_and_one_goes_on_where_two_were() -> None:
    told = several()
    assert "equal: as it should be" in told
    assert "shares: as it should be" in told
    assert "trouble: as it should be" in told
    assert "frozen: as it should be" in told


def test_whichever_rank_is_killed_the_other_ends_and_what_was_saved_is_whole() -> None:
    assert "3 kills survived" in several("--kills", "3")
