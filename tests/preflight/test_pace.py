"""How long a step took before, for runs of the same kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from impasto.config import RunConfig
from impasto.families import detect
from impasto.preflight import pace


def kind(pixels: float = 4096.0, **sections: object) -> str:
    config = RunConfig.model_validate({"model": {"path": "pocket"}, **sections})
    return pace.kind(config, detect.look(config.model, heads=True), pixels=pixels)


def test_what_changes_no_time_changes_no_kind() -> None:
    same = kind(name="other", train={"seed": 9, "steps": 7}, output={"title": "t"}, optim={"learning_rate": 1e-3})
    assert kind() == same == kind(pixels=4100.0)


@pytest.mark.parametrize(
    "sections",
    [
        {"adapter": {"rank": 64}},
        {"adapter": {"kind": "lokr"}},
        {"model": {"path": "pocket", "gradient_checkpointing": True}},
        {"train": {"accumulate": 2}},
        {"optim": {"unet_learning_rate": 0.0, "text_encoder_learning_rate": 1e-4}},
        {"device": {"threads": 1}},
        {"pixels": 16384.0},
    ],
    ids=str,
)
def test_what_changes_the_time_is_another_kind(sections: dict[str, object]) -> None:
    assert kind(**sections) != kind()  # type: ignore[arg-type]


def test_a_fleet_is_known_by_all_its_runs() -> None:
    assert pace.together(["b"]) == "b"
    assert pace.together(["b", "a"]) == pace.together(["a", "b"]) != pace.together(["a", "b", "b"])


def test_the_middle_of_the_last_runs_counts_and_old_kinds_go(tmp_path: Path) -> None:
    assert pace.known(tmp_path / "none", "a") is None
    for seconds in (9.0, 9.0, 1.0, 2.0, 3.0, 4.0, 5.0):
        pace.add(tmp_path, "a", [seconds, seconds, 100.0])
    assert pace.known(tmp_path, "a") == 3.0
    for number in range(pace.KINDS):
        pace.add(tmp_path, f"other-{number}", [1.0])
    assert pace.known(tmp_path, "a") is None
    pace.add(tmp_path, "nothing", [])
    assert pace.known(tmp_path, "nothing") is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 3}', '{"a": ["x"]}'])
def test_a_damaged_file_is_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / pace.FILE).write_text(text)
    assert pace.known(tmp_path, "a") is None
    pace.add(tmp_path, "a", [2.0])
    assert pace.known(tmp_path, "a") == 2.0
