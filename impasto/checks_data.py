"""Folders and files of pictures that are not there, or are asked for twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from impasto.config import RunConfig
from impasto.data.config import Captions, Dataset, Masks
from impasto.settings.places import Key
from impasto.settings.source import shown
from impasto.settings.suggest import nearest

Found = Iterator[tuple[str, Key, str, str]]
"""Code, place, what is wrong, and the fix."""


def pictures(config: RunConfig) -> Found:
    """What is wrong with the folders and files that a run learns from."""
    sets = config.data.sets
    if not sets:
        fix = "add [[data.sets]] with path = 'folder of pictures', or data.sets.0.path=… on the command line"
        yield "E-CFG-027", ("data", "sets"), "there are no pictures to learn from", fix
    yield from _metadata(config.data.captions, ("data", "captions"))
    yield from _masks(config.data.masks, ("data", "masks"))
    for number, dataset in enumerate(sets):
        key: Key = ("data", "sets", number)
        yield from _folder(dataset, (*key, "path"))
        if dataset.captions:
            yield from _metadata(dataset.captions, (*key, "captions"))
        if dataset.masks:
            yield from _masks(dataset.masks, (*key, "masks"))
        if dataset in sets[:number]:
            fix = "delete one, and set repeats = 2 on the other to see it twice as often"
            yield "E-CFG-028", (*key, "path"), f"{dataset.path} is given twice with the same settings", fix
    learnt = {real(each.path) for each in sets if each.role == "train"}
    for number, dataset in enumerate(sets):
        if dataset.role == "validation" and real(dataset.path) in learnt:
            what = f"{dataset.path} is trained on, so its loss says nothing as validation"
            yield "E-CFG-028", ("data", "sets", number, "role"), what, "put some pictures into a folder of their own"


def _folder(dataset: Dataset, key: Key) -> Found:
    path = Path(os.path.abspath(dataset.path))
    if not path.exists():
        yield "E-CFG-029", key, f"there is no folder {path}", like(path)
    elif not path.is_dir():
        yield "E-CFG-029", key, f"{path} is a file, not a folder", f"path = {shown(str(path.parent))}"
    elif not os.access(path, os.R_OK | os.X_OK):
        yield "E-CFG-029", key, f"the folder {path} may not be read by this account", "change its rights"


def _metadata(captions: Captions, section: Key) -> Found:
    if captions.metadata is not None and not captions.metadata.is_file():
        path = Path(os.path.abspath(captions.metadata))
        yield "E-CFG-030", (*section, "metadata"), f"there is no file {path}", like(path, "metadata")


def _masks(masks: Masks, section: Key) -> Found:
    if masks.folder is not None and not masks.folder.is_dir():
        path = Path(os.path.abspath(masks.folder))
        yield "E-CFG-091", (*section, "folder"), f"there is no folder {path}", like(path, "folder")


def like(path: Path, name: str = "path") -> str:
    """What a missing path was probably meant to be."""
    try:
        known = sorted(os.listdir(path.parent))[:10_000]
    except OSError:
        above = next((each for each in path.parents if each.is_dir()), path.parent)
        return f"check the path: {shown(str(above))[1:-1]} exists, what follows does not"
    near = nearest(path.name, known) if path.name else None
    return f"{name} = {shown(str(path.parent / near))}" if near else "check the path; the folder above it exists"


def real(path: Path) -> Path:
    return Path(os.path.realpath(path))
