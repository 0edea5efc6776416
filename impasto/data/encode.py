"""Pictures and captions as the base sees them, each encoded once and kept under the hash of what made it.

A recipe names everything an encoding depends on; another crop, encoder or precision is another recipe, so nothing here
ever has to be invalidated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from safetensors.torch import load, save
from torch import Tensor

from impasto.data import visiting
from impasto.data.batch import Conditioning
from impasto.data.buckets import Placement, Size
from impasto.data.plan import Micro
from impasto.data.recipes import FORMAT, Recipe


class Blobs(Protocol):
    """Where encodings are kept; `impasto.store.Store` is one."""

    def fetch(self, recipe: Recipe, make: Callable[[], bytes]) -> bytes:
        """What was kept under a recipe, or else made now and kept."""
        ...


def sizes(original: Size, placement: Placement, *, flip: bool) -> tuple[float, ...]:
    """How a picture was made (`sizes` in `Conditioning`), from its own width and height.

    The cut is told as it is; in a mirrored picture its left is what was the right.
    """
    left, top = placement.crop
    left = placement.excess[0] - left if flip else left
    made = (*original[::-1], top, left, placement.bucket.height, placement.bucket.width)
    return tuple(float(each) for each in made)


def shrunk(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask of pixels [H, W] as one of latents [1, h, w]: each place counts as its pixels do on average."""
    return torch.nn.functional.interpolate(mask[None, None], size=size, mode="area")[0]


def text_recipe(cond: Conditioning, *, encoder: str, clip_skip: int, precision: str, emphasis: str = "off") -> Recipe:
    """What an encoded caption depends on: its tokens, how much each counts and by which rule, how many are seen, the
    encoder's weights, the layer taken and the precision."""
    recipe = {
        "kind": "text",
        "format": FORMAT,
        **{name: value.tolist() for name, value in cond.items() if name != "mask"},
        "encoder": encoder,
        "clip_skip": clip_skip,
        "precision": precision,
    }
    if "emphasis" in cond:
        recipe["rule"] = emphasis
    if "mask" in cond:
        recipe["length"] = cond["mask"].sum(1).tolist()
    return recipe


def choices(
    micro: Micro, seed: int, *, chances: tuple[float, float, float], places: tuple[float, bool] | None
) -> dict[str, Tensor]:
    """Which text encoders are silent at each visit, and which places its picture is at; only what is asked for. Nothing
    falls by dice where it is only measured. `places`: the chance of being cut anywhere, and whether they are scaled."""
    told = {}
    if any(chances):
        chances = (0.0, 0.0, 0.0) if micro.measured else chances
        told["silent"] = torch.tensor([visiting.silent(chances, seed, key) for key in micro.keys]).float()
    if places is not None:
        anywhere, scaled = places
        chance = 0.0 if micro.measured else anywhere
        told["places"] = torch.tensor([visiting.places(chance, seed, key) for key in micro.keys])
        told |= {"scaled": torch.ones(len(micro.keys))} if scaled else {}
    return told


def kept(blobs: Blobs | None, recipe: Recipe, make: Callable[[], Conditioning]) -> dict[str, Tensor]:
    """The tensors of a recipe: from where they are kept, else made now and kept; without `blobs` always made now."""
    if blobs is None:
        return _on_host(make())
    return dict(load(blobs.fetch(recipe, lambda: save(_on_host(make())))))


def _on_host(tensors: Conditioning) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu").contiguous() for name, value in tensors.items()}


def draw_latents(mean: Tensor, std: Tensor, seed: int) -> Tensor:
    """One draw from the encoder's distribution: [C, h, w], another at each visit."""
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return mean + std * noise
