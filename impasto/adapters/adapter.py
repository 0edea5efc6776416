"""What one member adds to one frozen layer, and to a whole model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from impasto.adapters.rolls import Dice
from impasto.adapters.targets import Part, Seat

Joint = Callable[[Tensor, Tensor], Tensor]
"""The input and the output of a base's layer, for all rows -> its new output."""


class AdapterLayer(nn.Module, ABC):
    """What one member adds to one frozen layer."""

    together: ClassVar[bool] = False
    """Whether the dice of a visit are the same for all layers, in place of each layer's own."""

    names: ClassVar[Mapping[str, str]] = {}
    """What the file calls a tensor, where that is not its name here."""

    hastened: ClassVar[frozenset[str]] = frozenset()
    """The parameters that LoRA+ gives a higher rate (Hayou et al. 2024): those that start as zero."""

    def held(self) -> dict[str, Tensor]:
        """What the file holds under the layer's name (not copies)."""
        return {self.names.get(name, name): value for name, value in self.state_dict().items()}

    @property
    @abstractmethod
    def rolls(self) -> bool:
        """Whether a training visit asks for dice at all."""

    @property
    def branches(self) -> bool:
        """Whether dice decide what is computed, and not only with which numbers: then it cannot be compiled."""
        return False

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor, base: nn.Module, dice: Dice | None = None) -> Tensor:
        """The layer's new output, given its input `x` and the base's output `y`; dim 0 is the example.

        `dice` seeds this layer's dropouts for this visit; None means none (previews, validation).
        """

    def stacked(self, layers: Sequence[AdapterLayer], base: nn.Module) -> Joint | None:
        """How `layers`, this one first, take equal shares of the rows without dice in one product for all; None where
        they have to take turns. The same as their `forward`, within rounding; good until one of them leaves, moves in
        memory, or comes to rest."""
        return None

    @abstractmethod
    def weight(self, base: nn.Module) -> Tensor:
        """The base's weight with this adapter merged in, fp32. A contract test holds `forward` to it."""

    def bias(self, base: nn.Module) -> Tensor | None:
        """The base's bias with this adapter merged in, fp32; None if it has none."""
        return base.bias.float() if isinstance(base.bias, Tensor) else None

    def length(self, base: nn.Module) -> Tensor:
        """The Frobenius norm of what is added to the weight (and the bias), a scalar; of kinds that can be bounded."""
        raise NotImplementedError

    def shrink(self, ratio: Tensor) -> None:
        """Multiply what is added by `ratio`, a scalar, in place; of kinds that can be bounded."""
        raise NotImplementedError

    @abstractmethod
    def rescale(self) -> None:
        """Derive what is not a tensor from the tensors as they now are: after loading a file."""


@dataclass(frozen=True)
class Group:
    """The parameters that learn at one rate, and how that comes from their part's rate."""

    part: Part
    encoder: int | None
    factor: float
    """Of the part's rate: the block's or the rule's."""

    fast: bool = False
    """Whether it is also multiplied by the part's ratio of LoRA+."""

    @property
    def name(self) -> str:
        """What optimizers and checkpoints call it: `unet`, `text_encoder_2`, `unet x0.5`, `unet fast`."""
        number = "" if self.encoder is None else f"_{self.encoder}"
        return f"{self.part}{number}" + ("" if self.factor == 1 else f" x{self.factor!r}") + " fast" * self.fast


@torch.no_grad()
def shorten(layers: Sequence[tuple[AdapterLayer, nn.Module]], longest: float, keep: Tensor) -> Tensor:
    """Scale each layer that is longer than `longest` down to it, unless `keep` is 1.0 on the device. Beside each layer
    is what it rides on.

    Returns [3], without waiting for the device: how many were scaled, the mean and the largest length afterwards.
    """
    lengths = torch.stack([layer.length(base).float() for layer, base in layers])
    ratios = torch.where(keep > 0, 1.0, (longest / lengths).clamp_max(1.0))  # 0 length: inf, so 1
    for (layer, _), ratio in zip(layers, ratios, strict=True):
        layer.shrink(ratio)
    after = lengths * ratios
    return torch.stack([(ratios < 1).sum().to(after.dtype), after.mean(), after.max()])


def whole_length(tensors: Iterable[Tensor]) -> Tensor:
    """The length of several tensors as one vector."""
    found: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(each.float()) for each in tensors]))
    return found


def share(ratio: Tensor, factors: Sequence[Tensor]) -> None:
    """Multiply a product by `ratio`, each of its factors in place by the same."""
    for each in factors:
        each.mul_(ratio ** (1 / len(factors)))


class Adapter(nn.Module):
    """All layers of one member, by the name of the target they ride on."""

    def __init__(self, layers: Mapping[str, AdapterLayer], seats: Mapping[str, Seat]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.seats = dict(seats)

    @property
    def stacks(self) -> bool:
        """Whether any of its layers can act in one product with others of its kind."""
        return any(type(layer).stacked is not AdapterLayer.stacked for _, layer in self.items())

    def groups(self, hastened: Collection[Part] = ()) -> dict[Group, list[nn.Parameter]]:
        """The parameters by what decides their rate, in the order of the model; in the parts of `hastened` those that
        LoRA+ speeds up apart."""
        found: dict[Group, list[nn.Parameter]] = {}
        for name, layer in self.items():
            seat = self.seats[name]
            target = seat.target
            for key, parameter in layer.named_parameters():
                fast = target.part in hastened and key in layer.hastened
                group = Group(target.part, target.encoder, seat.rate, fast)
                found.setdefault(group, []).append(parameter)
        return found

    def items(self) -> Iterator[tuple[str, AdapterLayer]]:
        """Target name and layer, in the order of the model."""
        for name, layer in self.layers.items():
            assert isinstance(layer, AdapterLayer)
            yield name, layer

    def tensors(self) -> dict[str, Tensor]:
        """Everything a file holds: `<target>.lora_down.weight`, `<target>.alpha` ... (not copies)."""
        return {f"{name}.{key}": value for name, layer in self.items() for key, value in layer.held().items()}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over every tensor of a file, in place. The names and shapes must be exactly this adapter's."""
        own = self.tensors()
        assert own.keys() == tensors.keys(), f"not this adapter's: {sorted(own.keys() ^ tensors.keys())[:4]}"
        for name, value in own.items():
            value.copy_(tensors[name])
        for _, layer in self.items():
            layer.rescale()


Filled = TypeVar("Filled", bound=AdapterLayer)


@torch.no_grad()
def filled(layer: Filled, tensors: Mapping[str, Tensor]) -> Filled:
    """`layer` with a file's tensors; one without alpha keeps its own. Raises ValueError when they are not its own.

    Some programs write [O, r, 1, 1] as [O, r], or a scalar as [1]: ones at the end of a shape do not count.
    """
    own = layer.held()
    if strange := sorted((own.keys() ^ tensors.keys()) - {"alpha"}):
        raise ValueError(f"{strange[0]} is {'missing' if strange[0] in own else 'not read here'}")
    for name in own.keys() & tensors.keys():
        if _bare(tensors[name].shape) != _bare(own[name].shape):
            raise ValueError(f"{name} is {tuple(tensors[name].shape)}, the base needs {tuple(own[name].shape)}")
        own[name].copy_(tensors[name].view(own[name].shape))
    layer.rescale()
    return layer


def _bare(shape: torch.Size) -> tuple[int, ...]:
    sides = list(shape)
    while sides and sides[-1] == 1:
        sides.pop()
    return tuple(sides)
