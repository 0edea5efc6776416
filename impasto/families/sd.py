"""Stable Diffusion 1.x and 2.x: an AutoencoderKL, a CLIP text encoder and a U-Net."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from impasto.adapters.targets import Target
from impasto.data.batch import Conditioning
from impasto.families import loading, text
from impasto.families.card import Card, Name, Part
from impasto.families.config import Model
from impasto.families.family import ImageEncoder
from impasto.families.targets import sd_targets
from impasto.objectives.process import Ddpm, Process

PADS: dict[Name, int | None] = {"sd1": None, "sd2": 0}
"""The token that fills a caption up; None: as the tokenizer says, which is its end mark."""


@dataclass(frozen=True)
class KlEncoder:
    """The AutoencoderKL, always in fp32: in fp16 some of them overflow."""

    vae: Any
    device: torch.device

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] in -1..1 -> mean and standard deviation, each [N, 4, h, w], scaled for the denoiser."""
        found = self.vae.encode(pixels.to(self.device, torch.float32)).latent_dist
        scale = self.vae.config.scaling_factor
        return found.mean * scale, found.std * scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """[N, 4, h, w] -> [N, 3, H, W] in 0..1."""
        pixels = self.vae.decode(latents.to(self.device, torch.float32) / self.vae.config.scaling_factor).sample
        shown: Tensor = (pixels / 2 + 0.5).clamp(0, 1)
        return shown


@contextmanager
def on_device(vae: Any, device: torch.device) -> Iterator[ImageEncoder]:
    """The picture encoder, on the device for as long as the `with` lasts."""
    vae.to(device)
    try:
        yield KlEncoder(vae, device)
    finally:
        vae.to("cpu")


def freeze(modules: Modules, *, checkpointing: bool) -> None:
    """Nothing of a base learns; with `checkpointing` its forward pass is computed twice."""
    for frozen in (modules.unet, *modules.encoders, modules.vae):
        frozen.requires_grad_(False).eval()
    if checkpointing:
        modules.unet.enable_gradient_checkpointing()
        for encoder in modules.encoders:
            _checkpoint(encoder)
            encoder.train()  # checkpointing asks for it; a CLIP text encoder has no dropout


class StableDiffusion:
    """Stable Diffusion 1.x or 2.x with its frozen weights."""

    def __init__(self, card: Card, model: Model, modules: Modules, device: torch.device) -> None:
        self.card = card
        self.device = device
        self.process: Process = Ddpm.from_scheduler(card.scheduler, prediction=card.prediction, device=device)
        self.unet, self.text_encoder, self.tokenizer = modules.unet, modules.text, modules.tokenizers[0]
        self._vae = modules.vae
        self._clip_skip, self._max_tokens = model.clip_skip, model.max_tokens
        freeze(modules, checkpointing=model.gradient_checkpointing)

    def vae(self) -> AbstractContextManager[ImageEncoder]:
        """The picture encoder, on the device for as long as the `with` lasts."""
        return on_device(self._vae, self.device)

    def tokenize(self, captions: Sequence[str]) -> Conditioning:
        """Captions -> {"ids": [N, windows, 77]}."""
        return {"ids": text.tokenize(self.tokenizer, captions, self._max_tokens, pad=PADS[self.card.family])}

    def encode(self, cond: Conditioning) -> Conditioning:
        """{"ids"} -> {"states": [N, 75 * windows + 2, D]}; states pass through."""
        if "states" in cond:
            return cond
        return {"states": text.encode(self.text_encoder, cond["ids"], self._clip_skip)}

    def predict(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The denoiser's answer [N, 4, h, w] to noisy latents at timesteps `t` [N]."""
        states = self.encode(cond)["states"]
        predicted: Tensor = self.unet(x, t, encoder_hidden_states=states, return_dict=False)[0]
        return predicted

    def targets(self) -> list[Target]:
        """Every linear and convolution layer an adapter may ride on."""
        return sd_targets(self.unet, self.text_encoder)


@dataclass(frozen=True)
class Modules:
    """The loaded parts of a base."""

    unet: Any
    encoders: tuple[Any, ...]
    vae: Any
    tokenizers: tuple[Any, ...]

    @property
    def text(self) -> Any:
        """The first text encoder, or the only one."""
        return self.encoders[0]

    @classmethod
    def load(cls, card: Card, dtype: torch.dtype, device: torch.device) -> Modules:
        """Read the parts of `card` from disk; the VAE stays in host memory until it is used."""
        from transformers.utils import logging

        logging.disable_progress_bar()  # a run has its own
        if card.original:
            found = loading.load(card, tuple(card.configs), dtype=dtype, device=device)
        else:
            found = _from_folder(card, dtype, device)
        encoders = tuple(found[part] for part in card.encoders)
        return cls(found["unet"], encoders, found["vae"], tuple(_tokenizer(card, part) for part in card.encoders))


def _from_folder(card: Card, dtype: torch.dtype, device: torch.device) -> dict[Part, Any]:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    def read(kind: Any, part: Part, **options: Any) -> Any:
        return kind.from_pretrained(
            str(card.path), subfolder=part, variant=card.variant(part), local_files_only=True, **options
        )

    found: dict[Part, Any] = {"unet": read(UNet2DConditionModel, "unet", torch_dtype=dtype).to(device)}
    for part, kind in zip(card.encoders, (CLIPTextModel, CLIPTextModelWithProjection), strict=False):
        found[part] = read(kind, part, dtype=dtype).to(device)
    if card.own_vae:
        return found | {"vae": read(AutoencoderKL, "vae", torch_dtype=torch.float32)}
    return found | loading.load(card, ("vae",), dtype=dtype, device=device)


def _tokenizer(card: Card, part: Part) -> Any:
    if card.tokenizers is None:
        return text.own_tokenizer()
    from transformers import CLIPTokenizer

    folder = part.replace("text_encoder", "tokenizer")
    return CLIPTokenizer.from_pretrained(str(card.tokenizers), subfolder=folder, local_files_only=True)


def _checkpoint(encoder: Any) -> None:
    """Turn on activation checkpointing, whose name transformers changed."""
    enable = getattr(encoder, "activation_checkpointing_enable", None) or encoder.gradient_checkpointing_enable
    enable()
