"""Which base model is trained on, and in which precision it is held."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from impasto.schema import FilePath, Section

Precision = Literal["fp32", "bf16", "fp16"]


class Merged(Section):
    """An adapter that is made part of the base before training."""

    path: FilePath
    """The adapter file."""

    weight: Annotated[float, Field(ge=-10.0, le=10.0)] = 1.0
    """How much of it: 1 as it was trained, 0.5 half of it."""


class Model(Section):
    """The frozen base model."""

    path: Annotated[str, Field(min_length=1, max_length=4096)] = "pocket"
    """The base: `pocket` (the small model that comes with impasto) or a folder in diffusers' layout. A
    relative path starts at the folder of the settings file, or on the command line at the current folder."""

    merged: Annotated[tuple[Merged, ...], Field(strict=False)] = ()
    """Adapter files that are merged into the base, in this order: training goes on from there, and the new adapter is
    to be used together with them."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """How the base is held and computed. `auto`: bf16 where the device is fast in it, else fp32. The adapter's own
    weights are always fp32."""

    prediction: Literal["auto", "epsilon", "v"] = "auto"
    """What the base predicts. `auto`: as the model says of itself."""

    clip_skip: Annotated[int, Field(ge=1, le=12)] = 1
    """Which layer of the text encoder is used, counted from the end: 1 is the last, 2 the one before (anime models)."""

    max_tokens: Literal[75, 150, 225] = 75
    """Tokens of a caption that are used; longer captions are cut there."""

    gradient_checkpointing: bool = False
    """Compute parts of the forward pass twice to use less memory: about a third slower, less than half the memory."""
