"""The first thing a new user does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from impasto import events
from impasto.engine import first, quickstart
from impasto.runs.folder import RunFolder

pytestmark = pytest.mark.timeout(1200)  # two minutes on two idle cores


def test_the_quickstart_teaches_a_new_concept_and_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "a first try, é"
    config = first.settings(folder)
    measured = quickstart.quickstart(folder, config)

    assert measured["before"] < 0.2
    assert measured["after"] - measured["before"] > 0.3
    assert measured["distance_after"] < measured["distance_before"]
    run = RunFolder.open(folder / "zorb")
    told = events.read(run.events)
    proof = next(each for each in told if isinstance(each, events.Proven))
    assert proof.matched == proof.expected > 0
    assert run.final.is_file()
    assert run.curve.is_file()
    assert json.loads((run.path / "record.json").read_text())["similarity"] == pytest.approx(measured)
    with Image.open(folder / "before_after.png") as sheet:
        assert sheet.width > 8 * 128
    said = quickstart.closing(folder, config, measured)
    assert str(run.final) in said
    again = quickstart.quickstart(folder, first.settings(folder))
    assert again == measured
    assert sum(isinstance(each, events.Step) for each in events.read(run.events)) == first.STEPS
