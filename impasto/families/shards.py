"""The files that hold the weights of a part in a folder: one, or several (shards) with an index of what is in which.

    diffusion_pytorch_model.safetensors                      one file
    diffusion_pytorch_model.fp16.safetensors                 its variant in 16 bits
    diffusion_pytorch_model.safetensors.index.json           the index of several: {"weight_map": {tensor: file}}
    diffusion_pytorch_model.safetensors.index.fp16.json      the index of a variant

An index was written by others: what it says is held against the heads of the files it names. No weights, no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from impasto.errors import ModelFileError, Problem
from impasto.families.card import Part
from impasto.weights import header

Files = tuple[Path, ...]
"""The files that hold a part, together."""

LARGEST = 16 * 2**20
"""Bytes of the longest index that is read."""

MOST = 1000
"""Files of one part."""

USUAL_VARIANT = "fp16"
"""What a folder may hold in place of the plain weights, without a word in the settings."""

FETCH = "fetch the folder again"
WEIGHTS = "fetch the folder again; only .safetensors weights are read, pickle files (.bin, .ckpt) are not"


def stem(part: str) -> str:
    """How diffusers and transformers begin the names of a part's files."""
    return "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"


def names(part: str, variant: str | None) -> tuple[str, str, str]:
    """What one file of a part is called, and what the index of several is, in two spellings."""
    begin = stem(part)
    if variant is None:
        return f"{begin}.safetensors", f"{begin}.safetensors.index.json", f"{begin}.safetensors.index.json"
    return (
        f"{begin}.{variant}.safetensors",
        f"{begin}.safetensors.index.{variant}.json",
        f"{begin}.{variant}.safetensors.index.json",
    )


def chosen(part: str, variant: str | None, there: Callable[[str], bool]) -> str:
    """The file or the index of a part's weights, of those that are there; of none, the usual one.

    Without a variant in the settings it is the plain one, or that in 16 bits where no other is.
    """
    wanted = (None, USUAL_VARIANT) if variant is None else (variant,)
    usual = [name for each in wanted for name in names(part, each)]
    return next((name for name in usual if there(name)), usual[0])


def of(folder: Path, part: str, variant: str | None = None) -> Files:
    """The files in a part's own folder that hold its weights.

    Raises ModelFileError naming each that is missing, or where an index and its files do not agree.
    """
    found = folder / chosen(part, variant, lambda name: (folder / name).is_file())
    if found.suffix == ".json":
        return _named_by(found)
    if not found.is_file():
        raise ModelFileError(Problem("E-MOD-105", "the weights are missing", str(found), WEIGHTS))
    return (found,)


def of_all(folders: Mapping[Part, Path], variant: str | None) -> dict[Part, Files]:
    """The files of every part. Raises ModelFileError with all that is wrong with any."""
    found: dict[Part, Files] = {}
    problems: list[Problem] = []
    for part, folder in folders.items():
        try:
            found[part] = of(folder, part, variant)
        except ModelFileError as error:
            problems += error.problems
    if problems:
        raise ModelFileError(*problems)
    return found


def mapping(text: bytes, index: Path) -> dict[str, str]:
    """Which file each tensor is in, as an index says. Raises ModelFileError when it is none."""
    try:
        if len(text) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        found = json.loads(text.decode("utf-8"))
        places = found.get("weight_map") if isinstance(found, dict) else None
        if not isinstance(places, dict) or not all(isinstance(each, str) for each in places.values()):
            raise ValueError("it has no weight_map of names to files")
        if not places:
            raise ValueError("its weight_map is empty")
    except (ValueError, RecursionError) as error:
        raise _refused("E-MOD-102", f"cannot be read ({error})", index) from error
    files = set(places.values())
    if len(files) > MOST:
        raise _refused("E-MOD-102", f"names {len(files):,} files; no part has more than {MOST:,}", index)
    for name in sorted(files):
        if not name.endswith(".safetensors") or name != Path(name).name or "\\" in name or "\0" in name:
            what = f"names {header.shown(name)}, which is no .safetensors file beside it"
            raise _refused("E-MOD-114", what, index)
    return places


def _named_by(index: Path) -> Files:
    with index.open("rb") as file:
        places = mapping(file.read(LARGEST + 1), index)
    paths = tuple(index.parent / name for name in sorted(set(places.values())))
    if missing := [path for path in paths if not path.is_file()]:
        raise ModelFileError(*(Problem("E-MOD-105", "a shard is missing", str(path), WEIGHTS) for path in missing))
    promised = {path: {name for name, file in places.items() if file == path.name} for path in paths}
    held = {path: header.read(path).tensors.keys() for path in paths}
    for path in paths:
        if lacking := promised[path] - held[path]:
            some = header.shown(min(lacking))
            what = f"lacks {len(lacking)} tensors that {index.name} says are in it, among them {some}"
            raise _refused("E-MOD-114", what, path)
    for path in paths:
        if beyond := held[path] - promised[path]:
            some = header.shown(min(beyond))
            what = f"holds {len(beyond)} tensors that {index.name} does not say are in it, among them {some}"
            raise _refused("E-MOD-114", what, path)
    return paths


def _refused(code: str, what: str, path: Path) -> ModelFileError:
    return ModelFileError(Problem(code, what, str(path), FETCH))
