"""The server as a whole."""

from __future__ import annotations

import subprocess
import sys

from starlette.testclient import TestClient


def test_the_server_says_who_it_is_and_what_it_may_look_into(client: TestClient) -> None:
    told = client.get("/api/hello").json()
    assert [(each["id"], each["kind"]) for each in told["roots"]] == [
        ("runs", "runs"),
        ("pictures", "data"),
        ("models", "models"),
    ]


def test_a_server_without_pages_says_how_to_build_them(client: TestClient) -> None:
    assert "python hatch_build.py" in client.get("/").text


def test_the_server_leaves_torch_alone() -> None:
    code = "import sys, impasto.web.app; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
