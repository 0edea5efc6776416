"""Stable Diffusion 3 and 3.5: an AutoencoderKL of 16 channels, up to three text encoders, and a transformer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from impasto.adapters.targets import Target
from impasto.data.batch import Conditioning
from impasto.families import places, sd3_text, text
from impasto.families.card import Card
from impasto.families.config import Model
from impasto.families.family import ImageEncoder
from impasto.families.sd import Modules, freeze, image_encoder
from impasto.families.sd3_text import CLIP_G, IDS, SEEN, T5, Widths, up_to_end
from impasto.families.targets import sd3_targets
from impasto.objectives.process import Process, of_scheduler


class StableDiffusion3:
    """Stable Diffusion 3 or 3.5 with its frozen weights."""

    def __init__(self, card: Card, model: Model, modules: Modules, device: torch.device) -> None:
        self.card = card
        self.device = device
        self.process: Process = of_scheduler(card.scheduler, card.prediction, device)
        self.transformer = modules.unet
        self.encoders = dict(zip(modules.numbers, modules.encoders, strict=True))
        self._tokenizers = dict(zip(modules.numbers, modules.tokenizers, strict=True))
        self.lending, self._tile = modules.lending(), model.vae_tile
        self._tokens = model.t5_tokens or card.t5_tokens
        self._widths = _widths(card, self._tokens)
        self._masked = model.text_encoder_mask
        freeze(modules, model)

    def vae(self) -> AbstractContextManager[ImageEncoder]:
        """The picture encoder, in memory for as long as the `with` lasts."""
        return image_encoder(self.lending, self.device, self._tile)

    def tokenize(self, captions: Sequence[str]) -> Conditioning:
        """Captions -> {"ids", "ids_2": [N, 77], "ids_3": [N, T]}, of the text encoders there are, and where
        the settings ask for masks, which of those are seen."""
        found = {}
        for number, tokenizer in self._tokenizers.items():
            if number == T5:
                ids = tokenizer(
                    list(captions), padding="max_length", max_length=self._tokens, truncation=True, return_tensors="pt"
                ).input_ids
            else:
                pad = 0 if number == CLIP_G else None
                ids = text.tokenize(tokenizer, captions, text.WINDOW, pad=pad)[:, 0]
            found[IDS[number]] = ids
            if self._masked in ("all", "t5" if number == T5 else "clip"):
                found[SEEN[number]] = up_to_end(ids, tokenizer.eos_token_id)
        return found

    def encode(self, cond: Conditioning) -> Conditioning:
        """Token ids -> {"states": [N, 77 + T, 4096], "pooled": [N, 2048]}; states pass through."""
        if "states" in cond:
            return cond
        with self.lending.words():
            return sd3_text.encode(self.encoders, cond, self._widths)

    def predict(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """Where the picture goes [N, 16, h, w], from noisy latents at timesteps `t` [N]."""
        said = self.encode(cond)
        if "silent" in cond:
            said = sd3_text.hushed(said, cond["silent"], self._widths)
        _, sigma = self.process.levels(t)
        with places.cut_at(self.transformer.pos_embed, cond):
            found: Tensor = self.transformer(x, said["states"], said["pooled"], 1000.0 * sigma, return_dict=False)[0]
        return found

    def targets(self) -> list[Target]:
        """Every layer an adapter may ride on."""
        return sd3_targets(self.transformer, self.encoders)


def _widths(card: Card, t5_tokens: int) -> Widths:
    """Of encoders that are missing, the published ones, so far as they fit into what the denoiser hears."""
    usual, pooled = Widths(), int(card.configs["unet"]["pooled_projection_dim"])
    own = {part: int(card.configs[part]["hidden_size"]) for part in card.encoders if part != "text_encoder_3"}
    first = own.get("text_encoder", pooled - own.get("text_encoder_2", usual.clip_g))
    return Widths(
        clip_l=first, clip_g=own.get("text_encoder_2", pooled - first),
        t5=int(card.configs["unet"]["joint_attention_dim"]), t5_tokens=t5_tokens,
    )  # fmt: skip
