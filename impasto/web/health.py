"""What `impasto doctor` says of this machine, as checks. It runs in a process of its own: it asks torch."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time

from impasto.web.plain import plain
from impasto.web.views_tools import CheckRow, Doctor

FRESH = 60.0
PATIENCE = 180.0
LITTLE = 5.0
"""Gigabytes that are soon full."""


class Health:
    """The last word of the doctor."""

    def __init__(self) -> None:
        self._told: Doctor | None = None
        self._at = 0.0
        self._turn = threading.Lock()

    def checks(self) -> Doctor:
        """All checks; those of a minute ago are good enough."""
        with self._turn:
            if self._told is None or time.monotonic() - self._at > FRESH:
                self._told, self._at = Doctor(checks=_asked()), time.monotonic()
            return self._told


def _asked() -> list[CheckRow]:
    command = [sys.executable, "-m", "impasto", "doctor"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [
            CheckRow(name="doctor", state="bad", what=f"it could not be asked: {error}", fix="try `impasto doctor`")
        ]
    return [check(line) for line in done.stdout.splitlines() if line.strip()]


def check(line: str) -> CheckRow:
    """A line of the doctor's: what was found, and behind a colon or a semicolon what to do."""
    name, what = line[:13].strip(), plain(line[13:].strip())
    bad = re.match(r"(missing|unknown)\b", what)
    free = re.match(r"([\d.,]+) (GB|MB|kB|bytes) free", what)
    little = free and (free[2] != "GB" or float(free[1].replace(",", "")) < LITTLE)
    warn = "no bf16" in what or little
    fix = re.split(r"[:;] ", what, maxsplit=1)[1] if (bad or "no bf16" in what) and re.search(r"[:;] ", what) else ""
    return CheckRow(
        name=plain(name), state="bad" if bad else "warn" if warn else "good", what=what,
        fix=fix or ("make room there" if little else ""),
    )  # fmt: skip
