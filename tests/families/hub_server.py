"""A hub of our own on this machine: what huggingface_hub asks for, and no more, from folders on the disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import pytest


@dataclass
class Hub:
    """Repositories by id; each has branches, and folders by their commits."""

    address: str
    branches: dict[str, dict[str, str]] = field(default_factory=dict)
    commits: dict[tuple[str, str], Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    sent: dict[str, int] = field(default_factory=dict)
    """Bytes of each file that were given out."""

    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def publish(self, repo: str, folder: Path, *, branch: str = "main") -> str:
        """Let a branch be what a folder holds; tells its commit."""
        commit = hashlib.sha1(str(folder).encode()).hexdigest()
        self.branches.setdefault(repo, {})[branch] = commit
        self.commits[repo, commit] = folder
        return commit


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub, for as long as the `with` lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.hub = hub = Hub(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The only hub there is, with an empty cache in `folder` and no token; `folder` becomes the current one."""
    from huggingface_hub import constants, utils

    with serving() as found:
        template = f"{found.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        told = {
            "ENDPOINT": found.address, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(folder / "hf" / "hub"), "HF_ASSETS_CACHE": str(folder / "hf" / "assets"),
            "HF_TOKEN_PATH": str(folder / "hf" / "token"), "HF_HUB_OFFLINE": False,
        }  # fmt: skip
        for name, value in told.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        utils.disable_progress_bars()
        monkeypatch.chdir(folder)
        yield found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined,no-any-return]

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        steps = unquote(self.path.partition("?")[0]).strip("/").split("/")
        self.hub.asked.append(f"{self.command} {'/'.join(steps)}")
        self.hub.tokens.add(self.headers.get("authorization", ""))
        match steps:
            case ["api", "models", org, name, "revision", revision]:
                self._described(f"{org}/{name}", revision)
            case ["api", "models", org, name]:
                self._described(f"{org}/{name}", "main")
            case [org, name, "resolve", revision, *inside]:
                self._file(f"{org}/{name}", revision, "/".join(inside))
            case _:
                self._answer(404, b"")

    def _folder(self, repo: str, revision: str) -> tuple[str, Path] | None:
        if repo not in self.hub.branches:
            self._answer(401, b"", {"X-Error-Code": "RepoNotFound"})
            return None
        commit = self.hub.branches[repo].get(revision, revision)
        if (repo, commit) not in self.hub.commits:
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return None
        return commit, self.hub.commits[repo, commit]

    def _described(self, repo: str, revision: str) -> None:
        if found := self._folder(repo, revision):
            commit, folder = found
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            told = [{"rfilename": each.relative_to(folder).as_posix(), "size": each.stat().st_size} for each in files]
            self._answer(200, json.dumps({"id": repo, "sha": commit, "siblings": told}).encode())

    def _file(self, repo: str, revision: str, name: str) -> None:
        found = self._folder(repo, revision)
        if found is None:
            return
        commit, folder = found
        if repo in self.hub.gated:
            self._answer(403, b"", {"X-Error-Code": "GatedRepo"})
            return
        if not (folder / name).is_file():
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        data = (folder / name).read_bytes()
        heads = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        begin, _, end = self.headers.get("range", "").removeprefix("bytes=").partition("-")
        if begin:
            first, last = int(begin), min(int(end or len(data) - 1), len(data) - 1)
            heads["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            self._answer(206, data[first : last + 1], heads, name)
        else:
            self._answer(200, data, heads, name)

    def _answer(self, status: int, body: bytes, heads: dict[str, str] | None = None, name: str = "") -> None:
        self.send_response(status)
        for key, value in {**(heads or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.hub.sent[name] = self.hub.sent.get(name, 0) + len(body)
            self.wfile.write(body)
