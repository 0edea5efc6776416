"""Where files with the names of diffusers and PEFT tell ranks and alphas: in their metadata, or in a file beside them.

    diffusers   the metadata's `lora_adapter_metadata`, a JSON object: unet.r, unet.lora_alpha, unet.alpha_pattern ...
    PEFT        adapter_config.json beside adapter_model.safetensors, with the same fields and no part before them

PEFT takes the names in patterns for regular expressions. A file from anywhere must not bring any of these here, so
plain names alone are read.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

from impasto.errors import ModelFileError, Problem
from impasto.weights.header import shown

KEY = "lora_adapter_metadata"
CONFIG = "adapter_config.json"
LARGEST = 2**20
"""Bytes of the longest such text that is read."""

_PLAIN = re.compile(r"[\w.\-]+")


@dataclass(frozen=True)
class Told:
    """What a file says of its alphas."""

    path: Path
    values: Mapping[str, Any]

    def alpha(self, part: str, layer: str, rank: int) -> float | None:
        """The alpha of the layer at the dotted path `layer` of a part, by which its scale is alpha / rank.

        None if nothing is told. Raises ModelFileError when what is told cannot be understood.
        """
        start = f"{part}." if part else ""
        alpha = self.values.get(f"{start}lora_alpha")
        for name, value in self._pattern(f"{start}alpha_pattern").items():
            if layer == name or layer.endswith(f".{name}"):
                alpha = value
                break
        if alpha is None:
            return None
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not isfinite(alpha):
            raise self._unclear(f"an alpha of {shown(alpha)}")
        return alpha * sqrt(rank) if self.values.get(f"{start}use_rslora") is True else float(alpha)

    def _pattern(self, key: str) -> Mapping[str, Any]:
        found = self.values.get(key) or {}
        if not isinstance(found, dict):
            raise self._unclear(f"an alpha_pattern that is {shown(found)}")
        if strange := [name for name in found if not _PLAIN.fullmatch(name)]:
            raise self._unclear(f"an alpha for the expression {shown(strange[0])}, and plain names alone are read")
        return found

    def _unclear(self, what: str) -> ModelFileError:
        return ModelFileError(Problem("E-MOD-056", f"tells {what}", str(self.path), "write the file again"))


def told(path: Path, metadata: Mapping[str, str]) -> Told:
    """What the file at `path`, with this metadata, or the file beside it says."""
    beside = path.with_name(CONFIG)
    text = metadata.get(KEY)
    if text is None and path.name == "adapter_model.safetensors" and beside.is_file():
        with beside.open("rb") as file:
            text = file.read(LARGEST + 1).decode("utf-8", "replace")
    if text is None:
        return Told(path, {})
    try:
        found = json.loads(text) if len(text) <= LARGEST else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        what, fix = f"has {KEY} or {CONFIG} that is no JSON object", "write the file again"
        raise ModelFileError(Problem("E-MOD-056", what, str(path), fix))
    return Told(path, found)


def written(layers: Mapping[str, Mapping[str, tuple[int, float]]], *, lengths: bool = False) -> str:
    """`lora_adapter_metadata` for the rank and alpha of each layer of each part, by its dotted path; with `lengths`,
    they are of DoRA."""
    values: dict[str, object] = {}
    for part, sizes in layers.items():
        rank = _commonest([rank for rank, _ in sizes.values()])
        alpha = _commonest([alpha for _, alpha in sizes.values()])
        values |= {
            f"{part}.peft_type": "LORA",
            f"{part}.r": rank,
            f"{part}.lora_alpha": alpha,
            f"{part}.rank_pattern": {path: each for path, (each, _) in sizes.items() if each != rank},
            f"{part}.alpha_pattern": {path: each for path, (_, each) in sizes.items() if each != alpha},
            f"{part}.target_modules": sorted(sizes),
        }
        values |= {f"{part}.use_dora": True} if lengths else {}
    return json.dumps(values, sort_keys=True)


def _commonest(values: Sequence[float]) -> float:
    return Counter(values).most_common(1)[0][0]
