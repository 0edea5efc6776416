"""Denoisers of published sizes with random numbers and nothing around them, made where they compute: for measuring.

No file is written or read, so that a card can be measured in minutes. What surrounds the denoiser in a base is there as
an outline only, and captions are random numbers in the shape that text encoders would give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from impasto import families
from impasto.data.batch import Conditioning
from impasto.families import detect, full_size, loading, medium
from impasto.families.card import ENCODERS, Name, numbers
from impasto.families.config import Model
from impasto.families.family import Family
from impasto.families.sd import Modules


@dataclass(frozen=True)
class Size:
    """A denoiser to measure with."""

    family: Name
    side: int
    """Pixels a side."""

    measures: Mapping[str, Any]
    """What differs from the published one, or from diffusers' defaults where those are the published ones."""

    words: int = 77
    """Tokens of a caption."""


_FLUX = {"_class_name": "FluxTransformer2DModel", "guidance_embeds": True}
_SMALL = {
    "block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4, "cross_attention_dim": 16,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": 2,
}  # fmt: skip
_SMALL_FLUX = {
    "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": 24, "pooled_projection_dim": 16, "axes_dims_rope": [4, 6, 6],
}  # fmt: skip
SIZES: Mapping[str, Size] = {
    "sd15": Size("sd1", 512, {}),
    "sdxl": Size("sdxl", 1024, {}),
    "flux-512": Size("flux", 512, _FLUX, 512),
    "flux-1024": Size("flux", 1024, _FLUX, 512),
    "medium": Size("sd1", 256, {"block_out_channels": medium.CHANNELS, "cross_attention_dim": medium.WORDS}),
    "small": Size("sd1", 64, _SMALL),
    "small-flux": Size("flux", 64, {**_FLUX, **_SMALL_FLUX}, 16),
}
"""Published sizes, one for a processor, and two small ones for trying what measures."""


PUBLISHED = ("sd15", "sdxl", "flux-512", "flux-1024")


def made(size: Size, *, device: torch.device, dtype: torch.dtype) -> Family:
    """A base whose denoiser is there, frozen, on `device`."""
    packaged = detect.packaged(size.family)
    measures = _measures(size)
    usual = full_size.published(size.family, Path("bare"))
    flow = measures.get("_class_name") == _FLUX["_class_name"]
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler"} if flow else usual.scheduler
    card = replace(
        usual, resolution=size.side, prediction="flow" if flow else "epsilon", scheduler=scheduler,
        configs={**usual.configs, "unet": measures},
    )  # fmt: skip
    there = [part for part in ENCODERS if part in packaged]
    denoiser = _filled(outline(size), device, dtype)
    encoders = tuple(loading.build(part, packaged[part]) for part in there)
    vae = loading.build("vae", packaged["vae"])
    modules = Modules(denoiser, encoders, vae, (None,) * len(there), numbers(there))
    return families.assemble(card, Model(), modules, device)


def outline(size: Size) -> Any:
    """The denoiser without its numbers."""
    return loading.build("unet", _measures(size))


def plain(size: Size, *, device: torch.device, dtype: torch.dtype) -> Any:
    """The same denoiser as diffusers has it."""
    return _filled(loading.as_made("unet", _measures(size)), device, dtype).requires_grad_(False)


def answer(denoiser: Any, x: Tensor, t: Tensor, said: Conditioning) -> Tensor:
    """What diffusers' own denoiser says to noisy latents [N, C, h, w] at timesteps `t` [N], as its documentation calls
    it. A transformer of patches is asked about patches, and answers in them."""
    if hasattr(denoiser, "x_embedder"):
        rows, height, width = len(x), x.shape[-2] // 2, x.shape[-1] // 2
        patches = nn.functional.pixel_unshuffle(x, 2).flatten(2).transpose(1, 2)
        found = denoiser(
            hidden_states=patches, timestep=t / 1000, guidance=torch.ones(rows, device=x.device),
            pooled_projections=said["pooled"], encoder_hidden_states=said["states"],
            txt_ids=torch.zeros(said["states"].shape[1], 3, device=x.device),
            img_ids=torch.zeros(height * width, 3, device=x.device), return_dict=False,
        )[0]  # fmt: skip
        back: Tensor = nn.functional.pixel_shuffle(found.transpose(1, 2).reshape(rows, -1, height, width), 2)
        return back
    added = {"text_embeds": said["pooled"], "time_ids": said["sizes"]} if "pooled" in said else None
    predicted: Tensor = denoiser(
        x, t, encoder_hidden_states=said["states"], added_cond_kwargs=added, return_dict=False
    )[0]  # fmt: skip
    return predicted


def said(size: Size, rows: int, device: torch.device, dtype: torch.dtype) -> Conditioning:
    """Captions as text encoders would have them, of random numbers."""
    measures = _measures(size)
    dice = torch.Generator(device).manual_seed(rows)
    width = measures.get("cross_attention_dim") or measures.get("joint_attention_dim", 4096)
    if size.family == "flux":
        pooled = measures.get("pooled_projection_dim", 768)
    else:
        pooled = measures.get("projection_class_embeddings_input_dim", 0)
        pooled -= 6 * measures.get("addition_time_embed_dim", 0)
    found = {"states": torch.randn(rows, size.words, width, generator=dice, device=device).to(dtype)}
    if pooled > 0:
        found["pooled"] = torch.randn(rows, pooled, generator=dice, device=device).to(dtype)
    side = float(size.side)
    told = torch.tensor([[side, side, 0.0, 0.0, side, side]], device=device)
    return {**found, "sizes": told.repeat(rows, 1)}


def latents(size: Size, rows: int, device: torch.device) -> Tensor:
    """[N, C, h, w] of random numbers."""
    channels = 16 if size.family == "flux" else 4
    dice = torch.Generator(device).manual_seed(rows)
    return torch.randn(rows, channels, size.side // 8, size.side // 8, generator=dice, device=device)


def _measures(size: Size) -> dict[str, Any]:
    own = dict(size.measures)
    return own if "_class_name" in own else {**detect.packaged(size.family)["unet"], **own}


@torch.no_grad()
def _filled(module: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A module without numbers gets those that layers begin with: their inputs' variance is kept."""
    nn.Module.to(module, dtype)
    assert not list(module.buffers()), "what is no parameter would have no numbers"
    found = module.to_empty(device=device)
    dice = torch.Generator(device).manual_seed(0)
    for name, each in found.named_parameters():
        if each.ndim == 1:
            each.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            each.normal_(0.0, each[0].numel() ** -0.5, generator=dice)
    return found.eval()
