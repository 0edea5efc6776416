"""New run, Datasets and Tools, driven in a real browser. Screenshots go to build/shots."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tests.web.driving import AXE, CHROMIUM, App, Page, served, shot, tab
from tests.web.hostile import HOSTILE, TRAP, is_untouched

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

PICTURES = 2000
KOHYA = (
    '{"network_dim": 24, "network_alpha": 12, "unet_lr": 0.0002, "lr_scheduler": "cosine", "epoch": 7,'
    ' "output_name": "from-kohya", "seed": 42}'
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with a small and a large folder of pictures, and nobody who trains."""
    home = tmp_path_factory.mktemp("home")
    _folder(home / "pictures" / "anna", 6)
    _folder(home / "pictures" / "many", PICTURES)
    with served(home, "--no-workers") as running:
        yield running


@pytest.fixture(scope="module")
def pictures(app: App) -> Path:
    """Where the folders are."""
    return app.runs.parent / "pictures"


def test_a_folder_is_a_queued_run_after_five_clicks_at_most(page: Page, app: App, pictures: Path) -> None:
    page.goto(app.address)
    page.evaluate("window.clicks = 0; addEventListener('pointerdown', () => window.clicks++, true)")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="New run").click()
    page.locator("label.card", has_text="anna").click()
    page.get_by_label("Plan").get_by_text("60", exact=True).wait_for()  # the plan follows by itself
    page.get_by_role("button", name="Add to queue").click()
    page.get_by_role("heading", name="anna", level=1).wait_for()
    page.get_by_text("queued").first.wait_for()
    assert page.evaluate("window.clicks") <= 5
    assert str(pictures / "anna") in (app.runs / "anna" / "config.toml").read_text()


def test_form_and_file_follow_each_other_and_comments_stay(page: Page, app: App) -> None:
    page.goto(app.at("/new?depth=everything"))
    file = page.get_by_label("The settings as TOML")
    file.fill("# mine\n[adapter]\n# small\nrank = 8\n")
    page.get_by_label("Find a setting").fill("rank")
    rank = page.get_by_label("Rank", exact=True)
    page.wait_for_function("(box) => box.value === '8'", arg=rank.element_handle())
    rank.fill("16")
    page.wait_for_function("(box) => box.value.includes('rank = 16')", arg=file.element_handle())
    assert file.input_value() == "# mine\n[adapter]\n# small\nrank = 16\n"
    rank.fill("-3")
    page.get_by_text("That should be a whole number > 0").wait_for()
    assert "rank = 16" in file.input_value(), "what is no value is not written"
    page.get_by_role("button", name="Rank back to 4").click()
    page.wait_for_function("(box) => !box.value.includes('rank')", arg=file.element_handle())


def test_a_setting_becomes_an_axis_of_a_sweep_with_one_button(page: Page, app: App, pictures: Path) -> None:
    folder = quote(str(pictures / "anna"), safe="")
    page.goto(app.at(f"/new?depth=standard&data={folder}"))
    page.get_by_role("button", name="Try several values of Learning rate", exact=True).click()
    assert page.get_by_label("Values of Learning rate in the sweep").input_value() == "5e-5; 1e-4; 2e-4"
    page.get_by_label("Values of Learning rate in the sweep").fill("1e-4; 3e-4")
    page.get_by_label("Name", exact=True).last.fill("rates")
    page.get_by_text("Sweep: 2 runs").wait_for()
    page.get_by_role("button", name="Add to queue").click()
    page.get_by_text("2 runs are in the queue").wait_for()
    page.goto(page.url.split("#")[0] + "#/runs")
    page.get_by_label("Find runs").fill("rates")
    page.locator("tbody tr:not(.gap)").nth(1).wait_for()
    assert page.locator("tbody tr:not(.gap)").count() == 2


def test_a_kohya_file_is_taken_over_by_dropping_it(page: Page, app: App) -> None:
    page.goto(app.at("/new"))
    page.get_by_role("heading", name="Base model").wait_for()
    _drop(page, "kohya.json", KOHYA)
    report = page.get_by_role("dialog")
    report.get_by_text("network_dim").wait_for()
    report.get_by_role("button", name="Go on with these settings").click()
    assert page.get_by_label("Rank", exact=True).input_value() == "24"
    assert page.get_by_label("Name", exact=True).last.input_value() == "from-kohya"


