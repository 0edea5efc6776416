"""Trainings in forked children that can be killed, stopped and run again without paying for imports each time.

Run as a program, it kills a training again and again and compares what it ends with to a training nobody touched:

    python -m tests.engine.forks --kills 200

The process must be single-threaded until it forks, so pytest runs it as a process of its own.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from impasto import events
from impasto.config import RunConfig
from impasto.engine import checkpoint, run, session
from impasto.errors import Stopped, UserError
from impasto.families import tiny
from impasto.runs.folder import RunFolder
from impasto.weights import file

EVERY, STEPS = 4, 24


def settings(base: Path, pictures: Path, runs: Path, name: str, **train: object) -> RunConfig:
    """A small run that uses everything a resume must bring back."""
    return RunConfig.model_validate(
        {
            "name": name,
            "model": {"path": str(base)},
            "data": {
                "batch_size": 2,
                "sets": [{"path": str(pictures)}],
                "captions": {"shuffle": True, "dropout": 0.2},
                "augment": {"flip": True},
            },
            "adapter": {"rank": 4, "alpha": 4.0, "dropout": 0.1},
            "optim": {"learning_rate": 1e-3, "schedule": {"kind": "cosine", "warmup": 3}, "ema": {"decay": 0.9}},
            "train": {"steps": STEPS, "accumulate": 2, "seed": 5, **train},
            "save": {"every_steps": EVERY, "proof": "off", "precision": "fp32"},
            "output": {"folder": str(runs)},
            "device": {"name": "cpu", "threads": 1},
        }
    )


def pictures(folder: Path, count: int = 5) -> Path:
    """A few pictures of noise with captions."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for at in range(count):
        Image.fromarray(rng.integers(0, 255, (16, 16 + 8 * (at % 2), 3), dtype=np.uint8)).save(folder / f"{at}.png")
        (folder / f"{at}.txt").write_text(f"a thing, number {at}, of noise")
    return folder


@dataclass
class Child:
    """A training in a process of its own."""

    pid: int
    saving: int
    """A pipe that tells when a save begins."""

    def wait_for_save(self, patience: float) -> bool:
        """Whether a save began within `patience` seconds."""
        ready, _, _ = select.select([self.saving], [], [], patience)
        return bool(ready) and os.read(self.saving, 1) != b""

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit code, 128 + signal if one killed it."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.saving)
        code = os.waitstatus_to_exitcode(status)
        return 128 - code if code < 0 else code

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def start(config: RunConfig, cache: Path, **options: object) -> Child:
    """Train in a child; its exit code is what the command line would give."""
    told, saving = os.pipe()
    pid = os.fork()
    if pid:
        os.close(saving)
        return Child(pid, told)
    os.close(told)
    save = checkpoint.save

    def telling(*args: object, **kwargs: object) -> Path:
        os.write(saving, b".")
        return save(*args, **kwargs)  # type: ignore[arg-type]

    session.checkpoint.save = telling  # type: ignore[assignment]
    code = 1
    try:
        run.train([config], cache=cache, **options)  # type: ignore[arg-type]
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


