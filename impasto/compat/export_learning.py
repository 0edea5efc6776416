"""Noise, loss, optimizer and schedule, as arguments of sd-scripts."""

from __future__ import annotations

from typing import Any

from impasto import objectives
from impasto.compat.export import Exported
from impasto.compat.tables import SCHEDULES
from impasto.compat.to_objective import LOSSES
from impasto.compat.to_optim import OPTIMIZERS
from impasto.config import RunConfig
from impasto.objectives import config as aims
from impasto.optim import config as rules
from impasto.optim import schedule_config as schedules

NAMES = {
    "adamw": "AdamW", "adamw8bit": "AdamW8bit", "lion": "Lion", "sgdnesterov": "SGDNesterov", "prodigy": "Prodigy",
    "dadaptadam": "DAdaptAdam", "dadaptadagrad": "DAdaptAdaGrad", "dadaptlion": "DAdaptLion", "dadaptsgd": "DAdaptSGD",
    "dadaptadan": "DAdaptAdan", "dadaptadanip": "DAdaptAdanIP",
    "adafactor": "Adafactor", "adamwschedulefree": "AdamWScheduleFree", "radamschedulefree": "RAdamScheduleFree",
    "sgdschedulefree": "SGDScheduleFree", "pytorch_optimizer.came": "pytorch_optimizer.CAME",
}  # fmt: skip


def objective(made: Exported, config: RunConfig) -> None:
    """All of it."""
    aim = objectives.as_made(config.objective, flow=made.base in ("flux", "sd3"), by_size=made.base == "flux")
    _levels(made, aim)
    _noise(made, aim.noise)
    loss = aim.loss
    made.put("loss_type", next(name for name, ours in LOSSES.items() if ours == loss.kind), "l2")
    if isinstance(loss, aims.Huber | aims.SmoothL1):
        made.args |= {"huber_c": loss.threshold, "huber_schedule": loss.schedule, "huber_scale": loss.scale}
    match aim.weighting:
        case aims.MinSnr():
            made.put("min_snr_gamma", aim.weighting.gamma)
        case aims.Debiased():
            made.put("debiased_estimation_loss", True)
        case aims.NoiseLike():
            made.put("scale_v_pred_loss_like_noise_pred", True)
        case aims.OfPicture() if made.base == "sd3":
            pass  # it is what is trained there
        case aims.CosineWeight() if made.base == "sd3" and aim.weighting.of_picture:
            made.put("weighting_scheme", "cosmap")
        case aims.Unweighted() if made.base == "sd3" and isinstance(aim.timesteps, aims.Uniform):
            made.put("weighting_scheme", "sigma_sqrt")
        case aims.Unweighted() if made.base == "sd3":
            made.lose("objective.weighting.kind = none", "there the error is that of the clean picture")
        case aims.Unweighted():
            pass
        case _:
            made.lose(f"objective.weighting.kind = {aim.weighting.kind}")
    made.put("v_pred_like_loss", aim.v_like, 0)
    made.put("zero_terminal_snr", aim.zero_terminal_snr, False)
    made.put("prior_loss_weight", aim.prior_weight, 1)
    if aim.prior_target != "picture":
        made.lose("objective.prior_target")
    if aim.mask.floor:
        made.lose("objective.mask.floor")


def _levels(made: Exported, aim: aims.Objective) -> None:
    levels, shift = aim.timesteps, aim.shift
    made.put("min_timestep", levels.low, 0)
    made.put("max_timestep", levels.high, 1000)
    if levels.looks != "independent":
        made.lose("objective.timesteps.looks")
    if made.base == "flux":
        way = _way_of_flux(levels, shift)
        if way is None:
            made.lose("objective.timesteps, objective.shift", "this pair has no name there")
        else:
            made.args |= way
        made.args["model_prediction_type"] = "raw"
        return
    if isinstance(levels, aims.LogitNormal) and made.base == "sd3":
        made.args |= {"weighting_scheme": "logit_normal", "logit_mean": levels.mean, "logit_std": levels.std}
    elif isinstance(levels, aims.Mode) and made.base == "sd3":
        made.args |= {"weighting_scheme": "mode", "mode_scale": levels.scale}
    elif not isinstance(levels, aims.Uniform):
        made.lose(f"objective.timesteps.kind = {levels.kind}", "for this base, levels are even there")
    if isinstance(shift, aims.FixedShift) and made.base == "sd3":
        made.put("training_shift", shift.strength)
    elif not isinstance(shift, aims.NoShift):
        made.lose(f"objective.shift.kind = {shift.kind}")


def _way_of_flux(levels: Any, shift: Any) -> dict[str, Any] | None:
    fixed = {"discrete_flow_shift": shift.strength} if isinstance(shift, aims.FixedShift) else {}
    match levels, shift:
        case aims.Sigmoid(), aims.NoShift():
            return {"timestep_sampling": "sigmoid", "sigmoid_scale": levels.scale}
        case aims.Sigmoid(), aims.FixedShift():
            return {"timestep_sampling": "shift", "sigmoid_scale": levels.scale, **fixed}
        case aims.Sigmoid(), aims.FluxShift():
            return {"timestep_sampling": "flux_shift", "sigmoid_scale": levels.scale}
        case aims.Uniform(), aims.NoShift():
            return {"timestep_sampling": "uniform"}
        case aims.Uniform(), aims.FixedShift():
            return {"timestep_sampling": "sigma", **fixed}
        case aims.LogitNormal(), aims.FixedShift():
            named = {"weighting_scheme": "logit_normal", "logit_mean": -levels.mean, "logit_std": levels.std}
            return {"timestep_sampling": "sigma", **named, **fixed}
        case aims.Mode(), aims.FixedShift():
            return {"timestep_sampling": "sigma", "weighting_scheme": "mode", "mode_scale": levels.scale, **fixed}
    return None


