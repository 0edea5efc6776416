"""Which layers an adapter may ride on, and which of them a configuration chooses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Literal

from torch import nn

from impasto.adapters.config import Ranked
from impasto.adapters.config import Targets as Parts

Layer = nn.Linear | nn.Conv2d
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

    @property
    def layer(self) -> Layer:
        """The module, as what it is."""
        assert isinstance(self.module, Layer)
        return self.module


@dataclass(frozen=True)
class Size:
    """Rank and alpha of one adapted layer."""

    rank: int
    alpha: float


def choose(targets: Iterable[Target], config: Ranked) -> dict[str, tuple[Target, Size]]:
    """The targets that `config` adapts, by name, each with its rank and alpha.

    As sd-scripts does: `conv_rank` opens the ResNet blocks and samplers; there, linear and 1x1 layers take `rank`, and
    only kernels larger than 1x1 take `conv_rank`.
    """
    chosen = wanted(targets, config.targets, conv=config.conv_rank is not None)
    return {target.name: (target, size_of(target, config)) for target in chosen}


def wanted(targets: Iterable[Target], parts: Parts, *, conv: bool) -> list[Target]:
    """The targets in the parts that are adapted; the ResNet blocks and samplers only with `conv`."""
    adapted = {"unet": parts.unet, "text_encoder": parts.text_encoder}
    return [target for target in targets if adapted[target.part] and (target.default or conv)]


def size_of(target: Target, config: Ranked) -> Size:
    """Rank and alpha of a layer. Readers take alpha / rank for the scale, so a rank-stabilized one has its alpha told
    larger by sqrt(rank)."""
    module = target.module
    large = isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)
    rank, alpha = config.rank, config.alpha
    if large and config.conv_rank is not None:
        rank, alpha = config.conv_rank, config.conv_alpha
    return Size(rank, alpha * (sqrt(rank) if config.rank_stabilized else 1.0) or float(rank))
