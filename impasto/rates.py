"""How fast each part of a run learns, and for how long: told by its settings alone, to train by and to plan by.

Importing this does not import torch.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import assert_never

from impasto.adapters.rules import Part
from impasto.config import RunConfig


def part_rates(config: RunConfig) -> dict[Part, float]:
    """The learning rate of each part that is trained; a rate of 0 leaves the part out. Of several text encoders, the
    highest."""
    targets = config.adapter.targets
    parts: dict[Part, bool] = {"unet": targets.unet, "text_encoder": targets.text_encoder}
    found = {part: max(rates_of(config, part)) for part, on in parts.items() if on}
    return {part: rate for part, rate in found.items() if rate > 0}


def rate_of(config: RunConfig, part: Part, encoder: int | None = None) -> float:
    """The learning rate of a part; `encoder` counts the text encoders where there are several."""
    rates = rates_of(config, part)
    return rates[(encoder or 1) - 1] if len(rates) > 1 else rates[0]


def rates_of(config: RunConfig, part: Part) -> tuple[float, ...]:
    """The learning rate of a part, or of each of its text encoders, scaled for the batch; before the schedule."""
    chosen, scale = config.optim, rate_scale(config)
    own = chosen.unet_learning_rate if part == "unet" else chosen.text_encoder_learning_rate
    if own is None:
        own = chosen.learning_rate
    return tuple(rate * scale for rate in (own if isinstance(own, tuple) else (own,)))


def rate_scale(config: RunConfig) -> float:
    """What all rates are multiplied by for the pictures in a step (Goyal et al. 2017; the root: Krizhevsky 2014)."""
    pictures = config.data.batch_size * config.train.accumulate
    match config.optim.learning_rate_scale:
        case "none":
            return 1.0
        case "linear":
            return float(pictures)
        case "sqrt":
            return sqrt(pictures)
        case _:
            assert_never(config.optim.learning_rate_scale)


def lora_plus(config: RunConfig) -> dict[Part, float]:
    """The ratio of LoRA+ in each part that has one."""
    chosen = config.optim
    ratios: dict[Part, float | None] = {"unet": chosen.unet_lora_plus, "text_encoder": chosen.text_encoder_lora_plus}
    found = {part: chosen.lora_plus if own is None else own for part, own in ratios.items()}
    return {part: ratio for part, ratio in found.items() if ratio is not None}


def text_encoder_until(config: RunConfig, total: int) -> int:
    """The steps after which the text encoder's adapter rests; all of them where nothing says otherwise."""
    until = config.train.text_encoder_until
    if until is None:
        return total
    return until if isinstance(until, int) else ceil(until * total)
