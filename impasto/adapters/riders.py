"""K adapters ride on one untouched base: forward hooks give each member's rows to its own layers.

The base keeps its modules, names and state dict. A route says which rows of the batch belong to which adapter; the
hook at a layer gives those rows to the adapter's layer there and leaves all other rows as the base made them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from impasto import dice
from impasto.adapters.adapter import Adapter, AdapterLayer
from impasto.adapters.rolls import Dice
from impasto.adapters.targets import Target

Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]


@dataclass(frozen=True)
class Route:
    """Rows `start` to `stop` of a batch belong to `adapter`."""

    adapter: Adapter
    start: int
    stop: int
    dice: int | None = None
    """Seeds the adapter's dropouts for these rows; None in previews and validation."""

    def dice_of(self, layer: AdapterLayer, name: str) -> Dice | None:
        """What seeds the layer on the target `name`."""
        if self.dice is None or not layer.rolls:
            return None
        return dice.seed("layer", self.dice, "" if layer.together else name)


class Riders:
    """The adapters mounted on one base."""

    def __init__(self, targets: Iterable[Target]) -> None:
        self._targets = {target.name: target for target in targets}
        self._seats: dict[str, dict[Adapter, AdapterLayer]] = {}
        self._handles: dict[str, RemovableHandle] = {}
        self._routes: Sequence[Route] = ()
        self._silent: set[str] = set()

    def mount(self, adapter: Adapter) -> None:
        """Let `adapter` ride: its layers act wherever a route names it."""
        for name, layer in adapter.items():
            seats = self._seats.setdefault(name, {})
            seats[adapter] = layer
            if name not in self._handles:
                self._handles[name] = self._targets[name].module.register_forward_hook(self._hook(name))
                self._silent.add(name)

    def dismount(self, adapter: Adapter) -> None:
        """Take `adapter` off; a layer without riders is the plain base again."""
        for name, _ in adapter.items():
            del self._seats[name][adapter]
            if not self._seats[name]:
                self._handles.pop(name).remove()
                self._silent.discard(name)

    @contextmanager
    def routed(self, routes: Sequence[Route]) -> Iterator[None]:
        """Send rows along `routes` for as long as the `with` lasts. It must enclose the backward pass: checkpointed
        blocks run their forward again there."""
        assert not self._routes, "routes do not nest"
        ends = [0, *(route.stop for route in routes)]
        assert [route.start for route in routes] == ends[:-1], "routes must cover the rows without a gap"
        self._routes = routes
        try:
            yield
        finally:
            self._routes = ()

    @property
    def routes(self) -> Sequence[Route]:
        """Where rows go now; empty out of `routed`."""
        return self._routes

    def seated(self, name: str) -> Mapping[Adapter, AdapterLayer]:
        """The layers that ride on a target, by their adapters."""
        return self._seats.get(name, {})

    def silent(self) -> set[str]:
        """Mounted targets whose hook never ran: layers reached without a call, which an adapter cannot reach."""
        return set(self._silent)

    def _hook(self, name: str) -> Hook:
        def on(module: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor | None:
            self._silent.discard(name)
            if not self._routes:
                return None
            return ride(self._routes, self._seats[name], name, module, args[0], y)

        return on


def ride(
    routes: Sequence[Route], seats: Mapping[Adapter, AdapterLayer], name: str, base: nn.Module, x: Tensor, y: Tensor
) -> Tensor:
    """What `routes` make of a base's output `y` to `x`, with the layers in `seats`."""
    each, rest = divmod(x.shape[0], routes[-1].stop)
    assert rest == 0, f"dim 0 of {name} is not the example: {x.shape[0]} rows for {routes[-1].stop} examples"
    if len(routes) == 1:
        return _own(routes[0], seats, name, base, x, y)
    layers = [seats.get(route.adapter) for route in routes]
    if (together := _together(routes, layers, base, x, y)) is not None:
        return together
    sizes = [(route.stop - route.start) * each for route in routes]
    xs, ys = (
        torch.split(x, sizes),
        torch.split(y, sizes),
    )  # as slices, each would fill a whole batch of zeros on the way back
    return torch.cat(
        [_own(route, seats, name, base, *own) for route, own in zip(routes, zip(xs, ys, strict=True), strict=True)]
    )


def _together(
    routes: Sequence[Route], layers: Sequence[AdapterLayer | None], base: nn.Module, x: Tensor, y: Tensor
) -> Tensor | None:
    """All rows in one product, where neighbours are alike: as many rows each, no dice, a kind that can."""
    pairs = list(zip(layers, routes, strict=True))
    quiet = [layer for layer, route in pairs if layer is not None and (route.dice is None or not layer.rolls)]
    if len(quiet) < len(routes) or len({route.stop - route.start for route in routes}) > 1:
        return None
    return quiet[0].stacked(quiet, x, y, base)


def _own(
    route: Route, seats: Mapping[Adapter, AdapterLayer], name: str, base: nn.Module, x: Tensor, y: Tensor
) -> Tensor:
    layer = seats.get(route.adapter)
    if layer is None:
        return y
    return layer.forward(x, y, base, route.dice_of(layer, name))
