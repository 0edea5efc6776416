"""Draw one picture with a base and any number of adapter files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from impasto import families, files
from impasto.engine import device, preview
from impasto.engine.config import Device, Prompt
from impasto.families import detect
from impasto.families.config import Model
from impasto.weights import file
from impasto.weights.merge import merge_all, merge_file


def draw(model: Model, prompt: Prompt, *, adapters: Sequence[tuple[Path, float]], out: Path) -> Path:
    """Draw `prompt` with the base `model` and `adapters` (file, weight) merged into it; writes a PNG.

    Raises ModelFileError (exit code 7) when a file is no adapter of this base, naming what does not fit.
    """
    card = detect.look(model)
    for path, _ in adapters:
        file.load(path)  # what is no adapter is refused before the base is read
    model = model.model_copy(update={"quantize": "none", "quantize_text_encoder": "none"})  # merged into plain weights
    compute = device.choose(Device(), model)
    family = families.load(card, model, device=compute.device, dtype=compute.dtype)
    merge_all(family.targets(), model.merged)
    places = {target.name: target for target in family.targets()}
    for path, weight in adapters:
        merge_file(places, path, weight)
    files.write(out, preview.png(preview.draw(family, compute, prompt, card)))
    return out
