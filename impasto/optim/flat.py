"""An adapter's many small parameters as one long tensor a part, so that an update is a handful of operations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from impasto import dice
from impasto.optim.rounding import stochastic

ALIGN = 32
"""Each parameter starts at a multiple of so many numbers (128 bytes), as kernels like it. The gaps stay zero."""


class FlatGroup:
    """The parameters of one part as views into one long tensor, their gradients as views into another.

    The parameters stay who they are: state dicts, loading in place and autograd go on as before. Gradients stay
    assigned, so autograd adds to them in place.

    In fp32 those two are `values` and `grads`, which an optimizer works on. In bf16 they are half as long, and
    `values` and `grads` have memory only within `wide`.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], dtype: torch.dtype = torch.float32) -> None:
        assert parameters, "a group without parameters"
        assert len(set(parameters)) == len(parameters), "a parameter is in the group twice"
        device = parameters[0].device
        starts, size = _layout(parameters)
        self.values = nn.Parameter(torch.zeros(size, device=device))
        self.grads = torch.zeros(size, device=device)
        self.narrow = dtype != torch.float32
        self._held = torch.zeros(size, device=device, dtype=dtype) if self.narrow else self.values.detach()
        self._held_grads = torch.zeros_like(self._held) if self.narrow else self.grads
        self._views: list[tuple[nn.Parameter, Tensor, int]] = []
        for parameter, start in zip(parameters, starts, strict=True):
            assert parameter.requires_grad, "a frozen parameter is nothing to train"
            assert parameter.dtype == torch.float32, "parameters in training are fp32"
            assert parameter.device == device, "a group is on one device"
            self._views.append((parameter, self._take(parameter, start), start * self._held.element_size()))
        self._shapes = tuple(parameter.shape for parameter in parameters)
        self.values.grad = self.grads
        self.frozen = False
        if self.narrow:
            self._release()

    def freeze(self) -> None:
        """Train these no more: no gradient reaches them, and an optimizer passes over what has none."""
        self.frozen = True
        self.values.grad = None
        self.zero_grad()
        for parameter, _, _ in self._views:
            parameter.requires_grad_(False)
            parameter.grad = None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The adapter's own parameters, in their order."""
        return [parameter for parameter, _, _ in self._views]

    @property
    def layout(self) -> tuple[object, ...]:
        """What is the same for groups whose numbers may lie side by side."""
        return self._held.device, self._held.dtype, self.frozen, self._shapes

    @property
    def alone(self) -> bool:
        """Whether nobody else is in its memory."""
        return self._held.untyped_storage().nbytes() == self._held.nbytes

    @torch.no_grad()
    def move(self, held: Tensor) -> None:
        """Live on in `held`, bit for bit; it is as long as what they were in."""
        held.copy_(self._held)
        self._held = held
        if not self.narrow:
            self.values.data = held
        for parameter, _, offset in self._views:
            parameter.data = _part(held, parameter, offset)

    @torch.no_grad()
    def move_grads(self, held: Tensor) -> None:
        """The same of the gradients."""
        held.copy_(self._held_grads)
        self._held_grads = held
        if not self.narrow:
            self.grads = held
            self.values.grad = None if self.frozen else held
        self._views = [(each, _part(held, each, offset), offset) for each, _, offset in self._views]
        for parameter, grad, _ in self._views:
            parameter.grad = None if self.frozen else grad

    def beside(self, count: int) -> Tensor:
        """Memory for so many groups like this one, [count, n]."""
        return self._held.new_empty(count, len(self._held))

    @property
    def held_grads(self) -> Tensor:
        """The gradients as they are held, flat: what ranks add up."""
        return self._held_grads

    def check(self) -> None:
        """Assert that nobody took a parameter or a gradient away: `Module.to`, `zero_grad(set_to_none=True)` would."""
        origin = self._held.data_ptr()
        for parameter, grad, offset in self._views:
            if not self.frozen:
                assert parameter.grad is grad, "a gradient was replaced; zero gradients through the optimizer"
            assert parameter.data_ptr() == origin + offset, "a parameter was moved after it was made flat"

    def current(self) -> Tensor:
        """The parameters as they are, fp32. Not to be written to."""
        return self._held.float() if self.narrow else self.values.detach()

    @torch.no_grad()
    def put(self, values: Tensor) -> None:
        """Make `values` the parameters, rounded to the nearest."""
        self._held.copy_(values)

    @torch.no_grad()
    def zero_grad(self) -> None:
        """Forget the gradients: one operation. They stay assigned."""
        self._held_grads.zero_()

    @contextmanager
    def wide(self, dice: int) -> Iterator[None]:
        """`values` and `grads` in fp32 for as long as the `with` lasts; what then is in `values` is rounded by dice."""
        if not self.narrow:
            yield
            return
        for wide, held in ((self.values.detach(), self._held), (self.grads, self._held_grads)):
            wide.untyped_storage().resize_(wide.numel() * wide.element_size())
            wide.copy_(held)
        yield
        generator = torch.Generator(self._held.device).manual_seed(dice)
        self._held.copy_(stochastic(self.values.detach(), generator))
        self._release()

    def _release(self) -> None:
        """Give the memory of the wide tensors back; they keep their shapes, so an optimizer may hold on to them."""
        for wide in (self.values, self.grads):
            wide.untyped_storage().resize_(0)

    def _take(self, parameter: nn.Parameter, start: int) -> Tensor:
        stop = start + parameter.numel()
        view = self._held[start:stop].view(parameter.shape)
        view.copy_(parameter.detach())
        parameter.data = view
        grad = self._held_grads[start:stop].view(parameter.shape)
        parameter.grad = grad
        return grad


