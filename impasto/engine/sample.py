"""Draw one picture with a base and any number of adapter files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from impasto import families, files
from impasto.adapters.reading import from_file
from impasto.adapters.targets import Target
from impasto.engine import device, preview
from impasto.engine.config import Device, Prompt
from impasto.errors import ModelFileError, Problem
from impasto.families import detect
from impasto.families.config import Model
from impasto.weights import file


def draw(model: Model, prompt: Prompt, *, adapters: Sequence[tuple[Path, float]], out: Path) -> Path:
    """Draw `prompt` with the base `model` and `adapters` (file, weight) merged into it; writes a PNG.

    Raises ModelFileError (exit code 7) when a file is no adapter of this base, naming what does not fit.
    """
    card = detect.look(model)
    loaded = [(path, file.load(path)[0], weight) for path, weight in adapters]
    compute = device.choose(Device(), model.precision)
    family = families.load(card, model, device=compute.device, dtype=compute.dtype)
    for path, tensors, weight in loaded:
        merge({target.name: target for target in family.targets()}, path, tensors, weight)
    files.write(out, preview.png(preview.draw(family, compute, prompt, card)))
    return out


@torch.no_grad()
def merge(targets: dict[str, Target], path: Path, tensors: dict[str, Tensor], weight: float) -> None:
    """Add `weight` times what the file adds to each layer, to the base in memory."""
    by_layer: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, kind = key.partition(".")
        by_layer.setdefault(name, {})[kind] = value
    strange = [name for name, held in by_layer.items() if name not in targets]
    if strange or not by_layer:
        what = f"{len(strange)} of its {len(by_layer)} layers have no place in this base, among them {strange[:1]}"
        fix = "use the base it was trained on; `impasto inspect` tells what the file is"
        raise ModelFileError(Problem("E-MOD-040", what, str(path), fix))
    for name, held in by_layer.items():
        base = targets[name].layer
        try:
            layer = from_file(base, held).to(base.weight.device)
        except (KeyError, ValueError) as error:
            fix = "use the base it was trained on"
            raise ModelFileError(Problem("E-MOD-041", f"{name} does not fit: {error}", str(path), fix)) from None
        merged, bias = layer.weight(base), layer.bias(base)
        base.weight += (weight * (merged - base.weight.float())).to(base.weight.dtype)
        if bias is not None and base.bias is not None:
            base.bias += (weight * (bias - base.bias.float())).to(base.bias.dtype)
