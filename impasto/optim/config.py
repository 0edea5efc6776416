"""How the adapter's numbers are moved: optimizer, learning rates, schedule, clipping, averaging."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from impasto.optim.schedule_config import Constant, Schedule
from impasto.schema import NaturalFloat, PositiveFloat, Section, default_kind

Rate = Annotated[float, Field(ge=0.0, le=100.0)]
Ratio = Annotated[float, Field(gt=0.0, le=1000.0)]
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


class AdamW8bit(Section):
    """AdamW whose memory has 8 bits a number (Dettmers et al. 2022). Needs the package bitsandbytes and its GPUs."""

    kind: Literal["adamw-8bit"] = "adamw-8bit"

    beta1: Beta = 0.9
    """How slowly the mean of the gradients follows."""

    beta2: Beta = 0.999
    """How slowly the mean of their squares follows."""

    eps: PositiveFloat = 1e-8
    """Keeps the division finite where a gradient is near zero."""

    weight_decay: NaturalFloat = 0.01
    """Pulls the adapter's weights towards zero by rate times this, each step."""


class Lion(Section):
    """Moves every number by the full rate, in the direction of its mean gradient (Chen et al. 2023).

    Wants a rate 3 to 10 times smaller than AdamW's, and a weight decay so many times larger.
    """

    kind: Literal["lion"] = "lion"

    beta1: Beta = 0.9
    """How much the mean counts against the newest gradient in a step."""

    beta2: Beta = 0.99
    """How slowly the mean of the gradients follows."""

    weight_decay: NaturalFloat = 0.0
    """Pulls the adapter's weights towards zero by rate times this, each step."""


class Sgd(Section):
    """Plain gradient descent with momentum. Wants a far larger rate than AdamW: try 0.1 to 1."""

    kind: Literal["sgd"] = "sgd"

    momentum: Beta = 0.9
    """How much of the last step is in the next. 0: none."""

    nesterov: bool = True
    """Look ahead along the momentum (Nesterov 1983)."""

    weight_decay: NaturalFloat = 0.0
    """Added to the gradients: this times the weights."""


class Adafactor(Section):
    """Adaptive steps with a memory of rows and columns in place of all numbers (Shazeer and Stern 2018)."""

    kind: Literal["adafactor"] = "adafactor"

    momentum: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """How slowly the mean of the steps follows. Unset: none is kept, which saves its memory."""

    decay_rate: PositiveFloat = 0.8
    """At step t the mean of the squares keeps 1 - t to the power of minus this."""

    clip_threshold: PositiveFloat = 1.0
    """A tensor's step (before its rate) is shortened to this root mean square."""

    scale_parameter: bool = True
    """Make steps as large as the weights are: multiply the rate by their root mean square, 0.001 or more."""

    relative_step: bool = False
    """Multiply the rate by min(0.01, 1/sqrt(t)) at step t. It is then a factor, and 1 is usual."""

    warmup_init: bool = False
    """With relative_step: t times 1e-6 in place of 0.01, which rises slowly."""

    weight_decay: NaturalFloat = 0.0
    """Pulls the adapter's weights towards zero by rate times this, each step."""

    @model_validator(mode="after")
    def _warms_up_relative_steps(self) -> Adafactor:
        if self.warmup_init and not self.relative_step:
            raise ValueError("warmup_init is how relative steps begin, and relative_step is false")
        return self


class Prodigy(Section):
    """AdamW that finds its rate by itself (Mishchenko and Defazio 2024). learning_rate is a factor: leave it at 1."""

    kind: Literal["prodigy"] = "prodigy"

    beta1: Beta = 0.9
    """How slowly the mean of the gradients follows."""

    beta2: Beta = 0.999
    """How slowly the mean of their squares follows."""

    beta3: Beta | None = None
    """How slowly the estimate of the rate follows. Unset: the root of beta2."""

    d0: PositiveFloat = 1e-6
    """The first estimate of the rate. Larger if nothing happens for long."""

    d_coef: PositiveFloat = 1.0
    """Multiplies the estimate. The knob for a rate that comes out too high or too low: 0.5 to 2."""

    growth_rate: Annotated[float, Field(gt=1.0, le=1e9)] | None = None
    """How many times larger the estimate may get in a step. Unset: without limit. 1.02 is a slow warm-up."""

    bias_correction: bool = False
    """Correct the means for their beginning at zero, as Adam does."""

    safeguard_warmup: bool = False
    """Leave the rate out of the estimate's denominator, for schedules with a warm-up."""

    eps: PositiveFloat = 1e-8
    """Keeps the division finite where a gradient is near zero."""

    weight_decay: NaturalFloat = 0.0
    """Pulls the adapter's weights towards zero by rate times this, each step."""


