"""A sweep on a Ray cluster survives the loss of a node."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from impasto.engine.config import Device
from impasto.errors import DeviceError


def test_a_node_that_is_killed_costs_a_sweep_nothing_but_time(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (scripts/setup dev installs it)")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.rays", str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert "elsewhere; the same weights and decisions" in done.stdout


def test_a_task_asks_for_what_its_runs_need() -> None:
    from impasto.engine.on_ray import request

    assert request(Device(name="cpu", threads=4), {"CPU": 8}) == {"num_cpus": 4}
    assert request(Device(), {"CPU": 8}) == {"num_cpus": 1}
    assert request(Device(), {"CPU": 8, "GPU": 2}) == {"num_cpus": 1, "num_gpus": 1}
    assert request(Device(name="cpu"), {"CPU": 8, "GPU": 2}) == {"num_cpus": 1}
    with pytest.raises(DeviceError, match=r"E-SWP-012.*no node of the cluster has a GPU"):
        request(Device(name="cuda"), {"CPU": 8})
    with pytest.raises(DeviceError, match=r"E-SWP-012.*device\.threads = 8"):
        request(Device(name="cpu", threads=16), {"CPU": 8})
