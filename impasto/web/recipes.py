"""Settings that somebody kept under a name: files in the app's own folder."""

from __future__ import annotations

from pathlib import Path

from impasto import files
from impasto.errors import Problem
from impasto.web.problems import Refused, absent
from impasto.web.site import is_plain
from impasto.web.views_configs import RecipeView


def all_in(folder: Path) -> list[RecipeView]:
    """All that were kept, by name."""
    if not folder.is_dir():
        return []
    return [_read(path) for path in sorted(folder.glob("*.toml"))]


def keep(folder: Path, name: str, toml: str) -> RecipeView:
    """Keep settings; those of the same name are replaced."""
    if not is_plain(f"{name}.toml") or name[0] in ". " or name[-1] in ". ":
        raise Refused(422, Problem("E-WEB-006", "this cannot be a file's name", name))
    files.make_folder(folder)
    path = folder / f"{name}.toml"
    files.write(path, toml.encode())
    return _read(path)


def forget(folder: Path, name: str) -> None:
    """Delete them. Raises a 404 if there are none of this name."""
    found = [path for path in folder.glob("*.toml") if path.stem == name] if folder.is_dir() else []
    if not found:
        raise absent(name)
    files.unlink(found[0])


def _read(path: Path) -> RecipeView:
    text = files.read(path).decode("utf-8", "backslashreplace")
    return RecipeView(name=path.stem, toml=text, saved=path.stat().st_mtime)