class DAdaptation(Section):
    """Optimizers that find their rate by themselves (Defazio and Mishchenko 2023). Leave learning_rate at 1."""

    kind: Literal["d-adaptation"] = "d-adaptation"

    rule: Literal["adam", "adagrad", "adan", "adan-ip", "lion", "sgd"] = "adam"
    """The rule whose rate is found. adan (Xie et al. 2022) looks ahead by how the gradients change; adan-ip is the same
    with an estimate by inner products."""

    betas: Annotated[tuple[Beta, ...], Field(strict=False)] | None = None
    """How slowly the means follow: two numbers for adam and lion, three for adan. Unset: [0.9, 0.999] for adam, [0.9,
    0.99] for lion, [0.98, 0.92, 0.99] for adan."""

    bias_correction: bool = False
    """Correct the means for their beginning at zero. Only for adam."""

    d0: PositiveFloat = 1e-6
    """The first estimate of the rate. Larger if nothing happens for long."""

    growth_rate: Annotated[float, Field(gt=1.0, le=1e9)] | None = None
    """How many times larger the estimate may get in a step. Unset: without limit. Not for lion."""

    weight_decay: NaturalFloat = 0.0
    """Pulls the adapter's weights towards zero by rate times this, each step."""

    @model_validator(mode="after")
    def _what_the_rule_has(self) -> DAdaptation:
        means = {"adam": 2, "lion": 2, "adan": 3, "adan-ip": 3}.get(self.rule, 0)
        if self.betas is not None and len(self.betas) != means:
            raise ValueError(f'the rule "{self.rule}" has {means or "no"} betas, and {len(self.betas)} are given')
        if self.rule == "lion" and self.growth_rate is not None:
            raise ValueError('the rule "lion" has no growth_rate')
        if self.rule != "adam" and self.bias_correction:
            raise ValueError(f'the rule "{self.rule}" has no bias_correction')
        return self


class ScheduleFree(Section):
    """Needs no schedule: previews, validation and files use an average of all steps (Defazio et al. 2024).

    Wants a rate 1 to 10 times larger than the same rule with a schedule.
    """

    kind: Literal["schedule-free"] = "schedule-free"

    rule: Literal["adamw", "radam", "sgd"] = "adamw"
    """The rule underneath. radam needs no warm-up."""

    momentum: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.9
    """Where gradients are taken: so far from the newest weights towards the average. 0.98 for long runs."""

    beta2: Beta = 0.999
    """How slowly the mean of the squares follows. Not for sgd."""

    r: NaturalFloat = 0.0
    """Weighs later steps more in the average: by the step to the power of this."""

    weight_decay: NaturalFloat = 0.0
    """Pulls the adapter's weights towards zero by rate times this, each step."""


class Came(Section):
    """Adafactor with momentum that trusts steps it is sure of (Luo et al. 2023)."""

    kind: Literal["came"] = "came"

    beta1: Beta = 0.9
    """How slowly the mean of the steps follows."""

    beta2: Beta = 0.999
    """How slowly the mean of the squares follows."""

    beta3: Beta = 0.9999
    """How slowly the mean of the doubts follows."""

    clip_threshold: PositiveFloat = 1.0
    """A tensor's step (before its rate) is shortened to this root mean square."""

    weight_decay: NaturalFloat = 0.0
    """Pulls the adapter's weights towards zero by rate times this, each step."""


