"""Every command line and every setting in the pages is one that exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import get_args

import pytest

from impasto import checks, config
from impasto.cli.help import about
from impasto.cli.main import app
from impasto.config import RunConfig
from impasto.engine import changes
from impasto.errors import Problem
from impasto.events import Event, parse
from impasto.families import hub
from impasto.settings import fields
from impasto.settings.source import Source
from impasto.sweeps import axes, expand
from tests.docs import pages

SETTING = re.compile(r"[a-z_]+(\.\w+)*=")


def _lines() -> list[str]:
    """The command lines in blocks, and those in a sentence."""
    shown = [line for block in pages.blocks("sh") for line in block.text.splitlines()]
    told = [each for page in pages.pages() for each in pages.inline(page)]
    return sorted({each for each in (*shown, *told) if re.match(r"impasto [a-z]", each)})


LINES = _lines()


@pytest.mark.parametrize("line", LINES)
def test_every_command_line_can_be_given(line: str, tmp_path: Path) -> None:
    command, *words = shlex.split(line, comments=True)[1:]
    assert command in app
    if words:
        app.parse_args([command, *words], exit_on_error=False, print_error=False)
    settings = [each for each in words if SETTING.match(each)]
    swept = [each for each in settings if command == "sweep" and expand.is_swept(each)]
    config.build({}, [each for each in settings if each not in swept], Source(), tmp_path)
    for each in swept:
        key, _, value = each.partition("=")
        parts = list(axes.split(value))
        assert axes.axis(key, parts if len(parts) > 1 else value)
    for at, word in enumerate(words):
        if word == "--allow":
            assert changes.rule(words[at + 1])[0] == "allowed by name"
    if command == "explain":
        assert list(about(words[0] if words else None))


def test_there_are_command_lines_to_check() -> None:
    assert len(LINES) > 20


@pytest.mark.parametrize("page", pages.pages(), ids=pages.name)
def test_every_setting_in_a_sentence_exists(page: Path) -> None:
    known = {".".join(part for part in path if part != "*") for path, _ in fields.walk(RunConfig)}
    found = [re.match(r"\[*([a-z_]+(?:\.[a-z_]+)+)\]*( ?=|$)", each) for each in pages.inline(page)]
    named = {each[1] for each in found if each and each[1].split(".")[0] in RunConfig.model_fields}
    assert not named - known


@pytest.mark.parametrize("block", pages.blocks("toml"), ids=str)
def test_every_file_of_settings_could_be_trained(block: pages.Block, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(block.text, "utf-8")
    if "[sweep]" in block.text:
        assert expand.points(expand.read(str(path), []))
        return
    found, source = config.read(path)
    for dataset in found.data.sets:
        dataset.path.mkdir(parents=True)
        if dataset.masks and dataset.masks.folder:
            dataset.masks.folder.mkdir(parents=True)
    if found.data.captions.metadata:
        found.data.captions.metadata.touch()
    if found.model.path != "pocket" and not hub.given(found.model):
        Path(found.model.path).mkdir(parents=True)
    assert [str(each) for each in checks.check(found, source) if not _of_a_fragment(each)] == []


def _of_a_fragment(problem: Problem) -> bool:
    """A block that shows only a section or two names no pictures."""
    return problem.code == "E-CFG-027"


def test_there_is_an_example_of_every_event() -> None:
    lines = [line for block in pages.blocks("jsonl") for line in block.text.splitlines() if '"kind"' in line]
    told = [parse(line) for line in lines]
    assert all(told)
    kinds = {each.model_fields["kind"].default for each in get_args(get_args(Event)[0])}
    assert {each.kind for each in told if each} == kinds
