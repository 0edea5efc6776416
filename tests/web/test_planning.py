"""Plans made beside the requests."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from PIL import Image

from impasto import config
from impasto.config import RunConfig
from impasto.store import Store
from impasto.web.planning import Planned, Planning


@pytest.fixture
def settings(tmp_path: Path) -> RunConfig:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(folder / f"{number}.png")
    return config.load(None, [f'data.sets.0.path="{folder}"', 'data.captions.missing="empty"'])


def ended(planning: Planning, text: str, settings: RunConfig) -> Planned:
    for _ in range(400):
        found = planning.ask(text, settings, patience=0.0)
        if found.ended:
            return found
        time.sleep(0.02)
    raise AssertionError("no plan came")


def test_who_does_not_wait_asks_again_and_gets_the_plan(tmp_path: Path, settings: RunConfig) -> None:
    planning = Planning(Store(tmp_path / "store"))
    first = planning.ask("a", settings, patience=0.0)
    found = ended(planning, "a", settings)
    assert found is first
    assert (found.done, found.total) == (3, 3)
    assert found.made is not None
    assert found.made["pictures"]["used"] == 3
    planning.close()


def test_what_is_wrong_with_pictures_is_told_with_the_plan(tmp_path: Path, settings: RunConfig) -> None:
    planning = Planning(Store(tmp_path / "store"))
    for path in (tmp_path / "pictures").iterdir():
        path.write_bytes(b"no picture")
    found = ended(planning, "a", settings)
    assert found.made is None
    assert {each.code for each in found.problems} >= {"E-DAT-005"}
    planning.close()


def test_of_many_texts_the_last_one_is_planned(tmp_path: Path, settings: RunConfig) -> None:
    planning = Planning(Store(tmp_path / "store"))
    for number in range(60):
        planning.ask(str(number), settings, patience=0.0)
    assert ended(planning, "59", settings).made is not None
    planning.close()
