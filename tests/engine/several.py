"""Trainings by several ranks in forked children: equal to one process, and killed again and again.

Run as a program, it trains with two ranks and with one and compares them; or, with --kills, kills a rank at random
moments and goes on, sometimes with one rank:

    python -m tests.engine.several
    python -m tests.engine.several --kills 50

The process must be single-threaded until it forks, so pytest runs it as a process of its own.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed  # before the forks, which then need not read it
from PIL import Image
from torch import Tensor

from impasto import events, files
from impasto.config import RunConfig
from impasto.engine import checkpoint, run, watch
from impasto.engine.place import Place
from impasto.engine.world import Ended, World
from impasto.errors import Stopped, UserError
from impasto.families import tiny
from impasto.runs.folder import RunFolder
from tests.engine import forks

LOST = 9


@dataclass
class Ranks:
    """A training by several processes."""

    pids: list[int]

    def kill(self, rank: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to one of them."""
        os.kill(self.pids[rank], number)

    def wait(self, patience: float = 60.0) -> list[int]:
        """Their exit codes, 128 + signal for those that one killed; AssertionError if one does not end in time."""
        codes: dict[int, int] = {}
        end = time.monotonic() + patience
        while len(codes) < len(self.pids):
            for pid in self.pids:
                if pid not in codes and (found := os.waitpid(pid, os.WNOHANG))[0]:
                    code = os.waitstatus_to_exitcode(found[1])
                    codes[pid] = 128 - code if code < 0 else code
            if time.monotonic() > end:
                for pid in self.pids:
                    if pid not in codes:
                        os.kill(pid, signal.SIGUSR1)  # tells where it stands
                        time.sleep(0.5)
                        os.kill(pid, signal.SIGKILL)
                        os.waitpid(pid, 0)
                raise AssertionError(f"ranks {[self.pids.index(pid) for pid in self.pids if pid not in codes]} hang")
            time.sleep(0.01)
        return [codes[pid] for pid in self.pids]


