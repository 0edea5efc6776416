"""Telling somebody elsewhere that a run has ended: one small message to an address from the command line.

The only requests that the server makes. No browser can set or see the address.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from email.message import Message
from http.client import HTTPException
from typing import IO
from urllib.parse import urlsplit

from impasto.errors import ConfigError, Problem
from impasto.web.views import Summary

ENDED = ("done", "failed", "lost", "stopped")
PATIENCE = 10
"""Seconds that the other side may take."""

Ring = Callable[[str, bytes], None]


class Bell:
    """Rings when a run that was under way has ended."""

    def __init__(self, address: str, ring: Ring) -> None:
        self._address = address
        self._ring = ring
        self._before: dict[str, str] | None = None

    def look(self, runs: Iterable[Summary]) -> None:
        """Compare with the look before. What had ended when the server started is nobody's news."""
        now = {each.id: each for each in runs}
        before, self._before = self._before, {id: each.state for id, each in now.items()}
        for id, run in now.items():
            if before is not None and run.state in ENDED and before.get(id, run.state) != run.state:
                self._ring(self._address, message(run))


def message(run: Summary) -> bytes:
    """What is told. Slack and Mattermost show `text`, Discord `content`."""
    words = f"{run.name} is {run.state}" + (f": {run.reason}" if run.reason else f", step {run.step} of {run.total}")
    told = {
        "text": words, "content": words[:2000], "run": run.id, "name": run.name, "state": run.state,
        "reason": run.reason, "step": run.step, "total": run.total, "loss": run.loss,
    }  # fmt: skip
    return json.dumps(told).encode()


def checked(address: str) -> str:
    """An address that can be rung."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(Problem("E-WEB-013", "this is no address of a webhook", "--webhook", "https://…"))
    return address


def post(address: str, content: bytes) -> None:
    """Send it; whoever cannot be reached is named, and nothing stops."""
    request = urllib.request.Request(address, content, {"Content-Type": "application/json", "User-Agent": "impasto"})
    try:
        with urllib.request.build_opener(_Straight).open(request, timeout=PATIENCE):
            pass
    except (OSError, HTTPException, ValueError) as error:
        host = urlsplit(address).hostname  # not the whole of it: it holds a key
        print(f"impasto: the webhook at {host} could not be told: {error}", file=sys.stderr)


class _Straight(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None
