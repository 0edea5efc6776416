"""Advice on the adapter's size and on how fast it learns."""

from __future__ import annotations

from collections.abc import Iterator

from impasto.optim.config import Adafactor, Library, Prodigy
from impasto.optim.schedule_config import Constant
from impasto.preflight.facts import Facts, Rule, Said

WANTED = {
    "adamw": (1e-5, 1e-3), "adamw-8bit": (1e-5, 1e-3), "muon": (1e-5, 2e-3), "lion": (3e-6, 2e-4), "sgd": (1e-2, 10.0),
    "adafactor": (1e-5, 1e-2), "came": (5e-6, 1e-3), "schedule-free": (1e-5, 1e-2),
}  # fmt: skip
"""Between which rates an optimizer trains adapters of low rank well."""


def _above_rank(facts: Facts) -> Iterator[Said]:
    if (kind := facts.ranked) and not kind.rank_stabilized and kind.alpha > kind.rank:
        what = (
            f"alpha {kind.alpha:g} is above the rank {kind.rank}: the adapter's output is multiplied by {facts.scale:g}"
        )
        yield "adapter.alpha", what, f"alpha = {kind.rank} or less"


def _faint(facts: Facts) -> Iterator[Said]:
    rate = max(facts.rates.values(), default=0.0)
    if facts.scale <= 1 / 16 and not facts.config.optim.finds_rate and rate <= 1e-4:
        what = f"alpha / rank is {facts.scale:.3g} and the rate {rate:.3g}: together they move the base hardly at all"
        yield "adapter.alpha", what, "raise alpha to half of the rank, or the rate by as much as alpha was lowered"


def _loud(facts: Facts) -> Iterator[Said]:
    rate = max(facts.rates.values(), default=0.0)
    kind = facts.config.optim.optimizer.kind
    usual = kind in ("adamw", "adamw-8bit", "lion") and facts.ranked and facts.scale >= 0.9
    if usual and rate * facts.scale > 5e-4 * facts.narrow:
        what = f"with alpha / rank {facts.scale:.3g}, the rate {rate:.3g} acts like {rate * facts.scale:.3g}"
        yield "optim.learning_rate", what, "divide the rate by as much as alpha was raised"


def _large(facts: Facts) -> Iterator[Said]:
    if (kind := facts.ranked) and kind.rank > 128:
        yield "adapter.rank", f"rank {kind.rank} makes a large file and over-trains soon", "rank = 64 or less"


def _too_much_room(facts: Facts) -> Iterator[Said]:
    if (kind := facts.ranked) and kind.rank >= 64 and len(facts.learnt) < 30:
        yield "adapter.rank", f"rank {kind.rank} for {len(facts.learnt)} pictures learns them by heart", "rank = 16"


def _dropouts(facts: Facts) -> Iterator[Said]:
    names = ("dropout", "rank_dropout", "module_dropout")
    given = {name: value for name, value in facts.config.adapter.model_dump().items() if name in names and value}
    if len(given) > 1 or max(given.values(), default=0.0) > 0.5:
        what = "together they switch off most of the adapter: " + ", ".join(f"{k} {v:g}" for k, v in given.items())
        yield f"adapter.{next(iter(given))}", what, "one of them, at 0.1 to 0.3"


def _large_convolutions(facts: Facts) -> Iterator[Said]:
    if (kind := facts.ranked) and kind.conv_rank is not None and kind.conv_rank > kind.rank:
        what = f"conv_rank {kind.conv_rank} is above rank {kind.rank}: convolutions have far more inputs already"
        yield "adapter.conv_rank", what, f"conv_rank = {max(1, kind.rank // 2)}"


def _loud_convolutions(facts: Facts) -> Iterator[Said]:
    if (kind := facts.ranked) and kind.conv_rank is not None and kind.conv_alpha > kind.conv_rank:
        what = f"conv_alpha {kind.conv_alpha:g} is above conv_rank {kind.conv_rank}"
        yield "adapter.conv_alpha", what, f"conv_alpha = {kind.conv_rank} or less"


def _slow_ia3(facts: Facts) -> Iterator[Said]:
    rate = max(facts.rates.values(), default=1.0)
    if facts.config.adapter.kind == "ia3" and rate < 5e-4 and not facts.config.optim.finds_rate:
        yield "optim.learning_rate", f"(IA)3 with the rate {rate:.3g} learns next to nothing", "learning_rate = 3e-3"


def _fast_full(facts: Facts) -> Iterator[Said]:
    rate = max(facts.rates.values(), default=0.0)
    if facts.config.adapter.kind == "full" and rate > 3e-5 * facts.narrow and not facts.config.optim.finds_rate:
        yield (
            "optim.learning_rate",
            f"whole weights at the rate {rate:.3g} forget the base soon",
            "learning_rate = 1e-5",
        )


