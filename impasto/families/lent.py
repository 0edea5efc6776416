"""Parts of a base that are in memory only while somebody uses them.

A part that waits is a module without numbers: its layers keep their places, so that adapters can be mounted on them,
and hold tensors on the meta device. They are read from the part's file for the first `with` that asks for the part,
and let go when the last one ends.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any

import torch
from torch import nn

from impasto.families.card import Part
from impasto.families.quantized import OWN
from impasto.families.swap import Swap

Read = Callable[[Part], nn.Module]
"""Reads a part from its file, frozen, to where it computes."""


class Lent:
    """A part of a base, for as long as somebody uses it. Several may at once: a preview is drawn while pictures are
    encoded in another thread."""

    def __init__(self, module: Any, read: Callable[[], nn.Module] | None) -> None:
        """Without `read` the module has its numbers and keeps them."""
        self.module = module
        self._read = read
        self._turn, self._users = Lock(), 0

    @contextmanager
    def use(self) -> Iterator[Any]:
        """The module with its numbers, for as long as the `with` lasts."""
        with self._turn:
            if self._read is not None and not self._users:
                take_over(self.module, self._read())
            self._users += 1
        try:
            yield self.module
        finally:
            with self._turn:
                self._users -= 1
                if self._read is not None and not self._users:
                    let_go(self.module)
                    give_back()


class Lending:
    """The parts of a base, each lent by itself."""

    def __init__(self, denoiser: Any, encoders: Mapping[Part, Any], vae: Any, read: Read | None) -> None:
        """Without `read` all of them have their numbers and keep them."""
        self.denoiser = _lent("unet", denoiser, read)
        self.swap: Swap | None = None
        self.vae = _lent("vae", vae, read)
        self.encoders: Sequence[Lent] = [_lent(part, module, read) for part, module in encoders.items()]

    def let_blocks_wait(self, count: int, device: torch.device) -> None:
        """From here on `count` blocks of the denoiser, which must be in the host's memory, wait there; the rest goes to
        `device`. Adapters are built before: they may want to know the numbers they ride on."""
        self.swap = Swap(self.denoiser.module, count, device)

    @contextmanager
    def words(self) -> Iterator[None]:
        """All text encoders, for as long as the `with` lasts."""
        with ExitStack() as held:
            for encoder in self.encoders:
                held.enter_context(encoder.use())
            yield


def _lent(part: Part, module: Any, read: Read | None) -> Lent:
    return Lent(module, None if read is None else lambda: read(part))


def take_over(held: nn.Module, fresh: nn.Module) -> None:
    """Give `held` the numbers of another module of the same make, and its layers in few bits what those are. No number
    is copied: both are one memory from then on."""
    for mine, theirs in zip(held.modules(), fresh.modules(), strict=True):
        mine.__class__ = theirs.__class__
        mine._parameters, mine._buffers = dict(theirs._parameters), dict(theirs._buffers)
        vars(mine).update({name: value for name, value in vars(theirs).items() if name in OWN})


def let_go(held: nn.Module) -> None:
    """Leave `held` without its numbers; nothing else of it changes."""
    for each in held.modules():
        for name, weight in each._parameters.items():
            if weight is not None:
                each._parameters[name] = nn.Parameter(torch.empty_like(weight, device="meta"), requires_grad=False)
        for name, buffer in each._buffers.items():
            if buffer is not None:
                each._buffers[name] = torch.empty_like(buffer, device="meta")


def give_back() -> None:
    """Let glibc give freed memory back to the system, of which it keeps what lay in smaller pieces; other allocators
    see to that themselves."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
