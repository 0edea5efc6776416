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
from impasto.adapters.adapter import Adapter, AdapterLayer, Joint
from impasto.adapters.rolls import Dice, PartOf
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

    before: int = 0
    """Where other ranks compute the other examples of this micro-batch: how many of them are before these."""

    of: int | None = None
    """And how many there are in all."""

    @property
    def shared(self) -> bool:
        """Whether other ranks compute some of the examples."""
        return self.of not in (None, self.stop - self.start)

    def dice_of(self, layer: AdapterLayer, name: str, rows: int) -> Dice | None:
        """What seeds the layer on the target `name`, which has `rows` rows."""
        if self.dice is None or not layer.rolls:
            return None
        seed = dice.seed("layer", self.dice, "" if layer.together else name)
        if self.of is None or not self.shared:
            return seed
        own = self.stop - self.start
        return PartOf(seed, self.before * rows // own, own / self.of)


@dataclass(frozen=True)
class _Company:
    """Adapters that have as many rows each of a batch, in this order."""

    adapters: tuple[Adapter, ...]
    quiet: bool
    """Whether no dice are given to any."""

    joints: dict[str, Joint | None]
    """How they act together at a layer, once that was asked for."""


class Riders:
    """The adapters mounted on one base."""

    def __init__(self, targets: Iterable[Target]) -> None:
        self._targets = {target.name: target for target in targets}
        self._seats: dict[str, dict[Adapter, AdapterLayer]] = {}
        self._handles: dict[str, RemovableHandle] = {}
        self._routes: Sequence[Route] = ()
        self._company: _Company | None = None
        self._known: dict[tuple[tuple[Adapter, ...], bool], _Company] = {}
        self._silent: set[str] = set()

    def mount(self, adapter: Adapter) -> None:
        """Let `adapter` ride: its layers act wherever a route names it."""
        self.forget()
        for name, layer in adapter.items():
            seats = self._seats.setdefault(name, {})
            seats[adapter] = layer
            if name not in self._handles:
                self._handles[name] = self._targets[name].module.register_forward_hook(self._hook(name))
                self._silent.add(name)

    def dismount(self, adapter: Adapter) -> None:
        """Take `adapter` off; a layer without riders is the plain base again."""
        self.forget()
        for name, _ in adapter.items():
            del self._seats[name][adapter]
            if not self._seats[name]:
                self._handles.pop(name).remove()
                self._silent.discard(name)

    def forget(self) -> None:
        """Find out anew who acts together and how: adapters have moved in memory, or come to rest."""
        self._known.clear()

    @contextmanager
    def routed(self, routes: Sequence[Route]) -> Iterator[None]:
        """Send rows along `routes` for as long as the `with` lasts. It must enclose the backward pass: checkpointed
        blocks run their forward again there."""
        assert not self._routes, "routes do not nest"
        ends = [0, *(route.stop for route in routes)]
        assert [route.start for route in routes] == ends[:-1], "routes must cover the rows without a gap"
        self._routes, self._company = routes, self._met(routes)
        try:
            yield
        finally:
            self._routes, self._company = (), None

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
            joint = self._joint(name, module) if len(self._routes) > 1 else None
            return ride(self._routes, self._seats[name], name, module, args[0], y, joint)

        return on

    def _met(self, routes: Sequence[Route]) -> _Company | None:
        """Who shares the rows evenly; None where shares differ. Neighbouring rows of one adapter are one share."""
        rows: list[tuple[Adapter, int]] = []
        for route in routes:
            before = rows.pop() if rows and rows[-1][0] is route.adapter else (route.adapter, 0)
            rows.append((route.adapter, before[1] + route.stop - route.start))
        if len({count for _, count in rows}) != 1:
            return None
        key = tuple(adapter for adapter, _ in rows), all(route.dice is None for route in routes)
        return self._known.setdefault(key, _Company(*key, {}))

    def _joint(self, name: str, base: nn.Module) -> Joint | None:
        """How all rows are taken in one product, where neighbours are alike: no dice, a kind that can."""
        company = self._company
        if company is None:
            return None
        if name not in company.joints:
            layers = [layer for each in company.adapters if (layer := self._seats[name].get(each)) is not None]
            alike = len(layers) == len(company.adapters) and (company.quiet or not any(each.rolls for each in layers))
            company.joints[name] = layers[0].stacked(layers, base) if alike else None
        return company.joints[name]


def ride(
    routes: Sequence[Route], seats: Mapping[Adapter, AdapterLayer], name: str, base: nn.Module, x: Tensor, y: Tensor,
    joint: Joint | None,
) -> Tensor:  # fmt: skip
    """What `routes` make of a base's output `y` to `x`, with the layers in `seats`, or with all of them together."""
    each, rest = divmod(x.shape[0], routes[-1].stop)
    assert rest == 0, f"dim 0 of {name} is not the example: {x.shape[0]} rows for {routes[-1].stop} examples"
    if len(routes) == 1:
        return _own(routes[0], seats, name, base, x, y)
    if joint is not None:
        return joint(x, y)
    sizes = [(route.stop - route.start) * each for route in routes]
    xs, ys = (
        torch.split(x, sizes),
        torch.split(y, sizes),
    )  # as slices, each would fill a whole batch of zeros on the way back
    return torch.cat(
        [_own(route, seats, name, base, *own) for route, own in zip(routes, zip(xs, ys, strict=True), strict=True)]
    )


def _own(
    route: Route, seats: Mapping[Adapter, AdapterLayer], name: str, base: nn.Module, x: Tensor, y: Tensor
) -> Tensor:
    layer = seats.get(route.adapter)
    if layer is None:
        return y
    return layer.forward(x, y, base, route.dice_of(layer, name, len(x)))
