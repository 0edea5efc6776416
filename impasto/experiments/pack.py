"""A run as one archive to share: what it was, what it told and what it made, without a word of where it lay."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from impasto import files
from impasto.config import RunConfig, leaves, load
from impasto.errors import ConfigError, Problem
from impasto.runs.folder import RunFolder

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of every file in an archive, so that the same run makes the same archive."""
_STORED = {".safetensors", ".png", ".jpg", ".jpeg", ".webp", ".avif"}
"""Files that do not become smaller."""


def pack(run: RunFolder, out: Path, *, pictures: bool = False) -> list[str]:
    """Write `out`, a zip archive; returns the names in it.

    Settings, record, events, previews, the final files. Paths in the texts become names; with `pictures` the data sets
    are in it under these names, and the archive trains again where it is unpacked. Raises ConfigError if the run has
    made no file.
    """
    if not run.final.is_file():
        fix = "let it finish, or `impasto resume` it"
        raise ConfigError(Problem("E-RUN-022", f"{run.name} is not finished: it has no {run.final.name}", "", fix))
    config = load(run.config)
    names = _names(config)
    inside: list[tuple[str, bytes | Path]] = [
        (path.name, _told(path, names)) for path in (run.config, run.path / "record.json", run.events) if path.is_file()
    ]
    inside += [(path.name, path) for path in sorted(run.path.glob("*")) if path.suffix in (".safetensors", ".png")]
    inside += [(f"previews/{path.name}", path) for path in sorted(run.previews.glob("*.png"))]
    if pictures:
        inside += _pictures(config, names)
    with files.replacing(out) as tmp, zipfile.ZipFile(tmp, "w") as archive:
        for name, held in inside:
            entry = zipfile.ZipInfo(f"{run.name}/{name}", _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_STORED if Path(name).suffix in _STORED else zipfile.ZIP_DEFLATED
            archive.writestr(entry, held if isinstance(held, bytes) else files.read(held))
    return [name for name, _ in inside]


def _names(config: RunConfig) -> dict[str, str]:
    """Every absolute path in the settings, and what it is called in the archive; longer ones first."""
    paths = {str(value) for value in leaves(config).values() if isinstance(value, Path | str) and _is_path(str(value))}
    taken: set[str] = set()
    found = {}
    for path in sorted(paths):
        name, number = Path(path).name or "root", 1
        while name in taken:
            number += 1
            name = f"{Path(path).name}-{number}"
        taken.add(name)
        found[path] = name
    return dict(sorted(found.items(), key=lambda each: -len(each[0])))


def _is_path(text: str) -> bool:
    return Path(text).is_absolute()


def _told(path: Path, names: dict[str, str]) -> bytes:
    """A text of the run in which no path is left, of those that its settings name or that lie in the home."""
    text = files.read(path).decode("utf-8", "replace")
    for place, name in [*names.items(), (str(Path.home()), "~")]:
        for written in (place, json.dumps(place)[1:-1]):
            text = text.replace(written, name)
    return text.encode()


def _pictures(config: RunConfig, names: dict[str, str]) -> Iterator[tuple[str, Path]]:
    """The files that the data sets name, and those in their folders, under the names the settings have for them."""
    named = {str(value) for key, value in leaves(config).items() if key.startswith("data.sets.")}
    for place in sorted(named & names.keys()):
        path = Path(place)
        for each in [path] if path.is_file() else sorted(path.rglob("*")):
            if each.is_file():
                inner = each.relative_to(path).as_posix()
                yield (names[place] if each == path else f"{names[place]}/{inner}"), each
