"""Blocks of a denoiser, compiled together with the adapters that ride on them.

What is compiled is a *pattern*: a copy of a block and of the adapters' layers on it, without numbers. The numbers of
the block that computes are handed to it, so all blocks alike share what was compiled once. The base keeps its modules
and its hooks, which go on serving all that is not compiled: previews, measuring, shapes that come seldom.

A graph is compiled for one pattern and one shape of its inputs and for nothing else: none is ever compiled anew.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from impasto.adapters.adapter import Adapter, AdapterLayer
from impasto.adapters.riders import Riders, Route, ride
from impasto.adapters.rolls import Dice
from impasto.adapters.targets import Target

Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Makes a function of tensors faster: `torch.compile` with all that is to be said to it."""

Place = tuple[str, nn.Module, str, str]
"""A tensor's name in the pattern; the module that holds it, where in there, and under which name."""

HOOKS = ("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs")
HOMES = ("_parameters", "_buffers")


class Regions:
    """The blocks of a denoiser that are compiled, for the shapes that were rehearsed."""

    def __init__(
        self, blocks: Iterable[nn.Module], targets: Iterable[Target], riders: Riders, compiler: Compiler
    ) -> None:
        self.riders = riders
        self.failure: str | None = None
        """Why nothing is compiled any more."""

        self._compiler = compiler
        self._names = {id(target.module): target.name for target in targets}
        self._patterns: dict[Hashable, _Pattern] = {}
        self._graphs: dict[Hashable, Callable[..., Any]] = {}
        self._on = False
        self._regions = [_Region(self, block) for block in blocks]
        for each in self._regions:
            each.block.forward = each

    @property
    def graphs(self) -> int:
        """How many there are, each with its way back."""
        return len(self._graphs)

    @property
    def blocks(self) -> int:
        """How many blocks they serve."""
        return len(self._regions)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Blocks compute compiled for as long as the `with` lasts, where gradients are wanted. It must enclose the
        backward pass: checkpointed blocks run their forward again there."""
        self._on = True
        try:
            yield
        finally:
            self._on = False

    @property
    def busy(self) -> bool:
        """Whether a block that is called now computes compiled."""
        return self._on and bool(self.riders.routes) and torch.is_grad_enabled()

    def forget(self) -> None:
        """Let go of whoever rode: somebody came or left."""
        for each in self._regions:
            each.seats.clear()

    def close(self) -> None:
        """The blocks are as they were."""
        for each in self._regions:
            del each.block.forward
        self._regions.clear()
        self._patterns.clear()
        self._graphs.clear()

    def give_up(self, error: Exception) -> None:
        """What failed is not tried again: from here on nothing is compiled."""
        self.failure = first_line(error)
        self.close()

    def seats_of(self, block: nn.Module, routes: Sequence[Route]) -> _Seats:
        """Who rides on a block along `routes`, and the pattern of it all."""
        riding = [
            (path, at, layer)
            for path, module in block.named_modules()
            if (name := self._names.get(id(module))) is not None
            for at, route in enumerate(routes)
            if (layer := self.riders.seated(name).get(route.adapter)) is not None
        ]
        rows = tuple(route.stop - route.start for route in routes)
        thrown = tuple(layer.rolls and routes[at].dice is not None for _, at, layer in riding)
        made = (make_of(block), rows, thrown, tuple((path, at, make_of(layer)) for path, at, layer in riding))
        if made not in self._patterns:
            self._patterns[made] = _Pattern(block, riding, rows, thrown)
        seeds = [
            (f"seed_{number}", at, layer, self._names[id(block.get_submodule(path))])
            for number, ((path, at, layer), throws) in enumerate(zip(riding, thrown, strict=True))
            if throws
        ]
        return _Seats(made, tuple(_places(block, [layer for _, _, layer in riding])), seeds)

    def graph(self, seats: _Seats, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[..., Any]:
        """What is compiled of a pattern for inputs like these."""
        key = (seats.pattern, shapes(args), shapes(kwargs))
        if key not in self._graphs:
            self._graphs[key] = self._compiler(_named(self._patterns[seats.pattern], len(self._graphs)))
        return self._graphs[key]


class _Seats:
    """Who rides on a block along some routes."""

    def __init__(
        self, pattern: Hashable, places: Sequence[Place], seeds: Sequence[tuple[str, int, AdapterLayer, str]]
    ) -> None:
        self.pattern = pattern
        self.branches = any(layer.branches for _, _, layer, _ in seeds)
        """Whether dice decide what is computed, which no graph can follow."""

        self._places = places
        self._seeds = seeds

    def tensors(self, routes: Sequence[Route]) -> dict[str, Tensor]:
        """The numbers of the block and of its riders, as they are now, by their names in the pattern, and dice."""
        found = {name: getattr(module, home)[key] for name, module, home, key in self._places}
        for name, at, layer, target in self._seeds:
            found[name] = torch.tensor(routes[at].dice_of(layer, target, 0))
        return found


class _Region:
    """Stands where a block's `forward` was."""

    def __init__(self, regions: Regions, block: nn.Module) -> None:
        self.block = block
        self.seats: dict[Hashable, _Seats] = {}
        self._regions = regions
        self._plain = block.forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._regions.busy:
            return self._plain(*args, **kwargs)
        routes = self._regions.riders.routes
        layout = tuple((route.adapter, route.stop, route.dice is None) for route in routes)
        if (seats := self.seats.get(layout)) is None:
            seats = self.seats[layout] = self._regions.seats_of(self.block, routes)
        if seats.branches:
            return self._plain(*args, **kwargs)
        return self._regions.graph(seats, args, kwargs)(seats.tensors(routes), args, kwargs)


