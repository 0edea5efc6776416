"""The scripts behind some pages: what they train could start, and the pages say what they found."""

from __future__ import annotations

import ast
import json
import sys
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from impasto.adapters.config import Lora
from impasto.adapters.targets import Layer, Seat, Size, Target
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


@pytest.fixture(scope="module")
def pissa() -> ModuleType:
    return _script("pissa")


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


def test_the_page_on_validation_says_what_was_found() -> None:
    found = json.loads((EXPLAINED / "validation.json").read_text("utf-8"))
    table = _script("planted").page(found["overtrained"], found["mislabelled"])
    assert table in (EXPLAINED / "validation.md").read_text("utf-8")
    assert [each["seed"] for each in found["mislabelled"]] == [0, 1, 2, 3, 4]


def test_every_start_could_be_trained(pissa: ModuleType, tmp_path: Path) -> None:
    pissa.examples(tmp_path)
    for start in pissa.STARTS:
        assert [str(each) for each in check(pissa.settings(tmp_path, 4, start, 1e-3, 0), Source())] == []


def test_the_page_on_pissa_says_what_was_measured(pissa: ModuleType) -> None:
    measured = json.loads((EXPLAINED / "pissa.json").read_text("utf-8"))
    assert pissa.page(measured) == (EXPLAINED / "pissa.md").read_text("utf-8")


@pytest.mark.parametrize("layer", [nn.Linear(7, 5), nn.Conv2d(6, 5, 3, padding=1)], ids=["linear", "convolution"])
def test_the_other_start_is_the_bases_own_best_product_and_changes_nothing(pissa: ModuleType, layer: Layer) -> None:
    seat = Seat(Target("x", "x", "unet", "attention", layer, default=True), Size(3, 6.0))
    made = pissa.Principal(Lora(), seat, torch.Generator())
    base, start = layer.weight.detach().flatten(1), (made.weight(layer) - layer.weight).detach().flatten(1)
    values = torch.linalg.svdvals(base)
    assert torch.linalg.matrix_norm(base - start) == pytest.approx(float(values[3:].square().sum().sqrt()), rel=1e-5)
    x = torch.randn(2, 7) if isinstance(layer, nn.Linear) else torch.randn(2, 6, 4, 4)
    assert torch.equal(made(x, layer(x), layer), layer(x))
    with torch.no_grad():
        made.lora_up.weight.mul_(2)
        gained = made(x, torch.zeros_like(layer(x)), layer)
        again = made.scale * made.lora_up(made.lora_down(x)) / 2
    torch.testing.assert_close(gained, again)  # of B A, whatever it has become, what it was is taken off


def test_the_page_on_speed_says_what_was_measured() -> None:
    bench = _script("bench")
    page = (EXPLAINED / "performance.md").read_text("utf-8")
    assert bench.with_tables(page, json.loads((EXPLAINED / "performance.json").read_text("utf-8"))) == page


PYTHON = b"#!/usr/bin/env python"
WRITTEN = [path for path in sorted((pages.ROOT / "scripts").iterdir()) if path.read_bytes().startswith(PYTHON)]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda each: each.name)
def test_what_a_script_takes_from_impasto_is_there(path: Path) -> None:
    taken = [
        (node.module, name.name)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "impasto"
        for name in node.names
    ]
    for module, name in taken:
        assert hasattr(import_module(str(module)), name) or find_spec(f"{module}.{name}"), f"{module} has no {name}"
