"""The optimizers we take from libraries, each with our settings in its words.

Where a rule moves every number by itself, or by sums over all numbers, it gets a part as one long tensor: a few
operations for the whole adapter.
"""

from __future__ import annotations

from functools import partial
from math import inf, sqrt
from typing import Any, assert_never

import pytorch_optimizer as library
import torch

from impasto.optim import config as settings
from impasto.optim.adan import DAdaptAdan
from impasto.optim.adapted import Adapted, Groups
from impasto.optim.flat import FlatParameters

RATE = 1.0
"""What a library is told at first; the rate of a step is set before it."""

ALWAYS = 1.0 - 1e-15
"""A cap that is never reached."""


def adamw_8bit(flat: FlatParameters, config: settings.AdamW8bit) -> Adapted:
    """bitsandbytes' AdamW. Tensors of fewer than 4096 numbers keep 32 bits, as is its way."""
    from bitsandbytes.optim import AdamW8bit

    options = _usual(config) | {"eps": config.eps}
    return Adapted(flat, partial(_alone, AdamW8bit, options))


def lion(flat: FlatParameters, config: settings.Lion) -> Adapted:
    """Chen et al. 2023, Algorithm 2."""
    return Adapted(flat, partial(_alone, library.Lion, _usual(config)), whole=True)


def adafactor(flat: FlatParameters, config: settings.Adafactor) -> Adapted:
    """Shazeer and Stern 2018, Algorithms 4 and 5. Its relative steps are a pace, so that rates and schedules hold."""
    options = {
        "betas": (config.momentum, ALWAYS),
        "decay_rate": -config.decay_rate,
        "clip_threshold": config.clip_threshold,
        "scale_parameter": config.scale_parameter,
        "relative_step": False,
        "weight_decay": config.weight_decay,
        "momentum_dtype": torch.float32,
    }
    pace = partial(relative, config.warmup_init) if config.relative_step else None
    return Adapted(flat, partial(_alone, library.AdaFactor, options), pace=pace)


def relative(warmup_init: bool, step: int) -> float:
    """Adafactor's own schedule, at `step` from 1 (Shazeer and Stern 2018, section 8 and Algorithm 6)."""
    return min(1e-6 * step if warmup_init else 1e-2, 1 / sqrt(step))


def prodigy(flat: FlatParameters, config: settings.Prodigy) -> Adapted:
    """Mishchenko and Defazio 2024, Algorithm 4: one estimate for all parts."""
    options = _usual(config) | {
        "beta3": config.beta3,
        "d0": config.d0,
        "d_coef": config.d_coef,
        "growth_rate": config.growth_rate or inf,
        "bias_correction": config.bias_correction,
        "safeguard_warmup": config.safeguard_warmup,
        "eps": config.eps,
    }
    return Adapted(flat, partial(_alone, library.Prodigy, options), whole=True)


def d_adaptation(flat: FlatParameters, config: settings.DAdaptation) -> Adapted:
    """Defazio and Mishchenko 2023: one estimate for all parts. Weight decay as its authors have it: for adagrad and
    sgd it is a gradient.
    """
    options: dict[str, Any] = {"d0": config.d0, "weight_decay": config.weight_decay}
    rule: Any
    if config.growth_rate is not None:
        options["growth_rate"] = config.growth_rate
    match config.rule:
        case "adam":
            rule = library.DAdaptAdam
            options |= {"weight_decouple": True, "bias_correction": config.bias_correction}
        case "adagrad":
            rule = library.DAdaptAdaGrad
        case "lion":
            rule = library.DAdaptLion
            options |= {"weight_decouple": True, "betas": (0.9, 0.99)}
        case "sgd":
            rule = library.DAdaptSGD
        case "adan" | "adan-ip":
            rule = DAdaptAdan
            options["inner"] = config.rule == "adan-ip"
        case _:
            assert_never(config.rule)
    if config.betas is not None:
        options["betas"] = config.betas
    return Adapted(flat, partial(_alone, rule, options), whole=True)


def schedule_free(flat: FlatParameters, config: settings.ScheduleFree) -> Adapted:
    """Defazio et al. 2024, Algorithm 1 and equations 5 to 7."""
    options: dict[str, Any] = {"weight_decay": config.weight_decay, "r": config.r}
    match config.rule:
        case "adamw":
            rule = library.ScheduleFreeAdamW
        case "radam":
            rule = library.ScheduleFreeRAdam
        case "sgd":
            rule = library.ScheduleFreeSGD
        case _:
            assert_never(config.rule)
    own = {"momentum": config.momentum} if config.rule == "sgd" else {"betas": (config.momentum, config.beta2)}
    return Adapted(flat, partial(_alone, rule, options | own), whole=True)


def came(flat: FlatParameters, config: settings.Came) -> Adapted:
    """Luo et al. 2023, Algorithm 2."""
    options = {
        "betas": (config.beta1, config.beta2, config.beta3),
        "clip_threshold": config.clip_threshold,
        "weight_decay": config.weight_decay,
    }
    return Adapted(flat, partial(_alone, library.CAME, options))


def muon(flat: FlatParameters, config: settings.Muon) -> Adapted:
    """Jordan et al. 2024, with steps as large as AdamW's (Liu et al. 2025, equation 4)."""
    return Adapted(flat, partial(_muon, config))


def _muon(config: settings.Muon, groups: Groups) -> list[torch.optim.Optimizer]:
    def only(matrices: bool) -> Groups:
        found = [
            {**group, "params": [each for each in group["params"] if (each.ndim == 2) is matrices]} for group in groups
        ]
        return [group for group in found if group["params"]]

    rules: list[torch.optim.Optimizer] = []
    if matrices := only(True):
        rules.append(
            torch.optim.Muon(
                matrices, lr=RATE, momentum=config.momentum, nesterov=config.nesterov, ns_steps=config.iterations,
                weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw",
            )
        )  # fmt: skip
    if others := only(False):
        rules.append(torch.optim.AdamW(others, lr=RATE, weight_decay=config.weight_decay, foreach=True))
    return rules


def _alone(rule: Any, options: dict[str, Any], groups: Groups) -> list[torch.optim.Optimizer]:
    return [rule(groups, lr=RATE, **options)]


def _usual(config: settings.AdamW8bit | settings.Lion | settings.Prodigy) -> dict[str, Any]:
    return {"betas": (config.beta1, config.beta2), "weight_decay": config.weight_decay}
