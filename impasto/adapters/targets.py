"""Which layers an adapter may ride on, and which of them a configuration chooses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from impasto.adapters.config import Lora

Part = Literal["unet", "text_encoder"]
Role = Literal["attention", "mlp", "projection", "resnet", "conv", "time"]


@dataclass(frozen=True)
class Target:
    """A layer that an adapter may ride on."""

    name: str
    """Its name in adapter files: `lora_unet_down_blocks_0_attentions_0_proj_in`."""

    path: str
    """Its dotted path inside its part."""

    part: Part
    role: Role
    module: nn.Module
    """The frozen nn.Linear or nn.Conv2d."""

    default: bool
    """Adapted without being asked for (attention and MLP), or only with `conv_rank` (ResNet blocks and samplers)."""


@dataclass(frozen=True)
class Size:
    """Rank and alpha of one adapted layer."""

    rank: int
    alpha: float


def choose(targets: Iterable[Target], config: Lora) -> dict[str, tuple[Target, Size]]:
    """The targets that `config` adapts, by name, each with its rank and alpha.

    As sd-scripts does: `conv_rank` opens the ResNet blocks and samplers; there, linear and 1x1 layers take `rank`, and
    only kernels larger than 1x1 take `conv_rank`.
    """
    wanted = {"unet": config.targets.unet, "text_encoder": config.targets.text_encoder}
    return {
        target.name: (target, _size(target.module, config))
        for target in targets
        if wanted[target.part] and (target.default or config.conv_rank is not None)
    }


def _size(module: nn.Module, config: Lora) -> Size:
    large = isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)
    if large and config.conv_rank is not None:
        return Size(config.conv_rank, config.conv_alpha or float(config.conv_rank))
    return Size(config.rank, config.alpha or float(config.rank))
