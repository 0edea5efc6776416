"""How the blocks of a denoiser are counted: as sd-scripts does, so that lists of ranks and rates mean the same here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from impasto.adapters.targets import Block, Numbering, Stage

Number = Callable[[str], Block | None]


def unet_blocks(unet: Any, *, xl: bool = False) -> Number:
    """Which block a dotted path inside a diffusers U-Net belongs to; None for what is in none.

    A block is one ResNet, the attention after it, and a sampler at the end of a level. On the way down a sampler has a
    block of its own, and the first block is the convolution at the entrance; on the way up it shares the last one.
    Stable Diffusion XL (`xl`) counts the time embedding and the exit too, and three blocks in the middle.
    """
    down = [len(level.resnets) + (level.downsamplers is not None) for level in unet.down_blocks]
    up = [len(level.resnets) for level in unet.up_blocks]
    around = 1 if xl else 0
    counted = Numbering(1 + sum(down), 3 if xl else 1, sum(up), before=around, after=around)

    def block(stage: Stage, at: int) -> Block:
        return Block(counted.number(stage, at), stage, at, counted)

    def number(path: str) -> Block | None:
        match path.split("."):
            case ["down_blocks", level, "downsamplers", *_]:
                return block("down", sum(down[: int(level) + 1]))
            case ["down_blocks", level, _, at, *_]:
                return block("down", 1 + sum(down[: int(level)]) + int(at))
            case ["mid_block", kind, at, *_]:
                return block("mid", 0 if not xl else 1 if kind == "attentions" else 2 * int(at))
            case ["up_blocks", level, "upsamplers", *_]:
                return block("up", sum(up[: int(level) + 1]) - 1)
            case ["up_blocks", level, _, at, *_]:
                return block("up", sum(up[: int(level)]) + int(at))
        return None

    return number


def joint_blocks(transformer: Any) -> Number:
    """The same in a transformer of equal blocks one after another: all of them are its middle."""
    counted = Numbering(0, len(transformer.transformer_blocks), 0)

    def number(path: str) -> Block | None:
        match path.split("."):
            case ["transformer_blocks", at, *_]:
                return Block(counted.number("mid", int(at)), "mid", int(at), counted)
        return None

    return number


def flux_blocks(transformer: Any) -> Number:
    """The same in FLUX.1: the blocks with layers for words and pictures apart (19 double ones) are the way down, those
    that share them (38 single ones) the way up, and nothing lies between."""
    double, single = len(transformer.transformer_blocks), len(transformer.single_transformer_blocks)
    counted = Numbering(double, 0, single)

    def number(path: str) -> Block | None:
        match path.split("."):
            case ["transformer_blocks", at, *_]:
                return Block(counted.number("down", int(at)), "down", int(at), counted)
            case ["single_transformer_blocks", at, *_]:
                return Block(counted.number("up", int(at)), "up", int(at), counted)
        return None

    return number


REPEATED = frozenset({"BasicTransformerBlock", "ResnetBlock2D"})
"""What a U-Net is made of, as diffusers names it."""


def repeated(denoiser: Any) -> list[Any]:
    """The blocks that a denoiser is made of, many of them alike, in its own order: those of a transformer, or the
    ResNets and transformer blocks of a U-Net."""
    stages = ("transformer_blocks", "single_transformer_blocks")
    if found := [block for stage in stages for block in getattr(denoiser, stage, ())]:
        return found
    return [each for each in denoiser.modules() if type(each).__name__ in REPEATED]
