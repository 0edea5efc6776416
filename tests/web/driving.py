"""The app and a browser to drive it with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HERE = Path(__file__).parents[2]
SHOTS = HERE / "build" / "shots"
AXE = HERE / "web" / "node_modules" / "axe-core" / "axe.min.js"

Page = Any
"""Of playwright; its types are not needed to read what is tested."""


@dataclass(frozen=True)
class App:
    """A running `impasto ui`."""

    address: str
    """With the token."""
    runs: Path

    def at(self, path: str) -> str:
        """The address of a page, for a tab that never was here."""
        return f"{self.address}&to={quote(path, safe='')}"


@contextmanager
def served(home: Path, *options: str) -> Iterator[App]:
    """`impasto ui` with all that it keeps in `home`: its folders are `pictures` and `runs`."""
    assert (HERE / "impasto/web/static/index.html").is_file(), "no pages: cd web && npm ci && npm run build"
    (home / "pictures").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "impasto", "ui", "--no-browser", "--port", "0", *options]
    own = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "XDG_STATE_HOME": str(home / "state")}
    with subprocess.Popen(
        [*command, "--root", "pictures", "--runs", "runs"], cwd=home, stdout=subprocess.PIPE, text=True,
        env={**os.environ, **own, "PYTHONPATH": str(HERE)},
    ) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+#token=\S+", server.stdout.readline())
            assert found, "impasto ui printed no address"
            yield App(found[0], home / "runs")
        finally:
            server.terminate()


@contextmanager
def chromium() -> Iterator[Any]:
    """The system's browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@contextmanager
def tab(browser: Any, *, width: int = 1280, height: int = 860, scheme: str = "light") -> Iterator[Page]:
    """A fresh tab. What its page throws, or the policy refuses, is an error; `wrong` has it."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(_told(message)) if message.type == "error" else None)
    page.wrong = wrong
    yield page
    context.close()
    assert not wrong, wrong


def shot(name: str) -> Path:
    """Where a screenshot goes."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    return SHOTS / f"{name}.png"


def _told(message: Any) -> str:
    return f"{message.text} {message.location.get('url', '')}"
