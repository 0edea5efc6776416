"""What the training tries to do: which noise hides the pictures, which levels it sees and how an error counts.

Every choice by dice is made for each look at a picture alone, never for a batch: a picture is trained the same in any
company.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from impasto.schema import NaturalFloat, PositiveFloat, PositiveInt, Section, Share, default_kind

# -- which noise levels -----------------------------------------------------------------------------------------------


class _Drawn(Section):
    low: Annotated[int, Field(ge=0, lt=1000)] = 0
    """The first timestep that is trained: 0 is almost clean. Raise it to leave textures as the base draws them."""

    high: Annotated[int, Field(gt=0, le=1000)] = 1000
    """One past the last timestep that is trained: 1000 includes pure noise. Lower it to leave composition as the base
    draws it. Inside the range the levels keep their proportions."""

    looks: Literal["independent", "stratified"] = "independent"
    """How the looks at one picture share the levels. `independent`: each is rolled alone. `stratified`: they go through
    the levels evenly from a start of the picture's own, so even a short run sees every picture both near clean and
    near noise, and the loss jumps about less."""

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"timesteps from {self.low} to {self.high} are none; low must be smaller than high")
        return self


class Usual(_Drawn):
    """As the base was made: every timestep alike for bases that predict noise or v (Stable Diffusion 1.x, 2.x, XL), the
    middle levels most for those that learn a flow (Stable Diffusion 3, FLUX.1: logit-normal)."""

    kind: Literal["auto"] = "auto"


class Uniform(_Drawn):
    """Every timestep of the range is equally likely, as in DDPM (Ho et al. 2020, Algorithm 1)."""

    kind: Literal["uniform"] = "uniform"


class LogitNormal(_Drawn):
    """Mostly the middle levels, where a picture's content is decided: the logit of the level is normal (Esser et al.
    2024, eq. 19)."""

    kind: Literal["logit-normal"] = "logit-normal"

    mean: Annotated[float, Field(ge=-10.0, le=10.0)] = 0.0
    """Where the middle lies: over 0 towards noise (composition), below 0 towards clean (texture)."""

    std: Annotated[float, Field(gt=0.0, le=10.0)] = 1.0
    """How wide it spreads. 1 almost never trains the outermost levels; from about 1.5 on the ends are common."""


class Sigmoid(_Drawn):
    """The logistic function of a scaled normal number: a logit-normal around the middle, as other trainers name it."""

    kind: Literal["sigmoid"] = "sigmoid"

    scale: Annotated[float, Field(gt=0.0, le=10.0)] = 1.0
    """How wide it spreads; the same as `std` of a logit-normal."""


class CosineMap(_Drawn):
    """The density 2 / (π (1 - 2x + 2x²)): twice as often in the middle as at the ends, and every level well trained
    (Esser et al. 2024, eq. 21)."""

    kind: Literal["cosine-map"] = "cosine-map"


class Mode(_Drawn):
    """More of the middle or more of the ends, without ever leaving out a level (Esser et al. 2024, eq. 20)."""

    kind: Literal["mode"] = "mode"

    scale: Annotated[float, Field(ge=-1.0, le=1.75)] = 1.29
    """Over 0 favours the middle, below 0 the ends, 0 is uniform. 1.29 is among the paper's best."""


Timesteps = Annotated[
    Annotated[Usual | Uniform | LogitNormal | Sigmoid | CosineMap | Mode, Field(discriminator="kind")],
    default_kind("auto"),
]


class UsualShift(Section):
    """As the base draws, if that goes by the size of the picture: the shift `flux` for FLUX.1 dev. None for others."""

    kind: Literal["auto"] = "auto"


class NoShift(Section):
    """The levels stay where they were drawn."""

    kind: Literal["none"] = "none"


class FixedShift(Section):
    """Moves all levels towards noise: x becomes s x / (1 + (s - 1) x) (Esser et al. 2024, eq. 23)."""

    kind: Literal["fixed"] = "fixed"

    strength: Annotated[float, Field(gt=0.0, le=1000.0)] = 3.0
    """Over 1 trains composition more and fine detail less, below 1 the other way, 1 changes nothing. 3 is what Stable
    Diffusion 3 was trained with at 1024 pixels."""


class ResolutionShift(Section):
    """Moves levels towards noise as pictures grow, by the root of the ratio of their areas (Esser et al. 2024, eq. 23):
    more pixels of one thing need more noise to hide it."""

    kind: Literal["resolution"] = "resolution"

    side: PositiveInt = 64
    """Latents a side of the square picture that nothing is shifted for: 64 is 512 pixels, 128 is 1024. Set it to what
    the base was trained at."""


class FluxShift(Section):
    """Moves levels towards noise as FLUX.1 does: by e to the power of 0.5 at 256 tokens and of 1.15 at 4096, in a
    straight line between them and beyond. A token is 2 by 2 latents."""

    kind: Literal["flux"] = "flux"


