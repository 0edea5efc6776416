"""The hook that builds the pages when the package is built."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The hook, with sources and pages of its own."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    (tmp_path / "web" / "src").mkdir(parents=True)
    (tmp_path / "web" / "package.json").write_text("{}")
    (tmp_path / "web" / "src" / "main.ts").write_text("1")
    (tmp_path / "static").mkdir()
    monkeypatch.setattr(found, "WEB", tmp_path / "web")
    monkeypatch.setattr(found, "STATIC", tmp_path / "static")
    monkeypatch.setattr(found, "STAMP", tmp_path / "static" / "sources.sha256")
    monkeypatch.delenv("IMPASTO_PAGES", raising=False)
    return found


def test_pages_are_built_again_only_if_their_sources_have_changed(hook: ModuleType, tmp_path: Path) -> None:
    assert hook.is_stale()
    hook.STAMP.write_text(hook.fingerprint())
    assert not hook.is_stale()
    (tmp_path / "web" / "node_modules" / "x").mkdir(parents=True)
    (tmp_path / "web" / "node_modules" / "x" / "index.js").write_text("fetched")
    assert not hook.is_stale()
    (tmp_path / "web" / "src" / "main.ts").write_text("2")
    assert hook.is_stale()


def test_without_sources_there_is_nothing_to_build(hook: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "web" / "package.json").unlink()
    assert not hook.is_stale()
    assert hook.PagesHook.dependencies(None) == []


def test_node_is_fetched_only_where_the_system_has_none(hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook, "system_node", lambda: ["npm"])
    assert hook.PagesHook.dependencies(None) == []
    monkeypatch.setattr(hook, "system_node", lambda: None)
    assert hook.PagesHook.dependencies(None) == [hook.WHEEL]
    monkeypatch.setenv("IMPASTO_PAGES", "skip")
    assert hook.PagesHook.dependencies(None) == []


class Hook:
    """What hatchling gives a hook."""

    warned: str = ""

    class app:
        @staticmethod
        def display_warning(text: str) -> None:
            Hook.warned = text


def test_a_wheel_needs_pages_and_an_install_from_source_goes_on_without(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise subprocess.CalledProcessError(1, "npm")

    monkeypatch.setattr(hook, "build", fail)
    told: dict[str, Any] = {"artifacts": []}
    hook.PagesHook.initialize(Hook(), "editable", told)
    assert "not built" in Hook.warned
    assert told["artifacts"] == ["/impasto/web/static"]
    with pytest.raises(subprocess.CalledProcessError):
        hook.PagesHook.initialize(Hook(), "standard", told)


@pytest.mark.skipif(not (ROOT / "web").is_dir(), reason="this checkout has no sources of the pages")
def test_the_lock_file_names_no_registry() -> None:
    lock = ROOT / "web" / "package-lock.json"
    packages = json.loads(lock.read_text("utf-8"))["packages"]
    assert packages
    assert not [name for name, each in packages.items() if "resolved" in each]
    assert all("integrity" in each for name, each in packages.items() if name and not each.get("link"))
