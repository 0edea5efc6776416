"""Stable Diffusion XL: an AutoencoderKL, two CLIP text encoders and a U-Net that is told sizes too."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from impasto.adapters.targets import Target
from impasto.data.batch import Conditioning
from impasto.families import text
from impasto.families.card import Card
from impasto.families.config import Model
from impasto.families.family import ImageEncoder
from impasto.families.sd import Lent, Modules, freeze
from impasto.families.targets import sdxl_targets
from impasto.objectives.process import Ddpm, Process

PADS = (None, 0)
"""What fills up a caption for each text encoder; None: as the tokenizer says, which is its end mark."""

BEFORE_LAST = -2
"""The layer that is read of both text encoders, without the final norm."""


class StableDiffusionXl:
    """Stable Diffusion XL with its frozen weights."""

    def __init__(self, card: Card, model: Model, modules: Modules, device: torch.device) -> None:
        self.card = card
        self.device = device
        self.process: Process = Ddpm.from_scheduler(card.scheduler, prediction=card.prediction, device=device)
        self.unet, self.encoders, self._tokenizers = modules.unet, modules.encoders, modules.tokenizers
        self._vae, self._lent = modules.vae, Lent(modules.vae, device)
        self._max_tokens = model.max_tokens
        freeze(modules, checkpointing=model.gradient_checkpointing)

    def vae(self) -> AbstractContextManager[ImageEncoder]:
        """The picture encoder, on the device for as long as the `with` lasts."""
        return self._lent.use()

    def tokenize(self, captions: Sequence[str]) -> Conditioning:
        """Captions -> {"ids", "ids_2"}, each [N, windows, 77]."""
        first, second = (
            text.tokenize(tokenizer, captions, self._max_tokens, pad=pad)
            for tokenizer, pad in zip(self._tokenizers, PADS, strict=True)
        )
        return {"ids": first, "ids_2": second}

    def encode(self, cond: Conditioning) -> Conditioning:
        """{"ids", "ids_2"} -> {"states": [N, 75 * windows + 2, D + E], "pooled": [N, P]}; states pass through."""
        if "states" in cond:
            return cond
        first, second = self.encoders
        with text.own_precision(first):
            told = first(text.flat(cond["ids"]), output_hidden_states=True).hidden_states[BEFORE_LAST]
        with text.own_precision(second):
            other = second(text.flat(cond["ids_2"]), output_hidden_states=True)
        states = [
            text.joined(text.for_denoiser(told), cond["ids"]),
            text.joined(text.for_denoiser(other.hidden_states[BEFORE_LAST]), cond["ids_2"]),
        ]
        pooled = text.for_denoiser(other.text_embeds).reshape(*cond["ids_2"].shape[:2], -1)[:, 0]  # of the first window
        return {"states": torch.cat(states, dim=-1), "pooled": pooled}

    def predict(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The denoiser's answer [N, 4, h, w] to noisy latents at timesteps `t` [N]."""
        encoded = self.encode(cond)
        added: dict[str, Any] = {"text_embeds": encoded["pooled"], "time_ids": cond["sizes"]}
        predicted: Tensor = self.unet(
            x, t, encoder_hidden_states=encoded["states"], added_cond_kwargs=added, return_dict=False
        )[0]
        return predicted

    def targets(self) -> list[Target]:
        """Every linear and convolution layer an adapter may ride on."""
        return sdxl_targets(self.unet, self.encoders)
