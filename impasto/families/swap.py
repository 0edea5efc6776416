"""Block swap: some blocks of a denoiser wait in the host's memory, and come to the device when they compute.

The numbers of such a block lie in one buffer on the host. On the device there is a buffer of the same make, whose
memory is given back while the block does not compute; the block's tensors are windows on it and stay the same objects,
so that what autograd remembers of them stays true. The numbers are frozen, so nothing ever travels back.

At most two of these blocks are on the device: the one that computes, and the next one, which is on its way. The forward
pass asks for a block before it computes. The backward pass asks when the gradient of its output is there. Autograd
works off what was computed last first, so by then nothing of a later block is left to do; a checkpointed block computes
its forward again only after that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from impasto.errors import ConfigError, Problem

PLACES = 2
"""Blocks that take turns and are on the device at once."""

ALIGNED = 64
"""Bytes at whose multiples tensors begin."""


class Waiting:
    """The numbers of one block: on the host always, on the device when they are fetched."""

    def __init__(self, block: nn.Module, device: torch.device, stream: torch.cuda.Stream | None) -> None:
        """Moves the block's tensors into the two buffers."""
        places, size = [], 0
        for home, name, tensor in _tensors(block):
            places.append((home, name, tensor, size))
            size += -(-tensor.nbytes // ALIGNED) * ALIGNED
        self._size, self._stream = size, stream
        self._host = torch.empty(size, dtype=torch.uint8, pin_memory=stream is not None)
        self._there = torch.empty(size, dtype=torch.uint8, device=device)
        self._coming: torch.cuda.Event | None = None
        for home, name, tensor, start in places:
            flat = tensor.detach().contiguous().view(-1).view(torch.uint8)
            self._host[start : start + tensor.nbytes].copy_(flat)
            home[name] = _window(self._there, start, tensor)
        self.release()

    @property
    def here(self) -> bool:
        """Whether its numbers are on the device, or on their way."""
        return self._there.untyped_storage().nbytes() > 0

    @torch.no_grad()
    def fetch(self) -> None:
        """Begin to bring the numbers to the device, beside what computes there."""
        if self.here:
            return
        self._there.untyped_storage().resize_(self._size)
        if self._stream is None:
            self._there.copy_(self._host)
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._there.device))  # the memory may be in use until then
        with torch.cuda.stream(self._stream):
            self._there.copy_(self._host, non_blocking=True)
            self._coming = self._stream.record_event()

    def wait(self) -> None:
        """What computes from here on sees the numbers."""
        if self._coming is not None:
            torch.cuda.current_stream(self._there.device).wait_event(self._coming)
            self._coming = None

    def release(self) -> None:
        """Give the device's memory back."""
        self.wait()
        self._there.untyped_storage().resize_(0)


class Swap:
    """Blocks of a denoiser that take turns on the device."""

    def __init__(self, denoiser: nn.Module, count: int, device: torch.device) -> None:
        """`count` blocks wait in the host's memory at any time; all else of the denoiser goes to `device`."""
        blocks = chain(denoiser)
        self._turns = spread(len(blocks), count + PLACES)
        stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.waiting = [Waiting(blocks[at], device, stream) for at in self._turns]
        self._back: int | None = None
        denoiser.to(device)
        self.serve(denoiser)

    def serve(self, denoiser: nn.Module) -> None:
        """Fetch numbers for the blocks of `denoiser` too, which must be the same ones in the same memory."""
        blocks = chain(denoiser)
        for number, at in enumerate(self._turns):
            blocks[at].register_forward_pre_hook(partial(self._before, number))
            blocks[at].register_forward_hook(partial(self._after, number))

    def _before(self, number: int, _: nn.Module, __: object) -> None:
        if self._back == number:
            return  # a checkpointed block computes again in its own backward pass
        self._back = None
        again = not torch.is_grad_enabled()  # the next denoising step begins with the first block
        self._bring(number, (number + 1) % len(self.waiting) if again else number + 1)

    def _after(self, number: int, _: nn.Module, __: object, found: Any) -> None:
        for each in found if isinstance(found, tuple) else (found,):
            if isinstance(each, Tensor) and each.requires_grad:
                each.register_hook(partial(self._returns, number))  # type: ignore[no-untyped-call]

    def _returns(self, number: int, _: Tensor) -> None:
        if self._back != number:
            self._back = number
            self._bring(number, number - 1)

    def _bring(self, now: int, then: int) -> None:
        for number, each in enumerate(self.waiting):
            if each.here and number not in (now, then):
                each.release()
        self.waiting[now].fetch()
        self.waiting[now].wait()
        if 0 <= then < len(self.waiting):
            self.waiting[then].fetch()


def chain(denoiser: nn.Module) -> list[nn.Module]:
    """The blocks that can wait, in the order in which they compute: those of a transformer, or the transformer blocks
    of a U-Net."""
    stages = ("transformer_blocks", "single_transformer_blocks")
    if found := [block for stage in stages for block in getattr(denoiser, stage, ())]:
        return found
    halves = [getattr(denoiser, stage) for stage in ("down_blocks", "mid_block", "up_blocks")]
    return [each for half in halves for each in half.modules() if type(each).__name__ == "BasicTransformerBlock"]


def spread(blocks: int, turns: int) -> Sequence[int]:
    """Which of so many blocks take turns: spread evenly, so that others compute while one is on its way."""
    return [at for at in range(blocks) if (at + 1) * turns // blocks > at * turns // blocks]


def check(denoiser: nn.Module, count: int) -> None:
    """Raise ConfigError where the denoiser has not so many blocks to spare."""
    most = max(0, len(chain(denoiser)) - PLACES)
    if count > most:
        what = f"{count} blocks are to wait, and this base can do without {most} at a time"
        raise ConfigError(Problem("E-CFG-148", what, "model.blocks_to_swap", f"blocks_to_swap = {most} or less"))


def _tensors(block: nn.Module) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
    for module in block.modules():
        homes: Iterable[dict[str, Any]] = (module._parameters, module._buffers)
        for home in homes:
            for name, tensor in home.items():
                if tensor is not None:
                    yield home, name, tensor


def _window(buffer: Tensor, start: int, like: Tensor) -> Tensor:
    """A tensor in the buffer's memory, with a count of writes of its own: filling the buffer is not a change to it."""
    empty = torch.empty(0, dtype=like.dtype, device=buffer.device)
    strides = torch.empty(like.shape, device="meta").stride()
    found = empty.set_(buffer.untyped_storage(), start // like.element_size(), like.shape, strides)
    return nn.Parameter(found, requires_grad=False) if isinstance(like, nn.Parameter) else found
