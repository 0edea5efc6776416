"""How OneTrainer learns: noise and loss, optimizer, rates, schedule, average."""

from __future__ import annotations

from collections.abc import Mapping

from impasto.compat.nested_optim import finds_rate, optimizer
from impasto.compat.onetrainer_adapter import encoders
from impasto.compat.translating import Desk, as_number, tidy

SCHEDULES: Mapping[str, str] = {
    "CONSTANT": "constant", "LINEAR": "linear", "COSINE": "cosine", "COSINE_WITH_HARD_RESTARTS": "cosine-restarts",
    "REX": "rex",
}  # fmt: skip
STRENGTHS = ("mse_strength", "mae_strength", "log_cosh_strength", "huber_strength", "vb_loss_strength")


def objective(desk: Desk) -> None:
    """Noise, noise levels, loss."""
    flow = desk.recipe.base in ("flux", "sd3")
    if strength := desk.number("offset_noise_weight"):
        if flow:
            desk.lost("offset_noise_weight", "bases of this kind need none, and it is refused for them")
        else:
            desk.put("offset_noise_weight", ("objective.noise.offset.strength", tidy(strength)))
    if gamma := desk.number("perturbation_noise_weight"):
        desk.put("perturbation_noise_weight", ("objective.noise.perturbation.gamma", tidy(gamma)))
    if desk.flag("rescale_noise_scheduler_to_zero_terminal_snr"):
        if desk.get("model.prediction") == "v":
            desk.put("rescale_noise_scheduler_to_zero_terminal_snr", ("objective.zero_terminal_snr", True))
        else:
            desk.lost("rescale_noise_scheduler_to_zero_terminal_snr", "for bases that predict v; refused for others")
    _levels(desk, flow)
    _loss(desk, flow)


def _levels(desk: Desk, flow: bool) -> None:
    for name, key, whole in (("min_noising_strength", "low", 0.0), ("max_noising_strength", "high", 1.0)):
        bound = desk.number(name)
        if bound is not None and bound != whole:
            desk.put(name, (f"objective.timesteps.{key}", round(1000 * bound)))
        elif bound is not None:
            desk.same(name, "all of them")
    kind = desk.text("timestep_distribution")
    if kind == "UNIFORM":
        desk.same("timestep_distribution", "as by default")
    elif kind == "LOGIT_NORMAL" and not (desk.number("noising_weight") or desk.number("noising_bias")):
        desk.put("timestep_distribution", ("objective.timesteps.kind", "logit-normal"))
    elif kind:
        why = "its form is documented by a picture only; every level is drawn alike here"
        desk.lost("timestep_distribution", why)
    for name in ("noising_weight", "noising_bias"):
        if desk.number(name) and kind != "UNIFORM":
            desk.lost(name, "documented by a picture only")
        desk.same(name, "not read with such a distribution")
    shift = desk.number("timestep_shift")
    if desk.flag("dynamic_timestep_shifting"):
        if desk.recipe.base == "flux":
            desk.put("dynamic_timestep_shifting", ("objective.shift.kind", "flux"))
        else:
            desk.lost("dynamic_timestep_shifting", "how far levels are moved for this base is not documented")
        desk.same("timestep_shift", "not read with dynamic_timestep_shifting")
    elif shift and shift != 1 and flow:
        desk.put("timestep_shift", ("objective.shift.kind", "fixed"), ("objective.shift.strength", tidy(shift)))
    elif shift and shift != 1:
        desk.lost("timestep_shift", "levels are moved only for bases that learn a flow")
    desk.same("timestep_shift", "1: none")