def _noise(made: Exported, noise: aims.Noise) -> None:
    if noise.offset is not None:
        made.put("noise_offset", noise.offset.strength)
        made.put("noise_offset_random_strength", noise.offset.random, False)
        made.put("adaptive_noise_scale", noise.offset.adaptive, 0)
    if noise.pyramid is not None:
        made.put("multires_noise_iterations", noise.pyramid.iterations)
        made.put("multires_noise_discount", noise.pyramid.discount)
    if noise.perturbation is not None:
        made.put("ip_noise_gamma", noise.perturbation.gamma)
        made.put("ip_noise_gamma_random_strength", noise.perturbation.random, False)


def optim(made: Exported, config: RunConfig) -> None:
    """All of it."""
    held = config.optim
    _optimizer(made, held)
    if isinstance(held.optimizer, rules.Adafactor) and held.optimizer.relative_step:
        if held.learning_rate != 1:
            made.lose("optim.learning_rate", "with relative steps no rate is used there (Q-O9)")
    else:
        made.put("learning_rate", held.learning_rate)
        made.put("unet_lr", held.unet_learning_rate)
        words = held.text_encoder_learning_rate
        if isinstance(words, tuple):
            made.put("text_encoder_lr", list(words))
            if made.base == "sdxl" and len(set(words)) > 1:
                made.lose("optim.text_encoder_learning_rate", "there only the first counts (Q-O1)")
        else:
            made.put("text_encoder_lr", words)
    for name, ratio in (("loraplus_lr_ratio", held.lora_plus), ("loraplus_unet_lr_ratio", held.unet_lora_plus),
                        ("loraplus_text_encoder_lr_ratio", held.text_encoder_lora_plus)):  # fmt: skip
        if ratio is not None:
            made.network[name] = ratio
    if held.learning_rate_scale != "none":
        made.lose("optim.learning_rate_scale")
    if held.ema is not None:
        made.lose("optim.ema")
    made.put("full_bf16", held.precision == "bf16", False)
    made.put("max_grad_norm", held.clip)
    _schedule(made, held.schedule)


def _optimizer(made: Exported, held: rules.Optim) -> None:
    chosen = held.optimizer
    if isinstance(chosen, rules.Library):
        made.put("optimizer_type", chosen.name)
        made.optimizer |= chosen.options
        return
    wanted = {"kind": chosen.kind} | ({"rule": rule} if (rule := getattr(chosen, "rule", None)) else {})
    usual = {"d-adaptation": "adam", "schedule-free": "adamw"}.get(chosen.kind)
    for name in NAMES:
        kind, options = OPTIMIZERS[name]
        if {**({"rule": usual} if usual else {}), **kind} == wanted:
            break
    else:
        made.lose(f"optim.optimizer.kind = {chosen.kind}", "AdamW stands in")
        made.put("optimizer_type", "AdamW")
        return
    made.put("optimizer_type", NAMES[name])
    default = type(chosen)()
    left = set(type(chosen).model_fields) - {"kind", "rule"}
    for there, ours in options.items():
        names = ours if isinstance(ours, tuple) else (ours,)
        left -= set(names)
        values = [getattr(chosen, each) for each in names]
        if values != [getattr(default, each) for each in names] or (
            chosen.kind == "adafactor" and there == "relative_step"
        ):
            made.optimizer[there] = values if isinstance(ours, tuple) else values[0]
    if isinstance(chosen, rules.DAdaptation) and chosen.rule.startswith("adan"):
        made.optimizer["weight_decay"] = chosen.weight_decay  # it has another one there, if nothing is said
    elif isinstance(chosen, rules.Prodigy) or getattr(chosen, "rule", "") == "adam":
        made.optimizer |= {"decouple": True} if chosen.weight_decay else {}
    for each in sorted(left):
        if getattr(chosen, each) != getattr(default, each):
            made.lose(f"optim.optimizer.{each}")


def _schedule(made: Exported, held: schedules.Schedule) -> None:
    warm = bool(held.warmup)
    names = {ours: there for there, ours in SCHEDULES.items() if there not in ("adafactor", "constant_with_warmup")}
    name = "constant_with_warmup" if held.kind == "constant" and warm else names.get(held.kind)
    if name is None:
        made.lose(f"optim.schedule.kind = {held.kind}", "cosine stands in")
        name = "cosine"
    made.put("lr_scheduler", name)
    made.put("lr_warmup_steps", held.warmup, 0)
    match held:
        case schedules.CosineRestarts():
            made.put("lr_scheduler_num_cycles", held.cycles)
        case schedules.Polynomial():
            made.put("lr_scheduler_power", held.power)
        case schedules.InverseSqrt():
            made.put("lr_scheduler_timescale", held.timescale)
        case schedules.CosineMinimum():
            made.put("lr_scheduler_min_lr_ratio", held.minimum)
        case schedules.WarmupStableDecay():
            made.put("lr_scheduler_min_lr_ratio", held.minimum)
            made.put("lr_decay_steps", held.decay)
        case schedules.PiecewiseConstant():
            pairs = [f"{factor}:{until}" for factor, until in zip(held.factors, held.until, strict=False)]
            made.schedule["step_rules"] = ",".join([*pairs, str(held.factors[-1])])
