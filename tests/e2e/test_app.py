"""The web app from its first start to a trained adapter, with nothing but a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.web.driving import CHROMIUM, chromium, served, shot, tab

PATIENCE = 300_000
"""Milliseconds for a training on a busy machine."""


@pytest.mark.timeout(1200)  # a minute on two idle cores
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_a_first_start_ends_with_a_trained_adapter_and_its_pictures(tmp_path: Path) -> None:
    with served(tmp_path) as app, chromium() as browser, tab(browser) as page:
        page.goto(app.address)
        page.get_by_role("button", name="Run the quickstart").click()
        page.get_by_role("heading", name="zorb", level=1).wait_for()
        page.locator(".state", has_text="training").wait_for(timeout=PATIENCE)
        curve = page.get_by_label("Loss. training: now")
        curve.wait_for()
        early = curve.get_attribute("aria-label")
        page.locator(".state", has_text="done").wait_for(timeout=PATIENCE)

        assert curve.get_attribute("aria-label") != early, "the curve lives"
        page.get_by_text("Try first: zorb.safetensors").wait_for()
        assert (app.runs / "quickstart" / "zorb" / "zorb.safetensors").is_file()
        page.get_by_role("tab", name="Previews").click()
        page.locator("td img").first.wait_for()
        assert page.locator("td button:not(.none)").count() == 4 * 5, "four prompts, as it learns"
        page.get_by_role("tab", name="Checkpoints").click()
        page.get_by_text("141 of 141 layers").wait_for()
        page.screenshot(path=shot("quickstart-done"))
