"""The pages, driven in a real browser as a person would. Screenshots of all of them go to build/shots."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from impasto import events
from impasto.runs.folder import RunFolder
from tests.web import made
from tests.web.driving import AXE, CHROMIUM, HERE, App, Page, served, shot, tab
from tests.web.hostile import HOSTILE, TRAP, is_untouched

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with served(tmp_path_factory.mktemp("home"), "--no-workers") as started:
        yield started


@pytest.fixture(scope="module")
def anna(app: App) -> RunFolder:
    """A run that is done, with three previews of two prompts, and one that trains under another name's hand."""
    prompts = 'preview.prompts=[{text="a photo of anna", seed=1}, {text="anna on a beach", seed=2}]'
    run = made.finished(app.runs / "anna", 60)
    run.config.write_text(made.run(app.runs / "anna-fast", *made.steps(1, 30), laid_over=[prompts]).config.read_text())
    run.config.write_text(run.config.read_text().replace('"anna-fast"', '"anna"', 1))
    for each in (run, RunFolder.open(app.runs / "anna-fast")):
        for at, step in enumerate((0, 30, 60)):
            for prompt in range(2):
                name = f"{step:08d}-{prompt}.png"
                Image.new("RGB", (64, 64), (40 + 80 * at, 60, 120 + 40 * prompt)).save(each.previews / name)
                if each is run or step <= 30:
                    made.tell(each, events.Preview(step=step, file=name, prompt=prompt, time=1600.0 + at))
    return run


def test_a_first_start_shows_a_run_after_one_click(page: Page, app: App) -> None:
    page.goto(app.address)
    page.get_by_role("heading", name="Welcome").wait_for()
    assert "token" not in page.url
    page.screenshot(path=shot("welcome-light"))
    page.get_by_role("button", name="Run the quickstart").click()
    page.get_by_role("heading", name="zorb", level=1).wait_for()
    page.get_by_text("queued").first.wait_for()
    page.get_by_role("link", name="Runs", exact=True).first.click()
    page.get_by_role("table").get_by_role("link", name="zorb").wait_for()
    page.goto(page.url.split("#")[0] + "#/queue")
    page.get_by_role("button", name="out of the line").click()
    page.get_by_role("heading", name="Ended").wait_for()


def test_a_tab_without_the_token_is_told_where_to_find_it(page: Page, app: App) -> None:
    page.goto(app.address.split("#")[0])
    page.get_by_role("heading", name="These pages are locked").wait_for()
    page.get_by_label("Address or token").fill(app.address)
    page.get_by_role("button", name="Open").click()
    page.get_by_role("link", name="Home", exact=True).wait_for()
    assert all("401" in each for each in page.wrong), "only the refusal is told"
    page.wrong.clear()


def test_runs_are_found_sorted_starred_and_tagged(page: Page, app: App, anna: RunFolder) -> None:
    page.goto(app.at("/runs"))
    rows = page.locator("tbody tr:not(.gap)")
    page.get_by_role("link", name="anna", exact=True).wait_for()
    page.keyboard.press("/")
    page.keyboard.type("fast")
    assert rows.count() == 1
    page.get_by_role("button", name="Star anna-fast").click()
    page.get_by_role("checkbox", name="Choose anna-fast").check()
    page.get_by_label("Tag to add").fill("too hot")
    page.get_by_role("button", name="Add tag").click()
    page.get_by_label("Find runs").fill("hot")
    page.locator(".chip", has_text="too hot").wait_for()
    page.reload()
    page.get_by_role("button", name="Star anna-fast", pressed=True).wait_for()
    assert page.get_by_label("Find runs").input_value() == "hot"


def test_a_run_tells_what_happens_while_one_looks(page: Page, app: App, anna: RunFolder) -> None:
    run = RunFolder.open(app.runs / "anna-fast")
    page.goto(app.at("/runs/runs%3Aanna-fast"))
    page.get_by_role("heading", name="anna-fast", level=1).wait_for()
    loss = page.get_by_label("Loss. ")
    loss.wait_for()
    made.tell(run, *made.steps(31, 40, time=time.time() - 100), events.Warned(code="W-MEM-002", text="little memory"))
    page.get_by_role("tab", name="Log").click()
    page.get_by_text("little memory").first.wait_for()
    page.get_by_text("40 of").or_(page.get_by_text("40", exact=True)).first.wait_for()


def test_previews_are_walked_with_the_arrow_keys(page: Page, app: App, anna: RunFolder) -> None:
    page.goto(app.at("/runs/runs%3Aanna?tab=pictures"))
    last = page.get_by_role("button", name="a photo of anna, step 60")
    last.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "anna on a beach, step 30"
    page.keyboard.press("Enter")
    viewer = page.get_by_role("dialog", name="Preview")
    viewer.get_by_role("img", name="anna on a beach at step 30").wait_for()
    page.keyboard.press("ArrowRight")
    viewer.get_by_role("img", name="anna on a beach at step 60").wait_for()
    page.keyboard.press("Escape")
    viewer.wait_for(state="detached")


def test_two_runs_are_compared_by_curves_settings_and_pictures(page: Page, app: App, anna: RunFolder) -> None:
    page.goto(app.at("/runs?q=anna"))
    for name in ("anna", "anna-fast"):
        page.get_by_role("checkbox", name=f"Choose {name}", exact=True).check()
    page.get_by_role("button", name="Compare").click()
    page.get_by_label("Training loss. ").wait_for()
    page.get_by_role("tab", name="Slider").click()
    edge = page.get_by_role("slider", name=re.compile("ends and"))
    edge.focus()
    page.keyboard.press("Home")
    assert edge.input_value() == "0"
    page.get_by_role("tab", name="Vote blind").click()
    page.get_by_role("button", name="The left one is better").click()
    page.get_by_text("1 vote.").wait_for()


