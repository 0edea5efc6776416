"""Which layers of a Stable Diffusion model an adapter may ride on, and what each of them does there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

from impasto.adapters.targets import Part, Role, Target
from impasto.families.blocks import Number, unet_blocks
from impasto.families.names import kohya_name

USUAL = frozenset({"Transformer2DModel", "CLIPAttention", "CLIPMLP"})
"""Classes whose layers are adapted without being asked for."""

CONVOLVING = frozenset({"ResnetBlock2D", "Downsample2D", "Upsample2D"})
"""Classes whose layers are adapted only with `conv_rank`."""

ROLES: Mapping[str, Role] = {
    "proj_in": "projection",
    "proj_out": "projection",
    "ff": "mlp",
    "mlp": "mlp",
    "time_emb_proj": "time",
    "conv1": "resnet",
    "conv2": "resnet",
    "conv_shortcut": "resnet",
    "conv": "conv",
}
"""What a layer does, by a step of its path; every other one is part of an attention."""


def sd_targets(unet: nn.Module, text_encoder: nn.Module | None) -> list[Target]:
    """Every layer of Stable Diffusion 1.x that an adapter may ride on, in the order of the model."""
    found = list(select("unet", unet, blocks=unet_blocks(unet)))
    return found if text_encoder is None else [*found, *select("text_encoder", text_encoder)]


def select(
    part: Part, model: nn.Module, *, encoder: int | None = None, blocks: Number = lambda path: None
) -> Iterator[Target]:
    """The linear and convolution layers inside the adapted classes of `model`; embeddings, norms, `conv_in` and
    `conv_out` are in none of them. `encoder` numbers the text encoder where a family has several, `blocks` tells which
    block a path is in."""
    owners = {path: type(module).__name__ for path, module in model.named_modules()}
    for path, module in model.named_modules():
        if not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        above = {owners[each] for each in _above(path)}
        if above & (USUAL | CONVOLVING):
            yield Target(
                name=kohya_name(part, path, encoder=encoder),
                path=path,
                part=part,
                role=_role(path),
                module=module,
                default=bool(above & USUAL),
                block=blocks(path),
                encoder=encoder,
            )


def _above(path: str) -> Iterator[str]:
    """`a.b.c` -> the paths of what holds it: `a`, `a.b`."""
    steps = path.split(".")
    return (".".join(steps[:end]) for end in range(1, len(steps)))


def _role(path: str) -> Role:
    return next((ROLES[step] for step in reversed(path.split(".")) if step in ROLES), "attention")
