"""The parts of a base without their numbers: names, shapes and places, built on no device at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from impasto.families import detect, loading
from impasto.families.card import ENCODERS, numbers
from impasto.families.detect import Card
from impasto.families.sd import Modules


def modules(card: Card | None) -> Modules:
    """What adapters ride on in the base that `card` describes; of the published Stable Diffusion 1.x without a card."""
    return of(detect.packaged("sd1") if card is None else card.configs)


def of(configs: Mapping[Any, Mapping[str, Any]]) -> Modules:
    """The same by the measures of the parts."""
    found = {part: loading.build(part, configs[part]) for part in ("unet", *ENCODERS) if part in configs}
    there = [part for part in ENCODERS if part in found]
    return Modules(found["unet"], tuple(found[part] for part in there), None, (), numbers(there))
