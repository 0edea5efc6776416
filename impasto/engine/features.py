"""Image features to compare pictures by: of an encoder the user names, or of a plain one that is always there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from impasto.errors import ModelFileError, Problem

Features = NDArray[np.float64]
"""[N, F], each row of length 1."""

SIDE, CELLS, TURNS, COLOURS = 64, 8, 8, 4
"""Of the plain features: pixels of a side, cells of a side, directions of an edge, steps of each colour."""

GRAIN = 0.02
"""Steps of brightness from pixel to pixel that are no edge: the grain of a picture that was compressed or drawn."""

_BATCH = 16


@dataclass(frozen=True)
class Encoder:
    """Turns pictures into features, and words too if it can."""

    name: str
    pictures: Callable[[Sequence[Image.Image]], Features]
    words: Callable[[Sequence[str]], Features] | None = None


def encoder(place: str | None, device: torch.device) -> Encoder:
    """The encoder in the folder or of the hub id `place` (CLIP, SigLIP, DINO and others that transformers opens), or
    without one, form and colour.

    Raises ModelFileError if it cannot be opened.
    """
    if place is None:
        return Encoder("form and colour", lambda pictures: unit(np.stack([plain(each) for each in pictures])))
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    try:
        model = AutoModel.from_pretrained(place, use_safetensors=True, trust_remote_code=False).eval().to(device)
        ready = AutoImageProcessor.from_pretrained(place, trust_remote_code=False)
        reads = hasattr(model, "get_text_features")
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False) if reads else None
    except (OSError, ValueError, KeyError) as error:
        what = f"it is no image encoder that can be opened: {str(error).splitlines()[0]}"
        fix = "a folder or a hub id of CLIP, SigLIP or DINO with .safetensors weights; or leave --encoder out"
        raise ModelFileError(Problem("E-SCO-001", what, place, fix)) from None
    pictures = _Pictures(model, ready, device)
    return Encoder(Path(place).name, pictures, _Words(model, tokenizer, device) if reads else None)


def plain(picture: Image.Image) -> NDArray[np.float64]:
    """Form and colour of a picture as numbers [F], of length 1 each: edges by place and direction (as in Dalal and
    Triggs, "Histograms of oriented gradients", 2005), and how much of which colour is in each quarter."""
    pixels = np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), dtype=np.float64) / 255
    form, colour = _edges(pixels.mean(axis=2)), _colours(pixels)
    found: NDArray[np.float64] = np.concatenate([unit(form[None])[0], unit(colour[None])[0]]) / np.sqrt(2)
    return found


def unit(rows: NDArray[np.floating]) -> Features:
    """Each row at length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Features = np.asarray(rows / np.where(lengths > 0, lengths, 1.0), dtype=np.float64)
    return found


def _edges(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """[CELLS * CELLS * TURNS]; the square root keeps one hard edge from being everything."""
    down, across = np.gradient(grey)
    strength, turn = np.maximum(np.hypot(down, across) - GRAIN, 0.0), np.arctan2(down, across) % np.pi
    place = turn / np.pi * TURNS
    below = np.floor(place).astype(int)
    rows, columns = np.indices(grey.shape) // (SIDE // CELLS)
    found = np.zeros((CELLS, CELLS, TURNS))
    for at, share in ((below, 1 - (place - below)), (below + 1, place - below)):  # both neighbours, round the circle
        np.add.at(found, (rows, columns, at % TURNS), strength * share)
    flat: NDArray[np.float64] = np.sqrt(found).ravel()
    return flat


def _colours(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """[4 * COLOURS^3]."""
    at = np.minimum((pixels * COLOURS).astype(int), COLOURS - 1)
    which = (at[..., 0] * COLOURS + at[..., 1]) * COLOURS + at[..., 2]
    rows, columns = np.indices(which.shape) // (SIDE // 2)
    found = np.zeros((4, COLOURS**3))
    np.add.at(found, (rows * 2 + columns, which), 1.0)
    flat: NDArray[np.float64] = np.sqrt(found).ravel()
    return flat


@dataclass(frozen=True)
class _Pictures:
    model: Any
    ready: Any
    device: torch.device

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Image.Image]) -> Features:
        rows = []
        for at in range(0, len(pictures), _BATCH):
            some = [each.convert("RGB") for each in pictures[at : at + _BATCH]]
            pixels = self.ready(images=some, return_tensors="pt")["pixel_values"].to(self.device)
            if hasattr(self.model, "get_image_features"):
                found = self.model.get_image_features(pixel_values=pixels)
            else:
                found = self.model(pixel_values=pixels)
            rows.append(_row(found).float().cpu().numpy())
        return unit(np.concatenate(rows))


@dataclass(frozen=True)
class _Words:
    model: Any
    tokenizer: Any
    device: torch.device

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Features:
        read = self.tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt").to(self.device)
        known = {name: read[name] for name in ("input_ids", "attention_mask") if name in read}
        return unit(_row(self.model.get_text_features(**known)).float().cpu().numpy())


def _row(found: Any) -> torch.Tensor:
    """[N, F] of whatever a model answers with."""
    if isinstance(found, torch.Tensor):
        return found
    pooled = getattr(found, "pooler_output", None)
    tensor: torch.Tensor = found.last_hidden_state[:, 0] if pooled is None else pooled
    return tensor
