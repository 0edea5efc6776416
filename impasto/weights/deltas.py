"""What the layers of an adapter file add to the weights they ride on, one layer at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from impasto import families
from impasto.adapters.additive import Added
from impasto.adapters.reading import from_file
from impasto.adapters.targets import Layer, Target
from impasto.errors import ModelFileError, Problem
from impasto.families import detect
from impasto.families.config import Model
from impasto.weights import layouts, recognise
from impasto.weights.header import shown
from impasto.weights.low_rank import Product
from impasto.weights.stream import Reader

PLAIN = {"lora_down.weight", "lora_up.weight"}
"""The tensors of a plain LoRA's layer, besides its alpha."""

BOUND = ("dora_scale", "a2.weight", "oft_blocks", "on_input", "rescale")
"""Tensors of kinds that ask what the base's weight is, so that they add nothing of their own to it."""

Outline = Mapping[str, Layer]
"""The layers of a base, without their numbers, by the names that adapter files have for them."""


@dataclass(frozen=True)
class Delta:
    """What one layer adds to a weight."""

    matrix: Product | Tensor
    """As a matrix [O, I * kernel], with its scale."""

    shape: tuple[int, ...]
    """Of the weight: [O, I] or [O, I, height, width]."""

    scale: float
    """alpha / rank; 1 for kinds without."""

    rank: int | None
    """None for kinds without."""

    bias: Tensor | None = None
    """What is added to the bias, which no LoRA can hold."""


@dataclass(frozen=True)
class Opened:
    """An adapter file and its layers, by our names for them."""

    reader: Reader
    kinds: Mapping[str, Collection[str]]
    """The tensors that each layer has."""

    _found: layouts.Found | None = None

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.reader.path

    def held(self, name: str) -> dict[str, Tensor]:
        """The tensors of one layer, by the last part of their names."""
        if self._found is not None:
            return self._found.held(name, self.reader.tensor)
        return {kind: self.reader.tensor(f"{name}.{kind}") for kind in self.kinds[name]}


def opened(reader: Reader, targets: Iterable[Target] | None) -> Opened:
    """The layers of an adapter file: in whichever layout, of the base with these layers. Without one, Kohya's names are
    taken as they are, and others for those of the published family.

    Raises ModelFileError when there is anything else in it.
    """
    found = _adapter(reader)
    if targets is None and found.layout in ("kohya", "lycoris", "unknown"):
        found = _kohya(reader)
        return Opened(reader, {name: set(each) for name, each in found.layers.items()})
    targets = layouts.published(reader.head) if targets is None else targets
    own = layouts.find(reader.path, reader.head.tensors, reader.head.metadata, targets)
    return Opened(reader, {name: own.kinds(name) for name in own.layers}, own)


def targets(base: str | None) -> list[Target] | None:
    """The layers of a base: `pocket`, a folder or a file."""
    return None if base is None else families.outline(detect.look(Model(path=base)))


def outline(targets: Iterable[Target] | None) -> Outline | None:
    """What such layers are, without the norms."""
    return None if targets is None else {target.name: target.layer for target in targets if not target.is_norm}


def _adapter(reader: Reader) -> recognise.Layers:
    shapes = {name: entry.shape for name, entry in reader.head.tensors.items()}
    found = recognise.adapter(shapes)
    if found is None:
        what, fix = f"is no adapter but a {recognise.model(shapes)[0]}", "name an adapter's .safetensors file"
        raise ModelFileError(Problem("E-MOD-050", what, str(reader.path), fix))
    return found


def _kohya(reader: Reader) -> recognise.Layers:
    found = _adapter(reader)
    if found.unknown or found.layout != "kohya":
        strange = found.unknown[0] if found.unknown else next(iter(found.layers))
        what = f"has {shown(strange)}, which is in no adapter that can be worked on here"
        fix = "`impasto inspect` tells what the file is"
        raise ModelFileError(Problem("E-MOD-050", what, str(reader.path), fix))
    return found


NORM = {"w_norm", "b_norm"}
"""The tensors of a norm, which no LoRA can hold."""


def is_norm(kinds: Iterable[str]) -> bool:
    """Whether such tensors are a norm's."""
    return bool(NORM & set(kinds))


def is_plain(kinds: Iterable[str]) -> bool:
    """Whether a layer with such tensors is a plain LoRA's."""
    return set(kinds) - {"alpha"} == PLAIN


def delta(path: Path, name: str, tensors: Mapping[str, Tensor], outline: Outline | None) -> Delta:
    """What a layer of the file at `path` adds.

    Raises ModelFileError when that depends on the base's numbers, when the tensors do not fit together, or when they
    do not tell the weight's shape and there is no `outline` of the base.
    """
    if bound := [kind for kind in BOUND if kind in tensors]:
        what = f"{name} has {bound[0]}: what it does depends on the base's weights, so it has no low-rank form"
        raise ModelFileError(Problem("E-MOD-051", what, str(path), "merge it into its base with --into"))
    try:
        return _plain(tensors) if is_plain(tensors) else _other(path, name, tensors, outline)
    except (ValueError, KeyError, RuntimeError, IndexError) as error:
        fix = "fetch or write the file again"
        raise ModelFileError(Problem("E-MOD-051", f"{name} cannot be read: {error}", str(path), fix)) from None


def _plain(tensors: Mapping[str, Tensor]) -> Delta:
    down, up = tensors["lora_down.weight"], tensors["lora_up.weight"]
    rank = len(down)
    if rank == 0 or up.ndim not in (2, down.ndim) or up.shape[1] != rank or up[0].numel() != rank:
        raise ValueError(f"lora_down is {tuple(down.shape)} and lora_up {tuple(up.shape)}, which do not fit together")
    scale = float(tensors["alpha"]) / rank if "alpha" in tensors else 1.0
    product = Product(scale * up.double().flatten(1), down.double().flatten(1))
    return Delta(product, (len(up), *down.shape[1:]), scale, rank)


def _other(path: Path, name: str, tensors: Mapping[str, Tensor], outline: Outline | None) -> Delta:
    if "diff" in tensors:
        if strange := tensors.keys() - {"diff", "diff_b", "alpha"}:
            raise ValueError(f"{sorted(strange)[0]} is not read here")
        weight, bias = tensors["diff"], tensors.get("diff_b")
        return Delta(weight.double().flatten(1), tuple(weight.shape), 1.0, None, bias)
    if outline is None:
        what = f"{name} does not tell the shape of its layer, as LoHa and LoKr do not"
        fix = "name the base it was trained on: --base FOLDER, or --base pocket"
        raise ModelFileError(Problem("E-MOD-052", what, str(path), fix))
    if name not in outline:
        what = f"{name} has no place in the base"
        raise ModelFileError(Problem("E-MOD-040", what, str(path), "name the base it was trained on"))
    layer = from_file(outline[name], tensors)
    if not isinstance(layer, Added):
        raise ValueError("it is of no kind that only adds")
    made = layer.delta().detach()
    rank = recognise.rank({kind: tuple(tensor.shape) for kind, tensor in tensors.items()})
    scale = float(tensors["alpha"]) / rank if rank and "alpha" in tensors else 1.0
    return Delta(made.double().flatten(1), tuple(made.shape), scale, rank)
