"""Optimizers from libraries do what their papers say, with our settings; and what is refused, is refused in words."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.optimization import Adafactor as TheirAdafactor

from impasto import optim
from impasto.errors import ConfigError
from impasto.optim import named
from impasto.optim.config import (
    Adafactor,
    Came,
    DAdaptation,
    Ema,
    Library,
    Lion,
    Muon,
    Optim,
    Optimizer,
    Prodigy,
    ScheduleFree,
    Sgd,
)
from impasto.optim.flat import FlatParameters
from impasto.optim.schedule_config import Constant, Cosine

SHAPES = ((6, 4), (5,))
STEPS = 25
Array = np.ndarray[Any, Any]


def starts() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def gradients(step: int, weights: list[Any]) -> list[Any]:
    """Towards one, with noise."""
    generator = torch.Generator().manual_seed(step)
    noise = [0.3 * torch.randn(shape, generator=generator) for shape in SHAPES]
    return [w - 1 + (n if isinstance(w, Tensor) else n.numpy()) for w, n in zip(weights, noise, strict=True)]


def ours(config: Optimizer, rate: float, steps: int = STEPS) -> tuple[list[Tensor], list[float]]:
    """The weights to be used in the end, and the rates on the way."""
    parameters = [nn.Parameter(each) for each in starts()]
    optimizer = optim.build(Optim(optimizer=config, clip=0.0), FlatParameters({"unet": parameters}))
    rates = []
    for step in range(steps):
        for parameter, gradient in zip(parameters, gradients(step, [p.detach() for p in parameters]), strict=True):
            assert parameter.grad is not None
            parameter.grad.copy_(gradient)
        rates.append(optimizer.step({"unet": rate}).rates["unet"])
    with optimizer.shown():
        return [each.detach().clone() for each in parameters], rates


def theirs(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> list[Tensor]:
    parameters = [nn.Parameter(each) for each in starts()]
    rule = make(parameters)
    for step in range(STEPS):
        for parameter, gradient in zip(parameters, gradients(step, [p.detach() for p in parameters]), strict=True):
            parameter.grad = gradient
        rule.step()
    return [each.detach() for each in parameters]


def close(found: list[Tensor], wanted: list[Any], tolerance: float = 2e-6) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.numpy(), np.asarray(other), rtol=0, atol=tolerance)


def in_float64(step: Callable[[int, Array, Array], Array]) -> list[Array]:
    """All weights in one vector, moved by `step(number from 1, weights, gradients)`."""
    weights = np.concatenate([each.numpy().astype(np.float64).ravel() for each in starts()])
    cut = starts()[0].numel()
    for number in range(STEPS):
        split = [weights[:cut].reshape(SHAPES[0]), weights[cut:]]
        weights = step(number + 1, weights, np.concatenate([each.ravel() for each in gradients(number, split)]))
    return [weights[:cut].reshape(SHAPES[0]), weights[cut:]]


def test_lion_is_the_papers() -> None:
    mean = np.zeros(29)

    def step(_: int, w: Array, g: Array) -> Array:
        nonlocal mean
        w = w - 0.01 * (np.sign(0.9 * mean + 0.1 * g) + 0.2 * w)
        mean = 0.99 * mean + 0.01 * g
        return w

    close(ours(Lion(weight_decay=0.2), 0.01)[0], in_float64(step))


@pytest.mark.parametrize("nesterov", [True, False])
def test_sgd_is_torchs(nesterov: bool) -> None:
    found, _ = ours(Sgd(nesterov=nesterov, weight_decay=0.1), 0.05)
    close(found, theirs(lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=nesterov, weight_decay=0.1)))


@pytest.mark.parametrize("momentum", [None, 0.9])
@pytest.mark.parametrize("scale", [True, False])
def test_adafactor_is_transformers(momentum: float | None, scale: bool) -> None:
    found, _ = ours(Adafactor(momentum=momentum, scale_parameter=scale, weight_decay=0.1), 0.02)
    close(found, theirs(lambda p: TheirAdafactor(p, lr=0.02, beta1=momentum, scale_parameter=scale,
                                                 relative_step=False, weight_decay=0.1)))  # fmt: skip


@pytest.mark.parametrize("warmup_init", [True, False])
def test_relative_steps_are_transformers_and_told_as_the_rate(warmup_init: bool) -> None:
    found, rates = ours(Adafactor(relative_step=True, warmup_init=warmup_init), 1.0)
    close(found, theirs(lambda p: TheirAdafactor(p, warmup_init=warmup_init)))
    assert rates[3] == pytest.approx(min(4e-6 if warmup_init else 0.01, 0.5))
    halved, _ = ours(Adafactor(relative_step=True), 0.5)
    assert not torch.equal(halved[0], ours(Adafactor(relative_step=True), 1.0)[0][0])  # a rate is never just dropped


@pytest.mark.parametrize("correct", [True, False])
def test_prodigy_is_the_papers(correct: bool) -> None:
    start = np.concatenate([each.numpy().astype(np.float64).ravel() for each in starts()])
    d0, b1, b2, b3 = 1e-2, 0.9, 0.999, sqrt(0.999)
    mean, square, s, r, d = np.zeros(29), np.zeros(29), np.zeros(29), 0.0, d0
    estimates = []

    def step(k: int, w: Array, g: Array) -> Array:
        nonlocal mean, square, s, r, d
        rate = d * (sqrt(1 - b2**k) / (1 - b1**k) if correct else 1.0)
        r = b3 * r + d / d0 * rate * g @ (start - w)
        mean, square = b1 * mean + (1 - b1) * d * g, b2 * square + (1 - b2) * d * d * g * g
        s = b3 * s + d / d0 * rate * g
        new = max(d, 1.5 * r / np.abs(s).sum())
        w = w - rate * mean / (np.sqrt(square) + new * 1e-8)
        d = new
        estimates.append(d)
        return w

    wanted = in_float64(step)
    found, rates = ours(Prodigy(d0=d0, d_coef=1.5, bias_correction=correct), 1.0)
    close(found, wanted, 2e-4)
    assert rates == pytest.approx(estimates, rel=1e-3)
    assert rates[-1] > 5 * d0


@pytest.mark.parametrize("rule", ["adan", "adan-ip"])
def test_adan_is_the_papers_and_its_rate_is_found_by_the_authors_estimates(rule: Literal["adan", "adan-ip"]) -> None:
    b1, b2, b3, d0 = 0.1, 0.08, 0.05, 1e-3  # as Adan's paper has them: what of the newest is taken in
    m, v, n, s, last = (np.zeros(29) for _ in range(5))
    seen, d = 0.0, d0
    estimates = []

    def step(k: int, w: Array, g: Array) -> Array:
        nonlocal m, v, n, s, last, seen, d
        change = np.zeros(29) if k == 1 else g - last
        last = g
        before = s / (np.sqrt(n) + 1e-8)
        m, v = (1 - b1) * m + b1 * d * g, (1 - b2) * v + b2 * d * change
        n = (1 - b3) * n + b3 * (g + (1 - b2) * change) ** 2
        s = (1 - b3) * s + b3 * d * g
        root = np.sqrt(n) + 1e-8
        w = (w - (m + (1 - b2) * v) / root) / (1 + d * 0.02)
        if rule == "adan":
            seen = (1 - b3) * seen + b3 * d * d * np.sum(g * g / root)
            found = (np.sum(s * s / root) / b3 - seen) / np.abs(s).sum()
        else:
            seen = (1 - b3) * seen + b3 * d * np.sum(g * before)
            found = 2 * (1 - b3) / b3 * seen / np.abs(s).sum()
        d = max(d, min(found, 1.3 * d))
        estimates.append(d)
        return w

    wanted = in_float64(step)
    betas = (1 - b1, 1 - b2, 1 - b3)
    found, rates = ours(DAdaptation(rule=rule, betas=betas, d0=d0, growth_rate=1.3, weight_decay=0.02), 1.0)
    close(found, wanted, 2e-5)
    assert rates == pytest.approx(estimates, rel=1e-4)
    assert rates[-1] > 50 * d0


def test_schedule_free_shows_the_papers_average() -> None:
    start = np.concatenate([each.numpy().astype(np.float64).ravel() for each in starts()])
    z, x, square, total, rate = start.copy(), start.copy(), np.zeros(29), 0.0, 0.05

    def step(k: int, y: Array, g: Array) -> Array:
        nonlocal z, x, square, total
        square = 0.999 * square + 0.001 * g * g
        z = z - rate * (g / (np.sqrt(square / (1 - 0.999**k)) + 1e-8) + 0.1 * y)
        total += rate**2
        x = x + rate**2 / total * (z - x)
        return 0.1 * z + 0.9 * x

    in_float64(step)
    cut = starts()[0].numel()
    close(ours(ScheduleFree(weight_decay=0.1), rate)[0], [x[:cut].reshape(SHAPES[0]), x[cut:]], 1e-5)


def test_muon_is_torchs_for_matrices_and_adamw_for_the_rest() -> None:
    def make(parameters: list[nn.Parameter]) -> Any:
        rules = [
            torch.optim.Muon(parameters[:1], lr=0.05, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(parameters[1:], lr=0.05),
        ]
        return type("Both", (), {"step": lambda _: [rule.step() for rule in rules]})()

    close(ours(Muon(), 0.05)[0], theirs(make))


class NobodyAsks(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "somebody waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("config", [Sgd(), Lion(), Adafactor(), Came(), ScheduleFree(), ScheduleFree(rule="sgd")])
def test_a_step_waits_for_nothing(config: Optimizer) -> None:
    with NobodyAsks():
        parameters = [nn.Parameter(torch.ones(shape)) for shape in SHAPES]
        optimizer = optim.build(Optim(optimizer=config), FlatParameters({"unet": parameters}))
        for _ in range(3):
            optimizer.step({"unet": 0.1})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": ScheduleFree(), "schedule": Cosine()}, "constant rate"),
        ({"optimizer": ScheduleFree(), "ema": Ema()}, "average by itself"),
        ({"optimizer": Library(name="ScheduleFreeSGD"), "schedule": Cosine()}, "constant rate"),
        ({"optimizer": Prodigy(), "unet_learning_rate": 0.5}, "one rate for all parts"),
        ({"optimizer": Prodigy(), "learning_rate_scale": "sqrt"}, "for this batch size"),
        ({"optimizer": {"kind": "d-adaptation", "rule": "adan", "betas": [0.9, 0.99]}}, "has 3 betas, and 2 are given"),
        ({"optimizer": {"kind": "d-adaptation", "rule": "sgd", "betas": [0.9]}}, "has no betas"),
        ({"optimizer": {"kind": "d-adaptation", "rule": "lion", "bias_correction": True}}, "no bias_correction"),
    ],
)
def test_what_an_optimizer_does_not_go_with_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Optim(**settings)


def test_a_part_may_be_left_out_of_one_rate_and_a_warm_up_go_with_an_average() -> None:
    Optim(optimizer=Prodigy(), learning_rate=1.0, text_encoder_learning_rate=0.0)
    Optim(optimizer=ScheduleFree(), schedule=Constant(warmup=0.1))


@pytest.mark.parametrize(
    ("config", "code", "words"),
    [
        (Library(name="NAdamm"), "045", 'name = "NAdam"'),
        (Library(name="nadam"), "045", 'name = "NAdam"'),
        (Library(name="xyz"), "045", "one of A2Grad"),
        (Library(name="os.system"), "045", "none of the libraries"),
        (Library(name="NAdam", options={"weight_deca": 1.0}), "047", "weight_decay = …"),
        (Library(name="NAdam", options={"lr": 1.0}), "047", "optim.learning_rate"),
        (Library(name="NAdam", options={"betas": (2.0, 0.9)}), "047", "cannot be used"),
        (Library(name="Ranger21"), "047", 'needs the option "num_iterations"'),
        (Library(name="LBFGS"), "047", "closure"),
        (Library(name="DAdaptAdan"), "049", 'rule = "adan"'),
        (Library(name="Gravity"), "048", "does not resume to the bit"),
    ],
)
def test_an_optimizer_that_cannot_be_had_is_named_with_a_fix(config: Library, code: str, words: str) -> None:
    with pytest.raises(ConfigError) as found:
        named.check(config)
    assert found.value.problems[0].code == f"E-CFG-{code}"
    assert words in str(found.value)


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        named.check(Library(name="bitsandbytes.optim.Lion8bit"))


@pytest.mark.parametrize("name", ["NAdam", "torch.optim.Adamax", "SOAP", "pytorch_optimizer.Prodigy", "StableAdamW"])
def test_optimizers_that_keep_our_promises_pass(name: str) -> None:
    named.check(Library(name=name, options={"weight_decay": 0.1}))


def test_eight_bits_where_the_package_is_there() -> None:
    pytest.importorskip("bitsandbytes")
    named.check(Library(name="bitsandbytes.optim.AdamW8bit", options={"betas": (0.9, 0.99)}))
