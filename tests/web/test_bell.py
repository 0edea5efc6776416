"""Telling somebody elsewhere that a run has ended."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from impasto import events, lock
from impasto.errors import ConfigError
from impasto.web import bell
from impasto.web.bell import Bell
from impasto.web.live import Live
from impasto.web.site import Site
from tests.web import made


def test_it_rings_once_when_a_run_has_ended(site: Site, tmp_path: Path) -> None:
    made.finished(tmp_path / "runs" / "old")
    run = made.run(tmp_path / "runs" / "anna")
    rung: list[dict[str, object]] = []
    ringing = Bell("https://example.org", lambda address, content: rung.append(json.loads(content)))
    live = Live(site)

    def look() -> None:
        ringing.look(live.shelf.summaries(patience=-1.0)[0])

    look()
    with lock.Lock(run.lock):
        made.tell(run, events.Started(run="anna", steps=9), *made.steps(1, 9))
        look()
        look()
        assert rung == []
        made.tell(run, events.Finished(step=9, seconds=5.0, file="anna.safetensors"))
        look()
    for _ in range(3):
        look()
    (told,) = rung
    assert (told["text"], told["state"]) == ("anna is done, step 9 of 9", "done")


class Answers(BaseHTTPRequestHandler):
    """Notes what comes, and sends it elsewhere."""

    seen: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        self.seen.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(302 if self.path == "/moved" else 204)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def other() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Another server, and what it was told."""
    Answers.seen = []
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", Answers.seen
        server.shutdown()


def test_it_is_one_post_that_follows_no_redirect_and_whoever_is_away_stops_nothing(
    other: tuple[str, list[tuple[str, bytes]]], capsys: pytest.CaptureFixture[str]
) -> None:
    address, seen = other
    bell.post(f"{address}/hook", b"{}")
    bell.post(f"{address}/moved", b"{}")
    bell.post("http://127.0.0.1:9/a-key", b"{}")
    assert seen == [("/hook", b"{}"), ("/moved", b"{}")]
    assert "could not be told" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://x/y", "http://", "x", "javascript:alert(1)"])
def test_only_web_addresses_are_rung(address: str) -> None:
    with pytest.raises(ConfigError):
        bell.checked(address)
