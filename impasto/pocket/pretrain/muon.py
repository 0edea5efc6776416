"""Muon (Jordan et al. 2024) for matrices and kernels, AdamW for the rest: more learnt from each picture."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed, nn

MOMENTUM = 0.95
RMS = 0.4
"""The root mean square of an update at rate 1: about twice AdamW's, whose learning rate can then be kept."""

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Jordan's coefficients: five rounds bring singular values from anywhere in (0, 1] to about 1."""


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal for the hidden layers; AdamW for vectors, embeddings and the first and last layer.

    Of processes that train together each makes a share of the matrices orthogonal; all take the same step.
    """

    def __init__(self, nets: nn.Module, rate: float, betas: tuple[float, float]) -> None:
        named = dict(nets.named_parameters())
        hidden = [p for name, p in named.items() if p.ndim >= 2 and not _outer(name)]
        held = {id(p) for p in hidden}
        rest = [p for p in named.values() if id(p) not in held]
        super().__init__([{"params": hidden, "muon": True}, {"params": rest, "muon": False}], {"lr": rate})
        self.betas = betas

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients."""
        assert closure is None
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if group["muon"]:
                self._orthogonal(params, group["lr"])
            else:
                self._adam(params, group["lr"])

    def _orthogonal(self, params: list[nn.Parameter], rate: float) -> None:
        wanted = []
        for p in params:
            assert p.grad is not None
            momentum = self._kept(p, "momentum")
            momentum.lerp_(p.grad, 1 - MOMENTUM)
            wanted.append(p.grad.lerp(momentum, MOMENTUM).flatten(1))
        for p, update in zip(params, _shared(wanted), strict=True):
            p.mul_(1 - rate * 0.01).add_(update.view_as(p), alpha=-rate * RMS * max(update.shape) ** 0.5)

    def _adam(self, params: list[nn.Parameter], rate: float) -> None:
        for p in params:
            assert p.grad is not None
            mean, square, steps = self._kept(p, "mean"), self._kept(p, "square"), self._kept(p, "steps", ())
            steps += 1
            mean.lerp_(p.grad, 1 - self.betas[0])
            square.lerp_(p.grad.square(), 1 - self.betas[1])
            root = (square / (1 - self.betas[1] ** steps)).sqrt_().add_(1e-8)
            p.sub_(rate * mean / (1 - self.betas[0] ** steps) / root)

    def _kept(self, p: nn.Parameter, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
        state: dict[str, Any] = self.state[p]
        if name not in state:
            state[name] = torch.zeros_like(p) if shape is None else torch.zeros(shape)
        kept: Tensor = state[name]
        return kept


def orthogonal(stack: Tensor) -> Tensor:
    """Matrices [K, M, N] with their singular values all brought to about 1 (Newton-Schulz, five rounds)."""
    a, b, c = QUINTIC
    tall = stack.shape[1] > stack.shape[2]
    x = (stack.mT if tall else stack).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    made: Tensor = (x.mT if tall else x).float()
    return made


def _outer(name: str) -> bool:
    return any(part in name for part in ("embedding.weight", "conv_in.", "conv_out."))


def _shared(matrices: list[Tensor]) -> list[Tensor]:
    """Every matrix made orthogonal, the work shared among the processes."""
    together = distributed.is_initialized()
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)
    found = [torch.zeros_like(matrix) for matrix in matrices]
    for shape in {tuple(matrix.shape): None for matrix in matrices}:
        numbers = [n for n, matrix in enumerate(matrices) if tuple(matrix.shape) == shape][rank::world]
        if numbers:
            for n, made in zip(numbers, orthogonal(torch.stack([matrices[n] for n in numbers])), strict=True):
                found[n] = made
    if together:
        flat = torch.cat([matrix.flatten() for matrix in found])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [matrix.numel() for matrix in found])
        found = [part.view_as(matrix) for part, matrix in zip(parts, found, strict=True)]
    return found
