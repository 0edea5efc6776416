"""An adapter file's layers merged into a base in memory."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from impasto.adapters.reading import from_file
from impasto.adapters.targets import Layer


def by_layer(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """A file's tensors by the name of the layer they belong to: `<layer>.<kind>` -> layer -> kind -> tensor."""
    held: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, kind = key.partition(".")
        held.setdefault(name, {})[kind] = value
    return held


@torch.no_grad()
def merge(base: Layer, held: Mapping[str, Tensor], strength: float = 1.0) -> None:
    """Move `base` from itself (`strength` 0) to what the file's tensors for it make of it (1), in place.

    Computed in fp32 and rounded once, so a base in 16 bits loses nothing it could hold. Raises ValueError or KeyError
    when the tensors do not fit or are of no kind that is known.
    """
    assert isinstance(base.weight, nn.Parameter), "a base in few bits cannot take a merge; use a plain one"
    layer = from_file(base, held).to(base.weight.device)
    weight, bias = layer.weight(base), layer.bias(base)
    base.weight.copy_(torch.lerp(base.weight.float(), weight.float(), strength))
    if bias is not None and base.bias is not None:
        base.bias.copy_(torch.lerp(base.bias.float(), bias.float(), strength))
