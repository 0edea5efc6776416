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
from impasto.families.sd import Modules, freeze, image_encoder
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
        self.lending, self._tile = modules.lending(), model.vae_tile
        self._model = model
        freeze(modules, model)

    def vae(self) -> AbstractContextManager[ImageEncoder]:
        """The picture encoder, in memory for as long as the `with` lasts."""
        return image_encoder(self.lending, self.device, self._tile)

    def tokenize(self, captions: Sequence[str]) -> Conditioning:
        """Captions -> {"ids", "ids_2"}, each [N, windows, 77], with emphasis and mask if the settings ask for them.

        Both tokenizers cut a caption into the same tokens, so what holds for the first holds for the second.
        """
        first, second = (
            text.conditioning(tokenizer, captions, self._model, pad=pad)
            for tokenizer, pad in zip(self._tokenizers, PADS, strict=True)
        )
        return {**first, "ids_2": second["ids"]}

    def encode(self, cond: Conditioning) -> Conditioning:
        """{"ids", "ids_2"} -> {"states": [N, 75 * windows + 2, D + E], "pooled": [N, P]}, cut and with a mask without
        padding; states pass through.

        Emphasis multiplies the states of both encoders, each by itself; the pooled text is left alone.
        """
        if "states" in cond:
            return cond
        first, second = self.encoders
        with self.lending.words():
            with text.own_precision(first):
                told = first(text.flat(cond["ids"]), output_hidden_states=True).hidden_states[BEFORE_LAST]
            with text.own_precision(second):
                other = second(text.flat(cond["ids_2"]), output_hidden_states=True)
        states = (
            text.joined(text.for_denoiser(told), cond["ids"]),
            text.joined(text.for_denoiser(other.hidden_states[BEFORE_LAST]), cond["ids_2"]),
        )
        one, two = (text.shaped(each, cond, self._model.emphasis) for each in states)
        pooled = text.for_denoiser(other.text_embeds).reshape(*cond["ids_2"].shape[:2], -1)[:, 0]  # of the first window
        return {**one, "states": torch.cat([one["states"], two["states"]], dim=-1), "pooled": pooled}

    def predict(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The denoiser's answer [N, 4, h, w] to noisy latents at timesteps `t` [N]."""
        encoded = self.encode(cond)
        added: dict[str, Any] = {"text_embeds": encoded["pooled"], "time_ids": cond["sizes"]}
        predicted: Tensor = self.unet(
            x, t, encoder_hidden_states=encoded["states"], encoder_attention_mask=encoded.get("mask"),
            added_cond_kwargs=added, return_dict=False,
        )[0]  # fmt: skip
        return predicted

    def targets(self) -> list[Target]:
        """Every linear and convolution layer an adapter may ride on."""
        return sdxl_targets(self.unet, self.encoders)
