"""A server on folders of its own, and a browser's side of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from impasto.web.app import create
from impasto.web.site import Site, roots

if TYPE_CHECKING:
    from playwright.sync_api import Page

TOKEN = "a-token-of-a-test-0123456789"
HOST = "127.0.0.1:7861"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    for name in ("runs", "pictures", "models"):
        (tmp_path / name).mkdir()
    return Site(
        token=TOKEN,
        roots=roots([("runs", tmp_path / "runs"), ("data", tmp_path / "pictures"), ("models", tmp_path / "models")]),
        queue=tmp_path / "state" / "queue.db",
        cache=tmp_path / "cache",
        state=tmp_path / "state",
        static=tmp_path / "static",
    )


@pytest.fixture
def client(site: Site) -> Iterator[TestClient]:
    """A page with the token."""
    headers = {"X-Impasto-Token": TOKEN, "Host": HOST}
    with TestClient(create(site), base_url=f"http://{HOST}", headers=headers) as browser:
        yield browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium."""
    from tests.web.driving import chromium

    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Any) -> Iterator[Page]:
    """A fresh tab. What the page throws, or the policy refuses, fails the test."""
    from tests.web.driving import tab

    with tab(browser) as fresh:
        yield fresh