def start(
    configs: Sequence[RunConfig], cache: Path, count: int, *,
    given: Callable[[int, list[RunConfig]], list[RunConfig]] = lambda _, configs: configs, patience: float = 600.0,
) -> Ranks:  # fmt: skip
    """Train with `count` ranks; `given` may give one of them other settings."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    pids = []
    for rank in range(count):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        code = 1
        try:
            faulthandler.register(signal.SIGUSR1)
            place = Place(rank, count, rank, count, "127.0.0.1", port)
            run.train(given(rank, list(configs)), cache=cache, world=World(place, patience))
            code = 0
        except Ended as ended:
            code = ended.code
        except Stopped as stopped:
            code = stopped.exit_code
        except UserError as error:
            print(error, file=sys.stderr, flush=True)
            code = error.exit_code
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            raise
        finally:
            os._exit(code)
    return Ranks(pids)


def settings(root: Path, name: str, accumulate: int, **more: object) -> RunConfig:
    """A small run with uneven data: pictures in two sizes that four, a micro-batch, do not divide."""
    made = forks.settings(root / "base", root / "pictures", root / "runs", name, accumulate=accumulate, steps=8)
    plain = {
        **made.model_dump(),
        "data": {**made.data.model_dump(), "batch_size": 4},
        "adapter": {"rank": 4, "alpha": 4.0, "conv_rank": 2, "dropout": 0.1, "rank_dropout": 0.1},
        "validation": {"share": 0.2, "every_steps": 4},
        **more,
    }
    return RunConfig.model_validate(plain)


def losses(run: Path) -> list[float]:
    """The loss of every step."""
    told = events.history(events.read(run / "events.jsonl"))
    return [each.loss for each in told if isinstance(each, events.Step) and each.loss is not None]


def measured(run: Path) -> list[float]:
    """What was measured with fixed noise."""
    told = events.history(events.read(run / "events.jsonl"))
    return [
        loss
        for each in told
        if isinstance(each, events.Validated)
        for loss in {**each.losses, **each.training}.values()
        if loss
    ]


def alike(runs: Path, one: str, other: str, *, counted: bool = True) -> None:
    """Raise AssertionError unless the two ended alike: losses within 1e-6, weights and memories within 1e-5. What
    pictures cost is `counted` by parts of a run, and differs where its length did."""
    for told in (losses, measured):
        first, second = told(runs / one), told(runs / other)
        assert len(first) == len(second) > 0
        assert max(abs(a / b - 1) for a, b in zip(first, second, strict=True)) < 1e-6
    first_state, second_state = forks.state(runs, one), forks.state(runs, other)
    assert first_state.keys() == second_state.keys()
    for stem in {name.split(".")[0] for name in first_state} - (set() if counted else {"ledger"}):
        names = [name for name in first_state if name.startswith(stem)]
        assert _distance([first_state[name] for name in names], [second_state[name] for name in names]) < 1e-5, stem
    (pictures, others) = (json.loads((runs / name / "ledger.json").read_text())["pictures"] for name in (one, other))
    assert not counted or [each["looks"] for each in pictures] == [each["looks"] for each in others]


def _distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    apart = sum(float((x.double() - y.double()).square().sum()) for x, y in zip(a, b, strict=True))
    return float((apart / max(sum(float(x.double().square().sum()) for x in a), 1e-30)) ** 0.5)


def equal(root: Path) -> None:
    """Two ranks are one process: accumulation 1 and 3, uneven data, a fleet, and from three ranks on with one."""
    cache, runs = root / "cache", root / "runs"
    for accumulate in (1, 3):
        assert forks.start(settings(root, f"one-{accumulate}", accumulate), cache).wait() == 0
    assert start([settings(root, "two-3", 3)], cache, 2).wait() == [0, 0]
    alike(runs, "one-3", "two-3")
    fleet = [settings(root, f"fleet-{accumulate}", accumulate) for accumulate in (1, 3)]
    assert start(fleet, cache, 2).wait() == [0, 0]
    for accumulate in (1, 3):
        alike(runs, f"one-{accumulate}", f"fleet-{accumulate}")
    begun = settings(root, "three-then-one", 1)
    short = begun.model_copy(update={"train": begun.train.model_copy(update={"steps": 4})})
    assert start([short], cache, 3).wait() == [0, 0, 0]
    assert forks.start(begun, cache).wait() == 0
    alike(runs, "one-1", "three-then-one", counted=False)


def shares(root: Path) -> None:
    """A base in shares trains, measures and draws what a whole one does."""
    cache, runs = root / "cache", root / "runs"
    drawn = {"prompts": [{"text": "a dog", "steps": 2, "width": 16, "height": 16}], "every_steps": 8}
    whole = settings(root, "held-whole", 1, preview=drawn)
    shared = settings(
        root, "held-in-shares", 1, preview=drawn, device={"name": "cpu", "threads": 1, "shard_base": True}
    )
    assert forks.start(whole, cache).wait() == 0
    assert start([shared], cache, 2).wait() == [0, 0]
    alike(runs, whole.name, shared.name)
    first, second = (np.asarray(Image.open(runs / each / "previews" / "00000008-0.png")) for each in
                     (whole.name, shared.name))  # fmt: skip
    assert np.abs(first.astype(int) - second.astype(int)).max() <= 1


def trouble(root: Path) -> None:
    """What cannot be trained together is refused on all ranks, and all of them stop when one is asked to."""
    cache, runs = root / "cache", root / "runs"
    small = settings(root, "small", 1, data={"batch_size": 2, "sets": [{"path": str(root / "pictures")}]})
    assert start([small], cache, 3).wait() == [2, 2, 2]
    assert not (runs / "small" / "checkpoints" / "00000004").exists()
    other = settings(root, "small", 1)
    assert start([small], cache, 2, given=lambda rank, same: [other] if rank else same).wait() == [2, 2]
    for rank in (0, 1):
        long = settings(root, f"stopped-{rank}", 1, train={"steps": 5000})
        ranks = start([long], cache, 2)
        while not (runs / long.name / "checkpoints" / "00000004").exists():
            time.sleep(0.05)
        ranks.kill(rank, signal.SIGTERM)
        assert ranks.wait() == [143, 143]
        assert _saved(runs / long.name) == len(losses(runs / long.name))
    moved = root / "pictures" / "0.png"
    broken = settings(root, "broken", 1, train={"steps": 500}, data={**small.data.model_dump(), "cache": False})
    ranks = start([broken], cache, 2)
    while not (runs / "broken" / "checkpoints" / "00000004").exists():
        time.sleep(0.05)
    bytes_ = moved.read_bytes()
    moved.unlink()
    assert ranks.wait() == [3, 3]
    moved.write_bytes(bytes_)


def frozen(root: Path) -> None:
    """A rank that is stopped is noticed by the other, which ends and leaves what was saved; so is one that is late."""
    cache, runs = root / "cache", root / "runs"
    silence, watch.SILENCE = watch.SILENCE, 3.0
    for rank, patience in ((0, 600.0), (1, 600.0), (1, 1.0)):
        long = settings(root, f"frozen-{rank}-{patience:.0f}", 1, train={"steps": 5000})
        ranks = start([long], cache, 2, patience=patience)
        while not (runs / long.name / "checkpoints" / "00000004").exists():
            time.sleep(0.05)
        ranks.kill(rank, signal.SIGSTOP)
        assert os.waitstatus_to_exitcode(os.waitpid(ranks.pids.pop(1 - rank), 0)[1]) == LOST
        ranks.kill(0)
        ranks.wait()
        assert _saved(runs / long.name) >= 4
    watch.SILENCE = silence


def kills(count: int, root: Path, seed: int = 0) -> tuple[int, int, int]:
    """Kill a rank of a training `count` times at random moments, rank 0 or another, and go on with one or two ranks.

    After each kill the others end by themselves and what was saved is whole. Returns kills, those of rank 0, and
    completed trainings, each of which ended like one that nobody touched.
    """
    rng = random.Random(seed)
    cache, runs = root / "cache", root / "runs"
    assert forks.start(settings(root, "whole", 2), cache).wait() == 0
    begun = time.monotonic()
    assert start([settings(root, "timed", 2)], cache, 2).wait() == [0, 0]
    length = time.monotonic() - begun
    killed = of_zero = completed = number = 0
    while killed < count or completed == 0:
        name = f"killed-{number}"
        ranks = start([settings(root, name, 2)], cache, 2)
        rank = rng.randrange(2)
        if killed < count:
            time.sleep(rng.uniform(0.1, 0.9) * length)
            before = _saved(runs / name)
            ranks.kill(rank)
        codes = ranks.wait()
        if codes != [0, 0]:
            assert codes[rank] == 128 + signal.SIGKILL, codes
            assert codes[1 - rank] in (LOST, 0 if rank else LOST), codes  # rank 0 may just have come to its end
            killed, of_zero = killed + 1, of_zero + (rank == 0)
            assert _saved(runs / name) >= before, "what was saved is gone"
            if rng.random() < 0.3:
                assert forks.start(settings(root, name, 2), cache).wait() == 0
                codes = [0, 0]
        if codes[0] == 0:
            alike(runs, "whole", name)
            completed, number = completed + 1, number + 1
    return killed, of_zero, completed


def _saved(run: Path) -> int:
    """The step of the newest whole checkpoint; whatever lies there is read to the last byte."""
    if not (run / "config.toml").is_file():
        return 0
    found, _ = checkpoint.latest(RunFolder(run))
    return found.step if found else 0


def main() -> None:
    """Compare, or kill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    files.System.fsync = staticmethod(lambda fd: None)  # type: ignore[method-assign,assignment]  # no kill takes a page away
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tiny.stable_diffusion(root / "base")
        forks.pictures(root / "pictures", 13)
        if not asked.kills:
            for act in (equal, shares, trouble, frozen):
                act(root)
                print(f"{act.__name__}: as it should be", flush=True)
            return
        killed, of_zero, completed = kills(asked.kills, root, asked.seed)
    print(f"{killed} kills survived, {of_zero} of them of rank 0; {completed} trainings ended alike")


if __name__ == "__main__":
    main()
