"""Whatever stands in a file of settings is taken and comes back the same, or is refused in words."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from impasto.config import RunConfig, dump, fingerprint, load
from impasto.errors import ConfigError
from tests.config import examples

REAL = [
    examples.KOHYA,
    examples.KOHYA_DATASET,
    examples.KOHYA_JSON,
    examples.ONE_TRAINER,
    examples.AI_TOOLKIT,
    'name = "anna"\n[optim.schedule]\nkind = "cosine"\nwarmup = 0.1\n[[data.sets]]\npath = \'C:\\pics\'\n',
    '[data]\nsets = [{path = "a", role = "train"}, {path = """b""", repeats = 2}] # two\n"alpha" = "grey"\n',
]


def cases(number: int) -> settings:
    """So many examples, the same ones each time."""
    quiet = list(HealthCheck)
    return settings(max_examples=number, deadline=None, suppress_health_check=quiet, database=None, derandomize=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configs")


@cases(600)
@given(values=examples.bent())
def test_a_spoilt_file_is_refused_in_words_or_comes_back_the_same(folder: Path, values: dict[str, Any]) -> None:
    path = folder / "spoilt.toml"
    path.write_text(tomlkit.dumps(values), "utf-8")
    _refused_or_round_trips(path)


@cases(500)
@given(values=examples.CONFIGS)
def test_settings_within_their_limits_come_back_the_same(folder: Path, values: dict[str, Any]) -> None:
    path = folder / "fitting.toml"
    path.write_text(tomlkit.dumps(values), "utf-8")
    problems = _refused_or_round_trips(path)
    assert {each.split()[0] for each in problems} <= {"E-CFG-015", "E-CFG-016"}  # only cross-field rules may object


@cases(700)
@given(text=st.one_of(*(examples.mutations(text.encode()) for text in [*REAL, dump(RunConfig())])))
def test_bent_bytes_of_real_files_do_no_harm(folder: Path, text: bytes) -> None:
    path = folder / "bytes.toml"
    path.write_bytes(text)
    _refused_or_round_trips(path)


@cases(300)
@example(overrides=[":.1="])
@given(
    overrides=st.lists(st.one_of(examples.WORDS, st.tuples(examples.WORDS, examples.WORDS).map("=".join)), max_size=3)
)
def test_any_words_on_the_command_line_are_settings_or_refused(overrides: list[str]) -> None:
    try:
        load(None, overrides)
    except ConfigError as error:
        for problem in error.problems:
            assert re.match(r"E-CFG-\d{3} command line.*: .*Fix: .", str(problem))


def _refused_or_round_trips(path: Path) -> list[str]:
    begun = time.process_time()
    try:
        config = load(path)
    except ConfigError as error:
        assert time.process_time() - begun < 2
        for problem in error.problems:
            assert re.match(r"E-CFG-\d{3}$", problem.code)
            assert problem.where.startswith(str(path))
            assert problem.fix
            assert str(problem).isprintable(), str(problem)
            assert len(str(problem)) < 1500, str(problem)
        return [str(problem) for problem in error.problems]
    again = path.with_name("again.toml")
    again.write_text(dump(config), "utf-8")
    loaded = load(again)
    assert loaded == config
    assert fingerprint(loaded) == fingerprint(config)
    json.dumps(config.model_dump(mode="json"), allow_nan=False)
    return []
