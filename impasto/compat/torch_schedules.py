"""Schedules that are named as classes of PyTorch (or of pytorch-optimizer): the same here, or the nearest.

A class is never looked up: only its name is read. Where a schedule here does the same in every step, its arguments are
carried over; else the nearest stands in, and the report says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from impasto.compat.translating import Desk, as_number, python_value, tidy

NEAREST: Mapping[str, tuple[str, str]] = {
    "ConstantLR": ("constant", "without the lower rate of the first steps; a warm-up is optim.schedule.warmup"),
    "LinearLR": ("constant", "without its rise, which is optim.schedule.warmup"),
    "StepLR": ("constant", "until optim.schedule is piecewise-constant, with its steps in until and factors"),
    "MultiStepLR": ("constant", "until optim.schedule is piecewise-constant, with its steps in until and factors"),
    "ExponentialLR": ("polynomial", "over the whole run; a larger optim.schedule.power falls earlier"),
    "PolynomialLR": ("polynomial", "over the whole run"),
    "CosineAnnealingLR": ("cosine", "over the whole run"),
    "CosineAnnealingWarmRestarts": ("cosine-restarts", "with falls of equal length: optim.schedule.cycles"),
    "CosineAnnealingWarmupRestarts": ("cosine-restarts", "with falls of equal length and one warm-up"),
    "OneCycleLR": ("cosine", "whose rise is optim.schedule.warmup: 0.3 is usual there"),
    "CyclicLR": ("cosine-restarts", "which rises at once: optim.schedule.cycles"),
    "ReduceLROnPlateau": ("constant", "since no rate here waits for a loss; a resume may lower optim.learning_rate"),
    "LambdaLR": ("constant", "since its function is code"),
    "MultiplicativeLR": ("constant", "since its function is code"),
    "REXScheduler": ("rex", "over the whole run"),
}
"""By the name of a class: the kind of schedule here, and what is to be said of it."""

SAFE = "a file of settings can never run code"
ARGUMENTS = "lr_scheduler_args"
MOST = 100
"""Stretches of one rate that are written down, at most."""


def nearest(desk: Desk) -> str | None:
    """Deal with `lr_scheduler_type`; returns the kind of schedule here, None where nothing is known to be like it."""
    said = (desk.text("lr_scheduler_type") or "").rsplit(".", 1)[-1]
    if said not in NEAREST:
        desk.lost("lr_scheduler_type", f"{SAFE}, and nothing here is known to be like it; lr_scheduler counts")
        return None
    kind, how = NEAREST[said]
    desk.same("lr_scheduler", "lr_scheduler_type goes before it")
    exact = _exactly(desk, said)
    if exact is None:
        desk.lost("lr_scheduler_type", f"{SAFE}; the nearest, {kind}, stands in, {how}")
        desk.set("optim.schedule.kind", kind, f"in place of {said}")
        return kind
    pairs = [(f"optim.schedule.{key}", value) for key, value in exact.items()]
    desk.put("lr_scheduler_type", *pairs, plain=True)
    for name in [each for each in desk.recipe.args if each.startswith(f"{ARGUMENTS}.")]:
        desk.same(name, "with lr_scheduler_type")
    return str(exact["kind"])


def _exactly(desk: Desk, said: str) -> dict[str, Any] | None:
    """The settings that do the same in every step of this run, if there are any."""
    steps = desk.get("train.steps")
    match said:
        case "CosineAnnealingLR" if steps and _number(desk, "T_max") == steps:
            low = _number(desk, "eta_min") or 0.0
            rate = desk.get("optim.unet_learning_rate") or desk.get("optim.learning_rate") or 1e-4
            return {"kind": "cosine-minimum", "minimum": min(1.0, low / rate)} if low else {"kind": "cosine"}
        case "CosineAnnealingWarmRestarts" if steps and not _number(desk, "eta_min"):
            first = _number(desk, "T_0")
            if first and steps % first == 0 and (_number(desk, "T_mult") or 1) == 1:
                return {"kind": "cosine-restarts", "cycles": int(steps // first)}
        case "PolynomialLR" if steps and _number(desk, "total_iters") == steps:
            return {"kind": "polynomial", "power": tidy(_number(desk, "power") or 1.0)}
        case "StepLR" if steps and (length := _number(desk, "step_size")) and steps <= MOST * length:
            return _stretches(desk, list(range(int(length), steps, int(length))))
        case "MultiStepLR":
            stones = python_value(desk.peek(f"{ARGUMENTS}.milestones"))
            return _stretches(desk, stones if isinstance(stones, list) else [stones]) if stones else None
        case "REXScheduler":
            return {"kind": "rex"}
    return None


def _stretches(desk: Desk, until: list[Any]) -> dict[str, Any] | None:
    gamma = _number(desk, "gamma")
    gamma = 0.1 if gamma is None else gamma
    stones = [int(as_number(each)) for each in until]
    if len(stones) > MOST or stones != sorted(set(stones)) or any(each < 1 for each in stones):
        return None
    factors = [tidy(round(gamma**power, 12)) for power in range(len(stones) + 1)]
    return {"kind": "piecewise-constant", "until": stones, "factors": factors}


def _number(desk: Desk, name: str) -> float | None:
    return desk.number(f"{ARGUMENTS}.{name}")
