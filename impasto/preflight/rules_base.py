"""Advice on the objective and on how the base is held. What a base is like is told by its card."""

from __future__ import annotations

from collections.abc import Iterator

from impasto.objectives.config import Debiased, FixedShift, FluxShift, MinSnr, SoftMinSnr
from impasto.preflight import estimate
from impasto.preflight.facts import Facts, Rule, Said

WORTH_COMPILING = 300
"""Steps below which compiling for a GPU, which takes minutes, wins nothing: at 0.2 s saved a step, a minute."""

OFFERED_DEPTH = 12
"""Layers of the text encoder whose last one is what `clip_skip = 1` takes, and before which 2 was trained by some."""


def _two_noises(facts: Facts) -> Iterator[Said]:
    noise = facts.config.objective.noise
    if noise.offset and noise.pyramid:
        what = "offset and pyramid both shift whole pictures; together they wash colours out"
        yield "objective.noise.offset", what, "delete one of them"


def _strong_offset(facts: Facts) -> Iterator[Said]:
    offset = facts.config.objective.noise.offset
    if offset and offset.strength > 0.15:
        yield "objective.noise.offset.strength", f"{offset.strength:g} tires the colours", "strength = 0.05"


def _snr_of_flow(facts: Facts) -> Iterator[Said]:
    predicted: str = facts.card.prediction
    weighting = facts.config.objective.weighting
    if isinstance(weighting, MinSnr | SoftMinSnr | Debiased) and predicted not in ("epsilon", "v"):
        what = f"{weighting.kind} is made for bases that predict noise or v; this one learns a flow"
        yield "objective.weighting.kind", what, 'kind = "none"'


def _low_gamma(facts: Facts) -> Iterator[Said]:
    weighting = facts.config.objective.weighting
    if isinstance(weighting, MinSnr | SoftMinSnr) and weighting.gamma < 1:
        what = f"gamma {weighting.gamma:g} leaves almost nothing but noise to learn from"
        yield "objective.weighting.gamma", what, "gamma = 5.0"


def _narrow(facts: Facts) -> Iterator[Said]:
    times = facts.config.objective.timesteps
    if times.high - times.low < 300:
        what = f"timesteps {times.low} to {times.high} are less than a third of what is drawn with"
        yield "objective.timesteps", what, "low = 0 and high = 1000"


def _perturbed(facts: Facts) -> Iterator[Said]:
    found = facts.config.objective.noise.perturbation
    if found and found.gamma > 0.2:
        yield "objective.noise.perturbation.gamma", f"{found.gamma:g} blurs what is drawn", "gamma = 0.1"


def _no_prior(facts: Facts) -> Iterator[Said]:
    sets = any(each.role == "regularization" for each in facts.config.data.sets)
    if sets and facts.config.objective.prior_weight == 0:
        yield "objective.prior_weight", "regularization pictures take half of all looks and count nothing", "1.0"


def _shifted(facts: Facts) -> Iterator[Said]:
    shift = facts.config.objective.shift
    predicted: str = facts.card.prediction
    far = isinstance(shift, FluxShift) or (isinstance(shift, FixedShift) and shift.strength > 2)
    if far and predicted in ("epsilon", "v"):
        what = f"the shift {shift.kind!r} is for flows; a base that predicts {predicted} hardly sees detail with it"
        yield "objective.shift.kind", what, 'kind = "none"'


def _loud_v(facts: Facts) -> Iterator[Said]:
    if (strength := facts.config.objective.v_like) > 0.1:
        yield (
            "objective.v_like",
            f"{strength:g} adds up to {200 * strength:.0f} times the loss near noise",
            "v_like = 0.01",
        )


def _fp16_vae(facts: Facts) -> Iterator[Said]:
    overflows = facts.card.configs["vae"].get("force_upcast", False)
    if facts.config.model.vae_precision == "fp16" and overflows:
        what = "this base's VAE says of itself that it overflows in fp16; pictures would be encoded twice"
        yield "model.vae_precision", what, 'vae_precision = "fp32", or a VAE made for fp16 as model.vae_path'


def _skipping(facts: Facts) -> Iterator[Said]:
    depth = facts.card.configs.get("text_encoder", {}).get("num_hidden_layers", 0)
    if facts.config.model.clip_skip >= 2 and (depth != OFFERED_DEPTH or len(facts.card.encoders) > 1):
        what = f"clip_skip {facts.config.model.clip_skip} is for bases trained so, with one text encoder of 12 layers"
        yield "model.clip_skip", what, "clip_skip = 1"


def _half(facts: Facts) -> Iterator[Said]:
    if facts.config.model.precision == "fp16":
        what = "fp16 overflows where bf16 does not, and skips steps to find its scale"
        yield "model.precision", what, 'precision = "bf16" on a GPU that has it'