Shift = Annotated[
    Annotated[UsualShift | NoShift | FixedShift | ResolutionShift | FluxShift, Field(discriminator="kind")],
    default_kind("auto"),
]


# -- which noise ------------------------------------------------------------------------------------------------------


class Offset(Section):
    """Shifts the noise of each channel by one random number, so that darkness and brightness of a whole picture can be
    learnt (Guttenberg 2023)."""

    strength: Annotated[float, Field(ge=0.0, le=10.0)] = 0.05
    """How large the shift is, in standard deviations of the noise. 0.05 to 0.1 gives deeper blacks and brighter whites;
    more tires the colours and spoils pictures drawn without it."""

    random: bool = False
    """Roll the strength for each look at a picture between 0 and `strength`, so that pictures without any offset stay
    familiar."""

    adaptive: Annotated[float, Field(ge=-10.0, le=10.0)] = 0.0
    """Adds this times the size of a channel's mean to the strength, so that very dark or bright pictures get more; the
    sum is never taken below 0. 0 gives all pictures the same."""


class Pyramid(Section):
    """Adds noise of ever coarser grain, so that large shapes are hidden as well as fine ones (multi-resolution noise,
    Whitaker 2023)."""

    iterations: Annotated[int, Field(ge=1, le=32)] = 6
    """Grains that are added, each 2 to 4 times as coarse (by dice) as the last; those coarser than the picture are
    left out. 6 to 10 reach the whole picture at usual sizes."""

    discount: Share = 0.3
    """How much of each grain is kept in the next. 0.1 to 0.3 is gentle; 0.8 gives strong contrast and needs a long run.

    The sum is divided by its standard deviation, picture by picture. Other trainers divide by that of the whole batch
    and share the grains in it; this cannot be had here, as then a picture's noise would depend on its neighbours, and a
    run in a fleet would not end as it does alone."""


class Perturbation(Section):
    """Shows the denoiser a little more noise than it is asked for, so that its own errors while drawing throw it off
    less (Ning et al. 2023)."""

    gamma: Annotated[float, Field(ge=0.0, le=10.0)] = 0.1
    """How much more, in standard deviations of the noise. 0.1 is the paper's value; more blurs."""

    random: bool = False
    """Roll the amount for each look at a picture between 0 and `gamma`."""


class Noise(Section):
    """What pictures are hidden in. Validation always uses plain noise, so that its numbers can be compared."""

    offset: Offset | None = None
    """A shift of whole channels, for deep blacks and bright whites. Unset: none, as the bases were trained."""

    pyramid: Pyramid | None = None
    """Coarse grain on top of the fine one, for contrast and large shapes; comes after `offset`, and divides the sum by
    its standard deviation for each picture. Unset: none, as the bases were trained."""

    perturbation: Perturbation | None = None
    """A little more noise than the denoiser is asked for, against errors that add up while drawing. Unset: none."""


# -- how an error is measured -----------------------------------------------------------------------------------------


class MeanSquared(Section):
    """The squared difference, averaged over an example (L2)."""

    kind: Literal["mse"] = "mse"


class Absolute(Section):
    """The absolute difference, averaged over an example (L1): outliers count less, and so does everything faint."""

    kind: Literal["l1"] = "l1"


class _Turning(Section):
    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """Where squared turns into linear, near pure noise or everywhere. Smaller ignores outliers more and learns detail
    more slowly."""

    schedule: Literal["constant", "exponential", "snr"] = "snr"
    """How the threshold c changes between clean and noise. `constant`: not at all. `exponential`: from 1 down to c, by
    the same factor each timestep. `snr`: by (1 - c) / (1 + σ)² + c, with σ the ratio of noise to signal: near clean it
    is 1 and detail is learnt as with the squared error, near noise, where errors are large by nature, outliers are held
    in check."""

    scale: PositiveFloat = 1.0
    """Multiplies the threshold at every timestep, in every schedule."""


class Huber(_Turning):
    """Squared below a threshold and linear above it, 2c (√(d² + c²) - c): a few bad pictures spoil less (pseudo-Huber,
    Khrapov et al. 2024)."""

    kind: Literal["huber"] = "huber"


class SmoothL1(_Turning):
    """As huber, divided by its threshold, 2 (√(d² + c²) - c): where the threshold is small the error counts more."""

    kind: Literal["smooth-l1"] = "smooth-l1"


Loss = Annotated[Annotated[MeanSquared | Absolute | Huber | SmoothL1, Field(discriminator="kind")], default_kind("mse")]


class Mask(Section):
    """How the places that a mask leaves out count."""

    normalise: bool = True
    """Divide by what the mask lets through, so that a small subject is learnt as fast as a large one. false divides by
    the whole picture: the less the mask lets through, the less the picture counts."""

    floor: Share = 0.0
    """How much every place counts at least. 0 leaves what is masked to the base; 0.1 keeps backgrounds from drifting
    where the subject leaks into them."""


