"""Nobody but the user's own page gets anything, or changes anything."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from impasto.web import security
from impasto.web.app import create
from impasto.web.problems import Refused
from impasto.web.security import LARGEST, OPEN
from impasto.web.site import Site
from tests.web import made
from tests.web.conftest import HOST, TOKEN
from tests.web.raw import TOLD, ask

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


def routes(site: Site) -> list[str]:
    """Every path of the router, with something in place of its parameters."""
    paths = [route.path for route in _all(create(site).routes)]
    assert {"/", "/api/hello", "/api/runs/{id}/pictures/{name}", "/api/queue/{job}/move"} <= set(paths)
    return sorted({re.sub(r"\{[^}]*\}", "1", path) for path in paths} | {"/nothing", "/api", "/docs", "/redoc"})


def _all(found: Any) -> Iterator[Any]:
    """Routes, those in included routers too."""
    for route in found:
        inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        if inner is not None:
            prefix = getattr(getattr(route, "include_context", None), "prefix", "")
            for each in _all(inner):
                yield type("Route", (), {"path": prefix + each.path, "methods": each.methods})
        elif hasattr(route, "path"):
            yield route


@pytest.fixture
def stranger(site: Site) -> Iterator[TestClient]:
    """Somebody who knows the address and not the token."""
    with TestClient(create(site), base_url=f"http://{HOST}", headers={"Host": HOST}) as browser:
        yield browser


def everything(folder: Path) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Impasto-Token": "wrong"},
        {"X-Impasto-Token": ""},
        {"X-Impasto-Token": TOKEN[:-1]},
        {"X-Impasto-Token": TOKEN.upper()},
        {"Authorization": f"Bearer {TOKEN}"},
        {"Cookie": f"X-Impasto-Token={TOKEN}; token={TOKEN}"},
        {"Referer": f"http://{HOST}/#token={TOKEN}"},
    ],
    ids=["none", "wrong", "empty", "short", "case", "bearer", "cookie", "referer"],
)
def test_no_route_answers_without_the_token(
    stranger: TestClient, site: Site, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "PACE", 0.0)
    open_to_all = set()
    for path, method in itertools.product(routes(site), METHODS):
        answer = stranger.request(method, path, headers=headers)
        if answer.status_code != 401:
            open_to_all.add((method, path))
    assert open_to_all == {("GET", "/"), ("GET", "/favicon.svg"), ("GET", "/assets/1")}
    assert stranger.get(f"/api/hello?token={TOKEN}&X-Impasto-Token={TOKEN}").status_code == 401


def test_two_tokens_in_a_request_are_none(stranger: TestClient) -> None:
    both = [("X-Impasto-Token", TOKEN), ("X-Impasto-Token", "wrong")]
    assert stranger.get("/api/hello", headers=both).status_code == 401


def test_wrong_tokens_are_answered_ever_later_and_a_right_one_at_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "PACE", 0.05)
    app = create(site)

    async def status(token: str) -> int:
        headers = ((b"host", HOST.encode()), (b"x-impasto-token", token.encode()))
        return (await ask(app, "GET", "/api/hello", headers=headers)).status

    async def storm() -> list[int]:
        begun = time.monotonic()
        wrong = [asyncio.create_task(status(f"guess {number}")) for number in range(200)]
        await asyncio.sleep(0.1)
        right = await status(TOKEN)
        assert not all(each.done() for each in wrong), "some wait while the right one is let in"
        found = await asyncio.gather(*wrong)
        assert time.monotonic() - begun > 20 * 0.05
        return [right, *found]

    right, *wrong = asyncio.run(storm())
    assert right == 200
    assert set(wrong) == {401, 429}
    assert wrong.count(401) < security.BURST + 2 * security.WAITING, "the others fill no memory"


GOOD_HOSTS = [
    "127.0.0.1", "127.0.0.1:7861", "127.0.0.1:1", "127.0.0.1:65535", "localhost", "localhost:9000", "LOCALHOST:80",
    "[::1]", "[::1]:7861", "127.5.6.7:80", "box.example", "box.example:8443", "BOX.example",
]  # fmt: skip
BAD_HOSTS = [
    "", "evil.com", "evil.com:7861", "127.0.0.1.evil.com", "localhost.evil.com", "evil@127.0.0.1", "127.1", "127.0.1",
    "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "0.0.0.0:7861", "[::]", "[::ffff:127.0.0.1]", "[::1", "::1",
    "127.0.0.1.", "localhost.", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1:7861:80", "127.0.0.1:abc",
    "127.0.0.1, evil.com", "127.0.0.1 evil.com", "127.0.0.1/evil", "127.0.0.1#", "127.0.0.1?x", "127.0.0.1\\x", "local",
    "localhost\x00", "xn--lcalhost-9za", "a" * 300, "box.example.evil.com", "evil.box.example", "10.0.0.1",
    "192.168.1.2:7861", "169.254.169.254", "[fe80::1]",
]  # fmt: skip


@pytest.fixture
def named(site: Site) -> Iterator[TestClient]:
    """A server that has a name besides."""
    app = create(replace(site, hosts=frozenset({"box.example"})))
    with TestClient(app, base_url=f"http://{HOST}", headers={"X-Impasto-Token": TOKEN}) as browser:
        yield browser


def test_the_server_answers_to_its_own_names_only(named: TestClient) -> None:
    assert len(BAD_HOSTS) >= 40
    for host in GOOD_HOSTS:
        assert named.get("/api/hello", headers={"Host": host}).status_code == 200, host
    for host in BAD_HOSTS:
        for path in ("/api/hello", "/"):
            assert named.get(path, headers={"Host": host}).status_code == 421, host
    two = [("Host", HOST), ("Host", "evil.com")]
    assert named.get("/api/hello", headers=two).status_code == 421
    told = {"Host": "evil.com", "X-Forwarded-Host": HOST, "Forwarded": f"host={HOST}"}
    assert named.get("/api/hello", headers=told).status_code == 421


def test_a_request_line_with_another_host_is_refused(site: Site) -> None:
    async def try_all() -> None:
        for target in ("http://evil.com/api/hello", f"http://{HOST}/api/hello", "*", "evil", ""):
            assert (await ask(create(site), "GET", target)).status == 400

    asyncio.run(try_all())


def test_no_websocket_is_opened(client: TestClient) -> None:
    for path in ("/", "/api/stream"):
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
            pass


ORIGINS = [
    "null", "", "http://evil.com", "https://evil.com", f"https://{HOST}", f"http://{HOST}.evil.com", f"http://evil.com:{7861}",
    "http://127.0.0.1", "http://127.0.0.1:7862", "http://localhost:7861", f"http://{HOST}/", f"http://user@{HOST}",
    f"http://{HOST}@evil.com", f"{HOST}", "file://", "chrome-extension://abc", f"http://{HOST} http://evil.com",
    f"ws://{HOST}", f"http:/{HOST}", "*",
]  # fmt: skip
SITES = ["cross-site", "same-site", "evil"]
CHANGES = [
    ("POST", "/api/quickstart", None),
    ("POST", "/api/queue", {"run_ids": ["runs:anna"]}),
    ("POST", "/api/queue/forget", None),
    ("POST", "/api/lanes/cpu/hold", None),
    ("PATCH", "/api/runs/runs:anna/marks", {"star": True}),
    ("POST", "/api/runs/runs:anna/requests", {"kind": "resume"}),
    ("POST", "/api/runs/runs:anna/fork", {"enqueue": False}),
]
BODIES = [
    ("text/plain", '{"run_ids": ["runs:anna"]}'),
    ("application/x-www-form-urlencoded", "run_ids=runs%3Aanna"),
    ("multipart/form-data; boundary=x", "--x\r\n\r\n--x--"),
    ("", '{"run_ids": ["runs:anna"]}'),
    ("text/html", "x"),
    ("application/jsonp", "{}"),
    ("application/json-patch+json", "{}"),
    ("application/xml", "<x/>"),
]


def test_no_other_page_changes_anything(client: TestClient, tmp_path: Path) -> None:
    """Two hundred requests as another page in the same browser could make them, even if it knew the token."""
    made.finished(tmp_path / "runs" / "anna")
    before, tried = everything(tmp_path), 0
    for method, path, body in CHANGES:
        for origin in ORIGINS:
            assert client.request(method, path, json=body, headers={"Origin": origin}).status_code == 403, origin
            tried += 1
        for site in SITES:
            assert client.request(method, path, json=body, headers={"Sec-Fetch-Site": site}).status_code == 403
            tried += 1
        for kind, text in BODIES:
            answer = client.request(method, path, content=text, headers={"Content-Type": kind})
            assert answer.status_code == 415, (path, kind)
            tried += 1
    assert tried >= 200
    assert everything(tmp_path) == before


def test_the_own_page_may(client: TestClient, tmp_path: Path) -> None:
    made.finished(tmp_path / "runs" / "anna")
    headers = {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}
    assert client.patch("/api/runs/runs:anna/marks", json={"star": True}, headers=headers).status_code == 200


def test_no_get_and_no_head_changes_anything(client: TestClient, site: Site, tmp_path: Path) -> None:
    made.finished(tmp_path / "runs" / "anna")
    before = everything(tmp_path)
    for path in routes(site):
        if "stream" not in path:
            for method in ("GET", "HEAD"):
                client.request(method, path.replace("/runs/1", "/runs/runs:anna"))
    assert everything(tmp_path) == before


def test_what_changes_something_answers_no_get(site: Site) -> None:
    for route in _all(create(site).routes):
        assert "GET" not in route.methods or not route.methods & {"POST", "PUT", "PATCH", "DELETE"}


def test_every_answer_tells_the_browser_to_run_nothing_else(client: TestClient, stranger: TestClient) -> None:
    for answer in (client.get("/"), client.get("/api/hello"), stranger.get("/api/hello"), client.get("/nothing")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in answer.headers
        assert not [name for name in answer.headers if name.startswith("access-control")]


def traversals() -> list[str]:
    """Three hundred ways to write a path that leads elsewhere."""
    ups = [
        "..", "%2e%2e", "%252e%252e", "..%c0%af", "%c0%ae%c0%ae", "..%00", ".%2e", "%2e.", "....//", "..;", "..%5c",
        "..\\", "%uff0e%uff0e", "..%ef%bc%8f", "．．", "..%0a", "..%20", "./..", "..%2f.",
    ]  # fmt: skip
    seps = ["/", "%2f", "%252f", "\\", "%5c"]
    targets = ["secret.png", "secret.txt", "etc/passwd"]
    found = [sep.join([up] * depth + [target]) for up in ups for sep in seps for target in targets for depth in (2, 3)]
    found += [
        "/etc/passwd", "//etc/passwd", "%2fetc%2fpasswd", "C:\\secret.txt", "c:/secret.txt", "\\\\host\\share\\x",
        "\\\\?\\C:\\x", "file:///etc/passwd", "CON", "NUL.png", "aux.png", "COM1.png", "~/.ssh/id_rsa", "$HOME/x",
        "link.png",
        "link/secret.png", "secret.png%00.png", "anna/../../secret.png", ".", "..", "...", "%00", "anna::$DATA", "-",
    ]  # fmt: skip
    return found


SECRET = b"the secret that nobody may read"


def test_no_path_leads_out_of_the_roots(site: Site, tmp_path: Path) -> None:
    run = made.finished(tmp_path / "runs" / "anna")
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (tmp_path / "secret.png").write_bytes(SECRET)
    (run.previews / "link.png").symlink_to(tmp_path / "secret.png")
    (run.path / "link").symlink_to(tmp_path)
    payloads, before = traversals(), everything(tmp_path)
    assert len(payloads) >= 300
    app = create(site)

    async def try_all() -> None:
        for payload in payloads:
            places = ("/api/runs/runs:anna/pictures/", "/api/runs/", "/assets/", "/")
            for path in (place + payload for place in places):
                answer = await ask(app, "GET", path)
                assert answer.status in (400, 401, 404, 405, 422), path
                assert SECRET not in answer.body
            body = json.dumps({"run_ids": [payload]}).encode()
            told = (*TOLD, (b"content-type", b"application/json"))
            assert (await ask(app, "POST", "/api/queue", body=body, headers=told)).status == 404

    asyncio.run(try_all())
    assert everything(tmp_path) == before


@pytest.mark.parametrize("depth", range(3))
def test_a_name_with_a_root_leads_nowhere_else(site: Site, tmp_path: Path, depth: int) -> None:
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (tmp_path / "pictures" / "out").symlink_to(tmp_path)
    for payload in traversals():
        once = payload
        for _ in range(depth):
            once = unquote(once)
        for prefix in ("pictures/", "pictures/out/", "pictures", "/", "models/../pictures/"):
            with contextlib.suppress(Refused):
                assert site.inside(prefix + once).is_relative_to(tmp_path / "pictures")


def test_a_new_file_is_named_so_that_every_system_takes_it(site: Site, tmp_path: Path) -> None:
    (tmp_path / "models" / "there.png").touch()
    assert site.fresh("models/new one.safetensors", "models") == tmp_path / "models" / "new one.safetensors"
    for name in ("a\0", "a\nb", "x" * 300, "CON.png", "-x", ".x", "x.", "x ", "..", "", "a\\b", "é" * 150, "C:x"):
        with pytest.raises(Refused) as refused:
            site.fresh(f"models/{name}", "models")
        assert refused.value.status in (404, 422), name
    for id, status in (("models/there.png", 409), ("runs/x", 404), ("x", 404), ("/x", 404), ("models/../x", 404)):
        with pytest.raises(Refused) as refused:
            site.fresh(id, "models")
        assert refused.value.status == status, id


def test_a_run_that_is_a_link_to_elsewhere_is_none(client: TestClient, tmp_path: Path) -> None:
    made.finished(tmp_path / "elsewhere" / "anna")
    (tmp_path / "runs" / "anna").symlink_to(tmp_path / "elsewhere" / "anna")
    assert client.get("/api/runs").json()["runs"] == []


def test_settings_that_are_a_link_to_elsewhere_are_not_shown(client: TestClient, tmp_path: Path) -> None:
    run = made.finished(tmp_path / "runs" / "anna")
    (tmp_path / "secret.txt").write_bytes(SECRET)
    for path in (run.config, run.events, run.path / "record.json", run.path / "worker.log", run.path / "marks.json"):
        path.unlink(missing_ok=True)
        path.symlink_to(tmp_path / "secret.txt")
    for part in ("", "/log", "/series"):
        assert SECRET not in client.get(f"/api/runs/runs:anna{part}").content


def test_a_body_that_is_too_large_is_refused(client: TestClient) -> None:
    big = json.dumps({"run_ids": ["x" * LARGEST]})
    headers = {"Content-Type": "application/json"}
    assert client.post("/api/queue", content=big, headers=headers).status_code == 413

    def endless() -> Iterator[bytes]:
        yield b'{"run_ids": ["'
        for _ in range(20):
            yield b"x" * (1 << 20)

    assert client.post("/api/queue", content=endless(), headers=headers).status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        '{"run_ids": NaN}',
        '{"run_ids": ["\\ud800"]}',
        "[" * 20000,
        '{"run_ids": {"a": 1}}',
        "\x00",
    ],
)
def test_a_body_that_is_no_request_is_refused_in_words(client: TestClient, body: str) -> None:
    answer = client.post("/api/queue", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 404, 422)
    assert answer.json()["problems"][0]["code"].startswith("E-")


def test_only_pages_are_open() -> None:
    shown = ["/", "/favicon.svg", "/assets/index-Ab_9.js"]
    assert all(OPEN.fullmatch(path) for path in shown)
    for path in (
        "/assets/",
        "/assets/../x",
        "/assets/.htaccess",
        "/assets/a/b.js",
        "/index.html",
        "//",
        "/api/hello",
        "/assets/a\n",
    ):
        assert not OPEN.fullmatch(path), path
