"""The section `[sweep]` of a file of settings: what varies, how many runs that makes, which are stopped early."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from impasto.config import RunConfig
from impasto.schema import NaturalInt, PositiveInt, Section, Seed

Method = Literal["grid", "random", "sobol", "optuna"]


class Halving(Section):
    """Successive halving (Jamieson and Talwalkar 2016): after some steps, only the better variants go on."""

    eta: Annotated[int, Field(ge=2, le=16)] = 2
    """At each rung one of so many variants goes on. 2 is the careful choice; with 3 a few steps less are trained, and
    the best is lost more often."""

    rungs: Annotated[tuple[PositiveInt, ...], Field(strict=False)] = ()
    """Steps after which variants are compared. Unset: the length of the run divided by eta, by eta twice, and so on,
    as often as there are variants to divide, but never before a tenth of the steps."""

    keep: PositiveInt = 1
    """Variants that are trained to their end at least."""


class Sweep(Section):
    """Runs that differ in a few settings. Each is a run like any other, in a folder of its own; those that share a seed
    see the same noise, timesteps and order of pictures."""

    axes: dict[str, Any] = Field(default={})
    """What varies: for each setting, by its dotted name in quotes, a list of values, or a range as
    `"5e-5..5e-4:log:4"` (from, to, scale, how many)."""

    method: Method = "grid"
    """`grid`: every combination. `random`: `pick` combinations by lot. `sobol`: `pick` combinations that fill the space
    evenly, for ranges without a number of values. `optuna`: the first ones as `sobol`, and then what Optuna's TPE
    proposes from the losses so far, until there are `pick`."""

    pick: PositiveInt | None = None
    """How many combinations are tried. Unset: all of the grid."""

    at_a_time: PositiveInt = 4
    """With `optuna`: combinations that are proposed together and train side by side. Fewer learn more from each other;
    more train faster."""

    seeds: Annotated[int, Field(ge=1, le=1000)] = 1
    """Runs of each combination, with train.seed and the seeds that follow it: how much is luck."""

    dice: Seed = 0
    """Decides which combinations `random`, `sobol` and `pick` take."""

    halving: Halving | None = None
    """Stop the worse variants early, by their loss with fixed noise."""

    side_by_side: NaturalInt = 0
    """Runs that train at once on one base, at most. 0: as many as the memory is expected to hold."""

    storage: str | None = None
    """With `--on ray`: how run folders come back, as any path that fsspec knows (a shared folder, `s3://bucket/sweeps`).
    Unset: all nodes see the sweep's own folder."""


class SweepFile(Section):
    """What a file of settings holds beside a run's settings."""

    sweep: Sweep = Sweep()
    """What varies."""


class WholeFile(RunConfig):
    """All that a file of settings may hold: a run's settings, and what varies."""

    sweep: Sweep = Sweep()
    """Many runs that differ in a few settings: `impasto sweep`."""