# -- how much an error counts -----------------------------------------------------------------------------------------


class Unweighted(Section):
    """Every noise level counts alike."""

    kind: Literal["none"] = "none"


class MinSnr(Section):
    """Caps the weight of the levels near clean, which are easy, so that shapes are learnt sooner (Hang et al. 2023)."""

    kind: Literal["min-snr"] = "min-snr"

    gamma: PositiveFloat = 5.0
    """The cap. Lower trains low-noise steps, and with them texture, less. 5 is the paper's value."""


class SoftMinSnr(Section):
    """As min-snr without its corner: the signal-to-noise ratio r counts as rγ / (r + γ) (Crowson et al. 2024)."""

    kind: Literal["soft-min-snr"] = "soft-min-snr"

    gamma: PositiveFloat = 5.0
    """Where the weight levels off. Lower trains low-noise steps less."""


class Debiased(Section):
    """Weighs by one over the root of the signal-to-noise ratio: composition and colour count much more than texture
    (Yu et al. 2023)."""

    kind: Literal["debiased"] = "debiased"


class NoiseLike(Section):
    """For bases that predict v: weighs its errors as if noise were predicted, so that they count less near noise and
    rates known from other bases hold."""

    kind: Literal["noise-like"] = "noise-like"


class CosineWeight(Section):
    """For bases that learn a flow: weighs the level σ by 2 / (π (1 - 2σ + 2σ²)), the middle twice as much as the ends
    (Esser et al. 2024, eq. 21, as a weight)."""

    kind: Literal["cosine-map"] = "cosine-map"

    of_picture: bool = False
    """Weigh the error of the clean picture, as sd-scripts does for Stable Diffusion 3: σ² times as much."""


class OfPicture(Section):
    """For bases that learn a flow: the error of the clean picture in place of that of the direction, σ² times as much.
    The less noise there is, the less it counts: composition over detail, as sd-scripts trains Stable Diffusion 3."""

    kind: Literal["picture"] = "picture"


Weighting = Annotated[
    Annotated[
        Unweighted | MinSnr | SoftMinSnr | Debiased | NoiseLike | CosineWeight | OfPicture, Field(discriminator="kind")
    ],
    default_kind("none"),
]


class Places(Section):
    """Where a picture's parts are said to be, while it is learnt. For Stable Diffusion 3, which is told places from a
    table that reaches farther than a picture."""

    anywhere: Share = 0.0
    """Chance that a picture's places are cut out anywhere in the table at a visit, not in its middle, as Stable
    Diffusion 3.5 Medium was made."""

    scaled: bool = False
    """Spread a picture of fewer pixels than the base was made for over the places of a whole one, and one of more
    closer together: what is learnt at 512 pixels then serves at 1024, and is not learnt as a detail of a picture."""

    @property
    def usual(self) -> bool:
        """Whether nothing is asked for."""
        return self == Places()


class Objective(Section):
    """What the training tries to do."""

    timesteps: Timesteps = Usual()
    """Which noise levels are drawn, and how often."""

    shift: Shift = UsualShift()
    """Moves the drawn levels towards noise or towards clean, within the range of the timesteps, for bases and
    resolutions that need it."""

    noise: Noise = Noise()
    """What pictures are hidden in."""

    zero_terminal_snr: bool = False
    """Make the last timestep pure noise, as it is when drawing starts, so that pictures can be really dark or bright
    (Lin et al. 2024). For bases that predict v, and previews are drawn alike; draw with `rescale_betas_zero_snr`, or
    "zero terminal SNR", elsewhere too. Off, because a base that was not trained so has to unlearn its schedule."""

    loss: Loss = MeanSquared()
    """How an error is measured."""

    mask: Mask = Mask()
    """How the places that a mask leaves out count."""

    weighting: Weighting = Unweighted()
    """How much a noise level counts, by how much noise there is. One at a time: two of them would undo each other."""

    v_like: NaturalFloat = 0.0
    """For bases that predict noise: adds this much of the loss as if v were predicted, which counts near noise, for
    composition. It multiplies whatever `weighting` gives. 0 adds nothing; start with 0.01, as what it adds is 200
    times the loss near pure noise."""

    places: Places = Places()
    """Where a picture's parts are said to be."""

    prior_target: Literal["picture", "base"] = "picture"
    """What a regularization picture teaches. `picture`: itself. `base`: what the base alone would answer there, so that
    it goes on drawing such captions as it always did (differential output preservation); costs one more forward pass
    over these pictures, and they need not even be like the base's own. A set of the training pictures with captions
    that lack the new word keeps that word apart from its class."""

    prior_weight: NaturalFloat = 1.0
    """How much a regularization picture counts, against 1 for a training picture."""