def weights(runs: Path, name: str) -> dict[str, torch.Tensor]:
    """The final adapter of a run."""
    return file.load(runs / name / f"{name}.safetensors")[0]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """To the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def state(runs: Path, name: str) -> dict[str, torch.Tensor]:
    """Everything in the last checkpoint of a run."""
    found, _ = checkpoint.latest(RunFolder.open(runs / name))
    assert found is not None
    return {f"{stem}.{key}": value for stem, group in found.tensors.items() for key, value in group.items()}


def _killed(child: Child) -> bool:
    """Whether a child that was sent a kill died of it; if not, it had come to its end by itself, and well."""
    code = child.wait()
    assert code in (0, 128 + signal.SIGKILL), f"a training ended by itself with exit code {code}"
    return code != 0


def kills(count: int, aimed: int, folder: Path, seed: int = 0) -> tuple[int, int, int]:
    """Kill a training `count` times, `aimed` of them within a save; train it to its end each time it survived enough.

    Returns kills, kills within a save, and completed trainings; raises AssertionError if anything was lost.
    """
    rng = random.Random(seed)
    base, shown = tiny.stable_diffusion(folder / "base"), pictures(folder / "pictures")
    runs, cache = folder / "runs", folder / "cache"
    assert start(settings(base, shown, runs, "whole"), cache).wait() == 0
    killed = hit = completed = number = 0
    begun = time.monotonic()
    assert start(settings(base, shown, runs, "timed"), cache).wait() == 0
    length = time.monotonic() - begun
    while killed < count or completed == 0:
        name = f"killed-{number}"
        child = start(settings(base, shown, runs, name), cache)
        if killed >= count:
            assert child.wait() == 0
        elif hit < aimed and child.wait_for_save(patience=4 * length + 10):
            time.sleep(rng.uniform(0, 0.012))
            child.kill()
            hit += _killed(child)
            killed += 1
        else:
            time.sleep(rng.uniform(0, 0.9 * length))
            child.kill()
            killed += _killed(child)
        lost = _lost(runs / name)
        assert lost <= EVERY, f"{lost} steps lost, of {EVERY} between two saves"
        if (runs / name / f"{name}.safetensors").is_file() and _finished(runs / name):
            assert same(weights(runs, name), weights(runs, "whole")), f"{name} ended with other weights"
            assert same(state(runs, name), state(runs, "whole")), f"{name} ended with another state"
            completed, number = completed + 1, number + 1
    return killed, hit, completed


def _lost(run: Path) -> int:
    """Steps that were told of and have to be trained again."""
    if not (run / "events.jsonl").is_file():
        return 0
    folder = RunFolder(run)
    steps = [each.step for each in events.history(events.read(folder.events)) if isinstance(each, events.Step)]
    found, _ = checkpoint.latest(folder)
    return max(steps, default=0) - (found.step if found else 0)


def _finished(run: Path) -> bool:
    return any(isinstance(each, events.Finished) for each in events.read(run / "events.jsonl"))


def signals(folder: Path, seed: int = 1) -> dict[str, float]:
    """Every polite signal at random moments: saved, the right exit code, within 8 seconds; a hang-up stops nothing.

    Returns the longest time each took to end.
    """
    rng = random.Random(seed)
    base, shown = tiny.stable_diffusion(folder / "base"), pictures(folder / "pictures")
    runs, cache = folder / "runs", folder / "cache"
    begun = time.monotonic()
    assert start(settings(base, shown, runs, "whole"), cache).wait() == 0
    length = time.monotonic() - begun
    longest: dict[str, float] = {}
    for number, (which, code) in enumerate([(signal.SIGTERM, 143), (signal.SIGINT, 130)] * 5):
        name = f"stopped-{number}"
        child = start(settings(base, shown, runs, name), cache)
        time.sleep(rng.uniform(0.1, 0.9) * length)
        sent = time.monotonic()
        child.kill(which)
        found = child.wait()
        took = time.monotonic() - sent
        assert found in (code, 0), f"{which.name} ended with {found}"
        assert took < 8, f"{which.name} took {took:.1f} s"
        longest[which.name] = max(took, longest.get(which.name, 0.0))
        assert start(settings(base, shown, runs, name), cache).wait() == 0
        assert same(weights(runs, name), weights(runs, "whole"))
    child = start(settings(base, shown, runs, "hung-up"), cache)
    time.sleep(0.5 * length)
    child.kill(signal.SIGHUP)
    assert child.wait() == 0
    assert same(weights(runs, "hung-up"), weights(runs, "whole"))
    child = start(settings(base, shown, runs, "twice", steps=10_000), cache)
    assert child.wait_for_save(patience=60)
    os.kill(child.pid, signal.SIGSTOP)  # both arrive before it can do anything
    child.kill(signal.SIGTERM)
    child.kill(signal.SIGINT)
    os.kill(child.pid, signal.SIGCONT)
    assert child.wait() in (143, 130)
    return longest


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--aimed", type=int, help="kills within a save (default: 40 %%)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signals", action="store_true", help="try polite signals in place of kills")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if asked.signals:
            print("ended within", {name: f"{took:.2f} s" for name, took in signals(Path(folder), asked.seed).items()})
            return
        aimed = asked.aimed if asked.aimed is not None else -(-asked.kills * 2 // 5)
        killed, hit, completed = kills(asked.kills, aimed, Path(folder), asked.seed)
    print(f"{killed} kills survived, {hit} of them within a save; {completed} trainings ended bit-identical")


if __name__ == "__main__":
    main()
