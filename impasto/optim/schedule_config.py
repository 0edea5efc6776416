"""How the learning rate changes over a run: one section a schedule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from impasto.schema import NaturalFloat, NaturalInt, PositiveFloat, PositiveInt, Section, Share, default_kind


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


class Rex(_Warm):
    """Falls late and ever faster, to zero (Chen et al. 2022): (1 - p) / (1 - p + p/2) at a share p of the steps."""

    kind: Literal["rex"] = "rex"


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
        | Rex
        | Polynomial
        | InverseSqrt
        | WarmupStableDecay
        | PiecewiseConstant,
        Field(discriminator="kind"),
    ],
    default_kind("constant"),
]
