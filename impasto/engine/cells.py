"""The pictures of a comparison: one base, many adapters at many strengths, drawn once and kept by what they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from impasto import families
from impasto.engine import device, prepare, preview
from impasto.engine.config import Device, Prompt
from impasto.engine.device import Compute
from impasto.families import detect
from impasto.families.config import Model
from impasto.families.detect import Card
from impasto.families.family import Family
from impasto.store import Recipe, Store
from impasto.weights.merge import lent, merge_all

FORMAT = 1
"""Counts up when the same cell is drawn differently: what was kept before is drawn anew."""

_ELSEWHERE = {
    "path", "vae_path", "clip_l_path", "clip_g_path", "t5_path", "config_path", "merged", "gradient_checkpointing",
    "offload_checkpoints", "reading", "quantize", "quantize_text_encoder",
}  # fmt: skip
"""Settings of a base that say where it lies, which its fingerprints tell better, or how it is held in training."""


@dataclass(frozen=True)
class Cell:
    """One picture: what is drawn, and with which adapter file."""

    prompt: Prompt
    adapter: Path | None = None
    """None: the base alone."""
    strength: float = 1.0


def draw(
    model: Model, cells: Sequence[Cell], store: Store, tell: Callable[[int, int], None], name: str = "auto"
) -> list[bytes]:
    """The cells as PNGs, in their order; those that the store lacks are drawn on one base and kept there.

    `tell` is called with how many of the missing ones are done, and how many there are. `name` is the device's. Raises
    ModelFileError (exit code 7) when a file is no adapter of this base, naming what does not fit.
    """
    model = model.model_copy(update={"quantize": "none", "quantize_text_encoder": "none"})  # merged into plain weights
    card, compute = detect.look(model), device.choose(Device(name=name), model)
    recipes = {cell: _recipe(cell, card, model, compute, store) for cell in cells}
    missing = [cell for cell, recipe in recipes.items() if store.get(recipe) is None]
    drawn: dict[Cell, bytes] = {}
    if missing:
        family = families.load(card, model, device=compute.device, dtype=compute.dtype)
        merge_all(family.targets(), model.merged)
        for alike in _alike(missing):
            for cell, png in _drawn(alike, family, compute, card):
                store.put(recipes[cell], png)
                drawn[cell] = png
                tell(len(drawn), len(missing))
    return [drawn[cell] if cell in drawn else _kept(store, recipes[cell]) for cell in cells]


def _drawn(cells: Sequence[Cell], family: Family, compute: Compute, card: Card) -> list[tuple[Cell, bytes]]:
    """Cells of one adapter at one strength; the base is as it was afterwards, to the bit."""
    adapter, strength = cells[0].adapter, cells[0].strength
    targets = {target.name: target for target in family.targets()}
    with lent(targets, adapter, strength):
        return [(cell, preview.png(preview.draw(family, compute, cell.prompt, card))) for cell in cells]


def _alike(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Those of one adapter at one strength together, so that it is merged once."""
    found: dict[tuple[Path | None, float], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.adapter, cell.strength), []).append(cell)
    return list(found.values())


def _recipe(cell: Cell, card: Card, model: Model, compute: Compute, store: Store) -> Recipe:
    """All that the picture depends on."""
    sides = {"width": cell.prompt.width or card.resolution, "height": cell.prompt.height or card.resolution}
    return {
        "kind": "cell",
        "format": FORMAT,
        "base": [prepare.fingerprint(store, card, part, model.merged) for part in ("unet", "vae", *card.encoders)],
        "read": model.model_dump(mode="json", exclude=_ELSEWHERE),
        "device": [compute.device.type, compute.precision],
        "adapter": None if cell.adapter is None else [store.fingerprint(cell.adapter), cell.strength],
        "prompt": {**cell.prompt.model_dump(mode="json"), **sides},
    }


def _kept(store: Store, recipe: Recipe) -> bytes:
    found = store.get(recipe)
    assert found is not None, "it was there a moment ago"
    return found
