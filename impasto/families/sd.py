"""Stable Diffusion 1.x: an AutoencoderKL, a CLIP text encoder and a U-Net, in diffusers' folder layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from impasto.adapters.targets import Target
from impasto.data.batch import Conditioning
from impasto.families import sound, text
from impasto.families.config import Model
from impasto.families.detect import Card
from impasto.families.family import ImageEncoder
from impasto.families.targets import sd_targets
from impasto.objectives.process import Ddpm, Process


@dataclass
class KlEncoder:
    """The AutoencoderKL in its own precision. In fp16 some of them overflow: what then is not finite is done again in
    fp32."""

    vae: Any
    device: torch.device
    rescued: int = 0
    """How often that was needed."""

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] in -1..1 -> mean and standard deviation, each [N, 4, h, w], fp32, scaled for the denoiser."""
        mean, std = self._finite(self._encoded, pixels)
        scale = self.vae.config.scaling_factor
        return mean * scale, std * scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """[N, 4, h, w] -> [N, 3, H, W] in 0..1."""
        (pixels,) = self._finite(self._decoded, latents / self.vae.config.scaling_factor)
        return (pixels / 2 + 0.5).clamp(0, 1)

    def _encoded(self, pixels: Tensor) -> tuple[Tensor, ...]:
        found = self.vae.encode(pixels).latent_dist
        return found.mean.float(), found.std.float()

    def _decoded(self, latents: Tensor) -> tuple[Tensor, ...]:
        return (self.vae.decode(latents).sample.float(),)

    def _finite(self, compute: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor) -> tuple[Tensor, ...]:
        dtype: torch.dtype = self.vae.dtype
        with torch.autocast(self.device.type, enabled=False):
            found = compute(x.to(self.device, dtype))
            if dtype == torch.float32 or all(bool(each.isfinite().all()) for each in found):
                return found
            self.rescued += 1
            nn.Module.to(self.vae, torch.float32)
            try:
                return compute(x.to(self.device, torch.float32))
            finally:
                nn.Module.to(self.vae, dtype)


class StableDiffusion:
    """Stable Diffusion 1.x with its frozen weights."""

    def __init__(self, card: Card, model: Model, modules: Modules, device: torch.device) -> None:
        self.card = card
        self.device = device
        self.process: Process = Ddpm.from_scheduler(card.scheduler, prediction=card.prediction, device=device)
        self.unet, self.text_encoder, self.tokenizer, self._vae = (
            modules.unet,
            modules.text,
            modules.tokens,
            modules.vae,
        )
        self._vae_turn, self._vae_users = Lock(), 0
        self._model = model
        text.check(self.text_encoder, model.clip_skip)
        for frozen in (self.unet, self.text_encoder, self._vae):
            frozen.requires_grad_(False).eval()
        if model.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
            _checkpoint(self.text_encoder)
            self.text_encoder.train()  # checkpointing asks for it; a CLIP text encoder has no dropout

    @contextmanager
    def vae(self) -> Iterator[ImageEncoder]:
        """The picture encoder, on the device until the last `with` that asked for it ends: a preview may be drawn
        while pictures are encoded in another thread."""
        with self._vae_turn:
            self._vae_users += 1
            self._vae.to(self.device)
        try:
            yield KlEncoder(self._vae, self.device)
        finally:
            with self._vae_turn:
                self._vae_users -= 1
                if not self._vae_users:
                    self._vae.to("cpu")

    def tokenize(self, captions: Sequence[str]) -> Conditioning:
        """Captions -> {"ids": [N, windows, 77]}, with emphasis and mask if the settings ask for them."""
        return text.conditioning(self.tokenizer, captions, self._model)

    def encode(self, cond: Conditioning) -> Conditioning:
        """{"ids"} -> {"states": [N, 75 * windows + 2, D]}, cut and with a mask without padding; states pass through."""
        if "states" in cond:
            return cond
        states = text.encode(self.text_encoder, cond["ids"], self._model.clip_skip)
        return text.shaped(states, cond, self._model.emphasis)

    def predict(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The denoiser's answer [N, 4, h, w] to noisy latents at timesteps `t` [N]."""
        said = self.encode(cond)
        predicted: Tensor = self.unet(
            x, t, encoder_hidden_states=said["states"], encoder_attention_mask=said.get("mask"), return_dict=False
        )[0]
        return predicted

    def targets(self) -> list[Target]:
        """Every linear and convolution layer an adapter may ride on."""
        return sd_targets(self.unet, self.text_encoder)


@dataclass(frozen=True)
class Modules:
    """The loaded parts of a base."""

    unet: Any
    text: Any
    vae: Any
    tokens: Any

    @classmethod
    def load(cls, card: Card, dtype: torch.dtype, device: torch.device) -> Modules:
        """Read the parts of `card` from disk; the VAE stays in host memory until it is used."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # a run has its own
        unet = sound.load(card, "unet", UNet2DConditionModel, torch_dtype=dtype)
        encoder = sound.load(card, "text_encoder", CLIPTextModel, dtype=dtype)
        vae = sound.load(card, "vae", AutoencoderKL, torch_dtype=torch.float32)
        tokens = CLIPTokenizer.from_pretrained(str(card.folder), subfolder="tokenizer", local_files_only=True)
        return cls(_on(unet, device), _on(encoder, device), vae, tokens)


def _on(module: Any, device: torch.device) -> nn.Module:
    moved: nn.Module = module.to(device)
    return moved


def _checkpoint(encoder: Any) -> None:
    """Turn on activation checkpointing, whose name transformers changed."""
    enable = getattr(encoder, "activation_checkpointing_enable", None) or encoder.gradient_checkpointing_enable
    enable()
