"""What the pages point at is there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.docs import pages

every_page = pytest.mark.parametrize("page", pages.pages(), ids=pages.name)


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    lost = [target for target in re.findall(r"\]\(([^)\s]+)\)", pages.prose(page)) if _lost(page, target)]
    assert not lost


@every_page
def test_every_file_and_test_that_is_named_exists(page: Path) -> None:
    named = [each for each in pages.inline(page) if re.match(r"(impasto|tests|scripts|docs)/[\w./-]+", each)]
    assert not [each for each in named if "<" not in each and not _exists(each)]


def test_every_page_is_in_the_index() -> None:
    index = (pages.ROOT / "docs" / "README.md").read_text("utf-8")
    own = [page.relative_to(pages.ROOT / "docs").as_posix() for page in pages.pages() if "docs" in page.parts]
    assert not [each for each in own if each != "README.md" and f"({each})" not in index]


def test_the_scripts_that_are_named_can_be_run() -> None:
    named = {line.split()[0] for block in pages.blocks("sh") for line in block.text.splitlines() if line.strip()}
    scripts = [each for each in named if each.startswith("scripts/")]
    assert scripts
    assert all(os.access(pages.ROOT / each, os.X_OK) for each in scripts)


def _lost(page: Path, target: str) -> bool:
    if re.match(r"[a-z]+:", target):
        return False
    path, _, heading = target.partition("#")
    file = page.parent / path if path else page
    if not file.exists():
        return not _comes_with_the_model(file)
    return bool(heading) and heading not in _headings(file)


def _comes_with_the_model(file: Path) -> bool:
    """The reports on the pocket model and what it can teach are written once it is trained, each all at once."""
    explanation = pages.ROOT / "docs" / "explanation"
    for report in (explanation / "pocket", explanation / "quickstart", explanation / "knobs"):
        if file.parent == report or file == report.with_suffix(".md"):
            return not (report.is_dir() and any(report.iterdir()))
    return False


def _headings(file: Path) -> set[str]:
    """The headings of a page as links name them."""
    titles = re.findall(r"^#+ (.+)$", pages.prose(file), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _exists(named: str) -> bool:
    path, _, test = named.partition("::")
    file = pages.ROOT / path
    if not test:
        return file.exists()
    return file.is_file() and f"def {test}(" in file.read_text("utf-8")
