"""A training that takes a moment: it holds the folder, notes that it began, saves, and finishes. For tests of queues.

python -m tests.runs.trains NOTES SECONDS FOLDER...
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from impasto import events
from impasto.errors import LockedError
from impasto.events import EventLog
from impasto.runs import control
from impasto.runs.folder import RunFolder
from impasto.runs.worker import HELD


def main(notes: Path, seconds: float, folders: list[RunFolder]) -> int:
    with ExitStack() as held:
        try:
            for run in folders:
                held.enter_context(run.hold())
        except LockedError:
            return HELD
        for run in folders:
            if run.state().stage == "finished":
                continue
            with EventLog(run.events) as log, notes.open("a") as file:
                file.write(f"{run.path.name}\n")
                log.write(events.Started(run=run.name, steps=1))
                (run.checkpoints / "00000001").mkdir(exist_ok=True)
                begun = time.monotonic()
                while time.monotonic() - begun < seconds:
                    if "stop" in control.requests(run):
                        return 0
                    if (run.path / "die").exists():
                        os.kill(os.getpid(), 9)
                    time.sleep(0.005)
                run.final.write_bytes(b"an adapter")
                log.write(events.Finished(step=1, seconds=seconds, file=run.final.name))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), float(sys.argv[2]), [RunFolder(Path(each)) for each in sys.argv[3:]]))
