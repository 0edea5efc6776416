"""Products in 8 bits are the plain ones to within the rounding of e4m3, both ways, and only where a step is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from impasto.checks import check
from impasto.config import RunConfig
from impasto.errors import DeviceError
from impasto.families import eight_products
from impasto.families.quantized import QuantizedLinear, quantize
from impasto.weights import file
from tests.engine import forks
from tests.engine.test_validate import config, pictures, told, train

assert pictures  # a fixture

CPU = torch.device("cpu")
ROUNDING = 0.04
"""Two factors with three bits behind the point, each off by 2.6 % in the mean."""


def layer(inputs: int = 64, outputs: int = 48) -> QuantizedLinear:
    torch.manual_seed(0)
    made = nn.Linear(inputs, outputs)
    with torch.no_grad():
        made.weight[3] *= 100.0  # outputs of very different size have scales of their own
    quantize([made], "fp8", CPU)
    assert isinstance(made, QuantizedLinear)
    return made


def off(found: Tensor, wanted: Tensor) -> float:
    return float(((found - wanted).norm() / wanted.norm()).detach())


def test_both_ways_are_the_plain_products_to_rounding() -> None:
    plain, fast = layer(), layer()
    assert eight_products.use(fast, CPU) == 1
    x = torch.randn(2, 5, 64) * torch.tensor([1e-3, 1.0, 1e3, 0.0, 5.0]).view(
        1, 5, 1
    )  # tokens have scales of their own
    one, other = (x.clone().requires_grad_() for _ in range(2))
    y, z = plain(one), fast(other)
    for token in (0, 1, 2, 4):
        assert 0 < off(z[:, token], y[:, token]) < ROUNDING
    torch.testing.assert_close(z[:, 3], y[:, 3])  # nothing but the bias
    upstream = torch.randn_like(y)
    y.backward(upstream)
    z.backward(upstream)
    assert one.grad is not None
    assert other.grad is not None
    assert 0 < off(other.grad, one.grad) < ROUNDING


def test_what_is_no_step_of_a_training_is_computed_as_ever() -> None:
    plain, fast = layer(), layer()
    eight_products.use(fast, CPU)
    x = torch.randn(3, 64)
    with torch.no_grad():
        assert torch.equal(fast(x), plain(x))
    assert not torch.equal(fast(x), plain(x))


def test_layers_of_other_sides_or_other_bits_stay_plain() -> None:
    rest = nn.Linear(64, 32)
    quantize([rest], "int8", CPU)
    found = nn.Sequential(layer(60, 48), layer(64, 50), rest, nn.Linear(64, 64), layer())
    assert eight_products.use(found, CPU) == 1


def test_a_device_without_such_products_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object, **__: object) -> Tensor:
        raise RuntimeError("torch._scaled_mm is only supported on CUDA devices with compute capability >= 9.0 or 8.9")

    monkeypatch.setattr(torch, "_scaled_mm", lacking)
    with pytest.raises(DeviceError, match=r"E-DEV-004 speed\.products: cpu does not multiply in 8 bits"):
        eight_products.use(layer(), CPU)


def test_it_needs_a_base_that_is_held_so() -> None:
    found = check(RunConfig.model_validate({"speed": {"products": "fp8"}}))
    assert "E-CFG-178" in [each.code for each in found]


def test_a_run_learns_nearly_the_same_and_goes_on_to_the_bit(tiny_base: Path, pictures: Path) -> None:
    held = {"path": str(tiny_base), "quantize": "fp8"}

    def sections(products: str, **more: object) -> dict[str, object]:
        return {"model": held, "speed": {"products": products}, "optim": {"learning_rate": 1e-3}, **more}

    (plain,) = train(config(tiny_base, pictures, "plain", **sections("plain")))
    (fast,) = train(config(tiny_base, pictures, "fast", **sections("fp8")))
    a, b = (
        torch.cat([value.flatten() for name, value in sorted(file.load(run.final)[0].items()) if "lora_up" in name])
        for run in (plain, fast)
    )
    assert not torch.equal(a, b)
    assert torch.cosine_similarity(a, b, dim=0) > 0.9
    assert told(fast)[-1].losses.keys() == told(plain)[-1].losses.keys()
    for level, loss in told(fast)[-1].losses.items():
        assert loss == pytest.approx(told(plain)[-1].losses[level], rel=0.01)
    train(config(tiny_base, pictures, "parts", **sections("fp8", train={"steps": 2})))
    (parts,) = train(config(tiny_base, pictures, "parts", **sections("fp8")))
    assert forks.same(file.load(parts.final)[0], file.load(fast.final)[0])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_it_goes_with_checkpointing_swapped_blocks_and_a_proof(
    tiny_base: Path, pictures: Path, checkpointing: bool
) -> None:
    held = {"path": str(tiny_base), "quantize": "fp8", "gradient_checkpointing": checkpointing, "blocks_to_swap": 1}
    (run,) = train(
        config(
            tiny_base, pictures, model=held, speed={"products": "fp8"}, train={"steps": 2},
            save={"precision": "fp32", "proof": "final"},
        )
    )  # fmt: skip
    assert run.final.is_file()
