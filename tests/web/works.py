"""A worker whose trainings are forks of it, so that a hundred of them take no time: python -m tests.web.works LINE LANE
NOTES."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from impasto.runs.folder import RunFolder
from impasto.runs.queue import Job, Queue
from impasto.runs.worker import Worker
from tests.runs import trains


class Fork:
    """As much of a process as a worker asks for."""

    def __init__(self, job: Job, notes: Path) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os._exit(trains.main(notes, 0.01, [RunFolder(each) for each in job.folders]))

    def poll(self) -> int | None:
        if self.returncode is None and os.waitpid(self.pid, os.WNOHANG)[0]:
            self.returncode = 0
        return self.returncode


if __name__ == "__main__":
    line, lane, notes = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    worker = Worker(Queue(line), lane, lambda job: Fork(job, notes), print, pause=0.02)  # type: ignore[arg-type, return-value]
    worker.serve(lambda: False, until_empty=True)
