"""Base models. `load` is the one place that matches on the family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from impasto.families.config import Model
from impasto.families.detect import Card

if TYPE_CHECKING:
    import torch

    from impasto.adapters.targets import Target
    from impasto.families.family import Family


def load(card: Card, model: Model, *, device: torch.device, dtype: torch.dtype) -> Family:
    """The base that `card` describes, frozen, on `device`, its denoiser in `dtype`, the rest as `model` says."""
    match card.family:
        case "sd1":
            from impasto.families import parts
            from impasto.families.sd import StableDiffusion

            return StableDiffusion(card, model, parts.load(card, model, dtype=dtype, device=device), device)


def outline(card: Card | None) -> list[Target]:
    """The layers of the base that `card` describes, without their numbers; without a card, of Stable Diffusion 1.x."""
    from impasto.families.shapes import stable_diffusion

    match card.family if card else "sd1":
        case "sd1":
            return stable_diffusion(card)
