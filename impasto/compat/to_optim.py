"""Optimizer, rates and schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from impasto.compat import torch_schedules
from impasto.compat.tables import SCHEDULES
from impasto.compat.translating import Desk, as_number, python_value, tidy

_ADAM = {"weight_decay": "weight_decay", "eps": "eps", "betas": ("beta1", "beta2")}
_PRODIGY = {**_ADAM, "beta3": "beta3", "d0": "d0", "d_coef": "d_coef", "growth_rate": "growth_rate",
            "use_bias_correction": "bias_correction", "safeguard_warmup": "safeguard_warmup"}  # fmt: skip
_DADAPT = {"weight_decay": "weight_decay", "d0": "d0", "growth_rate": "growth_rate"}
_DADAPT_ADAN = {**_DADAPT, "betas": "betas"}
_DADAPT_ADAM = {**_DADAPT_ADAN, "use_bias_correction": "bias_correction"}
_DADAPT_LION = {"weight_decay": "weight_decay", "d0": "d0", "betas": "betas"}
_FREE = {"weight_decay": "weight_decay", "r": "r", "betas": ("momentum", "beta2"), "momentum": "momentum"}
_SGD = {"weight_decay": "weight_decay", "momentum": "momentum", "nesterov": "nesterov"}

OPTIMIZERS: Mapping[str, tuple[dict[str, Any], Mapping[str, Any]]] = {
    "adamw": ({"kind": "adamw"}, _ADAM),
    "adamw8bit": ({"kind": "adamw-8bit"}, _ADAM),
    "lion": ({"kind": "lion"}, {"weight_decay": "weight_decay", "betas": ("beta1", "beta2")}),
    "sgdnesterov": ({"kind": "sgd"}, _SGD),
    "dadaptation": ({"kind": "d-adaptation"}, _DADAPT_ADAM),
    "dadaptadam": ({"kind": "d-adaptation"}, _DADAPT_ADAM),
    "dadaptadampreprint": ({"kind": "d-adaptation"}, _DADAPT_ADAM),
    "dadaptadagrad": ({"kind": "d-adaptation", "rule": "adagrad"}, _DADAPT),
    "dadaptlion": ({"kind": "d-adaptation", "rule": "lion"}, _DADAPT_LION),
    "dadaptsgd": ({"kind": "d-adaptation", "rule": "sgd"}, _DADAPT),
    "dadaptadan": ({"kind": "d-adaptation", "rule": "adan"}, _DADAPT_ADAN),
    "dadaptadanip": ({"kind": "d-adaptation", "rule": "adan-ip"}, _DADAPT_ADAN),
    "prodigy": ({"kind": "prodigy"}, _PRODIGY),
    "adafactor": ({"kind": "adafactor"}, {"weight_decay": "weight_decay", "beta1": "momentum",
                                          "clip_threshold": "clip_threshold", "scale_parameter": "scale_parameter",
                                          "relative_step": "relative_step", "warmup_init": "warmup_init"}),
    "adamwschedulefree": ({"kind": "schedule-free"}, _FREE),
    "radamschedulefree": ({"kind": "schedule-free", "rule": "radam"}, _FREE),
    "sgdschedulefree": ({"kind": "schedule-free", "rule": "sgd"}, _FREE),
    "pytorch_optimizer.came": ({"kind": "came"}, {"weight_decay": "weight_decay", "betas": ("beta1", "beta2", "beta3"),
                                                  "clip_threshold": "clip_threshold"}),
    "came": ({"kind": "came"}, {"weight_decay": "weight_decay", "betas": ("beta1", "beta2", "beta3")}),
}  # fmt: skip
"""Names there, in small letters: the kind here, and what its options are called here."""

EIGHT_BIT = {
    "pagedadamw8bit": "PagedAdamW8bit", "lion8bit": "Lion8bit", "pagedlion8bit": "PagedLion8bit",
    "pagedadamw": "PagedAdamW", "pagedadamw32bit": "PagedAdamW32bit", "sgdnesterov8bit": "SGD8bit",
}  # fmt: skip
STAND_INS: Mapping[str, tuple[dict[str, Any], str]] = {
    "prodigyplus.prodigyplusschedulefree": ({"kind": "prodigy"}, "it is in no library that is asked here; prodigy"),
}
PREPRINT = ("dadaptation", "dadaptadampreprint")
"""Names there of the first of two estimates for Adam; here is the second, which the paper was published with."""

ADAN_DECAY = 0.02
"""The weight decay of Adan there, if nothing is said."""

LIBRARIES = ("torch.optim.", "bitsandbytes.optim.", "pytorch_optimizer.")
_DEFAULTS_THERE = {
    "decouple": True,
    "fsdp_in_use": False,
    "amsgrad": False,
    "maximize": False,
    "use_bias_correction": False,
    "no_prox": False,
    "log_every": 0,
}


def optim(desk: Desk) -> None:
    """All of it."""
    kind = _optimizer(desk)
    relative = kind == "adafactor" and desk.get("optim.optimizer.relative_step")
    _rates(desk, kind, bool(relative))
    _schedule(desk, kind, bool(relative))
    bound = desk.number("max_grad_norm")
    if bound is not None:
        quirks = ["Q-G1"] if bound == 0 else []
        why = "0 never shortens; through kohya_ss it became 1" if quirks else ""
        desk.put("max_grad_norm", ("optim.clip", tidy(bound)), why=why, quirks=quirks, plain=True)


def _optimizer(desk: Desk) -> str:
    for flag, name in (("use_8bit_adam", "adamw8bit"), ("use_lion_optimizer", "lion")):
        if desk.flag(flag) and not desk.text("optimizer_type"):
            desk.put(flag, ("optim.optimizer.kind", OPTIMIZERS[name][0]["kind"]))
            return _options(desk, OPTIMIZERS[name][1], OPTIMIZERS[name][0]["kind"])
        desk.same(flag, "off, or optimizer_type goes before it")
    named = desk.text("optimizer_type")
    if not named:
        return _options(desk, _ADAM, "adamw")
    key = named.casefold()
    if key in OPTIMIZERS:
        chosen, options = OPTIMIZERS[key]
        if key == "adafactor":
            return _adafactor(desk, chosen, options)
        why = "the estimate of the published paper; there, by this name, its preprint's" if key in PREPRINT else ""
        desk.put("optimizer_type", *_pairs(chosen), why=why, plain=True)
        _decay(desk, key)
        return _options(desk, options, chosen["kind"])
    if key in STAND_INS:
        chosen, why = STAND_INS[key]
        desk.lost("optimizer_type", f"{why} stands in")
        for setting, value in _pairs(chosen):
            desk.set(setting, value, f"in place of {named}")
        return _options(desk, OPTIMIZERS[chosen["kind"]][1], chosen["kind"])
    if key in EIGHT_BIT or named.startswith(LIBRARIES) or "." not in named:
        name = f"bitsandbytes.optim.{EIGHT_BIT[key]}" if key in EIGHT_BIT else named
        desk.put("optimizer_type", ("optim.optimizer.kind", "library"), ("optim.optimizer.name", name), plain=True)
        usual = {"nesterov": True, "momentum": 0.9} if key == "sgdnesterov8bit" else {}
        return _passed_on(desk, usual)
    desk.lost(
        "optimizer_type", "a file of settings can never run code of packages that are not known here; adamw stands in"
    )
    return _options(desk, {}, "adamw")


def _decay(desk: Desk, key: str) -> None:
    """What D-Adaptation does there with weight decay if nothing is said of it."""
    decay, apart = (python_value(desk.peek(f"optimizer_args.{name}")) for name in ("weight_decay", "decouple"))
    if key.startswith("dadaptadan") and decay is None:
        desk.set("optim.optimizer.weight_decay", ADAN_DECAY, "the usual value there")
    elif key in (*PREPRINT, "dadaptadam") and decay and apart is None:
        why = (
            "weight decay pulls the weights, as with decouple=True; there, if nothing is said, it is one more gradient"
        )
        desk.difference("optimizer_args decouple", "better", why)


def _pairs(chosen: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(f"optim.optimizer.{name}", value) for name, value in chosen.items()]


def _options(desk: Desk, known: Mapping[str, Any], kind: str) -> str:
    for name in _named(desk, "optimizer_args"):
        option, value = name.split(".", 1)[1], python_value(desk.peek(name))
        place = known.get(option)
        if value is None:
            desk.same(name, "None: as by default")
        elif isinstance(place, tuple):
            given = value if isinstance(value, list) else [value]
            pairs = [(f"optim.optimizer.{part}", each) for part, each in zip(place, given, strict=False)]
            desk.put(name, *(pair for pair in pairs if pair[1] is not None), plain=True)
        elif place:
            whole = isinstance(value, float) and value == float("inf")
            desk.put(name, *[] if whole else [(f"optim.optimizer.{place}", value)], plain=True)
        elif _DEFAULTS_THERE.get(option, "none") == value:
            desk.same(name, "always so")
        elif option in ("decouple", "weight_decouple") and not desk.get("optim.optimizer.weight_decay"):
            desk.same(name, "has no meaning without a weight decay")
        else:
            desk.lost(name, f"{kind} has no such setting here")
    return kind


def _passed_on(desk: Desk, usual: Mapping[str, Any]) -> str:
    options = dict(usual)
    for name in _named(desk, "optimizer_args"):
        options[name.split(".", 1)[1]] = python_value(desk.peek(name))
        desk.put(name, (f"optim.optimizer.options.{name.split('.', 1)[1]}", options[name.split(".", 1)[1]]), plain=True)
    if usual:
        desk.set("optim.optimizer.options", options)
    return "library"


def _adafactor(desk: Desk, chosen: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    desk.put("optimizer_type", *_pairs(chosen), plain=True)
    _options(desk, options, "adafactor")
    if desk.get("optim.optimizer.relative_step") is None:
        desk.set("optim.optimizer.relative_step", True, "the usual value there")
    elif desk.get("optim.optimizer.warmup_init") and not desk.get("optim.optimizer.relative_step"):
        desk.set("optim.optimizer.relative_step", True, "warmup_init turns it on there")
    return "adafactor"


def _rates(desk: Desk, kind: str, relative: bool) -> None:
    if relative:
        if desk.recipe.args.keys() & {"learning_rate", "unet_lr", "text_encoder_lr"}:
            desk.set("optim.learning_rate", 1, "a factor: with relative steps, rates are not used there (Q-O9)")
        for name in ("learning_rate", "unet_lr", "text_encoder_lr"):
            desk.better(name, "with relative steps no rate is used there; here it is a factor of 1, openly", "Q-O9")
        return
    rate = desk.number("learning_rate")
    own = {name: desk.number(name) for name in ("unet_lr",)}
    words = [as_number(each) for each in desk.several("text_encoder_lr")]
    finds = kind in ("prodigy", "d-adaptation") or (kind == "library" and _finds(desk))
    if finds:
        _one_rate(desk, kind, rate, own["unet_lr"], words)
        return
    if rate is not None:
        desk.put("learning_rate", ("optim.learning_rate", tidy(rate)), plain=True)
    elif desk.exact and desk.trains:
        desk.set("optim.learning_rate", 2e-6, "as where nothing is said there")
    elif desk.trains and not (own["unet_lr"] and words):
        desk.difference("learning_rate", "better", "a default that learns, 1e-4; there it is 2e-6", "Q-O6")
    if own["unet_lr"] is not None:
        desk.put("unet_lr", ("optim.unet_learning_rate", tidy(own["unet_lr"])), plain=own["unet_lr"] > 0)
    if len(words) == 1 or (words and (desk.recipe.base in ("sd", "sdxl") or len(set(words)) == 1)):
        uneven = len(set(words)) > 1
        why = "there only the first counts, for all text encoders; give a list to tell them apart" if uneven else ""
        pair = ("optim.text_encoder_learning_rate", tidy(words[0]))
        desk.put("text_encoder_lr", pair, why=why, quirks=["Q-O1"] if uneven else [], plain=words[0] > 0)
    elif words:
        desk.put("text_encoder_lr", ("optim.text_encoder_learning_rate", [tidy(each) for each in words]), plain=True)


def _finds(desk: Desk) -> bool:
    name = str(desk.get("optim.optimizer.name")).casefold()
    return "prodigy" in name or "dadapt" in name


def _one_rate(desk: Desk, kind: str, rate: float | None, unet: float | None, words: list[float]) -> None:
    """The estimator takes the first rate that is trained, for all parts."""
    texts = desk.get("adapter.targets.text_encoder") is not False
    listed = [words[0] if texts and words else None, unet, rate]
    first = next((each for each in listed if each), None)
    if first is not None:
        desk.put("learning_rate", ("optim.learning_rate", tidy(first)), plain=True)
        if desk.get("optim.learning_rate") is None:
            desk.set("optim.learning_rate", tidy(first))
    elif desk.trains:
        desk.set("optim.learning_rate", 1, "a factor for what it finds")
    already = desk.get("optim.text_encoder_learning_rate")
    if isinstance(already, list):
        desk.set("optim.text_encoder_learning_rate", [tidy(first or 1) if each else 0 for each in already])
    for name, value in (("unet_lr", unet), ("text_encoder_lr", words[0] if words else None)):
        key = {"unet_lr": "unet", "text_encoder_lr": "text_encoder"}[name]
        if value == 0:
            desk.put(name, (f"optim.{key}_learning_rate", 0), plain=True)
        elif value is not None and value != first:
            desk.better(name, f"{kind} finds one rate for all parts; there, too, only the first counts")
        else:
            desk.same(name, "as optim.learning_rate")


# -- the schedule ------------------------------------------------------------------------------------------------------


def _schedule(desk: Desk, kind: str, relative: bool) -> None:
    name = (desk.text("lr_scheduler") or "constant").casefold()
    free = kind == "schedule-free" or "schedulefree" in str(desk.get("optim.optimizer.name")).casefold()
    of_torch = torch_schedules.nearest(desk) if desk.text("lr_scheduler_type") else None
    if free or relative:
        why = "its average does what a falling rate would" if free else "relative steps have their own"
        for each in ("lr_scheduler", "lr_warmup_steps"):
            if desk.has(each):
                desk.same(each, f"not used there with this optimizer: {why}")
        name, of_torch = "constant", None
        desk.drop("optim.schedule")
    chosen = of_torch or SCHEDULES.get(name.partition(":")[0])
    if chosen is None:
        desk.lost("lr_scheduler", f"there is no schedule {name}; constant stands in")
        chosen = "constant"
    elif desk.has("lr_scheduler"):
        ends = chosen == "polynomial"
        why = "it ends at 1e-7 of the rate; there, at a rate of 1e-7, whatever the rate is" if ends else ""
        pair = ("optim.schedule.kind", chosen)
        desk.put("lr_scheduler", pair, why=why, quirks=["Q-O11"] if ends else [], plain=True)
    elif chosen != "constant" and desk.get("optim.schedule.kind") is None:
        desk.set("optim.schedule.kind", chosen)
    _warmup(desk, chosen)
    _details(desk, chosen, name)


def _warmup(desk: Desk, chosen: str) -> None:
    name = "lr_warmup_steps"
    length = _steps(desk, name)
    if not length:
        desk.same(name, "0: none")
        return
    total = desk.get("train.steps")
    if length == 1.0 and isinstance(length, float):
        length = total or 0.999999
    elif isinstance(length, int) and total and length > total:
        desk.lost(name, "it is longer than the run")
        return
    why, quirks = "the first step moves already, at 1/w of the rate", ["Q-O4"]
    desk.put(name, ("optim.schedule.warmup", length), why=why, quirks=quirks)


def _steps(desk: Desk, name: str) -> int | float | None:
    """A whole number of steps, or a share of all: 0.1, "10%", and numbers with a point from files."""
    value = desk.peek(name)
    if value is None or isinstance(value, bool) or value == "":
        return None
    if isinstance(value, str) and value.strip().endswith("%"):
        share = as_number(value.strip()[:-1]) / 100
        return share or None
    number = as_number(value)
    if isinstance(value, float) and number <= 1:
        return number or None
    return number if number < 1 else int(number)


def _details(desk: Desk, chosen: str, name: str) -> None:
    """What only some schedules have."""

    def only(argument: str, key: str, kind: str, read: Callable[[str], Any]) -> None:
        if not desk.has(argument):
            return
        value = read(argument)
        if chosen == kind and value:
            desk.put(argument, (f"optim.schedule.{key}", value), plain=True)
        else:
            desk.same(argument, "not read with this schedule" if chosen != kind else "as by default")

    def number(argument: str) -> Any:
        found = desk.number(argument)
        return found if found is None else tidy(found)

    if chosen == "cosine-minimum" and (desk.whole("lr_scheduler_num_cycles") or 1) > 1:
        desk.better("lr_scheduler_num_cycles", "falls once, and ends at the minimum", "Q-O10")
    only("lr_scheduler_num_cycles", "cycles", "cosine-restarts", desk.whole)
    only("lr_scheduler_power", "power", "polynomial", number)
    only("lr_scheduler_timescale", "timescale", "inverse-sqrt", desk.whole)
    ratio = "lr_scheduler_min_lr_ratio"
    only(ratio, "minimum", chosen if chosen in ("cosine-minimum", "warmup-stable-decay") else "", number)
    only("lr_decay_steps", "decay", "warmup-stable-decay", lambda argument: _steps(desk, argument))
    rules = desk.text("lr_scheduler_args.step_rules")
    if rules and chosen == "piecewise-constant":
        *parts, last = rules.strip("'\"").split(",")
        pairs = [each.split(":") for each in parts]
        until = [int(as_number(steps)) for _, steps in pairs]
        factors = [tidy(as_number(factor)) for factor in (*(factor for factor, _ in pairs), last)]
        desk.put("lr_scheduler_args.step_rules", ("optim.schedule.until", until),
                 ("optim.schedule.factors", factors), plain=True)  # fmt: skip


def _named(desk: Desk, head: str) -> list[str]:
    return [name for name in list(desk.recipe.args) if name.startswith(f"{head}.")]
