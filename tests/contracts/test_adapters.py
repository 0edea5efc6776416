"""What every adapter kind promises, on every kind of layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from impasto.adapters import build
from impasto.adapters.adapter import Adapter, AdapterLayer
from impasto.adapters.config import Adapter as Config
from impasto.adapters.config import Boft, DyLora, Full, Glora, Ia3, Loha, Lokr, Lora, LoraFa, Oft, Ranked
from impasto.adapters.reading import from_file
from impasto.adapters.riders import Riders, Route
from impasto.adapters.targets import Layer, Norm, Target
from impasto.families.quantized import quantize
from impasto.optim.flat import FlatParameters

LAYERS = {
    "linear": lambda: nn.Linear(6, 20),
    "conv 1x1": lambda: nn.Conv2d(6, 20, 1),
    "conv 3x3": lambda: nn.Conv2d(6, 20, 3, stride=2, padding=1),
}
NORMS = {
    "group norm": lambda: _moved(nn.GroupNorm(3, 6)),
    "layer norm": lambda: _moved(nn.LayerNorm(6)),
    "layer norm without bias": lambda: _moved(nn.LayerNorm(6, bias=False)),
}
SIZE: dict[str, Any] = {"rank": 3, "alpha": 1.5, "conv_rank": 2, "conv_alpha": 4.0}
KINDS: dict[str, Config] = {
    "lora": Lora(**SIZE),
    "lora, rank-stabilized": Lora(**SIZE, rank_stabilized=True),
    "dora": Lora(**SIZE, decompose=True),
    "lora-fa": LoraFa(**SIZE),
    "dylora": DyLora(**SIZE),
    "loha": Loha(**SIZE),
    "loha, dora": Loha(**SIZE, decompose=True),
    "lokr": Lokr(rank=1, conv_rank=1, alpha=2.0, conv_alpha=2.0),
    "lokr, factor": Lokr(rank=1, conv_rank=1, factor=3),
    "lokr, both": Lokr(rank=1, conv_rank=1, alpha=2.0, conv_alpha=2.0, factor=4, decompose_both=True),
    "lokr, whole": Lokr(full_matrix=True, alpha=3.0),
    "lokr, dora": Lokr(rank=1, conv_rank=1, decompose=True),
    "glora": Glora(**SIZE),
    "full": Full(),
    "oft": Oft(block_size=4),
    "oft, rescaled": Oft(block_size=5, constraint=0.05, rescaled=True),
    "boft": Boft(block_size=4),
    "boft, rescaled": Boft(block_size=4, constraint=0.05, rescaled=True),
    "ia3, outputs": Ia3(),
    "ia3, inputs": Ia3(),
    "norms": Lora(train_norm=True),
}

PATHS = {"ia3, outputs": "attn1.to_k", "ia3, inputs": "ff.net.2"}
"""Where a kind rides, if it matters."""

CASES = [
    (kind, layer, dtype)
    for kind, config in KINDS.items()
    for layer in (NORMS if kind == "norms" else LAYERS)
    for dtype in (torch.float32, torch.bfloat16)
    if layer == "linear" or not isinstance(config, Ia3)
]
contract = pytest.mark.parametrize(
    ("kind", "layer", "dtype"), CASES, ids=[f"{kind}, {layer}, {str(dtype)[6:]}" for kind, layer, dtype in CASES]
)


def _moved(norm: nn.GroupNorm | nn.LayerNorm) -> nn.Module:
    """A norm with other numbers than ones and zeros."""
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return norm


def made(name: str) -> nn.Module:
    """A layer of the base, with the same numbers every time."""
    torch.manual_seed(0)
    found: nn.Module = (LAYERS | NORMS)[name]()
    return found


def mounted(kind: str | Config, layer: str, dtype: torch.dtype) -> tuple[nn.Module, Adapter, Riders]:
    base = made(layer).to(dtype).requires_grad_(False)
    path = PATHS.get(str(kind), "layer")
    target = Target("lora_unet_layer", path, "unet", "attention", base, default=True)
    adapter = build(KINDS[kind] if isinstance(kind, str) else kind, [target], seed=1)
    riders = Riders([target])
    riders.mount(adapter)
    return base, adapter, riders


def some_input(layer: str, dtype: torch.dtype) -> torch.Tensor:
    shape = (4, 5, 6) if layer.startswith(("linear", "layer")) else (4, 6, 8, 8)
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


def with_merged(name: str, layer: nn.Module, base: nn.Module) -> Any:
    assert isinstance(layer, AdapterLayer)
    merged: Any = made(name)
    with torch.no_grad():
        merged.weight.copy_(layer.weight(base))
        bias = layer.bias(base)
        assert (bias is None) == (merged.bias is None)
        if bias is not None:
            merged.bias.copy_(bias)
    return merged


@contract
def test_starts_as_identity(kind: str, layer: str, dtype: torch.dtype) -> None:
    base, adapter, riders = mounted(kind, layer, dtype)
    x = some_input(layer, dtype)
    assert torch.equal(run(base, adapter, riders, x), base(x))


@contract
def test_forward_equals_merged_weight(kind: str, layer: str, dtype: torch.dtype) -> None:
    base, adapter, riders = mounted(kind, layer, dtype)
    randomized(adapter)
    x = some_input(layer, dtype)
    ridden = run(base, adapter, riders, x)
    merged = with_merged(layer, adapter.layers["lora_unet_layer"], base)
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(ridden.float(), merged(x.float()), atol=tolerance, rtol=tolerance)


@contract
def test_gradient_reaches_every_parameter(kind: str, layer: str, dtype: torch.dtype) -> None:
    base, adapter, riders = mounted(kind, layer, dtype)
    randomized(adapter)
    run(base, adapter, riders, some_input(layer, dtype)).float().square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in adapter.parameters())
    assert all(parameter.grad is None for parameter in base.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in adapter.parameters())


@contract
def test_saves_and_loads(kind: str, layer: str, dtype: torch.dtype) -> None:
    base, adapter, riders = mounted(kind, layer, dtype)
    randomized(adapter)
    x = some_input(layer, dtype)
    before = run(base, adapter, riders, x)
    stored = load(save(adapter.tensors()))
    base, other, riders = mounted(kind, layer, dtype)
    other.load(stored)
    assert torch.equal(run(base, other, riders, x), before)


@contract
def test_a_file_is_read_without_its_settings(kind: str, layer: str, dtype: torch.dtype) -> None:
    base, adapter, _ = mounted(kind, layer, dtype)
    randomized(adapter)
    want = with_merged(layer, adapter.layers["lora_unet_layer"], base)
    held = {name.partition(".")[2]: value for name, value in load(save(adapter.tensors())).items()}
    assert isinstance(base, Layer | Norm)
    got = with_merged(layer, from_file(base, held), base)
    assert torch.equal(got.weight, want.weight)
    assert got.bias is want.bias is None or torch.equal(got.bias, want.bias)


@contract
def test_dismounting_leaves_the_plain_base(kind: str, layer: str, dtype: torch.dtype) -> None:
    base, adapter, riders = mounted(kind, layer, dtype)
    names = set(base.state_dict())
    riders.dismount(adapter)
    assert not base._forward_hooks
    assert set(base.state_dict()) == names


in_fp32 = pytest.mark.parametrize(("kind", "layer"), [case[:2] for case in CASES if case[2] == torch.float32])


@in_fp32
def test_rides_on_a_base_in_few_bits(kind: str, layer: str) -> None:
    base, adapter, riders = mounted(kind, layer, torch.float32)
    if layer in LAYERS:  # norms are never held in few bits
        quantize([base], "int8", torch.device("cpu"))
    randomized(adapter)
    x = some_input(layer, torch.float32).requires_grad_()
    ridden = run(base, adapter, riders, x)
    merged = with_merged(layer, adapter.layers["lora_unet_layer"], base)
    torch.testing.assert_close(ridden, merged(x), atol=1e-4, rtol=1e-4)
    ridden.square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in adapter.parameters())


@in_fp32
def test_can_be_held_in_bf16(kind: str, layer: str) -> None:
    base, adapter, riders = mounted(kind, layer, torch.bfloat16)
    flat = FlatParameters({group.name: held for group, held in adapter.groups().items()}, torch.bfloat16)
    randomized(adapter)
    x = some_input(layer, torch.bfloat16)
    ridden = run(base, adapter, riders, x)
    merged = with_merged(layer, adapter.layers["lora_unet_layer"], base)
    torch.testing.assert_close(ridden.float(), merged(x.float()), atol=0.1, rtol=0.1)
    ridden.float().square().sum().backward()
    flat.groups["unet"].check()
    assert all(parameter.dtype == torch.bfloat16 for parameter in adapter.parameters())
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in adapter.parameters())


DROPPING: list[tuple[type[Config], str]] = [
    (Lora, "dropout"), (Lora, "rank_dropout"), (Lora, "module_dropout"),
    (Loha, "rank_dropout"), (Lokr, "rank_dropout"), (Glora, "rank_dropout"),
    *((each, "module_dropout") for each in (Loha, Lokr, Glora, Full, Oft, Boft)),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "setting"), DROPPING, ids=[f"{cls.__name__}, {name}" for cls, name in DROPPING])
@pytest.mark.parametrize("layer", LAYERS)
def test_dropouts_are_a_function_of_the_dice(cls: type[Config], setting: str, layer: str) -> None:
    size = {"rank": 3, "alpha": 3.0, "conv_rank": 3, "conv_alpha": 3.0} if issubclass(cls, Ranked) else {}
    config = cls.model_validate({**size, setting: 0.5})
    base, adapter, riders = mounted(config, layer, torch.float32)
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
    _, adapter, _ = mounted(Lora(rank=8, alpha=0.0), "linear", torch.float32)
    assert float(adapter.tensors()["lora_unet_layer.alpha"]) == 8.0


def test_a_loaded_alpha_is_the_scale_that_acts() -> None:
    base, adapter, riders = mounted(Lora(rank=4, alpha=4.0), "linear", torch.float32)
    randomized(adapter)
    x = some_input("linear", torch.float32)
    full = run(base, adapter, riders, x) - base(x)
    adapter.load({**adapter.tensors(), "lora_unet_layer.alpha": torch.tensor(1.0)})
    torch.testing.assert_close(run(base, adapter, riders, x) - base(x), full / 4)
