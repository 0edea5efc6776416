"""The script behind the page on knobs: its settings exist, and its page can say whatever is measured."""

from __future__ import annotations

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from impasto.checks import check
from impasto.settings.source import Source
from tests.docs import pages


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("knobs_script", str(pages.ROOT / "scripts" / "knobs"))
    spec = spec_from_loader("knobs_script", loader)
    assert spec
    module = module_from_spec(spec)
    sys.modules["knobs_script"] = module
    loader.exec_module(module)
    return module


def test_every_variant_could_be_trained(script: ModuleType, tmp_path: Path) -> None:
    script.examples(tmp_path)
    bench = script.Bench(tmp_path, 1.0)
    for knob in script.KNOBS:
        for at, variant in enumerate(knob.variants):
            config = bench._config(f"{knob.name}-{at}", knob, variant)
            assert [str(each) for each in check(config, Source())] == []


def test_a_knob_has_a_usual_row_or_moments_to_compare(script: ModuleType) -> None:
    for knob in script.KNOBS:
        keys = [variant.key for variant in knob.variants]
        assert len(set(keys)) == len(keys)
        assert len(keys) > 1 or len(knob.variants[0].moments) > 1


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_the_page_has_a_section_for_each_measured_knob(script: ModuleType, value: float) -> None:
    page = script.page({knob.name: _rows(script, knob, value) for knob in script.KNOBS})
    for knob in script.KNOBS:
        assert f"\n## {knob.title}\n" in page
        assert f"(knobs/{knob.name}.webp)" in page
    assert "## Rank" not in script.page({})


def test_the_pages_pictures_are_small() -> None:
    pictures = [*(pages.ROOT / "docs" / "explanation" / "knobs").glob("*.webp")]
    assert sum(each.stat().st_size for each in pictures) < 1_500_000


def _rows(script: ModuleType, knob: Any, value: float) -> list[dict[str, Any]]:
    return [
        {"label": variant.label, "settings": variant.told, "numbers": dict.fromkeys(script.MEASURES, value * at)}
        for at, variant in enumerate(knob.variants)
    ]
