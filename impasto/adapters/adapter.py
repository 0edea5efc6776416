"""What one member adds to one frozen layer, and to a whole model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from impasto.adapters.targets import Part


class AdapterLayer(nn.Module, ABC):
    """What one member adds to one frozen layer. Its state dict is what the file holds under the layer's name."""

    @property
    @abstractmethod
    def rolls(self) -> bool:
        """Whether a training visit asks for dice at all."""

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor, base: nn.Module, dice: int | None = None) -> Tensor:
        """The layer's new output, given its input `x` and the base's output `y`; dim 0 is the example.

        `dice` seeds this layer's dropouts for this visit; None means none (previews, validation).
        """

    @abstractmethod
    def weight(self, base: nn.Module) -> Tensor:
        """The base's weight with this adapter merged in, fp32. A contract test holds `forward` to it."""

    @abstractmethod
    def rescale(self) -> None:
        """Derive what is not a tensor from the tensors as they now are: after loading a file."""


class Adapter(nn.Module):
    """All layers of one member, by the name of the target they ride on."""

    def __init__(self, layers: Mapping[str, AdapterLayer], parts: Mapping[str, Part]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self._parts = dict(parts)

    def parameters_of(self, part: Part) -> list[nn.Parameter]:
        """The parameters that ride on one part of the base, in the order of the model."""
        return [each for name, layer in self.items() if self._parts[name] == part for each in layer.parameters()]

    def items(self) -> Iterator[tuple[str, AdapterLayer]]:
        """Target name and layer, in the order of the model."""
        for name, layer in self.layers.items():
            assert isinstance(layer, AdapterLayer)
            yield name, layer

    def tensors(self) -> dict[str, Tensor]:
        """Everything a file holds: `<target>.lora_down.weight`, `<target>.alpha` ... (not copies)."""
        return {f"{name}.{key}": value for name, layer in self.items() for key, value in layer.state_dict().items()}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over every tensor of a file, in place. The names and shapes must be exactly this adapter's."""
        own = self.tensors()
        assert own.keys() == tensors.keys(), f"not this adapter's: {sorted(own.keys() ^ tensors.keys())[:4]}"
        for name, value in own.items():
            value.copy_(tensors[name])
        for _, layer in self.items():
            layer.rescale()
