"""FLUX.1 dev and schnell: an AutoencoderKL of 16 channels, CLIP-L, T5, and a transformer over patches of 2 by 2."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor

from impasto.adapters.targets import Target
from impasto.data.batch import Conditioning
from impasto.families import text
from impasto.families.card import Card
from impasto.families.config import Model
from impasto.families.family import ImageEncoder
from impasto.families.sd import Modules, freeze, image_encoder
from impasto.families.targets import flux_targets
from impasto.objectives.process import Process, of_scheduler

T5_TOKENS = {True: 512, False: 256}
"""Tokens that T5 reads, by whether the model listens to a guidance: dev does, schnell does not."""

GUIDANCE = 1.0
"""What dev is told while it learns: the guidance at which its answer is one to a picture, not to a picture made more
like its caption (sd-scripts' documents recommend the same)."""


class Flux:
    """FLUX.1 with its frozen weights."""

    def __init__(self, card: Card, model: Model, modules: Modules, device: torch.device) -> None:
        self.card = card
        self.device = device
        self.process: Process = of_scheduler(card.scheduler, card.prediction, device)
        self.transformer = modules.unet
        self.clip, self.t5 = modules.encoders
        self._clip_tokenizer, self._t5_tokenizer = modules.tokenizers
        self._guided = bool(card.configs["unet"].get("guidance_embeds"))
        self.lending, self._tile = modules.lending(), model.vae_tile
        freeze(modules, checkpointing=model.gradient_checkpointing)

    def vae(self) -> AbstractContextManager[ImageEncoder]:
        """The picture encoder, in memory for as long as the `with` lasts."""
        return image_encoder(self.lending, self.device, self._tile)

    def tokenize(self, captions: Sequence[str]) -> Conditioning:
        """Captions -> {"ids" [N, 77] for CLIP, "ids_3" [N, 512 or 256] for T5}."""
        read = self._t5_tokenizer(
            list(captions), padding="max_length", max_length=T5_TOKENS[self._guided], truncation=True,
            return_tensors="pt",
        )  # fmt: skip
        return {"ids": text.tokenize(self._clip_tokenizer, captions, text.WINDOW)[:, 0], "ids_3": read.input_ids}

    def encode(self, cond: Conditioning) -> Conditioning:
        """Token ids -> {"states": [N, T, 4096] of T5, "pooled": [N, 768] of CLIP}; states pass through."""
        if "states" in cond:
            return cond
        with self.lending.words():
            with text.own_precision(self.clip):
                pooled = self.clip(cond["ids"]).pooler_output
            with text.own_precision(self.t5):
                states = self.t5(cond["ids_3"])[0]
        return {"states": text.for_denoiser(states), "pooled": text.for_denoiser(pooled)}

    def predict(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """Where the picture goes [N, 16, h, w], from noisy latents at timesteps `t` [N]."""
        said = self.encode(cond)
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        _, sigma = self.process.levels(t)
        answer: Tensor = self.transformer(
            F.pixel_unshuffle(x, 2).flatten(2).transpose(1, 2),  # [N, tokens, channel and place in the patch]
            said["states"],
            said["pooled"],
            sigma,
            _places(height, width, x.device),
            torch.zeros(said["states"].shape[1], 3, device=x.device),
            guidance=torch.full_like(sigma, GUIDANCE) if self._guided else None,
            return_dict=False,
        )[0]
        return F.pixel_shuffle(answer.transpose(1, 2).reshape(len(x), -1, height, width), 2)

    def targets(self) -> list[Target]:
        """Every layer an adapter may ride on."""
        return flux_targets(self.transformer, {1: self.clip, 3: self.t5})


def _places(height: int, width: int, device: torch.device) -> Tensor:
    """[height * width, 3]: nothing, row and column of each token."""
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], dim=2).flatten(0, 1).float().to(device)
