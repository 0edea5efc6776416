"""What every adapter kind promises, on every kind of layer."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from impasto.adapters import build
from impasto.adapters.adapter import Adapter
from impasto.adapters.config import Lora
from impasto.adapters.riders import Riders, Route
from impasto.adapters.targets import Target

LAYERS = {
    "linear": lambda: nn.Linear(6, 10),
    "conv 1x1": lambda: nn.Conv2d(6, 10, 1),
    "conv 3x3": lambda: nn.Conv2d(6, 10, 3, stride=2, padding=1),
}
KINDS = {"lora": Lora(rank=3, alpha=1.5, conv_rank=2, conv_alpha=4.0)}

contract = pytest.mark.parametrize(
    ("layer", "config", "dtype"),
    [
        (layer, config, dtype)
        for layer in LAYERS
        for config in KINDS.values()
        for dtype in (torch.float32, torch.bfloat16)
    ],
    ids=[f"{kind}, {layer}, {dtype}" for layer in LAYERS for kind in KINDS for dtype in ("fp32", "bf16")],
)


def mounted(layer: str, config: Lora, dtype: torch.dtype) -> tuple[nn.Module, Adapter, Riders]:
    torch.manual_seed(0)
    base = LAYERS[layer]().to(dtype).requires_grad_(False)
    target = Target("lora_unet_layer", "layer", "unet", "attention", base, default=True)
    adapter = build(config, [target], seed=1)
    riders = Riders([target])
    riders.mount(adapter)
    return base, adapter, riders


def some_input(layer: str, dtype: torch.dtype) -> torch.Tensor:
    shape = (4, 5, 6) if layer == "linear" else (4, 6, 8, 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(dtype)


def run(base: nn.Module, adapter: Adapter, riders: Riders, x: torch.Tensor, dice: int | None = None) -> torch.Tensor:
    with (
        riders.routed([Route(adapter, 0, len(x), dice)]),
        torch.autocast("cpu", x.dtype, enabled=x.dtype != torch.float32),
    ):
        return base(x)


def randomized(adapter: Adapter) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


@contract
def test_starts_as_identity(layer: str, config: Lora, dtype: torch.dtype) -> None:
    base, adapter, riders = mounted(layer, config, dtype)
    x = some_input(layer, dtype)
    assert torch.equal(run(base, adapter, riders, x), base(x))


@contract
def test_forward_equals_merged_weight(layer: str, config: Lora, dtype: torch.dtype) -> None:
    base, adapter, riders = mounted(layer, config, dtype)
    randomized(adapter)
    x = some_input(layer, dtype)
    ridden = run(base, adapter, riders, x)
    merged = LAYERS[layer]()
    with torch.no_grad():
        merged.weight.copy_(adapter.layers["lora_unet_layer"].weight(base))
        merged.bias.copy_(base.bias)
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(ridden.float(), merged(x.float()), atol=tolerance, rtol=tolerance)


@contract
def test_gradient_reaches_every_parameter(layer: str, config: Lora, dtype: torch.dtype) -> None:
    base, adapter, riders = mounted(layer, config, dtype)
    randomized(adapter)
    run(base, adapter, riders, some_input(layer, dtype)).float().square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in adapter.parameters())
    assert all(parameter.grad is None for parameter in base.parameters())


@contract
def test_saves_and_loads(layer: str, config: Lora, dtype: torch.dtype) -> None:
    base, adapter, riders = mounted(layer, config, dtype)
    randomized(adapter)
    x = some_input(layer, dtype)
    before = run(base, adapter, riders, x)
    stored = load(save(adapter.tensors()))
    _, other, riders = mounted(layer, config, dtype)
    base, other, riders = mounted(layer, config, dtype)
    other.load(stored)
    assert torch.equal(run(base, other, riders, x), before)


@contract
def test_dismounting_leaves_the_plain_base(layer: str, config: Lora, dtype: torch.dtype) -> None:
    base, adapter, riders = mounted(layer, config, dtype)
    names = set(base.state_dict())
    riders.dismount(adapter)
    assert not base._forward_hooks
    assert set(base.state_dict()) == names


@pytest.mark.parametrize("setting", ["dropout", "rank_dropout", "module_dropout"])
@pytest.mark.parametrize("layer", LAYERS)
def test_dropouts_are_a_function_of_the_dice(setting: str, layer: str) -> None:
    config = Lora(rank=3, alpha=3.0, conv_rank=3, conv_alpha=3.0, **{setting: 0.5})
    base, adapter, riders = mounted(layer, config, torch.float32)
    randomized(adapter)
    x = some_input(layer, torch.float32)
    rolls = [run(base, adapter, riders, x, dice) for dice in range(8)]
    again = [run(base, adapter, riders, x, dice) for dice in range(8)]
    assert all(torch.equal(a, b) for a, b in zip(rolls, again, strict=True))
    assert any(not torch.equal(rolls[0], other) for other in rolls[1:])
    quiet = run(base, adapter, riders, x)
    if setting != "module_dropout":  # dropouts keep the mean
        many = torch.stack([run(base, adapter, riders, x, dice) for dice in range(400)]).mean(0)
        assert (many - quiet).abs().mean() < 0.35 * (quiet - base(x)).abs().mean()


def test_alpha_zero_means_scale_one() -> None:
    _, adapter, _ = mounted("linear", Lora(rank=8, alpha=0.0), torch.float32)
    assert float(adapter.tensors()["lora_unet_layer.alpha"]) == 8.0


def test_a_loaded_alpha_is_the_scale_that_acts() -> None:
    base, adapter, riders = mounted("linear", Lora(rank=4, alpha=4.0), torch.float32)
    randomized(adapter)
    x = some_input("linear", torch.float32)
    full = run(base, adapter, riders, x) - base(x)
    adapter.load({**adapter.tensors(), "lora_unet_layer.alpha": torch.tensor(1.0)})
    torch.testing.assert_close(run(base, adapter, riders, x) - base(x), full / 4)
