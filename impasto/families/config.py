"""Which base model is trained on, and in which precision it is held."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from impasto.schema import FilePath, Section

Precision = Literal["fp32", "bf16", "fp16"]


class Model(Section):
    """The frozen base model."""

    path: Annotated[str, Field(min_length=1, max_length=4096)] = "pocket"
    """The base: `pocket` (the small model that comes with impasto), a `.safetensors` checkpoint, or a folder in
    diffusers' layout; Stable Diffusion 1.x, 2.x or XL. A relative path starts at the folder of the settings file, or on
    the command line at the current folder."""

    vae_path: FilePath | None = None
    """Another VAE than the base's own: a `.safetensors` file or a folder. Checkpoints without a VAE need one."""

    config_path: FilePath | None = None
    """For a checkpoint whose measures are not the published ones: a folder in diffusers' layout, of which only the
    description files and the tokenizers are read."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """How the base is held and computed. `auto`: bf16 where the device is fast in it, else fp32. The adapter's own
    weights are always fp32."""

    prediction: Literal["auto", "epsilon", "v"] = "auto"
    """What the base predicts. `auto`: as the model says of itself. A Stable Diffusion 2.x checkpoint does not say:
    `v` for those of 768 pixels, `epsilon` for those of 512."""

    clip_skip: Annotated[int, Field(ge=1, le=12)] = 1
    """Which layer of the text encoder is used, counted from the end: 1 is the last, 2 the one before (anime models).
    Stable Diffusion XL always uses the one before."""

    max_tokens: Literal[75, 150, 225] = 75
    """Tokens of a caption that are used; longer captions are cut there."""

    gradient_checkpointing: bool = False
    """Compute parts of the forward pass twice to use less memory: about a third slower, less than half the memory."""
