"""An adapter that begins with the numbers of a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from impasto.adapters.adapter import Adapter, filled
from impasto.adapters.targets import Size
from impasto.errors import ModelFileError, Problem

Layers = Mapping[str, Mapping[str, Tensor]]
"""The tensors of each layer, by our names."""


def sizes(path: Path, layers: Layers) -> dict[str, Size | None]:
    """The layers of a LoRA and their sizes, None for norms; one without alpha has scale 1.

    Raises ModelFileError for other kinds.
    """
    found: dict[str, Size | None] = {}
    for name, held in layers.items():
        if "w_norm" in held:
            found[name] = None
            continue
        if "lora_down.weight" not in held:
            what = f"{name} has no lora_down.weight, so it has no rank to take over"
            raise ModelFileError(Problem("E-MOD-042", what, str(path), "begin with a LoRA, or delete adapter.start"))
        rank = held["lora_down.weight"].shape[0]
        found[name] = Size(rank, float(held.get("alpha", torch.tensor(rank))))
    return found


def take_over(adapter: Adapter, path: Path, held: Layers) -> Iterator[str]:
    """Fill the adapter's layers with the file's numbers, alpha and all; tells what is not the same in both.

    Raises ModelFileError (exit code 7) when no layer is in both, or when one does not fit, naming it.
    """
    shared = [(name, layer) for name, layer in adapter.items() if name in held]
    if not shared:
        what = f"none of its {len(held)} layers is one of the {len(adapter.layers)} that are trained"
        raise ModelFileError(Problem("E-MOD-042", what, str(path), "see both with `impasto inspect`, `impasto layers`"))
    other = []
    for name, layer in shared:
        before = float(layer.held().get("alpha", torch.zeros(())))
        try:
            filled(layer, held[name])
        except ValueError as error:
            fix = 'give the settings of the file, or set adapter.start.sizes = "file"'
            raise ModelFileError(Problem("E-MOD-042", f"{name} does not fit: {error}", str(path), fix)) from None
        if float(layer.held().get("alpha", torch.zeros(()))) != before:
            other.append(name)
    yield f"{len(shared)} of {len(adapter.layers)} layers begin as in {path.name}"
    if len(shared) < len(adapter.layers):
        yield f"{len(adapter.layers) - len(shared)} layers are not in {path.name} and begin afresh"
    if strange := len(held) - len(shared):
        yield f"{strange} layers of {path.name} are not trained here, and what they held is left out"
    if other:
        yield f"alpha of {len(other)} layers is that of {path.name} and not that of the settings, as for {other[0]}"
