"""Listening: on which address, with which token, until when."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import math
import os
import re
import socket as sockets
import stat
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import socket as Socket

import uvicorn
from fastapi import FastAPI

from impasto.errors import ConfigError, LockedError, Problem
from impasto.web import live
from impasto.web.app import create
from impasto.web.site import Site

BITS = 128
"""A token of one's own has at least so many bits, as far as its letters tell."""
_FRAME = 8
"""Bytes that zlib adds."""
_HEADERS = 16 << 10
_CONNECTIONS = 1000
_PATIENCE = 1
"""Seconds for requests that are being answered when the server ends."""


def check_exposure(host: str, *, exposed: bool, names: Sequence[str]) -> None:
    """Refuse to listen to other machines unless that was asked for, with the names they will use."""
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]", name):
            fix = "a name or an address without port, as box.example"
            raise ConfigError(Problem("E-WEB-009", f"{name!r} is no host name", "--allowed-host", fix))
    if is_loopback(host):
        return
    if not exposed:
        what = "other machines could reach it: whoever has the token can start trainings and read the folders"
        fix = "use an SSH tunnel (ssh -L 7861:127.0.0.1:7861 …); or add --exposed and --allowed-host NAME"
        raise ConfigError(Problem("E-WEB-009", what, f"--host {host}", fix))
    if not names:
        what = "it must know the names it may be reached by, or any page could reach it through a name of its own"
        raise ConfigError(Problem("E-WEB-009", what, f"--host {host}", "add --allowed-host NAME"))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_token(token: str, file: Path) -> None:
    """Refuse a token that can be guessed, or that others can read."""
    fix = "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ConfigError(Problem("E-WEB-010", "a token is one line of plain letters", str(file), fix))
    if _bits(token) < BITS:
        what = f"this token can be guessed: it has about {_bits(token):.0f} bits, and {BITS} are asked for"
        raise ConfigError(Problem("E-WEB-010", what, str(file), fix))
    if os.name != "nt" and stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise ConfigError(Problem("E-WEB-010", "others may read the token", str(file), f"chmod 600 {file}"))


def _bits(token: str) -> float:
    """At most so many: by how often its letters occur, and by how small it can be written."""
    written = 8 * (len(zlib.compress(token.encode(), 9)) - _FRAME)
    return min(-sum(each * math.log2(each / len(token)) for each in Counter(token).values()), written)


@contextmanager
def listening(host: str, port: int, *, tries: int) -> Iterator[Socket]:
    """A socket at the first free port of `tries` from `port` on."""
    for number in range(port, port + tries):
        found = _bound(host, number)
        if found is not None:
            with found:
                yield found
            return
    until = f" to {port + tries - 1}" if tries > 1 else ""
    what = f"port {port}{until} of {host} is in use"
    raise LockedError(Problem("E-WEB-012", what, "--port", "another app is there already; or give another --port"))


def _bound(host: str, port: int) -> Socket | None:
    family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
    made = Socket(family, sockets.SOCK_STREAM)
    try:
        if os.name != "nt":
            made.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(128)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            return None
        what = f"cannot listen there: {error.strerror or error}"
        raise ConfigError(Problem("E-WEB-012", what, f"{host}:{port}", "check --host and --port")) from None
    return made


def address(socket: Socket, token: str) -> str:
    """What to open. The token is behind #, so that it is in no request, no log and no Referer."""
    host, port = socket.getsockname()[:2]
    shown = "127.0.0.1" if host == "0.0.0.0" else "[::1]" if host == "::" else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/#token={token}"


def serve(site: Site, socket: Socket) -> None:
    """Serve until a signal ends it."""
    app = create(site)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, proxy_headers=False, http="h11",
        ws="none", h11_max_incomplete_event_size=_HEADERS, limit_concurrency=_CONNECTIONS, lifespan="on",
        timeout_graceful_shutdown=_PATIENCE,
    )  # fmt: skip
    _Server(config, app).run(sockets=[socket])


class _Server(uvicorn.Server):
    """Ends quietly, whoever listens."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[Socket] | None = None) -> None:
        """Let the streams end, and give what is being answered a moment; what is cut off then is no defect."""
        logging.getLogger("uvicorn.error").addFilter(_is_defect)
        await live.of(self._app).end()
        await super().shutdown(sockets)


def _is_defect(record: logging.LogRecord) -> bool:
    cut_off = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cut_off and not str(record.msg).startswith("Cancel %s running task")
