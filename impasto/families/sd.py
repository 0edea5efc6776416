"""Stable Diffusion 1.x and 2.x: an AutoencoderKL, a CLIP text encoder and a U-Net."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from impasto.adapters.targets import Target
from impasto.data.batch import Conditioning
from impasto.families import loading, offload, t5_tokens, text
from impasto.families.card import ENCODERS, Card, Name, Part, numbers
from impasto.families.config import Model
from impasto.families.family import ImageEncoder
from impasto.families.lent import Lending, Read
from impasto.families.targets import sd_targets
from impasto.families.tiles import Compute, tiled
from impasto.objectives.process import Ddpm, Process

PADS: dict[Name, int | None] = {"sd1": None, "sd2": 0}
"""The token that fills a caption up; None: as the tokenizer says, which is its end mark."""


SPARING = 512
"""Pixels of a side of the tiles in which a picture is decoded that memory did not suffice for as a whole."""


@dataclass
class KlEncoder:
    """The AutoencoderKL in its own precision. In fp16 some of them overflow: what then is not finite is done again in
    fp32."""

    vae: Any
    device: torch.device
    tile: int | None = None
    """Pixels of a side of the tiles in which larger pictures are done; None: whole, unless memory does not suffice to
    decode one."""

    rescued: int = 0
    """How often fp32 was needed."""

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] in -1..1 -> mean and standard deviation, each [N, C, h, w], fp32, scaled for the denoiser."""
        mean, std = self._in_tiles(self._encoded, pixels, self.tile, unit=self._factor)
        scale, shift = self.vae.config.scaling_factor, self.vae.config.shift_factor or 0.0
        return (mean - shift) * scale, std * scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """[N, C, h, w] -> [N, 3, H, W] in 0..1."""
        scale, shift = self.vae.config.scaling_factor, self.vae.config.shift_factor or 0.0
        latents, tile = latents / scale + shift, self.tile and self.tile // self._factor
        try:
            (pixels,) = self._in_tiles(self._decoded, latents, tile, factor=self._factor)
        except torch.OutOfMemoryError:
            if self.tile is not None:
                raise
            (pixels,) = self._in_tiles(self._decoded, latents, SPARING // self._factor, factor=self._factor)
        return (pixels / 2 + 0.5).clamp(0, 1)

    @property
    def _factor(self) -> int:
        """Pixels of a side of one latent."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def _in_tiles(
        self, compute: Compute, x: Tensor, tile: int | None, *, unit: int = 1, factor: int = 1
    ) -> tuple[Tensor, ...]:
        if tile is None or max(x.shape[-2:]) <= tile:
            return self._finite(compute, x)
        return tiled(partial(self._finite, compute), x.to(self.device), tile=tile, unit=unit, factor=factor)

    def _encoded(self, pixels: Tensor) -> tuple[Tensor, ...]:
        found = self.vae.encode(pixels).latent_dist
        return found.mean.float(), found.std.float()

    def _decoded(self, latents: Tensor) -> tuple[Tensor, ...]:
        return (self.vae.decode(latents).sample.float(),)

    def _finite(self, compute: Compute, x: Tensor) -> tuple[Tensor, ...]:
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


@contextmanager
def image_encoder(lending: Lending, device: torch.device, tile: int | None) -> Iterator[ImageEncoder]:
    """The picture encoder, in memory for as long as the `with` lasts."""
    with lending.vae.use() as vae:
        yield KlEncoder(vae, device, tile)


def freeze(modules: Modules, model: Model) -> None:
    """Nothing of a base learns; with `model.gradient_checkpointing` its forward pass is computed twice."""
    for frozen in (modules.unet, *modules.encoders, modules.vae):
        frozen.requires_grad_(False).eval()
    if model.gradient_checkpointing:
        modules.unet.enable_gradient_checkpointing(offload.checkpoint if model.offload_checkpoints else None)
        for encoder in modules.encoders:
            _checkpoint(encoder)
            if not any(isinstance(each, nn.Dropout) and each.p for each in encoder.modules()):
                encoder.train()  # checkpointing asks for it; a CLIP text encoder has no dropout, T5 has


class StableDiffusion:
    """Stable Diffusion 1.x or 2.x with its frozen weights."""

    def __init__(self, card: Card, model: Model, modules: Modules, device: torch.device) -> None:
        self.card = card
        self.device = device
        self.process: Process = Ddpm.from_scheduler(card.scheduler, prediction=card.prediction, device=device)
        self.unet, self.text_encoder, self.tokenizer = modules.unet, modules.text, modules.tokenizers[0]
        self.lending, self._tile = modules.lending(), model.vae_tile
        self._model = model
        text.check(self.text_encoder, model.clip_skip)
        freeze(modules, model)

    def vae(self) -> AbstractContextManager[ImageEncoder]:
        """The picture encoder, in memory for as long as the `with` lasts."""
        return image_encoder(self.lending, self.device, self._tile)

    def tokenize(self, captions: Sequence[str]) -> Conditioning:
        """Captions -> {"ids": [N, windows, 77]}, with emphasis and mask if the settings ask for them."""
        return text.conditioning(self.tokenizer, captions, self._model, pad=PADS[self.card.family])

    def encode(self, cond: Conditioning) -> Conditioning:
        """{"ids"} -> {"states": [N, 75 * windows + 2, D]}, cut and with a mask without padding; states pass through."""
        if "states" in cond:
            return cond
        with self.lending.words():
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
    encoders: tuple[Any, ...]
    vae: Any
    tokenizers: tuple[Any, ...]
    numbers: tuple[int, ...] = (1, 2)
    """Which text encoders of their family they are."""

    read: Read | None = None
    """Reads a part anew where parts are in memory only while they are used; None: they stay."""

    def lending(self) -> Lending:
        """The parts, to be used."""
        names = (ENCODERS[number - 1] for number in self.numbers)
        return Lending(self.unet, dict(zip(names, self.encoders, strict=False)), self.vae, self.read)

    @property
    def text(self) -> Any:
        """The first text encoder, or the only one."""
        return self.encoders[0]

    @classmethod
    def load(cls, card: Card, dtype: torch.dtype, device: torch.device) -> Modules:
        """Read the parts of `card` from disk; the VAE stays in host memory until it is used."""
        return cls.of(card, loading.load(card, tuple(card.configs), dtype=dtype, device=device))

    @classmethod
    def of(cls, card: Card, parts: Mapping[Part, Any], read: Read | None = None) -> Modules:
        """The parts of `card` with its tokenizers."""
        encoders = tuple(parts[part] for part in card.encoders)
        tokenizers = tuple(_tokenizer(card, part) for part in card.encoders)
        return cls(parts["unet"], encoders, parts["vae"], tokenizers, numbers(card.encoders), read)


def _tokenizer(card: Card, part: Part) -> Any:
    if card.tokenizers is None:
        return text.own_t5_tokenizer() if part == "text_encoder_3" else text.own_tokenizer()
    from transformers import AutoTokenizer, CLIPTokenizer

    folder = card.folder(part).replace("text_encoder", "tokenizer")
    if part == "text_encoder_3":
        own = t5_tokens.folder_of(card)
        return AutoTokenizer.from_pretrained(str(own), local_files_only=True) if own else text.own_t5_tokenizer()
    return CLIPTokenizer.from_pretrained(str(card.tokenizers), subfolder=folder, local_files_only=True)


def _checkpoint(encoder: Any) -> None:
    """Turn on activation checkpointing, whose name transformers changed."""
    enable = getattr(encoder, "activation_checkpointing_enable", None) or encoder.gradient_checkpointing_enable
    enable()
