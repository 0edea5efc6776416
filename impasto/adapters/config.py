"""Which adapter is trained, how large, and on which layers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from impasto.schema import NaturalFloat, PositiveInt, Section, Share, default_kind


class Targets(Section):
    """Which parts of the base get an adapter."""

    unet: bool = True
    """Adapt the denoiser (the U-Net): it learns how things look."""

    text_encoder: bool = True
    """Adapt the text encoder: it learns what a word means. It costs a little time and memory, since captions can then
    not be encoded once for all."""


class Lora(Section):
    """Low-rank adaptation (Hu et al. 2021): each adapted layer gets alpha / rank * up(down(x)) added."""

    kind: Literal["lora"] = "lora"

    rank: PositiveInt = 4
    """How much the adapter can hold. 4 to 16 suits one character or style; more learns finer detail, makes a larger
    file and over-trains sooner."""

    alpha: NaturalFloat = 1.0
    """Strength: the adapter's output is scaled by alpha / rank, so a larger alpha acts like a larger learning rate.
    0 means the same as the rank (scale 1)."""

    conv_rank: PositiveInt | None = None
    """Also adapt the 3x3 convolutions and the layers of the ResNet blocks, the 3x3 ones with this rank (LoCon).
    Unset: they are left alone."""

    conv_alpha: NaturalFloat = 1.0
    """Alpha of the 3x3 convolutions; 0 means the same as their rank."""

    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the values inside the adapter (after `down`) set to zero in a step. A little (0.1)
    delays over-training."""

    rank_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the rank's rows switched off for each example in a step."""

    module_dropout: Share = 0.0
    """Chance that a layer's whole adapter sits out a step."""

    targets: Targets = Targets()
    """Which parts of the base get an adapter."""


Adapter = Annotated[Lora, default_kind("lora")]
"""Any adapter kind. `kind` chooses; the other fields belong to the chosen kind."""
