"""Draw one picture with a base and any number of adapter files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from impasto import families, files
from impasto.engine import device, preview
from impasto.engine.config import Device, Prompt
from impasto.families import detect
from impasto.families.config import Merged, Model
from impasto.weights.merge import merge_into_part, mergeable


def draw(model: Model, prompt: Prompt, *, adapters: Sequence[tuple[Path, float]], out: Path) -> Path:
    """Draw `prompt` with the base `model` and `adapters` (file, weight) merged into it; writes a PNG.

    Raises ModelFileError (exit code 7) when a file is no adapter of this base, naming what does not fit.
    """
    card = detect.look(model)
    merged = (*model.merged, *(Merged.model_construct(path=path, weight=weight) for path, weight in adapters))
    plain = {"quantize": "none", "quantize_text_encoder": "none", "blocks_to_swap": 0}  # adapters are merged into it
    model = model.model_copy(update=plain)
    compute = device.choose(Device(), model)
    finish = partial(merge_into_part, merged=merged, base=families.outline(card))
    family = families.lend(card, model, device=compute.device, dtype=compute.dtype, finish=finish)
    mergeable(family.targets(), merged)
    files.write(out, preview.png(preview.draw(family, compute, prompt, card)))
    return out