def _loss(desk: Desk, flow: bool) -> None:
    on = {name: desk.number(name) for name in STRENGTHS if desk.number(name)}
    on.pop("vb_loss_strength", None)  # for bases that learn their variance, which none here does
    if set(on) == {"mae_strength"}:
        desk.put("mae_strength", ("objective.loss.kind", "l1"))
    elif set(on) - {"mse_strength"}:
        for name in on:
            desk.lost(name, "sums of several losses are not here; the squared error counts")
    for name in STRENGTHS:
        desk.same(name, "as by default, or none")
    kind, gamma = desk.text("loss_weight_fn"), desk.number("loss_weight_strength")
    if kind in ("MIN_SNR_GAMMA", "DEBIASED_ESTIMATION") and flow:
        desk.lost("loss_weight_fn", "made for bases that predict noise or v")
    elif kind == "MIN_SNR_GAMMA":
        desk.put("loss_weight_fn", ("objective.weighting.kind", "min-snr"))
        if gamma:
            desk.put("loss_weight_strength", ("objective.weighting.gamma", tidy(gamma)))
    elif kind == "DEBIASED_ESTIMATION":
        desk.put("loss_weight_fn", ("objective.weighting.kind", "debiased"))
    elif kind == "CONSTANT":
        desk.same("loss_weight_fn", "every level counts alike, as by default")
    elif kind:
        desk.lost("loss_weight_fn", "there is no such weighting here")
    desk.same("loss_weight_strength", "not read with this weighting")


def optim(desk: Desk) -> None:
    """Optimizer, rates, schedule, clipping, average."""
    kind = optimizer(desk, "optimizer.optimizer", "optimizer.")
    _rates(desk, kind)
    _until(desk)
    _schedule(desk)
    if desk.has("clip_grad_norm"):
        bound = desk.number("clip_grad_norm") or 0
        desk.put(
            "clip_grad_norm",
            ("optim.clip", tidy(bound)),
            why="" if bound else "empty there: gradients stay as long as they are",
        )
    scaler = desk.text("learning_rate_scaler") or "NONE"
    alone = (desk.get("train.accumulate") or 1) == 1
    if scaler != "NONE" and finds_rate(kind):
        desk.lost("learning_rate_scaler", f"{kind} finds the rate for this batch size")
    elif scaler == "BOTH" or (scaler == "BATCH" and alone):
        desk.put("learning_rate_scaler", ("optim.learning_rate_scale", "sqrt"))
    elif scaler != "NONE":
        desk.lost("learning_rate_scaler", "rates are scaled by the pictures of a whole step here, or not at all")
    mode, decay = (desk.text("ema") or "OFF").upper(), desk.number("ema_decay")
    if mode in ("GPU", "CPU", "TRUE") or desk.peek("ema") is True:
        every = desk.whole("ema_update_step_interval") or 1
        desk.put("ema", ("optim.ema.warmup", True))
        if decay:
            each = round(decay ** (1 / every), 9)
            why = f"at each step; there, {decay:g} every {every} steps" if every > 1 else ""
            desk.put("ema_decay", ("optim.ema.decay", each), why=why)
            desk.same("ema_update_step_interval", "with ema_decay")
    for name in ("ema", "ema_decay", "ema_update_step_interval"):
        desk.same(name, "no average is kept")


def _rates(desk: Desk, kind: str) -> None:
    denoiser = "transformer" if desk.recipe.base in ("flux", "sd3") else "unet"
    if desk.has("learning_rate"):
        desk.put("learning_rate", ("optim.learning_rate", tidy(as_number(desk.peek("learning_rate")))))
    own, usual = f"{denoiser}.learning_rate", desk.get("optim.learning_rate")
    rate = desk.number(own)
    if finds_rate(kind):
        for name in (own, *(f"{each}.learning_rate" for each in encoders(desk))):
            desk.same(name, f"{kind} finds one rate for all parts")
    elif rate is not None and rate != usual:
        desk.put(own, ("optim.unet_learning_rate", tidy(rate)))
    desk.same(own, "as learning_rate")
    trained = [each for each in encoders(desk) if desk.flag(f"{each}.train")]
    rates = [desk.number(f"{each}.learning_rate") if each in trained else 0 for each in encoders(desk)]
    listed = [tidy(usual or 1e-4) if each is None else tidy(each) for each in rates]
    if trained and len(set(listed)) > 1:
        if finds_rate(kind):
            listed = [usual if each else 0 for each in listed]
        desk.set("optim.text_encoder_learning_rate", listed, "one for each text encoder; 0 leaves it out")
    elif trained and listed[0] != usual and not finds_rate(kind):
        desk.set("optim.text_encoder_learning_rate", listed[0])
    for each in encoders(desk):
        on = each in trained
        for name in (f"{each}.train", f"{each}.learning_rate"):
            if desk.has(name):
                said = ["optim.text_encoder_learning_rate"] if on or len(trained) else []
                desk.done(name, "same", "" if on else "it is not trained", settings=said)


