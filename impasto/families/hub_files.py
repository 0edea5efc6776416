"""Which files of a repository on the hub are read: descriptions, tokenizers and `.safetensors`, and no others.

A repository may hold the same weights in several types, in other programs' formats, and pickles. What is read is
decided by names alone, from its list of files, so that nothing else is fetched. No network, no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from impasto.errors import ModelFileError, Problem
from impasto.families import shards
from impasto.families.card import ENCODERS

Use = Literal["base", "described", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"]
"""What a repository is named for: a whole base, its descriptions and tokenizers alone, or one part alone."""

INDEX = "model_index.json"
SCHEDULE = "scheduler/scheduler_config.json"
DENOISERS = ("transformer", "unet")
READ = (".json", ".txt", ".model")
"""How the files of a tokenizer end."""

Read = Callable[[str], bytes]
"""Gives a small file of the repository."""


@dataclass(frozen=True)
class Wanted:
    """The files that are read."""

    small: tuple[str, ...]
    """Descriptions and tokenizers."""

    weights: tuple[str, ...]

    @property
    def every(self) -> tuple[str, ...]:
        """The small ones first: where the last weights are there, all is."""
        return (*self.small, *self.weights)


def wanted(use: Use, there: Collection[str], variant: str | None, read: Read, called: str) -> Wanted:
    """The files that are read of those that are there; `called` is the repository in messages.

    Raises ModelFileError when it is in another layout, or lacks weights.
    """
    if use not in ("base", "described"):
        folder = f"{use}/" if f"{use}/config.json" in there else ""
        _has(f"{folder}config.json", there, called)
        return _sorted([f"{folder}config.json", *_weights(folder, use, there, variant, read, called)])
    _has(INDEX, there, called)
    parts = _parts(read(INDEX), called)
    denoiser = next((each for each in DENOISERS if each in parts), "unet")
    folders = [denoiser, "vae", *(each for each in ENCODERS if each in parts)]
    small = [INDEX, *(f"{folder}/config.json" for folder in folders), SCHEDULE, *_tokenizers(there, parts)]
    for name in small:
        _has(name, there, called)
    weights = [] if use == "described" else [
        each for folder in folders for each in _weights(f"{folder}/", folder, there, variant, read, called)
    ]  # fmt: skip
    return _sorted([*small, *weights])


def _sorted(names: list[str]) -> Wanted:
    weights = [name for name in names if name.endswith(".safetensors")]
    return Wanted(tuple(name for name in names if name not in weights), tuple(weights))


def _parts(index: bytes, called: str) -> Collection[str]:
    """The parts that a repository says it has."""
    try:
        found = json.loads(index)
        return [name for name, kind in found.items() if isinstance(kind, list) and kind and kind[0]]
    except (ValueError, AttributeError, RecursionError) as error:
        what = f"its {INDEX} cannot be read ({error})"
        raise ModelFileError(Problem("E-MOD-102", f"{called}: {what}", "model.path", "name another base")) from error


def _tokenizers(there: Collection[str], parts: Collection[str]) -> list[str]:
    found = []
    for folder in (each.replace("text_encoder", "tokenizer") for each in ENCODERS if each in parts):
        mine = [name for name in there if name.startswith(f"{folder}/") and name.count("/") == 1]
        found += [name for name in sorted(mine) if name.endswith(READ)]
    return found


def _weights(
    folder: str, part: str, there: Collection[str], variant: str | None, read: Read, called: str
) -> tuple[str, ...]:
    """The weights of a part, with their index if there are several. On the hub the plain ones are meant unless the
    settings say otherwise: what is in a cache by chance decides nothing."""
    names = shards.names(part, variant)
    name = next((folder + each for each in names if folder + each in there), None)
    if name is None:
        raise ModelFileError(_missing(folder, part, there, variant, called))
    if not name.endswith(".json"):
        return (name,)
    files = sorted(set(shards.mapping(read(name), Path(name)).values()))
    for each in files:
        _has(folder + each, there, called)
    return (name, *(folder + each for each in files))


def _missing(folder: str, part: str, there: Collection[str], variant: str | None, called: str) -> Problem:
    mine = [name.removeprefix(folder) for name in there if name.startswith(folder) and "/" not in name[len(folder) :]]
    marked = re.compile(rf"{shards.stem(part)}\.(?:safetensors\.index\.)?(?P<mark>[\w-]+)\.(?:safetensors|json)")
    found = {match["mark"] for match in map(marked.fullmatch, mine) if match}
    variants = sorted(found - {variant, "index"})
    what = f"{called} has no {folder}{shards.names(part, variant)[0]}"
    if variants:
        others = " or ".join(f'"{each}"' for each in variants[:3])
        return Problem("E-MOD-105", f"{what}; its weights come in other variants", "model.variant", f"set {others}")
    if variant is not None and any(f"{folder}{each}" in there for each in shards.names(part, None)):
        return Problem("E-MOD-105", f"{what}, but plain weights", "model.variant", "take model.variant out")
    if any(name.endswith((".bin", ".ckpt", ".pt")) for name in mine):
        fix = "name a repository with .safetensors weights; pickle files (.bin, .ckpt) are not fetched"
        return Problem("E-MOD-105", f"{what}, only pickles", "model.path", fix)
    return Problem("E-MOD-105", what, "model.path", "name a repository that holds the whole model")


def _has(name: str, there: Collection[str], called: str) -> None:
    if name in there:
        return
    singles = sorted(each for each in there if each.endswith(".safetensors") and "/" not in each)
    if name in (INDEX, "config.json"):
        what = f"{called} has no {name}, so it is not in diffusers' layout"
        fix = "name another repository"
        if singles:
            fix = f'name one file of it: "{called}/{singles[0]}"' + (f" (of {len(singles)})" if singles[1:] else "")
        raise ModelFileError(Problem("E-MOD-101", what, "model.path", fix))
    raise ModelFileError(
        Problem("E-MOD-105", f"{called} has no {name}", "model.path", "name a repository that holds the whole model")
    )


def read_in(folder: Path, name: str) -> bytes:
    """A file of a repository that lies in a folder."""
    return (folder / name).read_bytes()
