"""Tables in the pages say what the code says."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable

from impasto.compat import page
from tests.docs import pages

PROJECT = tomllib.loads((pages.ROOT / "pyproject.toml").read_text("utf-8"))


def test_the_table_of_what_may_change_at_a_resume_is_current() -> None:
    text = pages.RESUME.read_text("utf-8")
    assert pages.resume_table() in text, "run: python -m tests.docs.pages"
    assert pages.with_tables(text) == text


def test_the_tables_on_coming_from_kohya_are_current() -> None:
    text = pages.KOHYA.read_text("utf-8")
    assert page.differences() in text, "run: python -m tests.docs.pages"
    assert page.absences() in text
    assert pages.with_differences(text) == text


def test_every_dependency_has_an_entry_and_no_other_has() -> None:
    page = (pages.ROOT / "docs" / "explanation" / "dependencies.md").read_text("utf-8")
    needed, developing = page.split("\n## For development\n")
    assert _entries(needed) == _names(PROJECT["project"]["dependencies"])
    assert _entries(developing) == _names(PROJECT["project"]["optional-dependencies"]["dev"])


def test_the_layers_are_those_of_the_import_contract() -> None:
    page = (pages.ROOT / "docs" / "explanation" / "architecture.md").read_text("utf-8")
    shown = page.split("<!-- layers, as in pyproject.toml -->\n```\n")[1].split("\n```")[0].splitlines()
    layers = next(each for each in PROJECT["tool"]["importlinter"]["contracts"] if each["type"] == "layers")
    assert shown == layers["layers"]


def test_the_tree_has_every_package() -> None:
    page = (pages.ROOT / "docs" / "explanation" / "architecture.md").read_text("utf-8")
    packages = [each.parent.name for each in (pages.ROOT / "impasto").glob("*/__init__.py")]
    modules = [each.name for each in (pages.ROOT / "impasto").glob("*.py")]
    assert not [each for each in packages if f"\n  {each}/" not in page]
    assert not [each for each in modules if f"\n  {each} " not in page]


def test_every_code_of_a_message_is_explained() -> None:
    told = "\n".join(page.read_text("utf-8") for page in pages.pages())
    sources = [path.read_text("utf-8") for path in (pages.ROOT / "impasto").rglob("*.py")]
    codes = {code for text in sources for code in re.findall(r'"([EW]-[A-Z]{3}-\d{3})"', text)}
    assert not {code for code in codes if f"\n| {code} |" not in told}


def _entries(page: str) -> set[str]:
    return set(re.findall(r"^### (\S+)$", page, re.MULTILINE))


def _names(requirements: Iterable[str]) -> set[str]:
    return {re.split(r"[<>=!~\[; ]", each)[0] for each in requirements}
