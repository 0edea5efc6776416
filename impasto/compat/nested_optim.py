"""Optimizers as OneTrainer and ai-toolkit name them: their options have the names of the libraries they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from impasto.compat.nested import OFF
from impasto.compat.translating import Desk, as_number
from impasto.optim import config

KINDS: Mapping[str, Mapping[str, Any]] = {
    "adamw": {"kind": "adamw"},
    "adamw8bit": {"kind": "adamw-8bit"},
    "lion": {"kind": "lion"},
    "lion8bit": {"kind": "library", "name": "bitsandbytes.optim.Lion8bit"},
    "sgd": {"kind": "sgd"},
    "sgd8bit": {"kind": "library", "name": "bitsandbytes.optim.SGD8bit"},
    "adafactor": {"kind": "adafactor"},
    "prodigy": {"kind": "prodigy"},
    "came": {"kind": "came"},
    "schedulefreeadamw": {"kind": "schedule-free"},
    "schedulefreesgd": {"kind": "schedule-free", "rule": "sgd"},
    "dadaptadam": {"kind": "d-adaptation"},
    "dadaptlion": {"kind": "d-adaptation", "rule": "lion"},
    "dadaptsgd": {"kind": "d-adaptation", "rule": "sgd"},
    "dadaptadagrad": {"kind": "d-adaptation", "rule": "adagrad"},
}
"""Names there, in small letters and without underscores, and what they are here."""

NEAREST: Mapping[str, tuple[str, str]] = {
    "adam": ("adamw", "Adam, whose weight decay is part of the gradient, is not here; adamw stands in"),
    "adam8bit": ("adamw8bit", "Adam, whose weight decay is part of the gradient, is not here; adamw-8bit stands in"),
    "dadaptadan": ("dadaptadam", "its rule is not here; that of adam stands in"),
    "prodigyplusschedulefree": ("prodigy", "it is in no library that is asked here; prodigy stands in"),
}
RENAMED: Mapping[str, str] = {"use_bias_correction": "bias_correction"}
PAIRS: Mapping[str, tuple[str, ...]] = {"betas": ("beta1", "beta2", "beta3")}
ALWAYS: Mapping[str, Any] = {"decouple": True, "weight_decouple": True}
ONLY_HOW = ("fused", "foreach", "capturable", "differentiable", "block_wise", "is_paged", "fsdp_in_use")
"""Options that say how it is computed, not what."""


def optimizer(desk: Desk, named: str, options: str) -> str:
    """The optimizer that an argument names, with its options below another one. Its kind here."""
    said = desk.text(named)
    key = (said or "adamw").casefold().replace("_", "").replace("-", "")
    reason = ""
    if key in NEAREST:
        key, reason = NEAREST[key]
    elif key not in KINDS:
        key, reason = "adamw", f"{said} is not here by this name; adamw stands in"
    chosen = KINDS[key]
    pairs = [(f"optim.optimizer.{name}", value) for name, value in chosen.items()]
    if reason:
        desk.lost(named, reason)
        for setting, value in pairs:
            desk.set(setting, value, f"in place of {said}")
    elif said:
        desk.put(named, *pairs)
    kind = str(chosen["kind"])
    for name in [each for each in desk.recipe.args if each.startswith(options) and each != named]:
        _option(desk, name, name.removeprefix(options), kind)
    return kind


def finds_rate(kind: str) -> bool:
    """Whether it looks for its rate by itself, so that there is one for all parts."""
    return kind in ("prodigy", "d-adaptation")


def _option(desk: Desk, name: str, option: str, kind: str) -> None:
    value = desk.peek(name)
    place = RENAMED.get(option, option)
    if value is None:
        desk.same(name, "null: as by default")
    elif option in PAIRS:
        given = zip(PAIRS[option], desk.several(name), strict=False)
        desk.put(name, *((f"optim.optimizer.{part}", as_number(each)) for part, each in given if part in _fields(kind)))
    elif kind == "library" and value not in OFF:
        desk.put(name, (f"optim.optimizer.options.{option}", value))
    elif place in _fields(kind):
        flag = isinstance(value, bool)
        desk.put(name, (f"optim.optimizer.{place}", value if flag else desk.number(name)))
    elif ALWAYS.get(option, "none") == value:
        desk.same(name, "always so")
    elif option in ONLY_HOW:
        desk.same(name, "how it is computed, not what")
    elif value in OFF:
        desk.same(name, "off, or none")
    else:
        desk.lost(name, f"{kind} has no such setting here")


def _fields(kind: str) -> frozenset[str]:
    for section in get_args(get_args(config.Optimizer)[0]):
        if section.model_fields["kind"].default == kind:
            return frozenset(section.model_fields) - {"kind"}
    return frozenset()