def _stabilized(facts: Facts) -> Iterator[Said]:
    if (kind := facts.ranked) and kind.rank_stabilized and facts.scale > 4:
        what = f"rank_stabilized with alpha {kind.alpha:g} multiplies the output by {facts.scale:.3g}"
        yield "adapter.alpha", what, f"alpha = {kind.rank**0.5:.2g}, which multiplies by 1"


def _band(facts: Facts) -> tuple[float, float] | None:
    optim = facts.config.optim
    relative = isinstance(optim.optimizer, Adafactor) and optim.optimizer.relative_step
    special = facts.config.adapter.kind in ("ia3", "full") or relative or optim.finds_rate
    band = None if special else WANTED.get(optim.optimizer.kind)
    return None if band is None else (band[0], band[1] * facts.narrow)


def _fast(facts: Facts) -> Iterator[Said]:
    rate, band = max(facts.rates.values(), default=0.0), _band(facts)
    if band and rate > band[1]:
        what = f"{rate:.3g} is far above what {facts.config.optim.optimizer.kind} wants ({band[0]:g} to {band[1]:g})"
        yield "optim.learning_rate", what, f"learning_rate = {band[1]:g} or less"


def _slow(facts: Facts) -> Iterator[Said]:
    rate, band = max(facts.rates.values(), default=1.0), _band(facts)
    if band and rate < band[0]:
        what = f"{rate:.3g} is far below what {facts.config.optim.optimizer.kind} wants ({band[0]:g} to {band[1]:g})"
        yield "optim.learning_rate", what, f"learning_rate = {band[0]:g} or more"


def _words_for_long(facts: Facts) -> Iterator[Said]:
    until, rates = facts.steps.text_encoder_until, facts.rates
    same = "unet" in rates and "text_encoder" in rates and rates["text_encoder"] == rates["unet"]
    if until is not None and same and until > 1000 and not facts.config.optim.finds_rate:
        what = (
            f"the text encoder is trained at the denoiser's rate for {until} steps, and words drift from their meaning"
        )
        yield (
            "optim.text_encoder_learning_rate",
            what,
            "half of learning_rate or less, or train.text_encoder_until = 0.4",
        )


def _words_faster(facts: Facts) -> Iterator[Said]:
    rates = facts.rates
    if "unet" in rates and rates.get("text_encoder", 0.0) > rates["unet"]:
        what = f"the text encoder learns faster ({rates['text_encoder']:.3g}) than the denoiser ({rates['unet']:.3g})"
        yield "optim.text_encoder_learning_rate", what, "half of the denoiser's rate or less"


def _large_batch(facts: Facts) -> Iterator[Said]:
    optim, usual = facts.config.optim, {"adamw": 1e-4, "adamw-8bit": 1e-4, "lion": 2e-5}
    rate = max(facts.rates.values(), default=1.0)
    low = rate <= usual.get(optim.optimizer.kind, 0.0)
    if facts.batch >= 8 and optim.learning_rate_scale == "none" and low:
        what = f"a step sees {facts.batch} pictures at the rate usual for one; it could go further"
        yield "optim.learning_rate", what, 'raise it by the root of the batch, or learning_rate_scale = "sqrt"'


def _linear(facts: Facts) -> Iterator[Said]:
    optim = facts.config.optim
    if optim.learning_rate_scale == "linear" and optim.optimizer.kind != "sgd" and facts.batch >= 4:
        what = (
            f"linear scaling, times {facts.batch}, is for plain gradient descent; {optim.optimizer.kind} wants the root"
        )
        yield "optim.learning_rate_scale", what, 'learning_rate_scale = "sqrt"'


def _long_warmup(facts: Facts) -> Iterator[Said]:
    if facts.steps.warmup > 0.3 * facts.steps.total:
        what = f"the rate rises for {facts.steps.warmup} of {facts.steps.total} steps"
        yield "optim.schedule.warmup", what, "warmup = 0.05"


def _prodigy_falls(facts: Facts) -> Iterator[Said]:
    chosen = facts.config.optim.optimizer
    if isinstance(chosen, Prodigy) and facts.steps.warmup and not chosen.safeguard_warmup:
        what = "with a warm-up, Prodigy takes the small first steps for its own and finds a rate that is too high"
        yield "optim.optimizer.safeguard_warmup", what, "safeguard_warmup = true"


def _unclipped(facts: Facts) -> Iterator[Said]:
    if facts.config.optim.clip == 0 and facts.config.model.precision == "fp16":
        yield "optim.clip", "in fp16, gradients that are never shortened overflow now and then", "clip = 1.0"


def _late_average(facts: Facts) -> Iterator[Said]:
    ema = facts.config.optim.ema
    if ema and not ema.warmup and 1 / (1 - ema.decay) > facts.steps.total / 2:
        what = f"the average looks back {1 / (1 - ema.decay):.0f} steps and the run has {facts.steps.total}"
        yield "optim.ema.decay", what, "warmup = true, or decay = 0.99"