class Muon(Section):
    """Makes the momentum of every matrix orthogonal before it steps (Jordan et al. 2024). What is no matrix: AdamW.

    Steps are scaled to be as large as AdamW's, so its rates and weight decays hold.
    """

    kind: Literal["muon"] = "muon"

    momentum: Beta = 0.95
    """How slowly the mean of the gradients follows."""

    nesterov: bool = True
    """Look ahead along the momentum."""

    iterations: Annotated[int, Field(ge=1, le=99)] = 5
    """Of Newton and Schulz, which make it orthogonal."""

    weight_decay: NaturalFloat = 0.01
    """Pulls the adapter's weights towards zero by rate times this, each step."""


Option = bool | int | float | str | Annotated[tuple[float, ...], Field(strict=False)]


class Library(Section):
    """Any optimizer of torch, pytorch-optimizer or bitsandbytes, by its name there."""

    kind: Literal["library"] = "library"

    name: Annotated[str, Field(min_length=1, max_length=100)]
    """As the library writes it: "NAdam", "CAME", or with the library before it, "bitsandbytes.optim.Lion8bit"."""

    options: dict[str, Option] = Field(default={})
    """Arguments it is made with, as {weight_decay = 0.1, betas = [0.9, 0.99]}. Not the rate."""

    def is_like(self, *words: str) -> bool:
        """Whether its name says so."""
        return any(word in self.name.casefold() for word in words)


Optimizer = Annotated[
    Annotated[
        AdamW | AdamW8bit | Lion | Sgd | Adafactor | Prodigy | DAdaptation | ScheduleFree | Came | Muon | Library,
        Field(discriminator="kind"),
    ],
    default_kind("adamw"),
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

    text_encoder_learning_rate: Rate | Annotated[tuple[Rate, ...], Field(strict=False, min_length=1)] | None = None
    """The rate for the text encoder's adapter; of a base with several text encoders, one for all or a list with one
    for each. Unset: learning_rate. 0 leaves it out."""

    lora_plus: Ratio | None = None
    """LoRA+ (Hayou et al. 2024): the rate of LoRA's `up`, which starts as zero, is so many times that of the rest. 4 to
    16 is usual. Unset: the same rate."""

    unet_lora_plus: Ratio | None = None
    """The same for the U-Net's adapter. Unset: lora_plus."""

    text_encoder_lora_plus: Ratio | None = None
    """The same for the text encoder's adapter. Unset: lora_plus."""

    learning_rate_scale: Literal["none", "linear", "sqrt"] = "none"
    """Multiply all rates by the pictures of a step (batch size times accumulate), or by their root."""

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

    @model_validator(mode="after")
    def _agrees_with_the_optimizer(self) -> Optim:
        if self.keeps_average:
            if not isinstance(self.schedule, Constant):
                raise ValueError("a schedule-free optimizer takes a constant rate, after a warm-up if you like: its "
                                 f'average does what the fall of a {self.schedule.kind} schedule would')  # fmt: skip
            if self.ema is not None:
                raise ValueError("a schedule-free optimizer keeps an average by itself: leave optim.ema unset")
        if self.finds_rate:
            kind = self.optimizer.kind
            own = {rate for rate in (self.unet_learning_rate, self.text_encoder_learning_rate) if rate}
            if own - {self.learning_rate}:
                raise ValueError(f"{kind} finds one rate for all parts: leave unet_learning_rate and "
                                 "text_encoder_learning_rate unset, or 0 to leave a part out")  # fmt: skip
            if self.learning_rate_scale != "none":
                raise ValueError(f'{kind} finds the rate for this batch size: set learning_rate_scale = "none"')
        return self

    @property
    def finds_rate(self) -> bool:
        """Whether the optimizer looks for the rate, so that learning_rate is a factor."""
        chosen = self.optimizer
        named = isinstance(chosen, Library) and chosen.is_like("prodigy", "dadapt")
        return named or isinstance(chosen, Prodigy | DAdaptation)

    @property
    def keeps_average(self) -> bool:
        """Whether the weights to be used are an average that the optimizer keeps, and no schedule is needed."""
        chosen = self.optimizer
        return isinstance(chosen, ScheduleFree) or (isinstance(chosen, Library) and chosen.is_like("schedulefree"))
