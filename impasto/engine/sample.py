"""Draw one picture with a base and any number of adapter files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from impasto import families, files
from impasto.adapters.targets import Target
from impasto.engine import device, preview
from impasto.engine.config import Device, Prompt
from impasto.errors import ModelFileError, Problem
from impasto.families import detect
from impasto.families.config import Model
from impasto.weights import file
from impasto.weights.merge import by_layer
from impasto.weights.merge import merge as merge_layer


def draw(model: Model, prompt: Prompt, *, adapters: Sequence[tuple[Path, float]], out: Path) -> Path:
    """Draw `prompt` with the base `model` and `adapters` (file, weight) merged into it; writes a PNG.

    Raises ModelFileError (exit code 7) when a file is no adapter of this base, naming what does not fit.
    """
    card = detect.look(model)
    loaded = [(path, file.load(path)[0], weight) for path, weight in adapters]
    model = model.model_copy(update={"quantize": "none", "quantize_text_encoder": "none"})  # merged into plain weights
    compute = device.choose(Device(), model)
    family = families.load(card, model, device=compute.device, dtype=compute.dtype)
    for path, tensors, weight in loaded:
        merge({target.name: target for target in family.targets()}, path, tensors, weight)
    files.write(out, preview.png(preview.draw(family, compute, prompt, card)))
    return out


def merge(targets: dict[str, Target], path: Path, tensors: dict[str, Tensor], weight: float) -> None:
    """Add `weight` times what the file adds to each layer, to the base in memory."""
    layers = by_layer(tensors)
    strange = [name for name in layers if name not in targets]
    if strange or not layers:
        what = f"{len(strange)} of its {len(layers)} layers have no place in this base, among them {strange[:1]}"
        fix = "use the base it was trained on; `impasto inspect` tells what the file is"
        raise ModelFileError(Problem("E-MOD-040", what, str(path), fix))
    for name, held in layers.items():
        try:
            merge_layer(targets[name].layer, held, weight)
        except (KeyError, ValueError) as error:
            fix = "use the base it was trained on"
            raise ModelFileError(Problem("E-MOD-041", f"{name} does not fit: {error}", str(path), fix)) from None
