"""What checkpointing remembers waits on the host, and what is computed is the same to the bit."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from pydantic import ValidationError
from torch import Tensor, nn

from impasto.families import offload, tiny
from impasto.families.config import Model
from tests.families.test_swap import loaded, trained

BASES: dict[str, Callable[[Path], Path]] = {
    "sdxl": tiny.stable_diffusion_xl, "sd3": tiny.stable_diffusion_3, "flux": tiny.flux,
}  # fmt: skip


@pytest.mark.parametrize("name", BASES)
def test_a_fleet_learns_the_same_to_the_bit(
    name: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = BASES[name](tmp_path_factory.mktemp(name) / "base")
    moved: list[torch.Size] = []
    back = offload._back

    def watched(packed: Tensor | offload.Packed) -> Tensor:
        if not isinstance(packed, Tensor):
            moved.append(packed[1].shape)
        return back(packed)

    monkeypatch.setattr(offload, "_back", watched)
    usual, _ = trained(loaded(base, gradient_checkpointing=True), 0)
    assert not moved
    away, _ = trained(loaded(base, gradient_checkpointing=True, offload_checkpoints=True), 0)
    assert moved
    for one, other in zip(usual, away, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))

    def forward(self, hidden: Tensor, told: Tensor) -> Tensor:
        return (hidden * self.weight).sin() + told


def usual(block: nn.Module, *told: Any) -> Any:
    return torch.utils.checkpoint.checkpoint(block.__call__, *told, use_reentrant=False)


@pytest.mark.parametrize(("how", "stays"), [(usual, True), (offload.checkpoint, False)])
def test_a_blocks_input_is_let_go_on_the_device(how: Callable[..., Tensor], stays: bool) -> None:
    begin, told = torch.randn(4, 8, requires_grad=True), torch.randn(4, 8)
    hidden = begin + 1
    kept = weakref.ref(hidden)
    found = how(Doubled(), hidden, told)
    del hidden
    assert (kept() is not None) == stays
    found.sum().backward()
    assert begin.grad is not None
    torch.testing.assert_close(begin.grad, (begin.detach() + 1).cos())


def test_rows_that_are_a_window_on_others_come_back_as_they_were() -> None:
    begin = torch.randn(8, 6, 4, requires_grad=True)
    block = nn.Linear(6, 3)
    (one,) = torch.autograd.grad(usual(block, begin.transpose(1, 2)).sin().sum(), begin)
    (other,) = torch.autograd.grad(offload.checkpoint(block, begin.transpose(1, 2)).sin().sum(), begin)
    assert torch.equal(one, other)


def test_without_checkpoints_there_is_nothing_to_move() -> None:
    with pytest.raises(ValidationError, match="offload_checkpoints moves what gradient_checkpointing remembers"):
        Model(offload_checkpoints=True)


def test_it_goes_with_blocks_that_wait(tmp_path: Path) -> None:
    base = tiny.flux(tmp_path / "base")
    usual, _ = trained(loaded(base, gradient_checkpointing=True), 0)
    both, _ = trained(loaded(base, gradient_checkpointing=True, offload_checkpoints=True), 2)
    for one, other in zip(usual, both, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
