"""An adapter file's layers merged into a base in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from impasto.adapters.reading import from_file
from impasto.adapters.targets import Layer, Norm, Target
from impasto.errors import ModelFileError, Problem
from impasto.families.config import Merged
from impasto.families.names import kohya_name
from impasto.weights import file


def by_layer(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """A file's tensors by the name of the layer they belong to: `<layer>.<kind>` -> layer -> kind -> tensor."""
    held: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, kind = key.partition(".")
        held.setdefault(name, {})[kind] = value
    return held


def called(targets: Iterable[Target], names: Collection[str]) -> dict[str, str]:
    """What a file with layers of these names calls each of its layers, by our names for them.

    Files of some programs have diffusers' own names for the U-Net of Stable Diffusion XL, `lora_unet_down_blocks_...`.
    """
    found = {name: name for name in names}
    for target in targets:
        other = kohya_name(target.part, target.path, encoder=target.encoder)
        if target.name not in found and other in found and found[other] == other:
            del found[other]
            found[target.name] = other
    return found


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


def merge_file(targets: Mapping[str, Target], path: Path, tensors: Mapping[str, Tensor], weight: float) -> None:
    """Add `weight` times what the file adds to each layer, to the base in memory.

    Raises ModelFileError (exit code 7) when it is no adapter of this base, naming what does not fit.
    """
    held_by = by_layer(tensors)
    layers = {own: held_by[name] for own, name in called(targets.values(), held_by).items()}
    strange = [name for name in layers if name not in targets]
    if strange or not layers:
        what = f"{len(strange)} of its {len(layers)} layers have no place in this base, among them {strange[:1]}"
        fix = "use the base it was trained on; `impasto inspect` tells what the file is"
        raise ModelFileError(Problem("E-MOD-040", what, str(path), fix))
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
            merge_file(places, each.path, file.load(each.path)[0], each.weight)


@contextmanager
def lent(
    targets: Mapping[str, Target], path: Path | None, tensors: Mapping[str, Tensor], weight: float
) -> Iterator[None]:
    """A base in memory with a file merged into it for as long as the `with` lasts; then it is as it was, to the bit.

    Without a file nothing is done. Raises ModelFileError as `merge_file` does.
    """
    if path is None:
        yield
        return
    touched = [targets[name].base for name in called(targets.values(), by_layer(tensors)) if name in targets]
    before = [[(each, each.detach().clone()) for each in base.parameters(recurse=False)] for base in touched]
    try:
        merge_file(targets, path, tensors, weight)
        yield
    finally:
        with torch.no_grad():
            for tensor, copy in (pair for pairs in before for pair in pairs):
                tensor.copy_(copy)
