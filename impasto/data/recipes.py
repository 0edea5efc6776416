"""What encoded pictures and masks depend on: the names under which they are kept. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from impasto.data.buckets import Placement

Recipe = Mapping[str, Any]
FORMAT = 1


def picture_encoder(fingerprint: str, precision: str, tile: int | None) -> str:
    """Which picture encoder it is, by the hash of its file, in which precision it is held, and how large its tiles
    are."""
    return fingerprint + ("" if precision == "fp32" else f"+{precision}") + (f"+tile {tile}" if tile else "")


def latents_recipe(
    example: str, placement: Placement, *, flip: bool, alpha: str, encoder: str, color: int | None = None
) -> Recipe:
    """What an encoded picture depends on: its bytes, its geometry, what stands behind it, the shift of its colours, and
    the encoder's weights."""
    recipe: dict[str, Any] = {
        "kind": "latents",
        "format": FORMAT,
        "picture": example,
        "resized": list(placement.resized),
        "crop": list(placement.crop),
        "bucket": [placement.bucket.width, placement.bucket.height],
        "flip": flip,
        "alpha": alpha,
        "encoder": encoder,
    }
    return recipe if color is None else {**recipe, "color": color}


def mask_recipe(
    mask: str | None, alpha: str | None, placement: Placement, *, flip: bool, size: tuple[int, int]
) -> Recipe:
    """What a mask at the size of latents depends on: its bytes, or those of the picture whose transparency it is, or
    both; and its geometry."""
    return {
        "kind": "mask",
        "format": FORMAT,
        "mask": mask,
        "transparency": alpha,
        "resized": list(placement.resized),
        "crop": list(placement.crop),
        "bucket": [placement.bucket.width, placement.bucket.height],
        "flip": flip,
        "size": list(size),
    }