def _until(desk: Desk) -> None:
    """When the text encoder stops."""
    found: set[int | float | None] = set()
    names = [f"{each}.stop_training_after" for each in encoders(desk)]
    epochs = desk.get("train.epochs")
    for name in names:
        many, unit = desk.whole(name), _unit(desk, name)
        if not many or unit == "NEVER" or (unit == "EPOCH" and epochs and many >= epochs):
            found.add(None)
        elif unit == "STEP":
            found.add(many)
        elif unit == "EPOCH" and epochs:
            found.add(round(many / epochs, 6))
        else:
            found.add(0)
    trained = desk.get("adapter.targets.text_encoder") is not False
    single = next(iter(found)) if len(found) == 1 else None
    for name in names:
        if trained and single:
            desk.put(name, ("train.text_encoder_until", single))
        elif trained and found != {None} and desk.number(name):
            desk.lost(name, "the text encoders stop together here, after steps or a share of the run")
        desk.same(name, "never, or it is not trained")
        desk.same(f"{name}_unit", "with stop_training_after")
    for part in ("unet", "transformer"):
        name = f"{part}.stop_training_after"
        many, unit = desk.whole(name), _unit(desk, name)
        if many and unit != "NEVER" and not (unit == "EPOCH" and epochs and many >= epochs):
            desk.lost(name, "the denoiser is trained to the end here")
        desk.same(name, "never before the end")
        desk.same(f"{name}_unit", "with stop_training_after")


def _unit(desk: Desk, name: str) -> str:
    older = desk.has(name) and desk.recipe.args[name].name.endswith("_epochs")
    return "EPOCH" if older else (desk.text(f"{name}_unit") or "NEVER").upper()


def _schedule(desk: Desk) -> None:
    said = (desk.text("learning_rate_scheduler") or "CONSTANT").upper()
    least, cycles = desk.number("learning_rate_min_factor") or 0.0, desk.number("learning_rate_cycles") or 1
    kind = SCHEDULES.get(said, "constant")
    if said not in SCHEDULES:
        why = {"ADAFACTOR": "the schedule is the optimizer's own relative steps; constant stands in",
               "CUSTOM": "a file of settings can never run code; constant stands in",
               "COSINE_WITH_RESTARTS": "how it rises again is not documented; constant stands in"}  # fmt: skip
        desk.lost("learning_rate_scheduler", why.get(said, "there is no such schedule here; constant stands in"))
        desk.set("optim.schedule.kind", kind)
    elif kind == "cosine" and least:
        desk.put("learning_rate_scheduler", ("optim.schedule.kind", "cosine-minimum"))
        desk.put("learning_rate_min_factor", ("optim.schedule.minimum", least))
    elif desk.has("learning_rate_scheduler"):
        desk.put("learning_rate_scheduler", ("optim.schedule.kind", kind))
    if least and kind != "constant" and desk.has("learning_rate_min_factor"):
        desk.lost("learning_rate_min_factor", f"{kind} falls to zero here")
    desk.same("learning_rate_min_factor", "to zero, or the rate does not fall")
    if kind == "cosine-restarts" and cycles > 1 and cycles == int(cycles):
        desk.put("learning_rate_cycles", ("optim.schedule.cycles", int(cycles)))
    elif kind == "cosine-restarts" and cycles != 1:
        desk.lost("learning_rate_cycles", "whole cycles only")
    desk.same("learning_rate_cycles", "not read with this schedule, or once")
    rise = desk.number("learning_rate_warmup_steps")
    if rise:
        desk.put("learning_rate_warmup_steps", ("optim.schedule.warmup", rise if rise < 1 else int(rise)))
    desk.same("learning_rate_warmup_steps", "0: none")


CHAPTERS = (objective, optim)
