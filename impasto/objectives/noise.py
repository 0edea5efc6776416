"""The noise an example is hidden in: keyed dice, one generator an example.

Every function gives row `i` the same numbers whatever the other rows are, to the last bit; where a row is reduced to
one number it is therefore reduced alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from impasto import dice


def gaussian(keys: Sequence[str], shape: Sequence[int], *, seed: int, purpose: str = "noise") -> Tensor:
    """Standard normal noise of `shape` [C, h, w] for each key, fp32 [N, C, h, w] on the host.

    Each example has a host generator of its own, so its noise depends on `seed`, its key and its shape alone: not on
    its neighbours, the batch size or the device. Noise for another `purpose` has nothing to do with it.
    """
    noise = torch.empty(len(keys), *shape)
    for row, key in zip(noise, keys, strict=True):
        torch.randn(*shape, generator=torch.Generator().manual_seed(dice.seed(purpose, seed, key)), out=row)
    return noise


def offset(
    noise: Tensor,
    latents: Tensor,
    keys: Sequence[str],
    seed: int,
    *,
    strength: float,
    random: bool = False,
    adaptive: float = 0.0,
) -> Tensor:
    """`noise` [N, C, h, w] with one normal number a channel added to all its places, times a strength.

    `random` rolls the strength in 0..strength for each example; `adaptive` adds that times the size of a channel's mean
    in `latents` [N, C, h, w], down to 0.
    """
    shift = gaussian(keys, (noise.shape[1], 1, 1), seed=seed, purpose="noise offset").to(noise.device)  # [N, C, 1, 1]
    amount = _amounts(strength, keys, seed, "noise offset strength", random=random).to(noise.device)  # [N, 1, 1, 1]
    if adaptive:
        means = torch.stack([each.mean((1, 2), keepdim=True) for each in latents.float()])  # [N, C, 1, 1]
        amount = (amount + adaptive * means.abs()).clamp_min(0)
    return noise + amount * shift


def pyramid(
    noise: Tensor, latents: Tensor, keys: Sequence[str], seed: int, *, iterations: int, discount: float
) -> Tensor:
    """`noise` [N, C, h, w] with coarser and coarser noise added, each example divided by its standard deviation."""
    grains = torch.stack([_grains(key, noise.shape[1:], seed, iterations, discount) for key in keys])
    return torch.stack([each / each.std() for each in noise + grains.to(noise.device)])


def perturbed(
    noise: Tensor, latents: Tensor, keys: Sequence[str], seed: int, *, gamma: float, random: bool = False
) -> Tensor:
    """`noise` [N, C, h, w] plus `gamma` times other noise (Ning et al. 2023).

    `random` rolls gamma in 0..gamma for each example.
    """
    more = gaussian(keys, noise.shape[1:], seed=seed, purpose="input perturbation").to(noise.device)
    return noise + _amounts(gamma, keys, seed, "input perturbation strength", random=random).to(noise.device) * more


def _grains(key: str, shape: Sequence[int], seed: int, iterations: int, discount: float) -> Tensor:
    """Coarse noise of `shape` [C, h, w], on the host: level i is discount^i of a grid 2^i to 4^i times as coarse, by
    dice, enlarged bilinearly. A grid of one place a side is the last. Level 0 is as fine as the noise itself."""
    channels, height, width = shape
    ratios = dice.generator("pyramid ratios", seed, key)
    normal = torch.Generator().manual_seed(dice.seed("pyramid", seed, key))
    total = torch.zeros(1, channels, height, width)
    for level in range(iterations):
        ratio = ratios.uniform(2, 4) ** level
        grid = max(1, int(height / ratio)), max(1, int(width / ratio))
        grain = torch.randn(1, channels, *grid, generator=normal)
        total += discount**level * interpolate(grain, (height, width), mode="bilinear")
        if 1 in grid:
            break
    return total[0]


def _amounts(most: float, keys: Sequence[str], seed: int, purpose: str, *, random: bool) -> Tensor:
    """How much each example gets, [N, 1, 1, 1] on the host: `most`, or by dice between 0 and it."""
    shares = [dice.generator(purpose, seed, key).random() if random else 1.0 for key in keys]
    return torch.tensor([most * share for share in shares]).view(-1, 1, 1, 1)
