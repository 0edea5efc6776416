"""Work that is done in processes of its own by the command line of impasto: what it says is read, what it does is its
own. The server only ever starts commands of this table, with arguments it has checked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

from impasto import files
from impasto.errors import Problem
from impasto.web.plain import plain
from impasto.web.problems import Refused

KEPT = 50
MOST = 4 << 20
"""Bytes of what a process prints that are read."""

_PROGRESS = re.compile(r"(\d+)\s*(?:/|of)\s*(\d+)")
_PROBLEM = re.compile(r"(E-[A-Z]{3}-\d{3})(?: (.*?):)? (.*?)(?: Fix: (.*))?")

State = Literal["waiting", "running", "done", "failed"]


@dataclass
class Chore:
    """A process, and what it has told."""

    id: str
    what: str
    arguments: list[str]
    state: State = "waiting"
    done: int = 0
    total: int = 0
    first: tuple[float, int] | None = None
    """When it first told how far it was, and how far that was."""
    text: str = ""
    """Its last line."""
    result: Any = None
    """What it printed: JSON where it is some, else text."""
    problems: tuple[Problem, ...] = ()
    begun: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    lines: list[str] = field(default_factory=list)
    cancelled: bool = False

    def left(self, now: float) -> float | None:
        """Seconds until it is done, by the pace since it began to tell; None while nobody knows."""
        if self.state != "running" or self.first is None or self.done <= self.first[1]:
            return None
        begun, done = self.first
        return (now - begun) / (self.done - done) * max(0, self.total - self.done)


class Chores:
    """Runs them one after the other: they want the memory that trainings leave."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count(1)
        self._chores: dict[str, Chore] = {}
        self._turn = threading.Lock()
        self._one = threading.Semaphore(1)

    def start(self, what: str, arguments: Sequence[str], then: Callable[[Chore], None] | None = None) -> Chore:
        """Start `impasto ARGUMENTS` when it is its turn; `then` is called when it has ended."""
        if any(re.search(r"[\0\ud800-\udfff]", each) for each in arguments):
            raise Refused(422, Problem("E-WEB-006", "a name that no file can have"))
        with self._turn:
            ended = [id for id, each in self._chores.items() if each.state in ("done", "failed")]
            for id in ended[: max(0, len(self._chores) - KEPT)]:
                del self._chores[id]
            chore = Chore(str(next(self._numbers)), what, list(arguments), begun=time.time())
            self._chores[chore.id] = chore
        threading.Thread(target=self._run, args=(chore, then), name=f"chore {chore.id}", daemon=True).start()
        return chore

    def get(self, id: str) -> Chore | None:
        """The one of this id."""
        return self._chores.get(id)

    def all(self) -> list[Chore]:
        """All that are remembered, in the order they were begun."""
        return list(self._chores.values())

    def cancel(self, chore: Chore) -> None:
        """End it, or do not begin it."""
        chore.cancelled = True
        if chore.process is not None and chore.process.poll() is None:
            chore.process.terminate()

    def close(self) -> None:
        """End all: what they write, they write in one stroke or not at all."""
        for each in self.all():
            self.cancel(each)

    def _run(self, chore: Chore, then: Callable[[Chore], None] | None) -> None:
        try:
            with self._one:
                if not chore.cancelled:
                    chore.state = "running"
                    self._work(chore)
            if chore.cancelled:
                chore.problems = (Problem("E-WEB-028", "it was ended on request"),)
                chore.state = "failed"
        except OSError as error:
            chore.problems = (Problem("E-WEB-021", f"the process could not be started: {error}"),)
            chore.state = "failed"
        finally:
            if then is not None:
                then(chore)

    def _work(self, chore: Chore) -> None:
        files.make_folder(self._folder)
        with (self._folder / f"chore-{chore.id}.out").open("w+b") as out:
            command = [sys.executable, "-m", "impasto", *chore.arguments]
            with subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE
            ) as process:  # fmt: skip
                chore.process = process
                assert process.stderr is not None
                for line in _lines(process.stderr):
                    _hear(chore, line)
                code = process.wait()
            out.seek(0)
            printed = out.read(MOST).decode("utf-8", "replace")
        (self._folder / f"chore-{chore.id}.out").unlink(missing_ok=True)
        chore.result = _result(printed)
        if code:
            chore.problems = _problems(chore.lines, code)
        chore.state = "failed" if code else "done"


def _lines(stream: Any) -> Any:
    """Lines as they come, ended by a line feed or by a carriage return."""
    rest = b""
    while part := stream.read1(4096):
        *whole, rest = re.split(rb"[\r\n]", rest + part)
        yield from (each.decode("utf-8", "replace") for each in whole)
        rest = rest[-4096:]
    yield rest.decode("utf-8", "replace")


def _hear(chore: Chore, line: str) -> None:
    if not line.strip():
        return
    chore.text = plain(line.strip()[:300])
    chore.lines = [*chore.lines[-99:], chore.text]
    if found := _PROGRESS.search(line):
        chore.done, chore.total = int(found[1]), int(found[2])
        chore.first = chore.first or (time.time(), chore.done)


def _result(printed: str) -> Any:
    try:
        return plain(json.loads(printed))
    except (ValueError, RecursionError):
        return plain(printed[-20_000:].strip())


def _problems(lines: Sequence[str], code: int) -> tuple[Problem, ...]:
    found = [each for line in lines if (each := _PROBLEM.fullmatch(line))]
    if not found:
        last = lines[-1] if lines else "it said nothing"
        return (Problem("E-WEB-021", f"the process ended with code {code}: {last}"),)
    return tuple(Problem(each[1], each[3], each[2] or "", each[4] or "") for each in found)
