"""What the pages are made from, without a browser."""

from __future__ import annotations

import json
from pathlib import Path

from impasto.web.openapi import description

WEB = Path(__file__).parents[2] / "web"


def test_the_pages_types_come_from_the_api_as_it_is() -> None:
    kept = json.loads((WEB / "openapi.json").read_text("utf-8"))
    assert kept == description(), "python -m impasto.web.openapi > web/openapi.json"


def test_the_lock_file_names_no_host_and_has_a_checksum_for_all_that_is_fetched() -> None:
    packages = json.loads((WEB / "package-lock.json").read_text("utf-8"))["packages"]
    fetched = {name: each for name, each in packages.items() if name}
    assert not [name for name, each in fetched.items() if "resolved" in each]
    assert not [name for name, each in fetched.items() if not each.get("integrity", "").startswith("sha512-")]


def test_the_pages_ask_nobody_but_their_own_server() -> None:
    sources = [path for path in (WEB / "src").rglob("*") if path.suffix in (".ts", ".svelte", ".css")]
    assert sources
    told = [
        f"{path.name}: {line.strip()}"
        for path in [*sources, WEB / "index.html"]
        if path.name != "schema.d.ts"
        for line in path.read_text("utf-8").splitlines()
        if "http://" in line.replace("http://www.w3.org", "") or "https://" in line or "{@html" in line
    ]
    assert told == []
