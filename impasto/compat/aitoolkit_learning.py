"""How ai-toolkit learns: how long, noise and loss, optimizer, rates, schedule, average."""

from __future__ import annotations

from impasto.compat.nested_optim import finds_rate, optimizer
from impasto.compat.translating import Desk, as_number, tidy

SCHEDULES = {
    "constant": "constant", "constant_with_warmup": "constant", "linear": "linear", "cosine": "cosine",
}  # fmt: skip
RISES = ("num_warmup_steps", "warmup_steps")


def length(desk: Desk) -> None:
    """Steps."""
    if steps := desk.whole("train.steps"):
        desk.put("train.steps", ("train.steps", steps))
    for name in ("train.gradient_accumulation_steps", "train.gradient_accumulation"):
        many = desk.whole(name)
        if many and many > 1:
            desk.put(name, ("train.accumulate", many))
        desk.same(name, "1: none")


def objective(desk: Desk) -> None:
    """Noise levels and loss."""
    flow = desk.recipe.base in ("flux", "sd3")
    desk.same("train.noise_scheduler", "how the base was made is told from the base itself")
    kind = desk.text("train.timestep_type")
    if kind == "sigmoid":
        desk.put("train.timestep_type", ("objective.timesteps.kind", "sigmoid"))
    elif kind == "linear":
        desk.same("train.timestep_type", "every level alike, as by default")
    elif kind:
        desk.lost("train.timestep_type", "how it draws levels is not documented; every level is drawn alike here")
    elif flow:
        why = "not in the file, and what that means is not documented; every level is drawn alike here"
        desk.difference("train.timestep_type", "lost", why)
    if desk.text("train.content_or_style") in ("balanced", None):
        desk.same("train.content_or_style", "neither is favoured")
    elif desk.has("train.content_or_style"):
        desk.lost("train.content_or_style", "how it draws levels is not documented")
    if not desk.flag("train.diff_output_preservation"):
        for name in [each for each in desk.recipe.args if each.startswith("train.diff_output_preservation")]:
            desk.same(name, "off")
    if gamma := desk.number("train.min_snr_gamma"):
        if flow:
            desk.lost("train.min_snr_gamma", "made for bases that predict noise or v")
        else:
            pairs = (("objective.weighting.kind", "min-snr"), ("objective.weighting.gamma", tidy(gamma)))
            desk.put("train.min_snr_gamma", *pairs)
    if strength := desk.number("train.noise_offset"):
        if flow:
            desk.lost("train.noise_offset", "bases of this kind need none, and it is refused for them")
        else:
            desk.put("train.noise_offset", ("objective.noise.offset.strength", tidy(strength)))
    loss = desk.text("train.loss_type")
    if loss == "mae":
        desk.put("train.loss_type", ("objective.loss.kind", "l1"))
    elif loss == "mse":
        desk.same("train.loss_type", "as by default")


def optim(desk: Desk) -> None:
    """Optimizer, rates, schedule, clipping, average."""
    kind = optimizer(desk, "train.optimizer", "train.optimizer_params.")
    if desk.has("train.lr"):
        desk.put("train.lr", ("optim.learning_rate", tidy(as_number(desk.peek("train.lr")))))
    for name, key in (("train.unet_lr", "unet"), ("train.text_encoder_lr", "text_encoder")):
        rate = desk.number(name)
        if rate and not finds_rate(kind) and rate != desk.get("optim.learning_rate"):
            desk.put(name, (f"optim.{key}_learning_rate", tidy(rate)))
        desk.same(name, "as optim.learning_rate")
    _schedule(desk)
    bound = desk.number("train.max_grad_norm")
    if bound is not None:
        desk.put("train.max_grad_norm", ("optim.clip", tidy(bound)))
    if desk.flag("train.ema_config.use_ema"):
        decay = desk.number("train.ema_config.ema_decay")
        pairs = [("optim.ema.decay", decay)] if decay else [("optim.ema.warmup", True)]
        desk.put("train.ema_config.use_ema", *pairs)
    for name in ("use_ema", "ema_decay"):
        desk.same(f"train.ema_config.{name}", "as optim.ema" if desk.get("optim.ema") else "no average is kept")


def _schedule(desk: Desk) -> None:
    said, inner = (desk.text("train.lr_scheduler") or "constant").casefold(), "train.lr_scheduler_params."
    least, rate = desk.number(f"{inner}eta_min") or 0.0, desk.get("optim.learning_rate") or 1e-4
    kind = SCHEDULES.get(said)
    if kind is None:
        desk.lost("train.lr_scheduler", "how it goes on is not documented; constant stands in")
        desk.set("optim.schedule.kind", "constant")
    elif kind == "cosine" and least:
        desk.put("train.lr_scheduler", ("optim.schedule.kind", "cosine-minimum"))
        desk.put(f"{inner}eta_min", ("optim.schedule.minimum", min(1.0, round(least / rate, 9))))
    elif desk.has("train.lr_scheduler"):
        desk.put("train.lr_scheduler", ("optim.schedule.kind", kind))
    for name in RISES:
        if rise := desk.whole(f"{inner}{name}"):
            desk.put(f"{inner}{name}", ("optim.schedule.warmup", rise))
        desk.same(f"{inner}{name}", "0: none")


CHAPTERS = (length, objective, optim)
