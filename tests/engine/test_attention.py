"""Attention computes by the kernel that is asked for, or the run says at once that it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from impasto.checks import check
from impasto.config import RunConfig
from impasto.engine import attention
from impasto.errors import DeviceError

CPU = torch.device("cpu")


class Called(TorchDispatchMode):
    """The operators that run, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def kernels() -> bool:
    """Whether an attention runs in one kernel."""
    x = torch.randn(1, 2, 16, 8)
    with Called() as called:
        F.scaled_dot_product_attention(x, x, x)
    return any("scaled_dot_product" in name for name in called.names)


def test_the_plain_formula_is_computed_where_it_is_asked_for_and_nowhere_after() -> None:
    assert kernels()
    with attention.chosen("math", CPU, torch.float32):
        assert not kernels()
    assert kernels()
    with attention.chosen("flash", CPU, torch.float32):
        assert kernels()


def test_a_kernel_that_the_device_lacks_is_refused() -> None:
    with pytest.raises(DeviceError) as refused, attention.chosen("cudnn", CPU, torch.float32):
        pass
    (problem,) = refused.value.problems
    assert (problem.code, problem.where) == ("E-DEV-003", "speed.attention")
    assert kernels()


def test_a_kernel_whose_package_is_missing_is_refused_with_the_command_that_gets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(__import__("sys").modules, "flash_attn", raising=False)
    problems = check(RunConfig.model_validate({"speed": {"attention": "flash-4"}}))
    (found,) = [each for each in problems if each.code == "E-CFG-046"]
    assert found.fix == 'pip install flash-attn-4, or attention = "auto"'
