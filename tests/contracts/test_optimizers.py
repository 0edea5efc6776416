"""What every optimizer kind promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from impasto import optim
from impasto.optim.config import (
    Adafactor,
    AdamW,
    Came,
    DAdaptation,
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

KINDS: dict[str, tuple[Optimizer, float]] = {
    "adamw": (AdamW(weight_decay=0.1), 0.02),
    "lion": (Lion(weight_decay=0.1), 0.01),
    "sgd": (Sgd(weight_decay=1e-4), 0.05),
    "sgd, plain": (Sgd(momentum=0.0), 0.2),
    "adafactor": (Adafactor(weight_decay=0.01), 0.05),
    "adafactor, momentum": (Adafactor(momentum=0.9, scale_parameter=False), 0.02),
    "adafactor, relative": (Adafactor(relative_step=True), 10.0),
    "prodigy": (Prodigy(weight_decay=0.01, bias_correction=True), 1.0),
    "prodigy, slowly": (Prodigy(growth_rate=1.5, safeguard_warmup=True, d0=1e-3), 1.0),
    "d-adaptation, adam": (DAdaptation(weight_decay=0.01), 1.0),
    "d-adaptation, adagrad": (DAdaptation(rule="adagrad"), 1.0),
    "d-adaptation, adam, corrected": (DAdaptation(betas=(0.8, 0.99), bias_correction=True, growth_rate=1.5), 1.0),
    "d-adaptation, adan": (DAdaptation(rule="adan", growth_rate=1.5), 1.0),
    "d-adaptation, adan-ip": (DAdaptation(rule="adan-ip", weight_decay=0.02), 1.0),
    "d-adaptation, lion": (DAdaptation(rule="lion"), 1.0),
    "d-adaptation, sgd": (DAdaptation(rule="sgd", growth_rate=2.0), 1.0),
    "schedule-free, adamw": (ScheduleFree(weight_decay=0.01), 0.05),
    "schedule-free, radam": (ScheduleFree(rule="radam"), 0.05),
    "schedule-free, sgd": (ScheduleFree(rule="sgd"), 0.5),
    "came": (Came(weight_decay=0.01), 0.02),
    "muon": (Muon(), 0.1),
    "library, with matrices on the side": (Library(name="SOAP", options={"precondition_frequency": 2}), 0.02),
    "library, torch's": (Library(name="NAdam", options={"momentum_decay": 0.01}), 0.02),
    "library, pytorch-optimizer's": (Library(name="pytorch_optimizer.ADOPT"), 0.02),
}
contract = pytest.mark.parametrize("kind", KINDS)


class Net:
    """Two parts, a matrix and a vector each, and a filter; the loss is how far they are from where they should be."""

    def __init__(self, kind: str, seed: int = 0) -> None:
        config, self.rate = KINDS[kind]
        generator = torch.Generator().manual_seed(seed)
        shapes = {"unet": [(6, 4), (5,), (3, 2, 3, 3)], "text_encoder": [(4, 6), (1,)]}
        self.parts = {
            part: [nn.Parameter(0.1 * torch.randn(shape, generator=generator)) for shape in sizes]
            for part, sizes in shapes.items()
        }
        self.goals = [torch.randn(each.shape, generator=generator) for each in self.all()]
        self.flat = FlatParameters(self.parts)
        self.optimizer = optim.build(Optim(optimizer=config, clip=5.0), self.flat)

    def all(self) -> list[nn.Parameter]:
        return [each for part in self.parts.values() for each in part]

    def loss(self, step: int) -> Tensor:
        noise = torch.Generator().manual_seed(step)
        apart = [
            each - goal + 0.1 * torch.randn(goal.shape, generator=noise)
            for each, goal in zip(self.all(), self.goals, strict=True)
        ]
        return torch.stack([each.square().sum() for each in apart]).sum() / 10

    def distance(self) -> float:
        with torch.no_grad(), self.optimizer.shown():
            gaps = [(each - goal).square().sum() for each, goal in zip(self.all(), self.goals, strict=True)]
        return float(torch.stack(gaps).sum())

    def train(self, steps: Any, broken: float | None = None) -> Any:
        for step in steps:
            self.loss(step).backward()
            if broken is not None:
                self.all()[0].grad[0, 0] = broken  # type: ignore[index]
            update = self.optimizer.step({"unet": self.rate, "text_encoder": self.rate})
            self.optimizer.zero_grad()
        return update

    def everything(self) -> dict[str, Tensor]:
        weights = {f"weight.{at}": each.detach().clone() for at, each in enumerate(self.all())}
        return {**weights, **self.optimizer.state()}

    def restore(self, everything: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for at, each in enumerate(self.all()):
                each.copy_(everything[f"weight.{at}"])
        kept = load(save(everything))  # as through a checkpoint
        self.optimizer.restore({name: value for name, value in kept.items() if not name.startswith("weight.")})


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@contract
def test_it_learns(kind: str) -> None:
    net = Net(kind)
    before = net.distance()
    net.train(range(200))
    assert net.distance() < before / 3


@contract
@pytest.mark.parametrize("at", [0, 1, 7])
def test_a_resumed_training_has_the_same_bits(kind: str, at: int) -> None:
    whole, first, second = Net(kind), Net(kind), Net(kind, seed=1)
    second.goals = first.goals
    whole.train(range(12))
    if at:
        first.train(range(at))
    second.restore(first.everything())
    second.train(range(at, 12))
    same(whole.everything(), second.everything())


@contract
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("at", [0, 3])
def test_a_step_that_is_not_finite_changes_nothing(kind: str, broken: float, at: int) -> None:
    net, clean = Net(kind), Net(kind)
    if at:
        net.train(range(at))
        clean.train(range(at))
    before = net.everything()
    assert net.train([at], broken=broken).skipped == 1
    after = net.everything()
    assert after.pop("skipped") == before.pop("skipped") + 1
    same(before, after)
    net.train(range(at, at + 3), broken=broken)  # nor do several
    net.train(range(at, at + 3))
    clean.train(range(at, at + 3))
    same({**clean.everything(), "skipped": torch.tensor(4)}, net.everything())


@contract
def test_members_do_not_touch_each_other(kind: str) -> None:
    alone, together, other = Net(kind), Net(kind), Net(kind, seed=1)
    alone.train(range(6))
    for step in range(6):
        together.train([step])
        other.train([step], broken=float("nan") if step == 3 else None)
    same(alone.everything(), together.everything())


@contract
def test_showing_the_weights_changes_no_bit_of_them(kind: str) -> None:
    net, other = Net(kind), Net(kind)
    for step in range(9):
        before = net.everything()
        with net.optimizer.shown():
            shown = [each.detach().clone() for each in net.all()]
        same(before, net.everything())
        net.train([step])
    other.train(range(9))
    same(net.everything(), other.everything())
    average = any(not torch.equal(one, before[f"weight.{at}"]) for at, one in enumerate(shown))
    assert average == kind.startswith("schedule-free")


@contract
def test_another_optimizers_state_is_refused_before_anything_changes(kind: str) -> None:
    net = Net(kind)
    net.train(range(2))
    before = net.everything()
    state = net.optimizer.state()
    for wrong in ({**state, "vae.step": torch.zeros(())}, dict(list(state.items())[1:])):
        with pytest.raises(ValueError, match="another's"):
            net.optimizer.restore(wrong)
    same(before, net.everything())


@contract
def test_everything_it_remembers_is_a_tensor_on_the_host(kind: str) -> None:
    net = Net(kind)
    net.train(range(2))
    for name, value in net.optimizer.state().items():
        assert isinstance(value, Tensor), name
        assert value.device.type == "cpu"