def _decay(facts: Facts) -> Iterator[Said]:
    chosen = facts.config.optim.optimizer
    decay = 0.0 if isinstance(chosen, Library) else chosen.weight_decay
    if decay > 0.2 and chosen.kind != "lion":
        yield "optim.optimizer.weight_decay", f"{decay:g} pulls the adapter back to nothing", "weight_decay = 0.01"


def _never_stops(facts: Facts) -> Iterator[Said]:
    until = facts.steps.text_encoder_until
    if until is not None and facts.config.train.text_encoder_until is not None and until > facts.steps.total:
        what = f"the text encoder would stop after step {until}, and the run has {facts.steps.total}"
        yield "train.text_encoder_until", what, "a share, as 0.5, or delete it"


def _hasty_plus(facts: Facts) -> Iterator[Said]:
    if (ratio := facts.config.optim.lora_plus) is not None and ratio > 32:
        yield "optim.lora_plus", f"up learns {ratio:g} times as fast as down", "lora_plus = 16 or less"


def _never_falls(facts: Facts) -> Iterator[Said]:
    optim, schedule = facts.config.optim, facts.config.optim.schedule
    still = isinstance(schedule, Constant) and not optim.finds_rate and not optim.keeps_average and optim.ema is None
    if still and facts.steps.total > 3000:
        what = f"{facts.steps.total} steps at one rate end wherever the last few pictures pulled"
        yield "optim.schedule.kind", what, 'kind = "cosine", or [optim.ema]'


RULES = (
    Rule("A-101", "alpha above the rank",
         "The scale is alpha / rank, so the adapter acts several times stronger than the rate says.",
         _above_rank),
    Rule("A-102", "small alpha, rate not raised",
         "alpha / rank multiplies what is learnt: a sixteenth of it needs a larger rate.",
         _faint),
    Rule("A-103", "large alpha, rate not lowered",
         "Rates quoted for alpha = 1 act many times larger when alpha equals the rank.",
         _loud),
    Rule("A-104", "a very large rank",
         "Beyond 128 files grow and nothing more is learnt from usual sets.",
         _large),
    Rule("A-105", "a large rank for few pictures",
         "An adapter with much room keeps the pictures themselves.",
         _too_much_room),
    Rule("A-106", "several or high dropouts",
         "Each switches off a part of what the others leave.",
         _dropouts),
    Rule("A-107", "convolutions of a higher rank",
         "A 3x3 convolution has nine times the inputs, so its rank should be smaller.",
         _large_convolutions),
    Rule("A-108", "conv_alpha above conv_rank",
         "As alpha above the rank, for convolutions.",
         _loud_convolutions),
    Rule("A-109", "(IA)3 at LoRA's rate",
         "(IA)3 learns one factor a channel, and wants ten times the rate or more.",
         _slow_ia3),
    Rule("A-110", "whole weights at LoRA's rate",
         "Without a small rank nothing holds the weights near the base.",
         _fast_full),
    Rule("A-111", "rank_stabilized with a large alpha",
         "The scale is then alpha / sqrt(rank), which is larger than alpha / rank.",
         _stabilized),
    Rule("A-201", "a rate far too high for the optimizer",
         "Each optimizer makes steps of its own size from a rate.",
         _fast),
    Rule("A-202", "a rate far too low for the optimizer",
         "Each optimizer makes steps of its own size from a rate.",
         _slow),
    Rule("A-203", "text encoder at the denoiser's rate for long",
         "Words lose what they meant to the base.",
         _words_for_long),
    Rule("A-204", "text encoder faster than the denoiser",
         "It has fewer numbers and over-trains first.",
         _words_faster),
    Rule("A-205", "a large batch at the rate of a small one",
         "The mean of many pictures is steadier and allows longer steps.",
         _large_batch),
    Rule("A-206", "linear scaling for an adaptive optimizer",
         "Adaptive steps grow with the root of the batch (Malladi et al. 2022).",
         _linear),
    Rule("A-207", "a long warm-up",
         "Much of the run is trained below its rate.",
         _long_warmup),
    Rule("A-208", "Prodigy with a warm-up",
         "Its estimate takes the distance gone for the distance there is.",
         _prodigy_falls),
    Rule("A-209", "no clipping in fp16",
         "One large gradient spoils a step.",
         _unclipped),
    Rule("A-210", "an average that comes too late",
         "It still holds much of the start, which is nothing.",
         _late_average),
    Rule("A-211", "a large weight decay",
         "Adapters start at nothing, and are pulled back there.",
         _decay),
    Rule("A-212", "the text encoder never stops",
         "The step lies behind the end of the run.",
         _never_stops),
    Rule("A-213", "LoRA+ with a high ratio",
         "The paper's ratios go to 16.",
         _hasty_plus),
    Rule("A-214", "a long run at one rate",
         "A falling rate or an average ends a run in the middle of what it learnt.",
         _never_falls),
)  # fmt: skip
