"""Where the parts of a picture are, as Stable Diffusion 3 is told: places from a square table, cut out of its middle.

The table reaches farther than any picture. Cut elsewhere, a picture is learnt at places that the middle never uses, as
Stable Diffusion 3.5 Medium was made. Or scaled: a picture of fewer pixels than the base was made for spreads over the
places of a whole one, where the middle alone would make it look like a detail of one.

    table index of part i of n:  centre + (i - (n - 1) / 2) * spacing
    spacing = sqrt(parts of the base's own size / parts of the picture), or 1
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def cut_at(embed: Any, cond: Mapping[str, Tensor]) -> Iterator[None]:
    """Let diffusers' PatchEmbed give each row the places that `cond` says. `places` [N, 2]: how far from the top and
    from the left they are cut, in 0..1 of what is left over, negative in the middle; `scaled` [N], if they are. Without
    both, as usual."""
    if "places" not in cond:
        yield
        return
    embed.cropped_pos_embed = lambda height, width: found(embed, cond["places"], height, width, scaled="scaled" in cond)
    try:
        yield
    finally:
        del embed.cropped_pos_embed


def found(embed: Any, places: Tensor, height: int, width: int, *, scaled: bool) -> Tensor:
    """[N, L, D], for latents of this height and width."""
    rows, columns, most = height // embed.patch_size, width // embed.patch_size, embed.pos_embed_max_size
    spacing = (embed.base_size**2 / (rows * columns)) ** 0.5 if scaled else 1.0
    down = _indices(rows, most, places[:, 0].float(), spacing)
    across = _indices(columns, most, places[:, 1].float(), spacing)
    table = embed.pos_embed[0]
    if spacing == 1.0:
        picked: Tensor = table[(down.long()[:, :, None] * most + across.long()[:, None]).flatten(1)]
        return picked
    half, unit = table.shape[1] // 2, embed.base_size / most / embed.interpolation_scale
    first, second = _waves(across * unit, half), _waves(down * unit, half)  # as in the table: first across, then down
    both = [first[:, None].expand(-1, rows, -1, -1), second[:, :, None].expand(-1, -1, columns, -1)]
    return torch.cat(both, dim=-1).flatten(1, 2).to(table.dtype)


def _indices(parts: int, most: int, share: Tensor, spacing: float) -> Tensor:
    """The places [N, parts] of a side in the table; between its rows where they are scaled."""
    extent = (parts - 1) * spacing + 1
    left_over = max(0.0, most - extent)
    cut = torch.floor(share * (left_over + 1)).clamp(max=left_over) + (extent - 1) / 2
    middle = (most - parts) // 2 + (parts - 1) / 2
    centre = torch.where(share < 0, torch.full_like(share, middle), cut)
    at = torch.arange(parts, dtype=torch.float32, device=share.device) - (parts - 1) / 2
    return centre[:, None] + at[None] * spacing


def _waves(places: Tensor, width: int) -> Tensor:
    """Sines and cosines of each place, [N, n, width] (Vaswani et al. 2017)."""
    turns = 1.0 / 10000.0 ** (torch.arange(width // 2, dtype=torch.float32, device=places.device) / (width / 2))
    angles = places[:, :, None] * turns
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
