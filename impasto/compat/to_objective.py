"""Noise, noise levels, and the loss."""

from __future__ import annotations

from typing import Any

from impasto.compat.translating import Desk, tidy

Pairs = list[tuple[str, Any]]
LOSSES = {"l2": "mse", "l1": "l1", "huber": "huber", "smooth_l1": "smooth-l1"}


def objective(desk: Desk) -> None:
    """All of it."""
    _noise(desk)
    _levels(desk)
    _loss(desk)
    _weights(desk)
    if desk.flag("zero_terminal_snr"):
        if desk.get("model.prediction") == "v":
            desk.put("zero_terminal_snr", ("objective.zero_terminal_snr", True))
        else:
            desk.lost("zero_terminal_snr", "for bases that predict v; for others it is refused here, and no use there")
    weight = desk.number("prior_loss_weight")
    if weight is not None:
        if weight == 1:
            desk.same("prior_loss_weight", "as by default")
        else:
            why = "0 means 0; through kohya_ss it became 1" if weight == 0 else ""
            quirks = ["Q-G1"] if weight == 0 else []
            desk.put("prior_loss_weight", ("objective.prior_weight", tidy(weight)), why=why, quirks=quirks, plain=True)
    if desk.flag("masked_loss"):
        why = "divided by what the mask lets through, so that a small subject is learnt as fast as a large one"
        if desk.exact:
            desk.put("masked_loss", ("objective.mask.normalise", False), plain=True)
        else:
            desk.better("masked_loss", why, "Q-L3")


def _noise(desk: Desk) -> None:
    flow = desk.recipe.base in ("flux", "sd3")
    strength = desk.number("noise_offset")
    if strength and flow:
        desk.lost("noise_offset", "not read there for this base, without a word (Q-F4/F5)")
        strength = None
    if strength:
        desk.put("noise_offset", ("objective.noise.offset.strength", tidy(strength)), plain=True)
        if desk.flag("noise_offset_random_strength"):
            desk.put("noise_offset_random_strength", ("objective.noise.offset.random", True))
        if adaptive := desk.number("adaptive_noise_scale"):
            desk.put("adaptive_noise_scale", ("objective.noise.offset.adaptive", adaptive), plain=True)
    for name in ("noise_offset", "noise_offset_random_strength", "adaptive_noise_scale"):
        if desk.has(name):
            desk.same(name, "there is no noise offset")
    iterations = desk.whole("multires_noise_iterations")
    if iterations and flow:
        desk.lost("multires_noise_iterations", "not read there for this base, without a word (Q-F4/F5)")
        iterations = None
    if iterations:
        desk.put("multires_noise_iterations", ("objective.noise.pyramid.iterations", iterations))
        discount = desk.number("multires_noise_discount")
        if discount is not None:
            desk.put("multires_noise_discount", ("objective.noise.pyramid.discount", discount), plain=True)
    for name in ("multires_noise_iterations", "multires_noise_discount"):
        if desk.has(name):
            desk.same(name, "there is no such noise")
    if gamma := desk.number("ip_noise_gamma"):
        desk.put("ip_noise_gamma", ("objective.noise.perturbation.gamma", gamma), plain=True)
        if desk.flag("ip_noise_gamma_random_strength"):
            desk.put("ip_noise_gamma_random_strength", ("objective.noise.perturbation.random", True))
    desk.same("ip_noise_gamma_random_strength", "there is no such noise")
    desk.same("ip_noise_gamma", "0: none")


def _levels(desk: Desk) -> None:
    if desk.recipe.base == "flux":
        _levels_of_flux(desk)
    elif desk.recipe.base == "sd3":
        _levels_of_sd3(desk)
    for name, key, whole in (("min_timestep", "low", 0), ("max_timestep", "high", 1000)):
        bound = desk.whole(name)
        if bound is None:
            continue
        if bound == whole:
            desk.same(name, "all of them")
        elif desk.recipe.base == "flux":
            why = "it holds here; there it is ignored for this base"
            desk.put(name, (f"objective.timesteps.{key}", bound), why=why, quirks=["Q-F2"])
        else:
            desk.put(name, (f"objective.timesteps.{key}", bound), plain=True)
    for name in ("discrete_flow_shift", "sigmoid_scale", "logit_mean", "logit_std", "mode_scale", "timestep_sampling",
                 "weighting_scheme"):  # fmt: skip
        desk.same(name, "not read for this base, or by this way to draw levels")


def _levels_of_sd3(desk: Desk) -> None:
    scheme = desk.text("weighting_scheme")
    _density(desk, scheme, {"mean": 1})
    shift = desk.number("training_shift")
    if shift and shift != 1:
        desk.put("training_shift", _both(desk, "fixed", shift), plain=True)
    if scheme == "sigma_sqrt":
        desk.same("weighting_scheme", "1 / σ² of the error of the clean picture is the error of the direction")
    elif scheme == "cosmap":
        weight: Pairs = [("objective.weighting.kind", "cosine-map"), ("objective.weighting.of_picture", True)]
        desk.put("weighting_scheme", *weight, plain=True)
    elif desk.trains:
        desk.set("objective.weighting.kind", "picture", "what the error is of there")


