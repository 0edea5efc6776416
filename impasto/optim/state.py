"""Tensors that survive a restart: copied out, taken over in place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the host: they neither change with the next step nor share memory."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


@torch.no_grad()
def take_over(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Copy every tensor of `given` into its namesake, bit for bit.

    Raises ValueError, before anything is changed, if names, shapes or types differ.
    """
    compare(own, given)
    for name, value in own.items():
        value.copy_(given[name])


def compare(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Raise ValueError if names, shapes or types differ."""
    if own.keys() != given.keys():
        missing, unknown = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
        raise ValueError(f"the saved state is another's: missing {missing[:4]}, unknown {unknown[:4]}")
    for name, value in own.items():
        if (value.shape, value.dtype) != (given[name].shape, given[name].dtype):
            found = f"{given[name].dtype} {tuple(given[name].shape)}"
            raise ValueError(f"the saved {name} is {found}, not {value.dtype} {tuple(value.shape)}")
