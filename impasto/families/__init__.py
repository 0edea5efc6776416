"""Base models. This is the one place that matches on the family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from impasto.families.card import Name
from impasto.families.config import Model
from impasto.families.detect import Card

if TYPE_CHECKING:
    import torch

    from impasto.adapters.targets import Target
    from impasto.families.family import Family
    from impasto.families.parts import Finish
    from impasto.families.sd import Modules


def load(card: Card, model: Model, *, device: torch.device, dtype: torch.dtype) -> Family:
    """The base that `card` describes, frozen, on `device`, its denoiser in `dtype`, the rest as `model` says."""
    from impasto.families import parts

    return assemble(card, model, parts.load(card, model, dtype=dtype, device=device), device)


def lend(
    card: Card, model: Model, *, device: torch.device, dtype: torch.dtype, finish: Finish, on_host: bool = False
) -> Family:
    """The same, with each part in memory only while it is used; `finish` is called with the layers of each that is
    read. With `on_host` the denoiser is read to the host's memory, to be moved later."""
    from impasto.families import parts

    found = parts.lend(card, model, dtype=dtype, device=device, finish=finish, on_host=on_host)
    return assemble(card, model, found, device)


def assemble(card: Card, model: Model, modules: Modules, device: torch.device) -> Family:
    """The base of parts that are loaded already."""
    match card.family:
        case "sd1" | "sd2":
            from impasto.families.sd import StableDiffusion

            return StableDiffusion(card, model, modules, device)
        case "sdxl":
            from impasto.families.sdxl import StableDiffusionXl

            return StableDiffusionXl(card, model, modules, device)
        case "sd3":
            from impasto.families.sd3 import StableDiffusion3

            return StableDiffusion3(card, model, modules, device)
        case "flux":
            from impasto.families.flux import Flux

            return Flux(card, model, modules, device)


def layers(card: Card, modules: Modules) -> list[Target]:
    """Every layer of loaded parts that an adapter may ride on."""
    return _layers(card.family, modules)


def outline(card: Card | None) -> list[Target]:
    """The layers of the base that `card` describes, without their numbers; without a card, of Stable Diffusion 1.x."""
    from impasto.families import shapes

    return _layers(card.family if card else "sd1", shapes.modules(card))


def published(family: str | None) -> list[Target]:
    """The layers of a family as it was published, where one model stands for it: Stable Diffusion 1.x, 2.x and XL;
    for any other, those of 1.x."""
    from impasto.families import detect, shapes

    known: Name = "sdxl" if family == "sdxl" else "sd2" if family == "sd2" else "sd1"
    return _layers(known, shapes.of(detect.packaged(known)))


def _layers(family: Name, modules: Modules) -> list[Target]:
    from impasto.families import targets

    match family:
        case "sd1" | "sd2":
            return targets.sd_targets(modules.unet, modules.text)
        case "sdxl":
            return targets.sdxl_targets(modules.unet, modules.encoders)
        case "sd3":
            return targets.sd3_targets(modules.unet, dict(zip(modules.numbers, modules.encoders, strict=True)))
        case "flux":
            return targets.flux_targets(modules.unet, dict(zip(modules.numbers, modules.encoders, strict=True)))


def pipeline(card: Card, modules: Modules) -> Any:
    """diffusers' pipeline of loaded parts, whose loader opens adapters as users do."""
    from diffusers import (
        DDIMScheduler,
        FlowMatchEulerDiscreteScheduler,
        FluxPipeline,
        StableDiffusion3Pipeline,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
    )  # fmt: skip

    scheduler = DDIMScheduler(clip_sample=False, steps_offset=1)
    match card.family:
        case "sd1" | "sd2":
            return StableDiffusionPipeline(
                vae=modules.vae, text_encoder=modules.text, tokenizer=modules.tokenizers[0], unet=modules.unet,
                scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
            )  # fmt: skip
        case "sdxl":
            first, second = modules.encoders
            return StableDiffusionXLPipeline(
                vae=modules.vae, text_encoder=first, text_encoder_2=second, tokenizer=modules.tokenizers[0],
                tokenizer_2=modules.tokenizers[1], unet=modules.unet, scheduler=scheduler, add_watermarker=False,
            )  # fmt: skip
        case "sd3":
            encoders = dict(zip(modules.numbers, modules.encoders, strict=True))
            tokenizers = dict(zip(modules.numbers, modules.tokenizers, strict=True))
            return StableDiffusion3Pipeline(
                transformer=modules.unet, vae=modules.vae,
                scheduler=FlowMatchEulerDiscreteScheduler(shift=float(card.scheduler.get("shift", 1.0))),
                text_encoder=encoders.get(1), text_encoder_2=encoders.get(2), text_encoder_3=encoders.get(3),
                tokenizer=tokenizers.get(1), tokenizer_2=tokenizers.get(2), tokenizer_3=tokenizers.get(3),
            )  # fmt: skip
        case "flux":
            clip, t5 = modules.encoders
            return FluxPipeline(
                transformer=modules.unet, vae=modules.vae, text_encoder=clip, text_encoder_2=t5,
                scheduler=FlowMatchEulerDiscreteScheduler.from_config(dict(card.scheduler)),
                tokenizer=modules.tokenizers[0], tokenizer_2=modules.tokenizers[1],
            )  # fmt: skip
