"""Both passes of the denoiser, recorded once for a shape of micro-batches and played for all others of it. A GPU is
then asked twice a step in place of thousands of times, which for a small base takes the host longer than the GPU.

What is recorded reads its inputs from places that stay where they are, and leaves its gradients where they always are,
in the members' flat parameters. The loss is not recorded: it is a few operations, and differs from member to member.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from impasto.data.batch import Conditioning

Act = Callable[[], None]
Predict = Callable[[Tensor, Tensor, Conditioning], Tensor]


class Recorder(Protocol):
    """Who records."""

    def warm(self, act: Act) -> None:
        """Run `act` as often as it takes until it asks for nothing new."""
        ...

    def record(self, act: Act) -> Act:
        """What does again, on the same memory, what `act` does on the device."""
        ...


class CudaGraphs:
    """CUDA's graphs, all of a device in one pool of memory: they are played one after the other, and nothing of one is
    needed once the next begins."""

    WARM = 3
    """Runs before a recording: libraries choose and set up their kernels in them."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def warm(self, act: Act) -> None:
        """On the stream that is recorded, so that what autograd remembers of streams is true there."""
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            for _ in range(self.WARM):
                act()
        torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)

    def record(self, act: Act) -> Act:
        """Threads that make batches meanwhile may do as they like: what they do is not recorded."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            act()
        return graph.replay


class Tape:
    """Both passes for micro-batches of one shape, in packs of the same members."""

    def __init__(self, predict: Predict, x: Tensor, t: Tensor, cond: Conditioning, recorder: Recorder) -> None:
        """Records. What `predict` does must be the same for other numbers in its inputs: no dice but those, no looking
        at numbers. Gradients of the warming are left in the parameters."""
        self._predict = predict
        self._x, self._t = x.clone(), t.clone()
        self._cond = {name: value.clone() for name, value in cond.items()}
        self._out = self._grad = torch.empty(0)
        recorder.warm(self._both)
        self._forward = recorder.record(self._ahead)
        self._backward = recorder.record(self._back)

    def predict(self, x: Tensor, t: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """The denoiser's prediction, whose gradient `learn` passes on."""
        self._x.copy_(x)
        self._t.copy_(t)
        for name, held in self._cond.items():
            held.copy_(cond[name])
        self._forward()
        return self._out.detach().requires_grad_()

    def learn(self, grad: Tensor) -> None:
        """Add to the parameters' gradients what that of the last prediction makes of them."""
        self._grad.copy_(grad)
        self._backward()

    def _both(self) -> None:
        self._ahead()
        self._grad = torch.zeros_like(self._out)
        self._back()

    def _ahead(self) -> None:
        self._out = self._predict(self._x, self._t, self._cond)

    def _back(self) -> None:
        self._out.backward(self._grad)  # type: ignore[no-untyped-call]
