"""Activation checkpoints in the host's memory: what a block begins with waits there until its backward pass.

Checkpointing keeps the input of each block, which at a large batch or picture is what fills the device. It goes to the
host as it is and comes back as it was, so the numbers are the same; both copies are in the order of the computation, so
nothing waits for the other.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor

Packed = tuple[torch.device, Tensor]
"""Where a tensor was, and its copy on the host."""


def checkpoint(block: Any, hidden: Tensor, *told: Any) -> Any:
    """Compute `block` so that it is computed again in the backward pass, with `hidden` on the host until then. What
    else it is told, the words and the moment, is small or the same for all blocks, and stays."""
    mark = hidden.data_ptr(), hidden.shape
    with torch.autograd.graph.saved_tensors_hooks(partial(_away, mark), _back):
        return torch.utils.checkpoint.checkpoint(block.__call__, hidden, *told, use_reentrant=False)


def _away(mark: tuple[int, torch.Size], tensor: Tensor) -> Tensor | Packed:
    if (tensor.data_ptr(), tensor.shape) != mark:
        return tensor
    host = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
    return tensor.device, host.copy_(tensor.detach(), non_blocking=True)


def _back(packed: Tensor | Packed) -> Tensor:
    if isinstance(packed, Tensor):
        return packed
    device, host = packed
    return host.to(device, non_blocking=True)
