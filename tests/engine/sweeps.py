"""A small sweep in a process that can be killed, and what it ends with.

Run as a program, it kills a sweep again and again and compares what it ends with to one nobody touched:

    python -m tests.engine.sweeps --kills 20
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from impasto.engine.sweeping import sweep
from impasto.errors import Stopped, UserError
from impasto.families import tiny
from impasto.settings.toml import literal
from impasto.sweeps import expand
from impasto.sweeps.folder import SweepFolder
from impasto.weights import file
from tests.engine import forks

AXES = ("adapter.rank=2,4", "optim.learning_rate=1e-4,1e-3,3e-3")


def settings(folder: Path, base: Path, pictures: Path, *, steps: int = 9, name: str = "small") -> Path:
    """A file of settings for a miniature, with two pictures held out."""
    path, held = folder / f"{name}.toml", literal(str(pictures.parent / "held"))
    path.write_text(f"""
name = "{name}"
model = {{ path = {literal(str(base))} }}
[data]
batch_size = 2
sets = [{{ path = {literal(str(pictures))} }}, {{ path = {held}, role = "validation" }}]
[adapter]
alpha = 2.0
dropout = 0.1
[train]
steps = {steps}
seed = 5
[save]
proof = "off"
precision = "fp32"
[output]
folder = {literal(str(folder / "runs"))}
[device]
name = "cpu"
threads = 1
""")
    return path


def begun(file: Path, given: Sequence[str]) -> SweepFolder:
    """The folder of a sweep, nothing trained yet."""
    plan = expand.read(str(file), given)
    return SweepFolder.create(plan, expand.runs(plan))


def weights(folder: SweepFolder) -> dict[str, dict[str, torch.Tensor]]:
    """The final adapters of all runs that have one."""
    found = {name: folder.run(name).final for name in folder.state().runs}
    return {name: file.load(path)[0] for name, path in found.items() if path.is_file()}


def child(folder: SweepFolder, cache: Path) -> int:
    """Train in a forked process; returns its id. Its exit code is what the command line would give."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        sweep(folder, cache=cache)
        code = 0
    except Stopped as stopped:
        code = stopped.exit_code
    except UserError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        raise
    finally:
        os._exit(code)


def kills(count: int, folder: Path, seed: int) -> tuple[int, int]:
    """Kill a sweep `count` times at random moments, going on each time; each one that comes to its end is compared with
    one that nobody touched. Returns kills and completed sweeps."""
    rng = random.Random(seed)
    base = tiny.stable_diffusion(folder / "base")
    shown = forks.pictures(folder / "pictures")
    forks.pictures(folder / "held", 2)
    given = [*AXES, "sweep.halving.eta=2", "train.steps=12"]
    whole = begun(settings(folder, base, shown, name="whole"), given)
    assert _wait(child(whole, folder / "cache")) == 0
    begin = time.monotonic()
    assert _wait(child(begun(settings(folder, base, shown, name="timed"), given), folder / "cache")) == 0
    length = time.monotonic() - begin
    killed = completed = number = 0
    while killed < count or completed == 0:
        sweep_folder = begun(settings(folder, base, shown, name=f"killed{number}"), given)
        pid = child(sweep_folder, folder / "cache")
        if killed < count:
            time.sleep(rng.uniform(0.05, 0.7) * length)
            os.kill(pid, signal.SIGKILL)
        code = _wait(pid)
        assert code in (0, -signal.SIGKILL), f"a sweep ended by itself with exit code {code}"
        killed += code != 0
        if code == 0:
            _compare(whole, sweep_folder)
            completed, number = completed + 1, number + 1
    return killed, completed


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _compare(whole: SweepFolder, other: SweepFolder) -> None:
    """The same runs were stopped for the same reasons, and those that went on ended the same to the bit."""

    def plain(folder: SweepFolder) -> str:
        return json.dumps(folder.state().model_dump(mode="json")).replace(folder.plan().name, "name")

    assert plain(whole) == plain(other)
    a, b = weights(whole), weights(other)
    assert len(a) == len(b) > 0
    for mine, theirs in zip(a.values(), b.values(), strict=True):
        assert forks.same(mine, theirs), "other weights"
    for name in other.state().dropped():
        assert other.run(name).state().stage == "dropped"


def main() -> None:
    """Kill a sweep, go on, compare."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--docs", type=Path, help="where the page is on what sweeps reach, to write the outcome into")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        killed, completed = kills(asked.kills, Path(folder), asked.seed)
    print(f"{killed} kills survived; {completed} sweeps ended with the same decisions and bit-identical weights")
    if asked.docs:
        sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
        from sweeps_page import keep

        keep(asked.docs, "kills", {"kills": killed, "sweeps": completed, "seed": asked.seed})


if __name__ == "__main__":
    main()
