"""Models on disk, each with what it is: by the heads of files, never by their names. No weights are read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from impasto.errors import UserError
from impasto.families import detect, original
from impasto.families.card import TITLES
from impasto.families.config import Model
from impasto.web.problems import absent
from impasto.web.site import Site
from impasto.web.views_tools import ModelRow, Models
from impasto.weights import recognise, sniff
from impasto.weights.inspect import inspect

MOST = 1000
DEEP = 4
ENDINGS = frozenset((".safetensors", ".ckpt", ".pt", ".bin", ".gguf"))
POCKET = "pocket"


class Cabinet:
    """The models of a site; what was looked into is remembered for as long as it does not change."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._known: dict[str, tuple[tuple[int, int], ModelRow]] = {}

    def models(self) -> Models:
        """All of them, the built-in base first."""
        rows = {POCKET: _pocket()}
        for path in self._found():
            id = self._site.id_of(path, "models", "runs", "data")
            if id is None or id in rows:
                continue
            if len(rows) > MOST:
                return Models(models=list(rows.values()), more=True)
            if row := self._row(id, path):
                rows[id] = row
        return Models(models=list(rows.values()), more=False)

    def path(self, id: str) -> str:
        """The path of a model by its id. Raises a 404 for one that is none."""
        return POCKET if id == POCKET else str(self._site.inside(id, "models", "runs", "data"))

    def file(self, id: str) -> Path:
        """The same, of a single file."""
        found = self._site.inside(id, "models", "runs", "data")
        if not found.is_file():
            raise absent(id)
        return found

    def _found(self) -> Iterator[Path]:
        seen: set[Path] = set()
        for kind in ("models", "runs"):
            for root in self._site.of(kind):
                if root.path not in seen:
                    seen.add(root.path)
                    yield from _walk(root.path, 0)

    def _row(self, id: str, path: Path) -> ModelRow | None:
        try:
            status = path.stat()
        except OSError:
            return None
        mark = status.st_mtime_ns, status.st_size
        kept = self._known.get(id)
        if kept is None or kept[0] != mark:
            made = _folder(id, path) if path.is_dir() else _file(id, path)
            kept = self._known[id] = mark, made
        return kept[1]


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """Files of models and folders in diffusers' layout; what is in the latter belongs to them."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((each for each in entries if not each.name.startswith(".")), key=lambda each: each.name)
    except OSError:
        return
    if any(each.name == "model_index.json" for each in found):
        yield folder
        return
    for each in found:
        if each.is_dir(follow_symlinks=False):
            if depth < DEEP and each.name not in ("checkpoints", "control", "previews", "node_modules"):
                yield from _walk(Path(each.path), depth + 1)
        elif Path(each.name).suffix.lower() in ENDINGS and each.is_file():
            yield Path(each.path)


def _pocket() -> ModelRow:
    note = "comes with impasto; for trying things out"
    return ModelRow(id=POCKET, path=POCKET, name=POCKET, family="Stable Diffusion 1.x", kind="base", what="base",
                    size=0, changed=0.0, note=note)  # fmt: skip


def _folder(id: str, path: Path) -> ModelRow:
    size = sum(each.stat().st_size for each in path.rglob("*.safetensors") if each.is_file())
    try:
        card = detect.look(Model(path=str(path)))
        family, what, note, kind = card.title, "base in diffusers' layout", "", "base"
    except (UserError, ValueError) as error:
        family, what, note, kind = "", "a folder in diffusers' layout", _said(error), "other"
    return _made(id, path, family, kind, what, size, note)


def _file(id: str, path: Path) -> ModelRow:
    size = path.stat().st_size
    if path.suffix.lower() != ".safetensors":
        with path.open("rb") as file:
            found = sniff.kind(file.read(sniff.ENOUGH))
        return _made(
            id, path, "", "other", found.what if found else "of an unknown kind", size, found.fix if found else ""
        )
    try:
        told = inspect(path)
    except (UserError, OSError, ValueError) as error:
        return _made(id, path, "", "other", "cannot be read", size, _said(error))
    family = recognise.FAMILIES[told.family] if told.family else ""
    if told.layout and told.parts:
        ranks = f", rank {', '.join(map(str, list(told.ranks)[:3]))}" if told.ranks else ""
        return _made(id, path, family, "adapter", f"{told.what}{ranks}", size, "; ".join(told.remarks[:2]))
    try:
        base = original.look(path)
        return _made(id, path, TITLES[base.family], "base", told.what, size, "")
    except UserError as error:
        part = told.what.startswith(("VAE", "text encoder", "denoiser"))
        return _made(id, path, family, "part" if part else "other", told.what, size, "" if part else _said(error))


def _made(id: str, path: Path, family: str, kind: str, what: str, size: int, note: str) -> ModelRow:
    return ModelRow.model_validate(
        {"id": id, "path": _plain(str(path)), "name": _plain(path.stem if path.is_file() else path.name),
         "family": family, "kind": kind, "what": _plain(what), "size": size, "changed": path.stat().st_mtime,
         "note": _plain(note)}
    )  # fmt: skip


def _said(error: Exception) -> str:
    return str(error)[:300]


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
