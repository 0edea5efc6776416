"""A small sweep in a process that can be killed, and what it ends with."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from impasto.engine.sweeping import sweep
from impasto.errors import Stopped, UserError
from impasto.settings.toml import literal
from impasto.sweeps import expand
from impasto.sweeps.folder import SweepFolder
from impasto.weights import file

AXES = ("adapter.rank=2,4", "optim.learning_rate=1e-4,1e-3,3e-3")


def settings(folder: Path, base: Path, pictures: Path, *, steps: int = 9, name: str = "small") -> Path:
    """A file of settings for a miniature, with two pictures held out."""
    path = folder / f"{name}.toml"
    path.write_text(f"""
name = "{name}"
model = {{ path = {literal(str(base))} }}
[data]
batch_size = 2
sets = [{{ path = {literal(str(pictures))} }}, {{ path = {literal(str(pictures.parent / "held"))}, role = "validation" }}]
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