class FlatParameters:
    """All parameters of an adapter, flat, by part. Make it once the adapter is on its device and fp32."""

    def __init__(self, parts: Mapping[str, Sequence[nn.Parameter]], dtype: torch.dtype = torch.float32) -> None:
        """`parts`: the parameters to be trained, by part (`unet`, `text_encoder`). Empty parts are left out. With
        `dtype` bf16 the parameters become that; they are then moved within `wide`.

        A part that shall not be trained (rate 0) is not given at all. Raises ValueError if nothing remains.
        """
        self.groups = {part: FlatGroup(parameters, dtype) for part, parameters in parts.items() if parameters}
        if not self.groups:
            raise ValueError("no parameters to train: every part is left out or has learning rate 0")

    @property
    def layout(self) -> tuple[object, ...]:
        """What is the same for adapters whose numbers may lie side by side."""
        return tuple((part, group.layout) for part, group in self.groups.items())

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(iter(self.groups.values())).values.device

    @contextmanager
    def wide(self, *key: dice.Key) -> Iterator[None]:
        """Everything in fp32, where an optimizer works, for as long as the `with` lasts. Parameters held in bf16 are
        then rounded, by dice of `key` and their part."""
        with ExitStack() as held:
            for part, group in self.groups.items():
                held.enter_context(group.wide(dice.seed("rounding", part, *key)))
            yield

    def zero_grad(self) -> None:
        """Forget the gradients: one operation a part. They stay assigned."""
        for group in self.groups.values():
            group.zero_grad()

    def gradients(self) -> list[Tensor]:
        """Where the gradients fall, as they are held, of all that is still trained."""
        return [group.held_grads for group in self.groups.values() if not group.frozen]

    @torch.no_grad()
    def norm(self) -> Tensor:
        """The length of all gradients together, a scalar on the device; frozen groups have none."""
        norms = [torch.linalg.vector_norm(group.grads) for group in self.groups.values() if not group.frozen]
        length: Tensor = torch.linalg.vector_norm(torch.stack(norms))
        return length


def stack(flats: Iterable[FlatParameters]) -> None:
    """Let those that are alike live side by side, bit for bit: part by part in one matrix [K, n], and so their
    gradients. Then one operation reaches a layer of all of them."""
    alike: dict[object, list[FlatParameters]] = {}
    for flat in flats:
        alike.setdefault(flat.layout, []).append(flat)
    for some in alike.values():
        for part in some[0].groups:
            groups = [each.groups[part] for each in some]
            if len(groups) == 1 and groups[0].alone:
                continue
            for group, row in zip(groups, groups[0].beside(len(groups)), strict=True):
                group.move(row)
            for group, row in zip(groups, groups[0].beside(len(groups)), strict=True):
                group.move_grads(row)


def _part(held: Tensor, parameter: nn.Parameter, offset: int) -> Tensor:
    """Where a parameter is, so many bytes from the start."""
    start = offset // held.element_size()
    return held[start : start + parameter.numel()].view(parameter.shape)


def _layout(parameters: Sequence[nn.Parameter]) -> tuple[list[int], int]:
    """Where each parameter starts, and how long all are."""
    starts, size = [], 0
    for parameter in parameters:
        starts.append(size)
        size += -(-parameter.numel() // ALIGN) * ALIGN
    return starts, size
