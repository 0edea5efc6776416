"""An adapter's many small parameters as one long tensor a part, so that an update is a handful of operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

ALIGN = 32
"""Each parameter starts at a multiple of so many numbers (128 bytes), as kernels like it. The gaps stay zero."""


class FlatGroup:
    """The parameters of one part as views into one long fp32 tensor, their gradients as views into another.

    The parameters stay who they are: state dicts, loading in place and autograd go on as before. Gradients stay
    assigned, so autograd adds to them in place.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        assert parameters, "a group without parameters"
        assert len(set(parameters)) == len(parameters), "a parameter is in the group twice"
        device = parameters[0].device
        starts, size = _layout(parameters)
        self.values = nn.Parameter(torch.zeros(size, device=device))
        self.grads = torch.zeros(size, device=device)
        self._views: list[tuple[nn.Parameter, Tensor, int]] = []
        for parameter, start in zip(parameters, starts, strict=True):
            assert parameter.requires_grad, "a frozen parameter is nothing to train"
            assert parameter.dtype == torch.float32, "parameters in training are fp32"
            assert parameter.device == device, "a group is on one device"
            self._views.append((parameter, self._take(parameter, start), start * self.values.element_size()))
        self.values.grad = self.grads
        self.frozen = False

    def freeze(self) -> None:
        """Train these no more: no gradient reaches them, and an optimizer passes over what has none."""
        self.frozen = True
        self.values.grad = None
        self.grads.zero_()
        for parameter, _, _ in self._views:
            parameter.requires_grad_(False)
            parameter.grad = None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The adapter's own parameters, in their order."""
        return [parameter for parameter, _, _ in self._views]

    def check(self) -> None:
        """Assert that nobody took a parameter or a gradient away: `Module.to`, `zero_grad(set_to_none=True)` would."""
        origin = self.values.data_ptr()
        for parameter, grad, offset in self._views:
            if not self.frozen:
                assert parameter.grad is grad, "a gradient was replaced; zero gradients through the optimizer"
            assert parameter.data_ptr() == origin + offset, "a parameter was moved after it was made flat"

    def _take(self, parameter: nn.Parameter, start: int) -> Tensor:
        stop = start + parameter.numel()
        view = self.values.detach()[start:stop].view(parameter.shape)
        view.copy_(parameter.detach())
        parameter.data = view
        grad = self.grads[start:stop].view(parameter.shape)
        parameter.grad = grad
        return grad


class FlatParameters:
    """All parameters of an adapter, flat, by part. Make it once the adapter is on its device and fp32."""

    def __init__(self, parts: Mapping[str, Sequence[nn.Parameter]]) -> None:
        """`parts`: the parameters to be trained, by part (`unet`, `text_encoder`). Empty parts are left out.

        A part that shall not be trained (rate 0) is not given at all. Raises ValueError if nothing remains.
        """
        self.groups = {part: FlatGroup(parameters) for part, parameters in parts.items() if parameters}
        if not self.groups:
            raise ValueError("no parameters to train: every part is left out or has learning rate 0")

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(iter(self.groups.values())).values.device

    @torch.no_grad()
    def zero_grad(self) -> None:
        """Forget the gradients: one operation a part. They stay assigned."""
        for group in self.groups.values():
            group.grads.zero_()

    @torch.no_grad()
    def norm(self) -> Tensor:
        """The length of all gradients together, a scalar on the device; frozen groups have none."""
        norms = [torch.linalg.vector_norm(group.grads) for group in self.groups.values() if not group.frozen]
        length: Tensor = torch.linalg.vector_norm(torch.stack(norms))
        return length


def _layout(parameters: Sequence[nn.Parameter]) -> tuple[list[int], int]:
    """Where each parameter starts, and how long all are."""
    starts, size = [], 0
    for parameter in parameters:
        starts.append(size)
        size += -(-parameter.numel() // ALIGN) * ALIGN
    return starts, size
