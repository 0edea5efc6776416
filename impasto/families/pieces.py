"""Denoisers in the published shape, and what diffusers' own modules have in place of their joined layers: so that files
in diffusers' layout can be written and read, and diffusers' loader be put to the test."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from impasto.adapters.targets import Layer, Piece
from impasto.families.flux_shape import SingleBlock
from impasto.families.mmdit import JOINED, ShiftFirst
from impasto.families.single_file import halves_swapped

RENAMED = {"norm_q": "attn.norm_q", "norm_k": "attn.norm_k", "linear2": "proj_out"}
"""What a `SingleBlock` calls otherwise than diffusers."""


def cut(denoiser: nn.Module, path: str) -> tuple[Piece, ...]:
    """The layers that diffusers' module has in place of the one at `path`; none where it has the same."""
    above, _, last = path.rpartition(".")
    owner = denoiser.get_submodule(above) if above else denoiser
    module = denoiser.get_submodule(path)
    rows = len(module.weight) if isinstance(module, Layer) else 0
    match owner, last:
        case _, name if name in JOINED:
            return tuple(Piece(f"{above}.{each}", rows // 3) for each in JOINED[name])
        case SingleBlock(split=[attending, inside]), "linear1":
            thirds = [Piece(f"{above}.attn.{each}", attending // 3) for each in JOINED["to_qkv"]]
            return (*thirds, Piece(f"{above}.proj_mlp", inside))
        case SingleBlock(), name if name in RENAMED:
            return (Piece(f"{above}.{RENAMED[name]}", rows),)
        case ShiftFirst(), "linear":
            return (Piece(path, rows, turned=True),)
        case _:
            return ()


def apart(denoiser: Any) -> Any:
    """diffusers' own module with the numbers of one in the published shape, which it shares; the same if it is one."""
    cuts = {path: found for path, _ in denoiser.named_modules() if path and (found := cut(denoiser, path))}
    if not cuts:
        return denoiser
    with torch.device("meta"):
        fresh = type(denoiser).from_config(denoiser.config)
    state: dict[str, Tensor] = {}
    for name, value in denoiser.state_dict().items():
        path, _, kind = name.rpartition(".")
        found = cuts.get(path, (Piece(path, len(value)),))
        sizes = [piece.rows or len(value) for piece in found]
        for piece, rows in zip(found, torch.split(value, sizes), strict=True):
            state[f"{piece.path}.{kind}" if path else name] = halves_swapped(rows) if piece.turned else rows
    fresh.load_state_dict(state, assign=True)
    return fresh.eval().requires_grad_(False)
