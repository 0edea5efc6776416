"""Blocks that wait in the host's memory compute as those that are always there, and hold nothing while they wait."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from impasto import adapters, families
from impasto.adapters.config import Lora
from impasto.adapters.riders import Riders, Route
from impasto.errors import ConfigError
from impasto.families import detect, parts, tiny
from impasto.families.config import Model
from impasto.families.family import Family
from impasto.families.quantized import QuantizedLinear
from impasto.families.swap import PLACES, Swap, chain, check, spread
from tests.engine import forks

CPU = torch.device("cpu")
BASES: dict[str, tuple[Callable[[Path], Path], int]] = {
    "sdxl": (tiny.stable_diffusion_xl, 1),
    "sd3": (tiny.stable_diffusion_3, 1),
    "flux": (tiny.flux, 2),
}


def loaded(base: Path, **model: Any) -> Family:
    held = Model(path=str(base), **model)
    found = families.load(detect.look(held), held, device=CPU, dtype=torch.float32)
    denoiser = (
        found.lending.denoiser.module
    )  # read from a file it may lie at odd places, where products round otherwise
    denoiser.load_state_dict({name: value.clone() for name, value in denoiser.state_dict().items()}, assign=True)
    return found


def trained(family: Family, count: int) -> tuple[list[dict[str, Tensor]], list[int]]:
    """A fleet of two after two steps with a picture drawn in between; and how many of the blocks that wait were there
    whenever a block began to compute."""
    targets = [each for each in family.targets() if each.part == "unet"]
    fleet = [adapters.build(Lora(rank=2, decompose=seed == 1), targets, seed=seed) for seed in (0, 1)]
    dice = torch.Generator().manual_seed(3)
    for each in (weight for adapter in fleet for weight in adapter.parameters()):
        each.data.add_(torch.randn(each.shape, generator=dice) * 0.1)
    there: list[int] = []
    if count:
        family.lending.let_blocks_wait(count, CPU)
        watch(family, there)
    riders = Riders(targets)
    for adapter in fleet:
        riders.mount(adapter)
    with torch.no_grad():
        cond = {**family.encode(family.tokenize(["a", "b", "c"])), "sizes": torch.ones(3, 6)}
    channels = family.lending.vae.module.config.latent_channels
    x, t = torch.randn(3, channels, 8, 8, generator=dice), torch.tensor([100, 500, 900])
    for _ in range(2):
        with torch.no_grad(), riders.routed([Route(fleet[0], 0, 3)]):
            drawn = family.predict(x, t, cond)
        with riders.routed([Route(fleet[0], 0, 1), Route(fleet[1], 1, 3)]):
            (family.predict(x, t, cond) - drawn - 1).square().sum().backward()
        for weight in (weight for adapter in fleet for weight in adapter.parameters()):
            assert weight.grad is not None
            weight.data.sub_(0.01 * weight.grad)
            weight.grad = None
    return [{name: value.detach().clone() for name, value in each.tensors().items()} for each in fleet], there


def watch(family: Family, there: list[int]) -> None:
    swap = family.lending.swap
    assert swap is not None
    assert not any(each.here for each in swap.waiting)

    def look(block: nn.Module, _: object) -> None:
        held = [*block.parameters(), *block.buffers()]
        assert all(each.untyped_storage().nbytes() for each in held), "a block computes without its numbers"
        there.append(sum(each.here for each in swap.waiting))

    for block in chain(family.lending.denoiser.module):
        block.register_forward_pre_hook(look)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["remembered", "computed twice"])
@pytest.mark.parametrize("name", BASES)
def test_a_fleet_learns_the_same_to_the_bit(tmp_path: Path, name: str, checkpointing: bool) -> None:
    make, count = BASES[name]
    base = make(tmp_path / "base")
    plain, _ = trained(loaded(base, gradient_checkpointing=checkpointing), 0)
    swapped, there = trained(loaded(base, gradient_checkpointing=checkpointing), count)
    assert forks.same(plain[0], swapped[0])
    assert forks.same(plain[1], swapped[1])
    assert max(there) == PLACES, "one computes and one is on its way"


def test_blocks_in_few_bits_wait_as_well(tmp_path: Path) -> None:
    base = tiny.flux(tmp_path / "base")
    plain, _ = trained(loaded(base, quantize="nf4"), 0)
    family = loaded(base, quantize="nf4")
    swapped, _ = trained(family, 2)
    assert forks.same(plain[0], swapped[0])
    assert any(isinstance(each, QuantizedLinear) for each in family.lending.denoiser.module.modules())


def test_what_waits_takes_no_memory_on_the_device(tmp_path: Path) -> None:
    denoiser = loaded(tiny.flux(tmp_path / "base")).lending.denoiser.module
    blocks = chain(denoiser)
    swap = Swap(denoiser, len(blocks) - PLACES, CPU)
    assert len(swap.waiting) == len(blocks)
    for block in blocks:
        for each in (*block.parameters(), *block.buffers()):
            assert each.untyped_storage().nbytes() == 0


def test_blocks_that_wait_are_spread_evenly() -> None:
    assert spread(8, 4) == [1, 3, 5, 7]
    assert spread(5, 5) == [0, 1, 2, 3, 4]
    assert all(len(spread(57, turns)) == turns for turns in range(58))


def test_more_blocks_than_there_are_cannot_wait(tmp_path: Path) -> None:
    denoiser = loaded(tiny.flux(tmp_path / "base")).lending.denoiser.module
    check(denoiser, 2)
    with pytest.raises(ConfigError, match=r"E-CFG-148.* 2 at a time"):
        check(denoiser, 3)


def test_the_base_of_a_proof_is_in_the_same_memory(tmp_path: Path) -> None:
    model = Model(path=str(tiny.flux(tmp_path / "base")), quantize="int8")
    card = detect.look(model)
    family = families.load(card, model, device=CPU, dtype=torch.float32)
    lending, twin = family.lending, parts.twin(card, family.lending)
    pairs = [(lending.denoiser.module, twin.unet), (lending.vae.module, twin.vae)]
    pairs += [(lent.module, other) for lent, other in zip(lending.encoders, twin.encoders, strict=True)]
    for first, second in pairs:
        assert first is not second
        ours, theirs = ([*each.parameters(), *each.buffers()] for each in (first, second))
        assert [each.data_ptr() for each in ours] == [each.data_ptr() for each in theirs]