def _levels_of_flux(desk: Desk) -> None:
    way = desk.text("timestep_sampling") or "sigma"
    shift = desk.number("discrete_flow_shift")
    strength = 3.0 if shift is None else shift
    if way == "sigma":
        _density(desk, scheme := desk.text("weighting_scheme"), {"mean": -1})
        if scheme in ("cosmap", "sigma_sqrt"):
            desk.lost("weighting_scheme", "with raw it weighs nothing there; objective.weighting would here")
        desk.set("objective.shift.kind", "fixed", "timestep_sampling = sigma draws from a shifted table")
        desk.set("objective.shift.strength", tidy(strength))
        desk.same("timestep_sampling", "as objective.timesteps and objective.shift")
        desk.same("discrete_flow_shift", "as objective.shift.strength")
        return
    kinds = {"uniform": "uniform", "sigmoid": "sigmoid", "shift": "sigmoid", "flux_shift": "sigmoid"}
    if way not in kinds:
        desk.lost("timestep_sampling", f"there is no way {way} to draw noise levels")
        return
    pairs: Pairs = [("objective.timesteps.kind", kinds[way])]
    if way != "shift":
        pairs.append(("objective.shift.kind", "flux" if way == "flux_shift" else "none"))
    else:
        pairs += [("objective.shift.kind", "fixed"), ("objective.shift.strength", tidy(strength))]
    desk.put("timestep_sampling", *pairs, plain=True)
    scale = desk.number("sigmoid_scale")
    if scale is not None and scale != 1 and way != "uniform":
        desk.put("sigmoid_scale", ("objective.timesteps.scale", tidy(scale)), plain=True)
    desk.same("discrete_flow_shift", "as objective.shift.strength, or not read by this way to draw")


def _density(desk: Desk, scheme: str | None, signs: dict[str, int]) -> None:
    """A density of levels. Where a table runs from noise to clean, the middle is mirrored (Q-F8)."""
    if scheme == "logit_normal":
        mean, std = desk.number("logit_mean") or 0.0, desk.number("logit_std")
        pairs: Pairs = [("objective.timesteps.kind", "logit-normal")]
        if mean:
            pairs.append(("objective.timesteps.mean", tidy(signs["mean"] * mean)))
        if std is not None and std != 1:
            pairs.append(("objective.timesteps.std", tidy(std)))
        mirrored = bool(mean) and signs["mean"] < 0
        why = "over 0 is towards noise; there, towards clean" if mirrored else ""
        desk.put("weighting_scheme", *pairs, why=why, quirks=["Q-F8"] if mirrored else [], plain=True)
    elif scheme == "mode":
        scale = desk.number("mode_scale")
        pairs = [("objective.timesteps.kind", "mode")]
        pairs += [("objective.timesteps.scale", tidy(scale))] if scale is not None else []
        desk.put("weighting_scheme", *pairs, plain=True)
    elif desk.trains:
        desk.set("objective.timesteps.kind", "uniform", "levels are drawn evenly there")


def _both(desk: Desk, kind: str, strength: float) -> Any:
    desk.set("objective.shift.kind", kind)
    return ("objective.shift.strength", tidy(strength))


def _loss(desk: Desk) -> None:
    kind = LOSSES.get(desk.text("loss_type") or "l2")
    if kind is None:
        desk.lost("loss_type", "there is no such measure of an error")
        kind = "mse"
    elif kind == "mse":
        desk.same("loss_type", "as by default")
    else:
        desk.put("loss_type", ("objective.loss.kind", kind), plain=True)
    if kind in ("huber", "smooth-l1"):
        threshold, scale = desk.number("huber_c"), desk.number("huber_scale")
        if threshold:
            desk.put("huber_c", ("objective.loss.threshold", threshold), plain=True)
        if schedule := desk.text("huber_schedule"):
            desk.put("huber_schedule", ("objective.loss.schedule", schedule), plain=True)
        if scale and scale != 1:
            by_snr = (desk.get("objective.loss.schedule") or "snr") == "snr"
            why = "it counts in every schedule; there, not in snr" if by_snr else ""
            desk.put("huber_scale", ("objective.loss.scale", tidy(scale)), why=why, quirks=["Q-L2"] if by_snr else [],
                     plain=True)  # fmt: skip
    for name in ("huber_c", "huber_schedule", "huber_scale"):
        desk.same(name, "not read with this loss, or as by default")


def _weights(desk: Desk) -> None:
    flow = desk.recipe.base in ("flux", "sd3")
    found: list[tuple[str, list[tuple[str, Any]]]] = []
    if gamma := desk.number("min_snr_gamma"):
        found.append(
            ("min_snr_gamma", [("objective.weighting.kind", "min-snr"), ("objective.weighting.gamma", tidy(gamma))])
        )
    if desk.flag("debiased_estimation_loss"):
        found.append(("debiased_estimation_loss", [("objective.weighting.kind", "debiased")]))
    if desk.flag("scale_v_pred_loss_like_noise_pred"):
        found.append(("scale_v_pred_loss_like_noise_pred", [("objective.weighting.kind", "noise-like")]))
    if flow:
        for name, _ in found:
            desk.lost(name, "not read there for this base, without a word (Q-F4/F5)")
        desk.same("v_pred_like_loss", "not read for this base")
        return
    terminal = bool(desk.get("objective.zero_terminal_snr") or desk.flag("zero_terminal_snr"))
    for at, (name, pairs) in enumerate(found):
        if at:
            desk.lost(name, "two weightings at once would undo each other; the first counts")
        elif terminal:
            desk.put(name, *pairs, why="by the schedule that is trained", quirks=["Q-L1"])
        else:
            desk.put(name, *pairs, plain=True)
    desk.same("min_snr_gamma", "0: off")
    if more := desk.number("v_pred_like_loss"):
        desk.put("v_pred_like_loss", ("objective.v_like", tidy(more)), plain=True)
    desk.same("v_pred_like_loss", "0: off")
