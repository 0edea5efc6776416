"""LoRA whose first ranks can be used alone (Valipour et al. 2023, "DyLoRA"), in files like any LoRA."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from impasto.adapters.adapter import Adapter, AdapterLayer
from impasto.adapters.config import DyLora
from impasto.adapters.layers import through
from impasto.adapters.lora import LoraLayer
from impasto.adapters.rolls import Dice
from impasto.adapters.targets import Layer, Seat, Size


class DyLoraLayer(LoraLayer):
    """A training visit uses the first k rows alone, k a multiple of `unit` that all layers of the visit share.

    They are scaled by alpha / rank * sqrt(rank / k), so that a few rows speak as loudly as all. Previews, validation
    and files have all rows; `cut` makes an adapter of the first ones.
    """

    together = True

    def __init__(self, base: Layer, size: Size, config: DyLora, generator: torch.Generator) -> None:
        super().__init__(base, size, generator)
        self.unit = config.unit

    @property
    def rolls(self) -> bool:
        """Whether a training visit asks for dice at all."""
        return True

    @property
    def branches(self) -> bool:
        """Whether dice decide what is computed, and not only with which numbers."""
        return True

    def forward(self, x: Tensor, y: Tensor, base: nn.Module, dice: Dice | None = None) -> Tensor:
        if dice is None:
            return super().forward(x, y, base)
        assert isinstance(base, Layer)
        assert isinstance(dice, int), "what branches is not compiled"
        rank, kept = len(self.lora_down.weight), self.kept(dice)
        low = through(base, x, self.lora_down.weight[:kept])
        up = self.lora_up.weight[:, :kept]
        high = nn.functional.linear(low, up) if isinstance(base, nn.Linear) else nn.functional.conv2d(low, up)
        return torch.add(y, high, alpha=self.scale * math.sqrt(rank / kept))

    def kept(self, dice: int) -> int:
        """How many rows a visit with these dice trains."""
        share = torch.rand((), generator=torch.Generator().manual_seed(dice)).item()
        return self.unit * (1 + int(share * (len(self.lora_down.weight) // self.unit)))

    def first(self, base: Layer, kept: int, dtype: torch.dtype) -> LoraLayer:
        """A plain LoRA of the first `kept` rows, scaled as the visits that trained them. Its alpha is one that `dtype`
        can hold, and `up` makes up for the rounding."""
        rank = len(self.lora_down.weight)
        alpha = float(self.alpha) * math.sqrt(kept / rank)  # alpha / kept is the scale of such a visit
        told = float(torch.tensor(alpha).to(dtype)) or alpha
        made = LoraLayer(base, Size(kept, told), torch.Generator()).to(self.lora_down.weight.device)
        made.lora_down.weight.copy_(self.lora_down.weight[:kept])
        made.lora_up.weight.copy_(self.lora_up.weight[:, :kept].float() * (alpha / told))
        return made


@torch.no_grad()
def cut(adapter: Adapter, rank: int, dtype: torch.dtype = torch.float32) -> Adapter:
    """A copy of the adapter as training visits saw it that gave its largest layers `rank` rows; norms are as they are.

    Layers of another rank are cut in proportion, as in those visits.
    """
    ranks = {name: len(layer.lora_down.weight) for name, layer in adapter.items() if isinstance(layer, DyLoraLayer)}
    whole = max(ranks.values())
    assert 0 < rank <= whole
    layers: dict[str, AdapterLayer] = {}
    for name, layer in adapter.items():
        if not isinstance(layer, DyLoraLayer):
            layers[name] = copy.deepcopy(layer)
        else:
            units = -(-rank * ranks[name] // (whole * layer.unit))  # up: the last visit that still keeps so many
            layers[name] = layer.first(adapter.seats[name].target.layer, units * layer.unit, dtype)
    return Adapter(layers, adapter.seats)


def fresh(config: DyLora, seat: Seat, generator: torch.Generator) -> DyLoraLayer:
    """A layer at its start."""
    return DyLoraLayer(seat.target.layer, seat.sized, config, generator)
