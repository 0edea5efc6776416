"""The script behind the page on DyLoRA: what it trains could start, its page says what it found."""

from __future__ import annotations

import json
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from impasto.checks import check
from impasto.settings.source import Source
from tests.docs import pages

EXPLAINED = pages.ROOT / "docs" / "explanation"


def _script(name: str) -> ModuleType:
    loader = SourceFileLoader(f"{name}_script", str(pages.ROOT / "scripts" / name))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    module = module_from_spec(spec)
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dylora() -> ModuleType:
    return _script("dylora")


def test_every_dylora_could_be_trained(dylora: ModuleType, tmp_path: Path) -> None:
    dylora.examples(tmp_path)
    for pictures in ("all", "some"):
        assert [str(each) for each in check(dylora.settings(tmp_path, pictures, 1), Source())] == []
    assert len([*(tmp_path / "held-out").glob("*.png")]) == dylora.HELD_OUT


def test_the_page_on_dylora_says_what_was_measured(dylora: ModuleType) -> None:
    page = (pages.ROOT / "docs" / "how-to" / "dylora.md").read_text("utf-8")
    measured = json.loads((EXPLAINED / "dylora.json").read_text("utf-8"))
    assert dylora.with_tables(page, measured) == page
    assert f"({dylora.STEPS} steps" in page
