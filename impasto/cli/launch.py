"""Several ranks on this machine: start them, show what rank 0 shows, and let none of them outlive the others."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import IO, Any, TextIO

from impasto.engine.place import LAUNCHER

PAUSE = 0.05
"""Seconds between two looks at the ranks."""

ALONE = 25.0
"""Seconds in which rank 0 notices by itself that another one has died; then it is asked to stop."""

STUBBORN = 60.0
"""Seconds it then has to save; after them it is killed."""

LEFT = 30.0
"""Seconds in which the others follow when rank 0 has ended."""

LOST = 9
"""The exit code when rank 0 had to be asked to stop (errors.DeviceError)."""


def launch(count: int, arguments: Sequence[str], stream: TextIO) -> int:
    """Run `impasto` with `arguments` as `count` ranks; returns the exit code of rank 0, as if it were alone.

    Only rank 0 writes to this process's own output. What others print goes to `stream`, with their number.
    """
    port = _free_port()
    ranks = [_start(rank, count, port, arguments) for rank in range(count)]
    threads = [_relay(rank, child, stream) for rank, child in enumerate(ranks) if rank]
    with _Signals(ranks).forwarded() as signals:
        code = _wait(ranks, signals, stream)
    for thread in threads:
        thread.join(timeout=2)
    return code


@dataclass
class _Signals:
    """What this process is sent goes to rank 0, which decides for all. The second time all end at once."""

    ranks: Sequence[subprocess.Popen[str]]
    came: int = field(default=0, init=False)

    @contextmanager
    def forwarded(self) -> Iterator[_Signals]:
        before = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        if hasattr(signal, "SIGHUP"):
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.came += 1
        self.ranks[0].send_signal(number)
        if self.came > 1:
            for rank in self.ranks[1:]:
                rank.kill()


def _start(rank: int, count: int, port: int, arguments: Sequence[str]) -> subprocess.Popen[str]:
    environment = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count)),
        "TORCH_CPP_LOG_LEVEL": "ERROR",  # what goes wrong between ranks is told in words of our own
        **os.environ,
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), LAUNCHER: str(os.getpid()),
    }  # fmt: skip
    quiet: dict[str, Any] = {}
    if rank:
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    command = [sys.executable, "-m", "impasto", *arguments]
    return subprocess.Popen(  # in a session of its own: a Ctrl-C reaches this process alone
        command, env=environment, text=True, errors="replace", start_new_session=True, **quiet
    )


def _relay(rank: int, child: subprocess.Popen[str], stream: TextIO) -> threading.Thread:
    """Show what a rank prints, with its number before every line."""

    def run(source: IO[str]) -> None:
        for line in source:
            print(f"[rank {rank}] {line.rstrip()}", file=stream, flush=True)

    assert child.stdout is not None
    thread = threading.Thread(target=run, args=(child.stdout,), daemon=True)
    thread.start()
    return thread


def _wait(ranks: Sequence[subprocess.Popen[str]], signals: _Signals, stream: TextIO) -> int:
    """Wait for rank 0, see to it that none is left, and return the exit code of the whole."""
    first, died, asked = ranks[0], 0.0, False
    while first.poll() is None:
        now = time.monotonic()
        gone = [(rank, child.returncode) for rank, child in enumerate(ranks) if rank and child.poll()]
        if gone and not died:
            died = now
            print(f"impasto: rank {gone[0][0]} {_ended(gone[0][1])}", file=stream, flush=True)
        if died and not asked and now - died > ALONE:
            asked = True
            first.terminate()
        if died and now - died > ALONE + STUBBORN:
            first.kill()
        time.sleep(PAUSE)
    _clear(ranks[1:])
    code = first.returncode
    if code < 0:
        print(f"impasto: rank 0 {_ended(code)}; the same command goes on from the last save", file=stream, flush=True)
        return 128 - code
    return LOST if asked and not signals.came else code


def _clear(others: Sequence[subprocess.Popen[str]]) -> None:
    end = time.monotonic() + LEFT
    for child in others:
        try:
            child.wait(timeout=max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _ended(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
