"""What training needs to know of an architecture. Nobody asks which one it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor

from impasto.adapters.targets import Target
from impasto.data.batch import Conditioning
from impasto.families.lent import Lending
from impasto.objectives.process import Process


class ImageEncoder(Protocol):
    """Turns pixels into the latent distribution, and latents into pixels."""

    rescued: int
    """How often its own precision gave no finite numbers, so that it was done again in fp32."""

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] in -1..1 -> mean and standard deviation, each [N, C, h, w], scaled for the denoiser."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """[N, C, h, w] -> [N, 3, H, W] in 0..1."""
        ...


class Family(Protocol):
    """One architecture with its frozen weights."""

    process: Process
    device: torch.device
    lending: Lending
    """Its parts. What `predict` computes with must be in memory then; `vae` and `encode` see to it themselves."""

    def vae(self) -> AbstractContextManager[ImageEncoder]:
        """The picture encoder, loaded for as long as the `with` lasts."""
        ...

    def tokenize(self, captions: Sequence[str]) -> Conditioning:
        """Captions -> token ids, dim 0 the caption. Needs no weights."""
        ...

    def encode(self, cond: Conditioning) -> Conditioning:
        """Token ids -> what `predict` wants; already encoded text passes through."""
        ...

    def predict(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The denoiser's prediction [N, C, h, w] for noisy latents `x` [N, C, h, w] at timesteps `t` [N]."""
        ...

    def targets(self) -> Iterable[Target]:
        """Every layer an adapter may ride on."""
        ...
