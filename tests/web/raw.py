"""Requests as they come off the wire: a client that puts paths and headers in order first would hide what is tested."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from fastapi import FastAPI
from starlette.types import Message

from tests.web.conftest import HOST, TOKEN

TOLD = ((b"host", HOST.encode()), (b"x-impasto-token", TOKEN.encode()))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def ask(
    app: FastAPI, method: str, target: str, *, body: bytes = b"", headers: tuple[tuple[bytes, bytes], ...] = TOLD
) -> Answer:
    """One request; `target` is the path and the query as on the wire."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": unquote(path), "raw_path": path.encode(), "query_string": query.encode(),
        "root_path": "", "headers": list(headers), "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 7861),
    }  # fmt: skip
    parts, told = [{"type": "http.request", "body": body, "more_body": False}], list[Message]()

    async def receive() -> Message:
        return parts.pop(0) if parts else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        told.append(message)

    await app(scope, receive, send)
    start = next(each for each in told if each["type"] == "http.response.start")
    found = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], found, b"".join(each.get("body", b"") for each in told))
