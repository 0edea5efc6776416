"""An adapter file's layers merged into a base in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from impasto.adapters.reading import from_file
from impasto.adapters.targets import Layer, Norm, Target
from impasto.errors import ModelFileError, Problem
from impasto.families.config import Merged
from impasto.weights import file, layouts


def by_layer(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """A file's tensors by the name of the layer they belong to: `<layer>.<kind>` -> layer -> kind -> tensor."""
    held: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, kind = key.partition(".")
        held.setdefault(name, {})[kind] = value
    return held


@torch.no_grad()
def merge(base: Layer | Norm, held: Mapping[str, Tensor], strength: float = 1.0) -> None:
    """Move `base` from itself (`strength` 0) to what the file's tensors for it make of it (1), in place.

    Computed in fp32 and rounded once, so a base in 16 bits loses nothing it could hold. Raises ValueError or KeyError
    when the tensors do not fit or are of no kind that is known.
    """
    assert isinstance(base.weight, nn.Parameter), "a base in few bits cannot take a merge; use a plain one"
    layer = from_file(base, held).to(base.weight.device)
    weight, bias = layer.weight(base), layer.bias(base)
    base.weight.copy_(torch.lerp(base.weight.float(), weight.float(), strength))
    if bias is not None and base.bias is not None:
        base.bias.copy_(torch.lerp(base.bias.float(), bias.float(), strength))


def merge_file(targets: Mapping[str, Target], path: Path, weight: float) -> None:
    """Add `weight` times what the file adds to each layer, to the base in memory.

    Raises ModelFileError (exit code 7) when it is no adapter of this base, naming what does not fit.
    """
    _merge(targets, path, layouts.load(path, targets.values()), weight)


def _merge(
    targets: Mapping[str, Target], path: Path, layers: Mapping[str, Mapping[str, Tensor]], weight: float
) -> None:
    for name, held in layers.items():
        try:
            merge(targets[name].base, held, weight)
        except (KeyError, ValueError) as error:
            fix = "use the base it was trained on"
            raise ModelFileError(Problem("E-MOD-041", f"{name} does not fit: {error}", str(path), fix)) from None


def merge_all(targets: Iterable[Target], merged: Sequence[Merged]) -> None:
    """Make a base in memory the one that the settings mean: its files, and the adapters that are part of it."""
    if merged:
        places = {target.name: target for target in targets}
        for each in merged:
            merge_file(places, each.path, each.weight)


@contextmanager
def lent(targets: Mapping[str, Target], path: Path | None, weight: float) -> Iterator[None]:
    """A base in memory with a file merged into it for as long as the `with` lasts; then it is as it was, to the bit.

    Without a file nothing is done. Raises ModelFileError as `merge_file` does.
    """
    if path is None:
        yield
        return
    layers = layouts.load(path, targets.values())
    before = [
        [(each, each.detach().clone()) for each in targets[name].base.parameters(recurse=False)] for name in layers
    ]
    try:
        _merge(targets, path, layers, weight)
        yield
    finally:
        with torch.no_grad():
            for tensor, copy in (pair for pairs in before for pair in pairs):
                tensor.copy_(copy)


def mergeable(targets: Iterable[Target], merged: Sequence[Merged]) -> None:
    """Raise ModelFileError where a file is no adapter of a base with these layers. Needs no weights of the base."""
    places = list(targets) if merged else []
    for each in merged:
        tensors, metadata = file.load(each.path)
        layouts.find(each.path, tensors, metadata, places)


def merge_into_part(layers: Iterable[Target], merged: Sequence[Merged], base: Sequence[Target]) -> None:
    """`merge_all` for the layers of one part of a `base`; what the files hold for other parts is passed over."""
    places = {target.name: target for target in layers} if merged else {}
    for each in merged:
        tensors, metadata = file.load(each.path)
        found = layouts.find(each.path, tensors, metadata, base)
        own = {name: found.held(name, tensors.__getitem__) for name in found.layers if name in places}
        _merge(places, each.path, own, each.weight)
