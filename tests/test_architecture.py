"""What keeps the house in shape, beyond the import contracts."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

import impasto
from impasto.config import RunConfig

SOURCES = sorted(Path(impasto.__file__).parent.rglob("*.py"))


def sections(model: type[BaseModel] = RunConfig) -> Iterator[type[BaseModel]]:
    """Every section below `model`, itself included."""
    yield model
    for field in model.model_fields.values():
        for each in _classes(field.annotation):
            yield from sections(each)


def _classes(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _classes(inner)


def test_the_light_front_leaves_torch_alone() -> None:
    light = "impasto, impasto.runs.folder, impasto.runs.control, impasto.store, impasto.checks, impasto.families.detect"
    light += (
        ", impasto.experiments.lineup, impasto.experiments.apart, impasto.experiments.page, impasto.experiments.pack"
    )
    light += ", impasto.preflight.plan, impasto.preflight.show, impasto.preflight.probe, impasto.sweeps.fleets"
    light += ", impasto.sweeps.expand, impasto.sweeps.queued, impasto.sweeps.search, impasto.sweeps.mirror"
    code = f"import sys, {light}; sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_public_names_are_what_the_package_offers() -> None:
    assert sorted(impasto.__all__) == impasto.__all__
    assert all(getattr(impasto, name).__doc__ for name in impasto.__all__ if name != "Event")


def test_every_setting_and_section_explains_itself() -> None:
    silent = [
        f"{section.__name__}.{name}"
        for section in set(sections())
        for name, field in section.model_fields.items()
        if name != "kind" and not field.description
    ]
    assert not silent
    assert not [section.__name__ for section in set(sections()) if not section.__doc__]


def test_no_file_is_longer_than_400_lines() -> None:
    long = {path.name: count for path in SOURCES if (count := len(path.read_text("utf-8").splitlines())) > 400}
    assert not long


def test_no_pickle_is_written_or_read() -> None:
    ways = re.compile(
        r"\b(import|from) (c?[pP]ickle|dill|cloudpickle)\b|torch\.(load|save)\(|\bpickle\.|allow_pickle=True"
    )
    assert not [(path.name, way.group()) for path in SOURCES if (way := ways.search(path.read_text("utf-8")))]


def test_only_families_and_names_ask_which_family_a_base_is() -> None:
    root = Path(impasto.__file__).parent
    may = {"families", "weights/recognise.py", "weights/inspect.py", "compat"}  # the last: scripts of other trainers
    words = re.compile(r"card\.family\b(?!,)|[\"'](sd1|sd2|sdxl)[\"']|StableDiffusion(Xl)?\b|\bsd(xl)?_targets\b")
    asking = {
        path.relative_to(root).as_posix(): found.group()
        for path in SOURCES
        if not any(path.is_relative_to(root / each) for each in may)
        and (found := words.search(path.read_text("utf-8")))
    }
    assert not asking
