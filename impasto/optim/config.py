"""How the adapter's numbers are moved: optimizer, learning rates, schedule, clipping, averaging."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from impasto.schema import NaturalFloat, NaturalInt, PositiveFloat, PositiveInt, Section, Share, default_kind

Rate = Annotated[float, Field(ge=0.0, le=100.0)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class AdamW(Section):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): the safe choice."""

    kind: Literal["adamw"] = "adamw"

    beta1: Beta = 0.9
    """How slowly the mean of the gradients follows."""

    beta2: Beta = 0.999
    """How slowly the mean of their squares follows."""

    eps: PositiveFloat = 1e-8
    """Keeps the division finite where a gradient is near zero."""

    weight_decay: NaturalFloat = 0.01
    """Pulls the adapter's weights towards zero by rate times this, each step."""


Optimizer = Annotated[AdamW, default_kind("adamw")]


class _Warm(Section):
    warmup: NaturalInt | Annotated[float, Field(gt=0.0, lt=1.0)] = 0
    """Steps over which the rate rises from near zero: a whole number of steps, or a share of all steps (0.1)."""


class Constant(_Warm):
    """The same rate from the first to the last step, after an optional warm-up."""

    kind: Literal["constant"] = "constant"


class Linear(_Warm):
    """Falls in a straight line to zero at the last step."""

    kind: Literal["linear"] = "linear"


class Cosine(_Warm):
    """Falls along half a cosine to zero (Loshchilov and Hutter 2017, without restarts)."""

    kind: Literal["cosine"] = "cosine"


class CosineRestarts(_Warm):
    """Falls along a cosine and starts again, several times (Loshchilov and Hutter 2017, eq. 5)."""

    kind: Literal["cosine-restarts"] = "cosine-restarts"

    cycles: PositiveInt = 1
    """How many times it falls to zero in the run."""


class CosineMinimum(_Warm):
    """Falls along half a cosine to a share of the full rate, never to zero."""

    kind: Literal["cosine-minimum"] = "cosine-minimum"

    minimum: Share = 0.1
    """The share of the full rate at the last step."""


class Polynomial(_Warm):
    """Falls along a power of the remaining share of steps, from the full rate to 1e-7."""

    kind: Literal["polynomial"] = "polynomial"

    power: PositiveFloat = 1.0
    """1 is a straight line; 2 falls early."""


class InverseSqrt(_Warm):
    """Falls with one over the root of the steps since the warm-up."""

    kind: Literal["inverse-sqrt"] = "inverse-sqrt"

    timescale: PositiveInt | None = None
    """Steps over which it falls to 1/sqrt(2). Unset: the warm-up, or 10000 without one."""


class WarmupStableDecay(_Warm):
    """Rises, holds, and falls along half a cosine in the last steps (Hu et al. 2024)."""

    kind: Literal["warmup-stable-decay"] = "warmup-stable-decay"

    decay: PositiveInt | Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Steps of the fall at the end: a whole number of steps, or a share of all steps."""

    minimum: Share = 0.0
    """The share of the full rate before the warm-up and after the fall."""


class PiecewiseConstant(_Warm):
    """Holds one factor until a step, then the next."""

    kind: Literal["piecewise-constant"] = "piecewise-constant"

    until: Annotated[tuple[PositiveInt, ...], Field(strict=False)] = ()
    """The steps at which the factor changes, in rising order."""

    factors: Annotated[tuple[NaturalFloat, ...], Field(strict=False)] = (1.0,)
    """The factor before each of those steps, and after the last: one more than there are steps."""

    @model_validator(mode="after")
    def _one_factor_per_stretch(self) -> PiecewiseConstant:
        if len(self.factors) != len(self.until) + 1:
            raise ValueError(f"{len(self.until)} steps make {len(self.until) + 1} stretches, but factors has "
                             f"{len(self.factors)}")  # fmt: skip
        if list(self.until) != sorted(set(self.until)):
            raise ValueError("the steps of until must rise")
        return self


Schedule = Annotated[
    Annotated[
        Constant
        | Linear
        | Cosine
        | CosineRestarts
        | CosineMinimum
        | Polynomial
        | InverseSqrt
        | WarmupStableDecay
        | PiecewiseConstant,
        Field(discriminator="kind"),
    ],
    default_kind("constant"),
]


class Ema(Section):
    """A slow average of the weights, used for previews and files in place of the last step's (Polyak averaging)."""

    decay: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.999
    """How slowly the average follows: 0.999 looks back over about a thousand steps."""

    warmup: bool = True
    """Follow faster at first, with decay (1 + step) / (10 + step), so that short runs have an average too."""


def _no_fp16(value: object) -> object:
    if value == "fp16":
        raise ValueError("fp16 holds nothing below 6e-8 and only steps of 6e-8 near zero, where most updates of an "
                         "adapter are; bf16 takes no more memory and loses none of them")  # fmt: skip
    return value


class Optim(Section):
    """How the adapter's numbers are moved."""

    optimizer: Optimizer = AdamW()
    """The rule that turns gradients into steps."""

    learning_rate: Rate = 1e-4
    """How far a step goes. The first knob to turn: too high burns the picture, too low learns nothing."""

    unet_learning_rate: Rate | None = None
    """The rate for the U-Net's adapter. Unset: learning_rate. 0 leaves it out."""

    text_encoder_learning_rate: Rate | None = None
    """The rate for the text encoder's adapter. Unset: learning_rate. 0 leaves it out."""

    schedule: Schedule = Constant()
    """How the rate changes over the run."""

    precision: Annotated[Literal["fp32", "bf16"], BeforeValidator(_no_fp16)] = "fp32"
    """How the adapter's weights and gradients are held. `bf16` takes half of that memory, which is worth it for large
    adapters (kind `full`), and needs a base computed in bf16. The optimizer still works in fp32 and rounds by dice, so
    that updates too small for bf16 arrive in the mean; plain rounding would lose them."""

    clip: NaturalFloat = 1.0
    """Gradients longer than this (all of the adapter's together) are shortened to it. 0 never shortens."""

    ema: Ema | None = None
    """Keep a slow average of the weights and use it for previews and files. Unset: the last step's weights."""
