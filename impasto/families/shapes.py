"""The layers of a base without its numbers: names, shapes and places, built on no device at all."""

from __future__ import annotations

import json
from typing import Any

import torch

from impasto.adapters.targets import Target
from impasto.families.detect import Card
from impasto.families.targets import sd_targets


def stable_diffusion(card: Card | None) -> list[Target]:
    """Every layer of a Stable Diffusion 1.x that an adapter may ride on; of the published one without a card."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    unet, text = _published() if card is None else (_settings(card, "unet"), _settings(card, "text_encoder"))
    with torch.device("meta"):
        return sd_targets(UNet2DConditionModel.from_config(unet), CLIPTextModel(CLIPTextConfig(**text)))


def _settings(card: Card, part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((card.folder / part / "config.json").read_text("utf-8"))
    return found


def _published() -> tuple[dict[str, Any], dict[str, Any]]:
    """What differs in Stable Diffusion 1.x from the libraries' own defaults."""
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    return {"sample_size": 64, "cross_attention_dim": 768}, text