class _Pattern(nn.Module):
    """A block and the adapters' layers on it, without numbers."""

    def __init__(
        self, block: nn.Module, riding: Sequence[tuple[str, int, AdapterLayer]], rows: Sequence[int],
        thrown: Sequence[bool],
    ) -> None:  # fmt: skip
        super().__init__()
        self.block = _hollow(block)
        self.layers = nn.ModuleList(_hollow(layer) for _, _, layer in riding)
        members = [Adapter({}, {}) for _ in rows]
        ends = [sum(rows[: at + 1]) for at in range(len(rows))]
        throwing = [any(thrown[n] for n, (_, own, _) in enumerate(riding) if own == at) for at in range(len(rows))]
        seeds = {id(layer): f"seed_{n}" for n, layer in enumerate(self.layers) if thrown[n]}
        for name in seeds.values():
            self.register_buffer(name, torch.empty((), dtype=torch.int64, device="meta"))
        routes = [
            _Handed(member, start, stop, 0 if throws else None, pattern=self, names=seeds)
            for member, start, stop, throws in zip(members, [0, *ends], ends, throwing, strict=False)
        ]
        own: dict[str, dict[Adapter, AdapterLayer]] = {}
        for (path, at, _), layer in zip(riding, self.layers, strict=True):
            assert isinstance(layer, AdapterLayer)
            own.setdefault(path, {})[members[at]] = layer
        for path, seats in own.items():
            self.block.get_submodule(path).register_forward_hook(_hook(routes, seats, path))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.block(*args, **kwargs)

    def computed(self, tensors: dict[str, Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What the block makes of its inputs with these numbers."""
        return functional_call(self, tensors, args, dict(kwargs))


@dataclass(frozen=True)
class _Handed(Route):
    """A route in a pattern: its dice are handed in with the tensors."""

    pattern: nn.Module | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    """The buffers that hold the seeds of layers."""

    def dice_of(self, layer: AdapterLayer, name: str, rows: int) -> Dice | None:
        own = self.names.get(id(layer))
        return None if own is None else getattr(self.pattern, own)


def _hook(routes: Sequence[Route], seats: Mapping[Adapter, AdapterLayer], path: str) -> Callable[..., Tensor]:
    layers = [layer for route in routes if (layer := seats.get(route.adapter)) is not None]
    quiet = not any(route.dice is not None and layer.rolls for route, layer in zip(routes, layers, strict=False))
    even = len({route.stop - route.start for route in routes}) == 1
    alike = len(routes) > 1 and len(layers) == len(routes) and quiet and even

    def on(module: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        joint = layers[0].stacked(layers, module) if alike else None  # of the numbers that are handed in now
        return ride(routes, seats, path, module, args[0], y, joint)

    return on


def _hollow(module: nn.Module) -> nn.Module:
    """A copy without numbers, hooks, or what stands in for `forward`."""
    memo: dict[int, Any] = {}
    for each in module.modules():
        memo |= {id(getattr(each, name)): OrderedDict() for name in HOOKS}
        for home in HOMES:
            for tensor in getattr(each, home).values():
                if tensor is not None:
                    empty = torch.empty_like(tensor, device="meta")
                    wanted = tensor.requires_grad
                    memo[id(tensor)] = nn.Parameter(empty, wanted) if isinstance(tensor, nn.Parameter) else empty
    stand_in = vars(module).get("forward")
    memo[id(stand_in)] = None
    made = copy.deepcopy(module, memo)
    vars(made).pop("forward", None)
    return made


def _places(block: nn.Module, layers: Sequence[nn.Module]) -> Iterator[Place]:
    """Where the tensors lie that the pattern of a block and its riders wants."""
    for above, whole in [("block", block), *((f"layers.{at}", layer) for at, layer in enumerate(layers))]:
        for path, module in whole.named_modules(prefix=above):
            for home in HOMES:
                yield from (
                    (f"{path}.{name}", module, home, name)
                    for name, tensor in getattr(module, home).items()
                    if tensor is not None
                )


def first_line(error: Exception) -> str:
    """What went wrong, in short."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


def make_of(module: nn.Module) -> Hashable:
    """Equal for modules that compute the same but for the numbers in their tensors."""
    own = {*HOOKS, *HOMES, "_modules", "forward", *(name for name in vars(nn.Module()) if name != "training")}
    return tuple(
        (
            path,
            type(each),
            tuple(
                (name, tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device, tensor.requires_grad)
                for home in HOMES for name, tensor in getattr(each, home).items() if tensor is not None
            ),
            tuple((name, _told(value)) for name, value in sorted(vars(each).items()) if name not in own),
        )
        for path, each in module.named_modules()
    )  # fmt: skip


def _told(value: Any) -> Hashable:
    """Equal for values that mean the same to a computation; what nobody can tell is only equal to itself."""
    match value:
        case None | bool() | int() | float() | str() | torch.dtype() | torch.device() | type() | FunctionType():
            return (type(value), value)
        case tuple() | list():
            return (type(value), *(_told(each) for each in value))
        case dict():
            return tuple((name, _told(each)) for name, each in value.items())
        case nn.Module() | Tensor():
            return (type(value), id(value))
        case object(__dict__=inner) if type(value).__eq__ is object.__eq__:
            return (type(value), _told(inner))
        case _:
            return (type(value), id(value))


def shapes(values: Any) -> Hashable:
    """Equal for inputs that one graph serves."""
    match values:
        case Tensor():
            return (tuple(values.shape), values.stride(), values.dtype, values.requires_grad)
        case tuple() | list():
            return tuple(shapes(each) for each in values)
        case dict():
            return tuple((name, shapes(each)) for name, each in values.items())
        case _:
            return _told(values)


def _named(pattern: _Pattern, number: int) -> Callable[..., Any]:
    """What a pattern computes, under code of its own: torch keeps what it compiled by the code, looks through all of it
    at each call, and compiles no more than a few for one."""
    inner = _Pattern.computed
    code = inner.__code__.replace(co_name=f"block_{number}")
    made = FunctionType(code, inner.__globals__, code.co_name, inner.__defaults__, inner.__closure__)
    return MethodType(made, pattern)