def _half_on_cpu(facts: Facts) -> Iterator[Said]:
    if facts.config.device.name == "cpu" and facts.config.model.precision in ("bf16", "fp16"):
        yield "model.precision", "most processors compute in 16 bits far slower than in 32", 'precision = "auto"'


def _empty_windows(facts: Facts) -> Iterator[Said]:
    limit, longest = facts.words.limit, facts.words.longest
    if limit > 75 and longest <= limit - 75:
        what = f"the longest caption has {longest} tokens, and {limit} are encoded"
        yield "model.max_tokens", what, f"max_tokens = {75 if longest <= 75 else 150}"


def _unproven(facts: Facts) -> Iterator[Said]:
    if facts.config.save.proof == "off":
        what = "no file is loaded again before it is used: a file that does not load is found by its user"
        yield "save.proof", what, 'proof = "final"'


def _overdone(facts: Facts) -> Iterator[Said]:
    for at, each in enumerate(facts.config.model.merged):
        if abs(each.weight) > 1.5:
            yield f"model.merged.{at}.weight", f"an adapter is merged {each.weight:g} times as strong", "weight = 1.0"


def _packed_on_cpu(facts: Facts) -> Iterator[Said]:
    if facts.config.model.quantize != "none" and not estimate.on_gpu(facts.config):
        what = f"{facts.config.model.quantize} is unpacked at each step: on a processor that is slow and saves little"
        yield "model.quantize", what, 'quantize = "none"'


def _compiled_on_cpu(facts: Facts) -> Iterator[Said]:
    if facts.config.speed.compile != "off" and not estimate.on_gpu(facts.config):
        what = "compiling takes minutes on a processor, and steps are no faster for it: 7 % slower where we measured"
        yield "speed.compile", what, 'compile = "off"'


def _compiled_for_little(facts: Facts) -> Iterator[Said]:
    speed, steps = facts.config.speed, facts.steps.total
    if speed.compile != "off" and estimate.on_gpu(facts.config) and steps < WORTH_COMPILING:
        yield (
            "speed.compile",
            f"compiling takes minutes, and there are {steps} steps to win them back",
            'compile = "off"',
        )


RULES = (
    Rule("A-501", "offset and pyramid noise",
         "Both teach brightness of whole pictures.",
         _two_noises),
    Rule("A-502", "a strong noise offset",
         "Pictures drawn without it then look flat.",
         _strong_offset),
    Rule("A-503", "weights by signal-to-noise on a flow",
         "A flow's loss is balanced already, and its ratio has another scale.",
         _snr_of_flow),
    Rule("A-504", "a very small gamma",
         "Levels near clean, which hold the detail, hardly count.",
         _low_gamma),
    Rule("A-505", "a narrow range of timesteps",
         "Levels that are not trained are drawn as the base draws them.",
         _narrow),
    Rule("A-506", "a strong perturbation",
         "The denoiser learns from more noise than it is told of.",
         _perturbed),
    Rule("A-507", "regularization that counts nothing",
         "The loss of these pictures is multiplied by 0.",
         _no_prior),
    Rule("A-508", "a flow's shift on another base",
         "Its schedule puts most levels near noise already.",
         _shifted),
    Rule("A-509", "a large v_like",
         "It grows two hundredfold near pure noise.",
         _loud_v),
    Rule("A-601", "a VAE that overflows in fp16",
         "Its description asks to be computed in fp32.",
         _fp16_vae),
    Rule("A-602", "clip_skip on a base it does not suit",
         "Other encoders have the layer chosen already.",
         _skipping),
    Rule("A-603", "fp16",
         "Its largest number is 65504.",
         _half),
    Rule("A-604", "16 bits on a processor",
         "Few processors compute in them.",
         _half_on_cpu),
    Rule("A-605", "windows that stay empty",
         "Each window of 75 tokens costs time in every step.",
         _empty_windows),
    Rule("A-606", "files without a proof",
         "Loading a file once shows that others can.",
         _unproven),
    Rule("A-607", "a merged adapter stronger than it was trained",
         "The base then draws nothing it was made for.",
         _overdone),
    Rule("A-608", "few bits on a processor",
         "Memory is what few bits save, and a GPU's is scarce.",
         _packed_on_cpu),
    Rule("A-609", "compiled blocks on a processor",
         "A step is bound by products there, which compiling does not make faster.",
         _compiled_on_cpu),
    Rule("A-610", "compiled blocks for a short run",
         "What compiling takes must be won back by faster steps.",
         _compiled_for_little),
)  # fmt: skip
