"""What a request must be before any route sees it, and what every answer says to the browser.

    method and path -> size -> Host -> Origin -> token -> kind of body -> route

The app can start trainings, so it is guarded as a shell would be: against other pages in the same browser (Origin, a
token in a header, no cookies), against names that are made to point here (Host), and against other accounts of the
machine, for whom loopback is open too (token).
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import time
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from impasto.errors import Problem
from impasto.web.problems import answer

HEADER = "X-Impasto-Token"
LARGEST = 16 << 20
"""Bytes of a JSON body."""
LARGEST_FILE = 64 << 20
"""Bytes of an uploaded file (`application/octet-stream`)."""

OPEN = re.compile(r"/|/favicon\.svg|/assets/[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
"""What is answered without a token, to GET only: the pages, which hold nothing of the user."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "font-src 'self'; worker-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

_SAFE = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
PACE = 0.2
"""Seconds between two answers to a wrong token, when there were many."""
BURST = 20
"""Wrong tokens that are answered at once: a tab of yesterday that tries again."""
WAITING = 30
"""Answers to wrong tokens that may wait; one more is refused at once, so that they fill no memory."""

_METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}
_HOST = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?")


class Doubt:
    """How long the answer to a wrong token waits. A right token never does, however many wrong ones came before."""

    def __init__(self) -> None:
        self._next = 0.0

    def delay(self, now: float) -> float | None:
        """Seconds until this one is answered; None if too many wait already."""
        free = max(self._next, now - BURST * PACE)
        if free - now > WAITING * PACE:
            return None
        self._next = free + PACE
        return max(0.0, free - now)


class Guard:
    """Refuses what does not come from the user's own page."""

    def __init__(self, app: ASGIApp, *, token: str, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = {each.lower() for each in hosts}
        self._doubt = Doubt()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        is_open = scope["method"] == "GET" and OPEN.fullmatch(scope["path"]) is not None
        headers = Headers(scope=scope)
        safe = _saying(send, is_open)
        found = self._wrong(scope, headers, is_open)
        if found is not None:
            status, problem = found
            if status == 401 and HEADER in headers and not await self._waited():
                status, problem = 429, Problem("E-WEB-001", "too many wrong tokens were tried", HEADER, "wait a while")
            await answer(status, problem)(scope, receive, safe)
            return
        await self._app(scope, _limited(receive, _limit(headers)), safe)

    async def _waited(self) -> bool:
        delay = self._doubt.delay(time.monotonic())
        await asyncio.sleep(delay or 0.0)
        return delay is not None

    def _wrong(self, scope: Scope, headers: Headers, is_open: bool) -> tuple[int, Problem] | None:
        """What is wrong with a request, and its HTTP status."""
        if not scope["path"].startswith("/"):
            return 400, Problem("E-WEB-006", "the request does not name a path")
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            fix = "open the address that `impasto ui` printed; other names need --allowed-host"
            return 421, Problem("E-WEB-002", "this server does not answer to that name", "", fix)
        if not self._same_origin(headers, hosts[0], is_open):
            return 403, Problem("E-WEB-003", "another page asked for this", "", "use the app's own page")
        if not is_open and not self._knows_token(headers):
            fix = "open the address that `impasto ui` printed, with #token=… at its end"
            return 401, Problem("E-WEB-001", "the token of this server is missing or wrong", HEADER, fix)
        if scope["method"] not in _METHODS:
            return 405, Problem("E-WEB-006", f"{scope['method'][:20]} is not answered")
        return _wrong_body(scope["method"], headers)

    def _is_ours(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None or (found[2] is not None and not 0 < int(found[2]) < 65536):
            return False
        name = found[1].lower()
        return name == "localhost" or name in self._hosts or _is_loopback(name)

    def _same_origin(self, headers: Headers, host: str, is_open: bool) -> bool:
        """Whether the browser, where it tells, says that our own page asked."""
        site = headers.get("sec-fetch-site")
        if site is not None and site not in ("same-origin", "none") and not is_open:
            return False
        origins = headers.getlist("origin")
        if not origins:
            return True
        schemes = ("http",) if _is_local(host) else ("http", "https")  # a named host may stand behind a proxy with TLS
        return len(origins) == 1 and origins[0].lower() in {f"{scheme}://{host.lower()}" for scheme in schemes}

    def _knows_token(self, headers: Headers) -> bool:
        given = headers.getlist(HEADER)
        return len(given) == 1 and hmac.compare_digest(given[0].encode("utf-8", "replace"), self._token)


def _is_local(host: str) -> bool:
    found = _HOST.fullmatch(host)
    return found is not None and (found[1].lower() == "localhost" or _is_loopback(found[1]))


def _is_loopback(name: str) -> bool:
    """127.0.0.1, any other address of 127/8 written in full, or [::1]."""
    try:
        address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return address.is_loopback and (address.version == 6) == name.startswith("[")


def _wrong_body(method: str, headers: Headers) -> tuple[int, Problem] | None:
    length = headers.get("content-length")
    has_body = "transfer-encoding" in headers or (length is not None and length != "0")
    if method == "GET" or not has_body:
        return None
    if length is not None and (not length.isascii() or not length.isdecimal()):
        return 400, Problem("E-WEB-004", "the length of the body is no number")
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in ("application/json", "application/octet-stream"):
        what = "a body must be application/json, or application/octet-stream for a file"
        return 415, Problem("E-WEB-004", what)
    if length is not None and int(length[:20]) > _limit(headers):
        return 413, Problem("E-WEB-004", f"the body is larger than {_limit(headers) >> 20} MiB")
    return None


def _limit(headers: Headers) -> int:
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    return LARGEST_FILE if kind == "application/octet-stream" else LARGEST


def _limited(receive: Receive, limit: int) -> Receive:
    """Stop a body that told no length, or a wrong one, when it becomes too large."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise HTTPException(413, f"the body is larger than {limit >> 20} MiB")
        return message

    return counted


def _saying(send: Send, is_open: bool) -> Send:
    """Say with every answer what the browser may do with it."""

    async def saying(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _SAFE.items():
                headers[name] = value
            if not is_open:
                headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return saying
