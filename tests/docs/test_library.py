"""The examples for use from Python do what the page says, on a miniature."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import pages
from tests.engine import forks

PAGE = pages.ROOT / "docs" / "how-to" / "library-use.md"

SETTINGS = """
name = "annie"
[model]
path = "models/stable-diffusion-v1-5"
[data]
sets = [{ path = "pictures" }]
[train]
steps = 2
[device]
name = "cpu"
threads = 1
"""


@pytest.fixture
def at_home(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures, a base and a file of settings, as the page has it."""
    forks.pictures(tmp_path / "pictures")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "stable-diffusion-v1-5").symlink_to(tiny_base)
    (tmp_path / "annie.toml").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_the_examples_run_one_after_the_other(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in (block for block in pages.blocks("python") if block.page == PAGE):
        exec(compile(block.text.replace("1500", "10"), str(block), "exec"), names)
    printed = capsys.readouterr().out
    assert f"the LoRA: {at_home / 'runs' / 'annie' / 'annie.safetensors'}" in printed
    assert "60 of 60 layers found their place" in printed
    assert "low 10 " in printed
    assert "high 10 " in printed
    assert "kind='finished'" in printed
    assert "E-CFG-010" in printed
