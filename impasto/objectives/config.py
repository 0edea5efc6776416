"""What the training tries to do: which noise levels it sees and how an error counts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from impasto.schema import NaturalFloat, Section, default_kind


class Uniform(Section):
    """Every timestep of the range is equally likely, as in DDPM (Ho et al. 2020, Algorithm 1)."""

    kind: Literal["uniform"] = "uniform"

    low: Annotated[int, Field(ge=0, lt=1000)] = 0
    """The first timestep that is trained: 0 is almost clean."""

    high: Annotated[int, Field(gt=0, le=1000)] = 1000
    """One past the last timestep that is trained: 1000 includes pure noise."""

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Uniform:
        if self.low >= self.high:
            raise ValueError(f"timesteps from {self.low} to {self.high} are none; low must be smaller than high")
        return self


Timesteps = Annotated[Uniform, default_kind("uniform")]


class MeanSquared(Section):
    """The squared difference, averaged over an example (L2)."""

    kind: Literal["mse"] = "mse"


Loss = Annotated[MeanSquared, default_kind("mse")]


class Objective(Section):
    """What the training tries to do."""

    timesteps: Timesteps = Uniform()
    """Which noise levels are drawn, and how often."""

    loss: Loss = MeanSquared()
    """How an error is measured."""

    prior_weight: NaturalFloat = 1.0
    """How much a regularization picture counts, against 1 for a training picture."""
