"""The reference pages are what the code would write now."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from impasto import errors, reference
from impasto.config import RunConfig
from impasto.settings import fields

ROOT = Path(__file__).parents[2]


def test_the_reference_pages_are_current() -> None:
    assert reference.stale(ROOT / reference.FOLDER) == [], "run: python -m impasto.reference"


def test_every_setting_has_a_row() -> None:
    page = reference.settings_page()
    for path, setting in fields.walk(RunConfig):
        if not fields.inner(setting.shape):
            assert f"| `{setting.name}` |" in page, ".".join(path)


def test_every_exit_code_has_a_row() -> None:
    page = reference.errors_page()
    for kind in errors.UserError.__subclasses__():
        assert f"| {kind.exit_code} |" in page


def test_every_code_that_is_raised_is_explained() -> None:
    sources = [*(ROOT / "impasto" / "settings").glob("*.py"), *(ROOT / "impasto" / "cli").glob("*.py")]
    sources += [
        ROOT / "impasto" / name
        for name in (
            "checks.py",
            "checks_data.py",
            "config.py",
            "preflight/fits.py",
            "optim/named.py",
            "preflight/lint.py",
        )
    ]
    sources += [*(ROOT / "impasto" / "compat").glob("*.py"), *(ROOT / "impasto" / "sweeps").glob("*.py")]
    sources += [ROOT / "impasto" / "engine" / name for name in ("sweeping.py", "siblings.py", "on_ray.py")]
    raised = {code for path in sources for code in re.findall(r"E-(?:CFG|CLI|IMP|SWP)-\d{3}", path.read_text("utf-8"))}
    assert raised == set(reference.CODES)


def test_the_command_writes_and_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["reference", "--folder", str(tmp_path / "new")])
    assert reference.main() == 0
    monkeypatch.setattr("sys.argv", ["reference", "--folder", str(tmp_path / "new"), "--check"])
    assert reference.main() == 0
    (tmp_path / "new" / "settings.md").write_text("old")
    assert reference.main() == 1
    assert "settings.md is out of date" in capsys.readouterr().err
