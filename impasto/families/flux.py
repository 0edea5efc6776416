"""FLUX.1 dev and schnell: an AutoencoderKL of 16 channels, CLIP-L, T5, and a transformer over patches of 2 by 2."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from impasto.adapters.targets import Target
from impasto.data.batch import Conditioning
from impasto.families import flux_shape, text
from impasto.families.card import Card
from impasto.families.config import Model
from impasto.families.family import ImageEncoder
from impasto.families.sd import Modules, freeze, image_encoder
from impasto.families.sd3_text import IDS, SEEN, T5, up_to_end
from impasto.families.targets import flux_targets
from impasto.objectives.process import Process, of_scheduler


class Flux:
    """FLUX.1 with its frozen weights."""

    def __init__(self, card: Card, model: Model, modules: Modules, device: torch.device) -> None:
        self.card = card
        self.device = device
        self.process: Process = of_scheduler(card.scheduler, card.prediction, device)
        self.transformer = modules.unet
        self.clip, self.t5 = modules.encoders
        self._clip_tokenizer, self._t5_tokenizer = modules.tokenizers
        self._guidance = model.guidance if card.guided else None
        self._tokens = model.t5_tokens or card.t5_tokens
        self._masked = model.text_encoder_mask == "t5"
        self.lending, self._tile = modules.lending(), model.vae_tile
        freeze(modules, model)

    def vae(self) -> AbstractContextManager[ImageEncoder]:
        """The picture encoder, in memory for as long as the `with` lasts."""
        return image_encoder(self.lending, self.device, self._tile)

    def tokenize(self, captions: Sequence[str]) -> Conditioning:
        """Captions -> {"ids" [N, 77] for CLIP, "ids_3" [N, T] for T5}, and where the settings ask for a mask, which of
        the latter are seen."""
        ids = self._t5_tokenizer(
            list(captions), padding="max_length", max_length=self._tokens, truncation=True, return_tensors="pt"
        ).input_ids
        found = {"ids": text.tokenize(self._clip_tokenizer, captions, text.WINDOW)[:, 0], IDS[T5]: ids}
        if self._masked:
            found[SEEN[T5]] = up_to_end(ids, self._t5_tokenizer.eos_token_id)
        return found

    def encode(self, cond: Conditioning) -> Conditioning:
        """Token ids -> {"states": [N, T, 4096] of T5, "pooled": [N, 768] of CLIP}, with a mask also "seen" [N, T];
        states pass through."""
        if "states" in cond:
            return cond
        with self.lending.words():
            with text.own_precision(self.clip):
                pooled = self.clip(cond["ids"]).pooler_output
            with text.own_precision(self.t5):
                states = self.t5(cond[IDS[T5]], attention_mask=cond.get(SEEN[T5]))[0]
        seen = {"seen": cond[SEEN[T5]]} if SEEN[T5] in cond else {}
        return {"states": text.for_denoiser(states), "pooled": text.for_denoiser(pooled), **seen}

    def predict(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """Where the picture goes [N, 16, h, w], from noisy latents at timesteps `t` [N]. "guidance" [N] in `cond` is
        told in place of that of the settings."""
        said = self.encode(cond)
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        _, sigma = self.process.levels(t)
        answer = flux_shape.answer(
            self.transformer,
            F.pixel_unshuffle(x, 2).flatten(2).transpose(1, 2),  # [N, tokens, channel and place in the patch]
            said["states"],
            said["pooled"],
            [sigma, *self._told(cond, sigma)],
            _places(height, width, x.device),
            _attended(said, height * width),
        )
        return F.pixel_shuffle(answer.transpose(1, 2).reshape(len(x), -1, height, width), 2)

    def targets(self) -> list[Target]:
        """Every layer an adapter may ride on."""
        return flux_targets(self.transformer, {1: self.clip, 3: self.t5})

    def _told(self, cond: Conditioning, sigma: Tensor) -> list[Tensor]:
        if self._guidance is None:
            return []
        return [cond["guidance"].to(sigma) if "guidance" in cond else torch.full_like(sigma, self._guidance)]


def _attended(said: Conditioning, tokens: int) -> dict[str, Any] | None:
    """Which words and picture's tokens are attended to, [N, 1, 1, T + L]; None: all of them."""
    if "seen" not in said:
        return None
    seen = said["seen"].bool()
    return {"attention_mask": torch.cat([seen, seen.new_ones(len(seen), tokens)], dim=1)[:, None, None]}


def _places(height: int, width: int, device: torch.device) -> Tensor:
    """[height * width, 3]: nothing, row and column of each token."""
    sides = (torch.arange(side, device=device) for side in (height, width))
    row, column = torch.meshgrid(*sides, indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], dim=2).flatten(0, 1).float()
