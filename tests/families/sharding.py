"""Folders whose weights lie in several files, as large models are published."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

Index = Path


def shard(folder: Path, pieces: int = 3, variant: str | None = None) -> Index:
    """Cut the one file of weights in a part's folder into `pieces`, and write their index."""
    (whole,) = folder.glob("*.safetensors")
    begin, held = whole.name.removesuffix(".safetensors"), load_file(whole)
    mark = "" if variant is None else f".{variant}"
    places: dict[str, str] = {}
    for at in range(pieces):
        name = f"{begin}{mark}-{at + 1:05}-of-{pieces:05}.safetensors"
        mine = sorted(held)[at::pieces]  # a layer's weight and its bias come apart
        save_file({each: held[each] for each in mine}, folder / name, {"format": "pt"})
        places |= dict.fromkeys(mine, name)
    whole.unlink()
    index = folder / f"{begin}.safetensors.index{mark}.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


def shard_all(base: Path, variant: str | None = None) -> Path:
    """Cut every part of a folder in diffusers' layout."""
    for folder in {path.parent for path in base.rglob("*.safetensors")}:
        shard(folder, variant=variant)
    return base