def test_a_trainer_that_is_killed_is_seen_as_lost_and_resumed(page: Page, app: App) -> None:
    run = made.run(app.runs / "killed", events.Started(run="killed", steps=90, time=time.time()), *made.steps(1, 20))
    run.checkpoint(10).mkdir()
    made.tell(run, events.Saved(step=10, checkpoint=run.checkpoint(10).name, time=time.time()))
    page.goto(app.at("/runs/runs%3Akilled"))
    holds = (
        "import sys, time, pathlib, impasto.lock as l; l.Lock(pathlib.Path(sys.argv[1])).__enter__(); time.sleep(60)"
    )
    own = {**os.environ, "PYTHONPATH": str(HERE)}
    with subprocess.Popen([sys.executable, "-c", holds, str(run.lock)], env=own) as trainer:
        page.locator(".state.live").wait_for()
        trainer.kill()
    page.locator(".state.bad", has_text="lost").wait_for()
    page.get_by_role("button", name="Resume").click()
    page.get_by_text("queued").first.wait_for()


def test_no_text_of_a_run_becomes_a_script(page: Page, app: App) -> None:
    tries = HOSTILE
    run = made.run(
        app.runs / "hostile",
        events.Started(run=tries[0], steps=90, time=1000.0),
        *made.steps(1, 3),
        *(events.Warned(code="W-MEM-002", text=each, time=1100.0) for each in tries),
        *(events.Noted(text=each, time=1101.0) for each in tries),
        events.Failed(code="E-MEM-001", text=tries[1], time=1200.0),
        record={"machine": tries[2]},
        laid_over=[f"preview.prompts=[{{text={json.dumps(tries[3])}, seed=1}}]"],
    )
    run.config.write_text(run.config.read_text().replace('"hostile"', '"<img src=x onerror=owned()>"', 1))
    file = f"{tries[0].replace('/', '')}.png"
    Image.new("RGB", (8, 8)).save(run.previews / file)
    made.tell(run, events.Preview(step=1, file=file, prompt=0, time=1201.0))
    page.add_init_script(TRAP)
    page.goto(app.at("/runs?q=img"))
    page.get_by_role("link", name="<img src=x").click()
    page.get_by_label("New tag").fill(tries[5][:60])
    page.keyboard.press("Enter")
    page.get_by_label("Note", exact=True).fill(" ".join(tries))
    page.keyboard.press("Tab")
    for part in ("Previews", "Checkpoints", "Settings", "Log"):
        page.get_by_role("tab", name=part).click()
        page.wait_for_timeout(100)
    page.get_by_label("Notes too").check()
    assert page.locator("ol[aria-label=Log] li").count() > 2 * len(tries)
    for path in ("/", "/runs", "/queue", "/lab?tab=compare"):
        _show(page, path)
    page.wrong[:] = [each for each in page.wrong if "/pictures/" not in each]  # a name that the server refuses
    assert is_untouched(page)


PAGES = {
    "home": "/",
    "datasets": "/datasets",
    "new": "/new",
    "runs": "/runs",
    "run": "/runs/runs%3Aanna",
    "previews": "/runs/runs%3Aanna?tab=pictures",
    "checkpoints": "/runs/runs%3Aanna?tab=checkpoints",
    "log": "/runs/runs%3Aanna?tab=log",
    "settings": "/runs/runs%3Aanna?tab=settings",
    "queue": "/queue",
    "compare": "/lab?tab=compare&runs=runs:anna,runs:anna-fast",
    "draw": "/lab?tab=draw",
    "sweeps": "/lab?tab=sweeps",
    "tools": "/tools",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible_in_both_themes(browser: Any, app: App, anna: RunFolder, scheme: str) -> None:
    assert AXE.is_file(), "axe comes with the pages' packages: cd web && npm ci"
    axe = AXE.read_text("utf-8")
    # What is not colour is the same in both.
    rules = "{resultTypes: ['violations']}" if scheme == "light" else "{runOnly: ['color-contrast']}"
    found: dict[str, list[str]] = {}
    with tab(browser, scheme=scheme) as page:
        page.goto(app.address)
        page.get_by_role("heading", level=1).wait_for()
        page.evaluate(axe)
        for name, path in PAGES.items():
            _show(page, path)
            page.screenshot(path=shot(f"{name}-{scheme}"))
            told = page.evaluate(f"axe.run({rules})")
            found[name] = [
                f"{each['id']}: {each['nodes'][0]['html'][:120]}"
                for each in told["violations"]
                if each["impact"] in ("serious", "critical")
            ]
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_every_page_fits_a_phone(browser: Any, app: App, anna: RunFolder) -> None:
    wide = {}
    with tab(browser, width=380, height=780) as page:
        page.goto(app.address)
        page.get_by_role("heading", level=1).wait_for()
        for name, path in PAGES.items():
            _show(page, path)
            page.screenshot(path=shot(f"{name}-phone"))
            wide[name] = page.evaluate(
                "[document.documentElement, document.querySelector('main')]"
                ".some((box) => box.scrollWidth > box.clientWidth)"
            )
    assert [name for name, too_wide in wide.items() if too_wide] == []


def _show(page: Page, path: str) -> None:
    page.evaluate("(path) => { location.hash = path; }", path)
    page.locator("main h1").wait_for()
    for _ in range(2):  # what came may ask for more
        page.wait_for_timeout(75)
        page.locator(".pending").wait_for(state="detached")
