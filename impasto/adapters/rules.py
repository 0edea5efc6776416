"""Which layers get an adapter, of which size, and how fast each learns: parts, presets, blocks and rules."""

from __future__ import annotations

import math
import re
import warnings
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from impasto.schema import FilePath, NaturalFloat, NaturalInt, PositiveInt, Section

Layers = Literal["attention", "attention-mlp", "full"]
Part = Literal["unet", "text_encoder"]
Role = Literal["attention", "mlp", "projection", "resnet", "conv", "time", "modulation", "embedding", "norm"]
Curve = Annotated[str, Field(pattern=r"^(sine|cosine|linear|reverse_linear|zeros)(\+\d*\.?\d+)?$")]
"""A preset of factors over the blocks, perhaps with something added to each: `cosine+0.25`."""

Factors = Annotated[tuple[NaturalFloat, ...], Field(strict=False)] | Curve | NaturalFloat
Ranks = Annotated[tuple[NaturalInt, ...], Field(strict=False)]
Alphas = Annotated[tuple[NaturalFloat, ...], Field(strict=False)]


class Targets(Section):
    """Which parts of the base get an adapter, and which kinds of layers in them."""

    unet: bool = True
    """Adapt the denoiser (the U-Net): it learns how things look."""

    text_encoder: bool = True
    """Adapt the text encoder: it learns what a word means. It costs a little time and memory, since captions can then
    not be encoded once for all."""

    layers: Layers | None = None
    """`attention`: the layers of attention alone; `attention-mlp`: whole transformers; `full`: the ResNet blocks and
    samplers too. Unset: attention-mlp, or full where convolutions have a rank or are asked for."""


class Blocks(Section):
    """Sizes and rates by the denoiser's blocks, numbered as sd-scripts does. `impasto layers` shows the numbers."""

    down_rates: Factors | None = None
    """Factors of the learning rate on the way down, one a block, from the first; one number for all; or a preset:
    sine, cosine, linear, reverse_linear, zeros, with +0.25 to add something to each. Unset: 1."""

    mid_rates: Factors | None = None
    """The same for the middle."""

    up_rates: Factors | None = None
    """The same on the way up, from the deepest block."""

    zero_threshold: NaturalFloat = 0.0
    """Factors up to this count as 0. A block with factor 0 gets no adapter at all."""

    ranks: Ranks | None = None
    """The rank in each block, one for every block; 0 leaves a block out. Unset: rank."""

    alphas: Alphas | None = None
    """Alpha in each block; 0 means the same as the rank. Unset: alpha."""

    conv_ranks: Ranks | None = None
    """The rank of the 3x3 convolutions in each block; 0 leaves them alone there. Unset: conv_rank."""

    conv_alphas: Alphas | None = None
    """Alpha of the 3x3 convolutions in each block. Unset: conv_alpha."""


class Rule(Section):
    """What is different for some layers. Of several rules for a layer, the last one that says a thing decides it."""

    match: str | None = None
    """A regular expression that is found in the layer's name in the file, as `up_blocks_1.*attn2_to_[kv]$`.
    Unset: any name."""

    role: Role | None = None
    """Only layers that do this. Unset: any."""

    block: NaturalInt | None = None
    """Only layers of the denoiser's block of this number. Unset: any."""

    skip: bool | None = None
    """true: these layers get no adapter; false: they get one, even where `targets.layers` leaves them out."""

    rank: PositiveInt | None = None
    """Their rank."""

    alpha: NaturalFloat | None = None
    """Their alpha; 0 means the same as the rank."""

    rate: NaturalFloat | None = None
    """The factor of their learning rate, in place of their block's; with 0 they get no adapter."""

    @field_validator("match")
    @classmethod
    def _is_an_expression(cls, value: str | None) -> str | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of forms whose meaning may change one day
            try:
                re.compile(value or "")
            except (re.error, OverflowError, RecursionError) as error:
                at = f" at its {error.pos + 1}. character" if isinstance(error, re.error) and error.pos else ""
                raise ValueError(f"match is no regular expression: it is wrong{at}") from None
        return value

    @model_validator(mode="after")
    def _says_something(self) -> Rule:
        if self.match is None and self.role is None and self.block is None:
            raise ValueError("the rule does not say for which layers it is; give match, role or block")
        if self.skip is None and self.rank is None and self.alpha is None and self.rate is None:
            raise ValueError("the rule says nothing; give skip, rank, alpha or rate")
        return self

    def fits(self, name: str, role: Role, block: int | None) -> bool:
        """Whether it is for this layer."""
        return (
            (self.match is None or re.search(self.match, name) is not None)
            and (self.role is None or self.role == role)
            and (self.block is None or self.block == block)
        )

    def __str__(self) -> str:
        said = [("match", self.match), ("role", self.role), ("block", self.block)]
        return ", ".join(f"{name} = {value!r}" for name, value in said if value is not None)


class Start(Section):
    """An adapter file whose numbers the training begins with."""

    path: FilePath
    """The file, of whichever program. Its alpha goes on to count, also where the settings give another."""

    sizes: Literal["settings", "file"] = "settings"
    """Where ranks come from. `settings`: every layer of the file must have the rank that is set; `file`: the layers and
    ranks of the file, whatever `rank` and `alpha` say (LoRA and its kin)."""


def spread(factors: Factors | None, count: int) -> list[float]:
    """The factor of each of `count` blocks. Raises ValueError when a list has another length."""
    if factors is None:
        return [1.0] * count
    if isinstance(factors, str):
        return curve(factors, count)
    if isinstance(factors, tuple):
        if len(factors) != count:
            raise ValueError(f"there are {count} blocks there, but the list has {len(factors)} factors")
        return list(factors)
    return [factors] * count


def curve(preset: str, count: int) -> list[float]:
    """A preset over `count` blocks, as sd-scripts has them; a single block counts as the last of many."""
    name, _, more = preset.partition("+")
    rising = [at / (count - 1) if count > 1 else 1.0 for at in range(count)]
    if name in ("sine", "cosine"):
        rising = [math.sin(math.pi / 2 * at) for at in rising]
    values = [0.0] * count if name == "zeros" else rising[::-1] if name in ("cosine", "reverse_linear") else rising
    return [value + float(more or 0) for value in values]