def test_captions_of_2000_pictures_are_edited_saved_and_taken_back(page: Page, app: App, pictures: Path) -> None:
    caption = pictures / "many" / f"{PICTURES - 1:04}.txt"
    before = caption.read_text()
    page.goto(app.at("/datasets/many"))
    page.locator("#picture-0").wait_for()
    assert page.evaluate("document.querySelectorAll('*').length") < 1500, "only what is in view is in the page"
    page.get_by_role("listbox", name="Pictures").focus()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    text = page.get_by_label("Caption", exact=True)
    page.get_by_role("heading", name=f"{PICTURES - 1:04}.png").wait_for()
    text.fill("anna, a red hat")
    page.get_by_label("Add tags").fill("smiling")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Take out a red hat").click()
    assert text.input_value() == "anna, smiling"
    assert caption.read_text() == before, "files are changed by Save only"
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("1 caption is saved").wait_for()
    assert caption.read_text().strip() == "anna, smiling"
    page.get_by_role("button", name="History").click()
    page.get_by_role("dialog").get_by_role("button", name="Undo").click()
    page.get_by_text("The last save is undone").wait_for()
    assert caption.read_text() == before


def test_captions_that_were_not_saved_outlive_a_reload(page: Page, app: App, pictures: Path) -> None:
    files = [pictures / "many" / f"{at:04}.txt" for at in (1, 2)]
    before = [each.read_text() for each in files]
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.goto(app.at("/datasets/many"))
    for at in (1, 2):
        page.locator(f"#picture-{at}").click()
        page.get_by_role("heading", name=f"{at:04}.png").wait_for()
        page.get_by_label("Caption", exact=True).fill(f"anna, unsaved {at}")
    page.reload()
    assert asked == ["beforeunload"], "leaving is warned of"
    page.get_by_text("2 captions were changed here just now and not saved").wait_for()
    page.screenshot(path=shot("dataset-unsaved"))
    page.get_by_role("button", name="Take them up").click()
    page.get_by_text("2 captions changed", exact=True).wait_for()
    page.locator("#picture-2").click()
    assert page.get_by_label("Caption", exact=True).input_value() == "anna, unsaved 2"
    assert [each.read_text() for each in files] == before, "files are changed by Save only"
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("2 captions are saved").wait_for()
    assert files[1].read_text().strip() == "anna, unsaved 2"
    page.reload()
    page.locator("#picture-0").wait_for()
    assert page.get_by_text("and not saved").count() == 0
    for file, text in zip(files, before, strict=True):
        file.write_text(text)


def test_many_captions_change_after_a_preview_and_tags_narrow_the_grid(page: Page, app: App, pictures: Path) -> None:
    first = pictures / "many" / "0001.txt"
    before = first.read_text()
    page.goto(app.at("/datasets/many"))
    page.get_by_role("button", name="tag 3", exact=False).first.wait_for()
    page.get_by_role("button", name="Change many").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Find", exact=True).fill("anna")
    dialog.get_by_label("Replace by").fill("zorb")
    dialog.get_by_role("button", name="Preview").click()
    dialog.get_by_text(f"{PICTURES - 1} captions change").wait_for()
    dialog.get_by_role("button", name="Take over").click()
    page.get_by_text(f"{PICTURES - 1} captions changed").wait_for()
    assert first.read_text() == before
    page.get_by_role("button", name="Drop").click()
    page.get_by_role("button", name=re.compile("has no caption")).click()
    page.get_by_text("1 shown").wait_for()
    page.get_by_role("button", name="Change many").click()
    dialog.get_by_label("Add tags").fill("anna")
    dialog.get_by_role("button", name="Preview").click()
    dialog.get_by_text("1 caption changes").wait_for()  # that of the picture the filter left


