"""A matrix as its singular values and directions, and how many of them to keep."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """How many singular values of a layer are kept: at least one."""

    rank: int | None = None
    """At most so many; without `energy`, exactly so many as far as there are any."""

    energy: float | None = None
    """As few as hold this share of the sum of the squared singular values (of the squared Frobenius norm)."""

    def keep(self, values: Tensor) -> int:
        """The rank for a layer with these singular values, the largest first."""
        most = len(values) if self.rank is None else min(self.rank, len(values))
        if self.energy is None:
            return most
        sums = values.double().square().cumsum(0)
        needed = int(torch.searchsorted(sums, self.energy * sums[-1])) + 1
        return min(most, needed)


@dataclass(frozen=True)
class Product:
    """A matrix that is up @ down and is never built."""

    up: Tensor
    """[O, r], fp64."""

    down: Tensor
    """[r, N], fp64."""


@dataclass(frozen=True)
class Spectrum:
    """left @ diag(values) @ right, with columns and rows of length 1, the largest value first; fp64."""

    left: Tensor
    """[O, k]"""

    values: Tensor
    """[k]"""

    right: Tensor
    """[k, N]"""

    def energy(self, rank: int) -> tuple[float, float]:
        """The sum of the squares of the first `rank` values, and that of all."""
        squares = self.values.square()
        return float(squares[:rank].sum()), float(squares.sum())

    def factors(self, rank: int, scale: float) -> tuple[Tensor, Tensor]:
        """Two matrices [O, rank], [rank, N] of equal norm that make the best approximation, once times `scale`."""
        root = (self.values[:rank] / abs(scale)).sqrt()
        sign = 1.0 if scale > 0 else -1.0
        return sign * self.left[:, :rank] * root, root[:, None] * self.right[:rank]


def decompose(matrix: Product | Tensor) -> Spectrum:
    """The singular value decomposition of a matrix [O, N], or of a product without building it."""
    return _of_product(matrix) if isinstance(matrix, Product) else _of_matrix(matrix.double())


def _of_product(product: Product) -> Spectrum:
    """By the QR decompositions of both factors: what is left is as small as the rank."""
    q_up, r_up = torch.linalg.qr(product.up)
    q_down, r_down = torch.linalg.qr(product.down.T)
    left, values, right = torch.linalg.svd(r_up @ r_down.T, full_matrices=False)
    return Spectrum(q_up @ left, values, right @ q_down.T)


def _of_matrix(matrix: Tensor) -> Spectrum:
    """By the eigenvectors of the smaller of its two Gram matrices, many times faster than a full decomposition.

    In fp64 this finds directions down to 1e-8 of the largest value, which is what numbers in fp32 can tell.
    """
    if matrix.shape[0] > matrix.shape[1]:
        turned = _of_matrix(matrix.T)
        return Spectrum(turned.right.T, turned.values, turned.left.T)
    _, vectors = torch.linalg.eigh(matrix @ matrix.T)
    rows = vectors.T @ matrix  # [O, N]: what the matrix makes of each direction
    lengths = rows.norm(dim=1)
    values, order = lengths.sort(descending=True, stable=True)
    right = rows[order] / values.clamp_min(torch.finfo(torch.float64).tiny)[:, None]
    return Spectrum(vectors[:, order], values, right)
