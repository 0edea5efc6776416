"""What a forward pass keeps for the backward pass: in proportion to all that the layers of the denoiser put out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

KEPT = {False: 3.25, True: 1.55}
"""Numbers kept for each one that a layer puts out; with gradient checkpointing. As `scripts/memory_check` measured."""

WORDS = 77
"""Places of a caption, for the layers that read it."""

TOKENS = 512
"""Places of a caption beside those of the picture, in a transformer."""

_STAGE = re.compile(r"(down_blocks|up_blocks|input_blocks|output_blocks)\.(\d+)\.")
_OF_WORDS = re.compile(r"attn2\.to_[kv]\.")
_OF_A_PICTURE = re.compile(r"time_emb|emb_layers|label_emb|add_embedding|time_embedding|modulation|norm.*\.linear")


def outputs(shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], latents: float) -> float:
    """The numbers that all layers of a denoiser put out for one picture of so many latents."""
    layers = {name: shape for name, shape in shapes.items() if len(shape) in (2, 4)}
    return sum(shape[0] * _places(name, config, latents) for name, shape in layers.items())


def _places(name: str, config: Mapping[str, Any], latents: float) -> float:
    """At how many places of a picture a layer computes."""
    if _OF_A_PICTURE.search(name):
        return 1
    if _OF_WORDS.search(name):
        return WORDS
    widths = config.get("block_out_channels")
    if not isinstance(widths, list):
        return latents / 4 + TOKENS  # a transformer takes squares of two by two
    return latents / 4.0 ** _stage(name, len(widths), int(config.get("layers_per_block") or 2))


def _stage(name: str, stages: int, layers: int) -> int:
    """How often sides were halved there: 0 at full size."""
    found = _STAGE.search(name)
    if not found:
        return stages - 1 if "mid" in name else 0
    number = int(found[2])
    match found[1]:
        case "down_blocks":
            return number
        case "up_blocks":
            return stages - 1 - number
        case "input_blocks":
            return number // (layers + 1)
        case _:
            return stages - 1 - number // (layers + 1)