def test_no_name_caption_or_metadata_becomes_a_script(page: Page, app: App, pictures: Path) -> None:
    folder = pictures / "hostile"
    folder.mkdir()
    for at, text in enumerate(HOSTILE):
        name = folder / f"{at:03} {text.replace('/', '')[:90]}.png"
        name.write_bytes(_png(at))
        name.with_suffix(".txt").write_text(f"{text}, tag {text}")
    told = {f"ss_{at} {text}": text for at, text in enumerate(HOSTILE)}
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    low, high = (np.zeros(shape, np.float32) for shape in ((2, 32), (32, 2)))
    file_of_them = pictures / "<img src=x onerror=owned()>.safetensors"
    tensors = {f"{module}.lora_down.weight": low, f"{module}.lora_up.weight": high}
    save_file(tensors, str(file_of_them), {**told, "ss_output_name": HOSTILE[0]})
    page.add_init_script(TRAP)
    page.goto(app.at("/datasets/hostile"))
    page.locator("#picture-0").click()
    page.get_by_role("listbox", name="Pictures").focus()
    for _ in range(len(HOSTILE) // 12):
        page.keyboard.press("PageDown")
        page.wait_for_timeout(30)
    page.get_by_role("button", name=re.compile("onerror=owned")).first.click()  # a tag
    page.get_by_role("button", name="Change many").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Find", exact=True).fill("owned")
    dialog.get_by_label("Replace by").fill("owned<b>")
    dialog.get_by_role("button", name="Preview").click()
    dialog.get_by_text("change").first.wait_for()
    page.keyboard.press("Escape")
    for path in ("/datasets", "/tools/models", "/tools/weights"):
        page.evaluate("(path) => { location.hash = path; }", path)
        page.wait_for_timeout(300)
    file = page.get_by_label("Adapter", exact=True).locator("option", has_text="onerror").get_attribute("value")
    page.get_by_label("Adapter", exact=True).select_option(file)
    page.get_by_role("button", name="Inspect").last.click()
    page.get_by_text("layers: unet 1").first.wait_for(timeout=60_000)
    page.evaluate("location.hash = '/new'")
    page.get_by_role("heading", name="Base model").wait_for()
    other = {**json.loads(KOHYA), "output_name": HOSTILE[0], **dict.fromkeys(HOSTILE, HOSTILE[4])}
    _drop(page, "kohya.json", json.dumps(other))
    page.get_by_role("dialog").get_by_text("output_name").wait_for()
    assert is_untouched(page)
    shutil.rmtree(folder)
    file_of_them.unlink()


STATES = {
    "new-quick": "/new",
    "new-standard": "/new?depth=standard",
    "new-everything": "/new?depth=everything",
    "datasets": "/datasets",
    "dataset": "/datasets/many",
    "tools-weights": "/tools/weights",
    "tools-models": "/tools/models",
    "tools-storage": "/tools/storage",
    "tools-settings": "/tools/look",
}


def test_these_pages_are_accessible_in_both_themes_and_fit_a_phone(browser: Any, app: App) -> None:
    axe = AXE.read_text("utf-8")
    found: dict[str, Any] = {}
    for scheme, width in (("light", 1440), ("dark", 1440), ("light", 380)):
        with tab(browser, width=width, scheme=scheme) as page:
            page.goto(app.address)
            page.get_by_role("heading", level=1).wait_for()
            page.evaluate(axe)
            for name, path in STATES.items():
                page.evaluate("(path) => { location.hash = path; }", path)
                heading = {"new": "New run", "datasets": "Datasets", "dataset": "many", "tools": "Tools"}
                page.get_by_role("heading", level=1, name=heading[name.split("-")[0]]).wait_for()
                page.get_by_text(re.compile("Loading the|Looking (through|at)")).first.wait_for(state="hidden")
                page.wait_for_timeout(200)  # pictures and plans come after the heading
                page.screenshot(path=shot(f"{name}-{'phone' if width < 640 else scheme}"))
                if width < 640:
                    found[f"{name} is too wide"] = page.evaluate(
                        "[document.documentElement, document.querySelector('main')]"
                        ".some((box) => box.scrollWidth > box.clientWidth)"
                    )
                else:
                    only = "" if scheme == "light" else "runOnly: ['color-contrast'],"
                    told = page.evaluate(f"axe.run({{{only} resultTypes: ['violations']}})")
                    found[f"{name} {scheme}"] = [
                        f"{each['id']}: {each['nodes'][0]['html'][:160]}"
                        for each in told["violations"]
                        if each["impact"] in ("serious", "critical")
                    ]
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def _folder(folder: Path, pictures: int) -> None:
    """Pictures with captions, but for the first of a large folder."""
    folder.mkdir(parents=True)
    drawn = [_png(at) for at in range(min(pictures, 24))]
    for at in range(pictures):
        (folder / f"{at:04}.png").write_bytes(drawn[at % 24])
        if at or pictures < 100:
            (folder / f"{at:04}.txt").write_text(f"anna, tag {at % 7}")


def _png(at: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (32 + at % 3 * 8, 32), (at * 10, 200 - at * 8, 120)).save(file, "PNG")
    return file.getvalue()


def _drop(page: Page, name: str, text: str) -> None:
    transfer = page.evaluate_handle(
        "([name, text]) => { const all = new DataTransfer(); all.items.add(new File([text], name)); return all; }",
        [name, text],
    )
    page.dispatch_event("main h1", "drop", {"dataTransfer": transfer})
