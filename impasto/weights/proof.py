"""The proof of a file: diffusers' own loader opens it on a base nobody rides on, counts layers, draws a picture.

diffusers reads plain LoRA and nothing else: it refuses the other kinds, and of DoRA in Kohya's layout it takes the LoRA
and leaves out the lengths without a word (0.42). Those files are read again by our own reader, merged into such a base
layer by layer as each computes, and the proof says so. So it is with files in Kohya's layout for the families of which
diffusers reads its own layout alone; in that one, LoRA and DoRA of every family are put to its loader, on diffusers'
own denoiser.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from impasto import families
from impasto.adapters.reading import READERS, from_file
from impasto.adapters.targets import Layer, Norm, Target
from impasto.errors import ModelFileError, Problem
from impasto.families import parts, pieces
from impasto.families.config import Model
from impasto.families.detect import Card
from impasto.families.precision import text_dtype
from impasto.families.quantized import QuantizedConv2d, QuantizedLinear
from impasto.families.sd import Modules
from impasto.weights import diffusers_layout, file
from impasto.weights.merge import by_layer, merge, merge_all

ADAPTER = "proof"
LIMIT = 1 / 255
"""Mean difference of two pictures in 0..1 that counts as alike: less than one step of 8 bits."""

LIMIT_16_BIT = 4 / 255
"""The same where the base is held in 16 bits: there two right ways to the same picture round differently (0.5 / 255
was measured), and a proof must never refuse a good file."""

REFUSALS = (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, NotImplementedError)
"""What diffusers and peft raise at files they cannot make sense of."""

KINDS = {"lora_down.weight", "lora_up.weight", "alpha"}
BEYOND = READERS.keys() - KINDS | {"dora_scale", "w_norm"}
"""A file with such tensors is of a kind that diffusers does not read."""

FOREIGN = "is in the file but was not trained"
REPORT = "the training itself is safe in its checkpoint; please report this, with the file"

Scene = Callable[[Modules], Tensor]
Reader = Literal["diffusers", "impasto"]


@dataclass(frozen=True)
class Proof:
    """A file that does what training did."""

    matched: int
    """Layers that the reader took over, with the file's own numbers and scale."""

    expected: int
    difference: float
    """Mean difference between the two pictures, in 0..1."""

    reader: Reader = "diffusers"
    """Who opened the file: diffusers, or, for kinds it does not read, impasto itself."""


class Prover:
    """Opens adapter files on a base of its own: read from disk at the first proof and kept for the next, or `fresh`."""

    def __init__(
        self,
        card: Card,
        *,
        device: torch.device,
        dtype: torch.dtype,
        model: Model | None = None,
        fresh: Callable[[], Modules] | None = None,
    ) -> None:
        """`model` says how the base was held; in few bits, one from disk has the numbers that those stand for. `fresh`
        gives a base for one proof that shares its memory with one in use, so nothing may write to it."""
        self._given = fresh
        self._card = card
        self._model = model or Model()
        self._device = device
        self._dtype = dtype
        self._base: _Base | None = None

    def prove(self, path: Path, *, names: Collection[str], scene: Scene, reference: Tensor) -> Proof:
        """Open `path` as any user would, where diffusers reads its kind, and compare it with what was trained.

        `names` are the layers that were trained, `scene` draws a picture [..., 3, H, W] in 0..1 with the modules it is
        given, and `reference` is the same picture as training drew it. Raises ModelFileError when a layer is missing,
        foreign or changed, or when the pictures differ.
        """
        tensors, _ = file.load(path)
        wide = {self._dtype, text_dtype(self._model, self._dtype)} == {torch.float32}
        limit = LIMIT if wide else LIMIT_16_BIT
        theirs = any(key.endswith(".lora_A.weight") for key in tensors)
        kohya_is_read = self._card.read_by_diffusers and not any(key.partition(".")[2] in BEYOND for key in tensors)
        if not theirs and not kohya_is_read:
            return self._reread(
                path, tensors, names, lambda fresh: _difference(path, scene(fresh), reference, limit, "impasto")
            )
        base = self._base or _Base.load(self._card, self._fresh())
        self._base = None  # whatever goes wrong below, the next proof starts from the disk
        base.open(path)
        faults = base.faults_of_theirs(tensors, names) if theirs else base.faults(tensors, names)
        if faults:
            raise _layers(path, faults, len(names), "diffusers")
        difference = _difference(path, scene(base.modules), reference, limit, "diffusers")
        restored = base.restore()
        assert restored or self._given is None, "diffusers wrote to the base that is trained on"
        if restored and self._given is None:
            self._base = base
        return Proof(len(names), len(names), difference)

    def _reread(
        self, path: Path, tensors: Mapping[str, Tensor], names: Collection[str], compare: Callable[[Modules], float]
    ) -> Proof:
        """The proof by our own reader."""
        modules = self._fresh()
        places = {target.name: target for target in families.layers(self._card, modules)}
        if faults := _mount(places, tensors, names):
            raise _layers(path, faults, len(names), "impasto")
        try:
            difference = compare(modules)
        except _Unreadable as error:
            raise _layers(path, dict([error.args]), len(names), "impasto") from error
        return Proof(len(names), len(names), difference, "impasto")

    def _fresh(self) -> Modules:
        """The base that is given, or one from disk, in plain layers, with what is merged into it."""
        if self._given is not None:
            return self._given()
        with _silence():
            modules = parts.load(self._card, self._model, dtype=self._dtype, device=self._device, plain=True)
            merge_all(families.layers(self._card, modules), self._model.merged)
            return modules


@dataclass(frozen=True)
class _Spot:
    """A layer of diffusers' own modules."""

    owner: nn.Module
    path: str
    module: nn.Module
    writes: int
    """How often its weight was written to."""

    @classmethod
    def at(cls, owner: nn.Module, path: str) -> _Spot:
        module = owner.get_submodule(path)
        return cls(owner, path, module, _writes(module))

    @property
    def now(self) -> nn.Module:
        """What is there now: the layer itself, or what a loader put around it."""
        return self.owner.get_submodule(self.path)


@dataclass(frozen=True)
class _Base:
    """A base fresh from disk, in the pipeline whose loader is put to the test."""

    modules: Modules
    targets: Mapping[str, Target]
    spots: Mapping[str, list[_Spot]]
    """Where each layer is in diffusers' own modules."""

    denoiser: str
    pipeline: Any

    @classmethod
    def load(cls, card: Card, modules: Modules) -> _Base:
        with _silence():
            targets = {target.name: target for target in families.layers(card, modules)}
            for target in targets.values():
                _look_plain(target.module)
            whole, modules = modules, replace(modules, unet=pieces.apart(modules.unet))
            spots = {}
            for name, target in targets.items():
                if target.part == "unet":
                    spots[name] = [_Spot.at(modules.unet, piece.path) for piece in target.pieces]
                else:
                    spots[name] = [_Spot.at(_owner(whole, target), target.path)]
            return cls(modules, targets, spots, card.denoiser, families.pipeline(card, modules))

    def open(self, path: Path) -> None:
        """Load the file with diffusers, by its folder and name, as users do."""
        folder, name = str(path.absolute().parent), path.name
        try:
            with _silence():
                self.pipeline.load_lora_weights(folder, weight_name=name, adapter_name=ADAPTER, local_files_only=True)
        except torch.OutOfMemoryError:
            raise
        except REFUSALS as error:
            what = f"was refused by diffusers ({type(error).__name__}: {error})"
            raise ModelFileError(Problem("E-MOD-030", what, str(path), REPORT)) from error

    def faults(self, tensors: Mapping[str, Tensor], names: Collection[str]) -> dict[str, str]:
        """The layers that are not as they should be, and why."""
        held = {name: set(each) for name, each in by_layer(tensors).items()}
        found = {name: FOREIGN for name in sorted(held.keys() - set(names))}
        for name in names:
            if why := self._fault(name, held.get(name, set()), tensors):
                found[name] = why
        return found

    def faults_of_theirs(self, tensors: Mapping[str, Tensor], names: Collection[str]) -> dict[str, str]:
        """The same for a file in diffusers' layout."""
        found, expected = {}, set()
        for name in names:
            if name not in self.targets:
                found[name] = "has no place in the base"
                continue
            modules = diffusers_layout.modules(self.targets[name], self.denoiser)
            for module, spot in zip(modules, self.spots[name], strict=True):
                expected |= {module.down, module.up, module.length}
                if not {module.down, module.up} <= tensors.keys():
                    found[name] = "is not in the file"
                elif why := _taken(spot, tensors[module.down], tensors[module.up], 1.0, tensors.get(module.length)):
                    found[name] = why
        return found | {name: FOREIGN for name in sorted(tensors.keys() - expected)}

    def restore(self) -> bool:
        """Unload the adapter; whether the base is as it was, layer by layer."""
        with _silence():
            self.pipeline.unload_lora_weights()
        return all(
            spot.now is spot.module and _writes(spot.module) == spot.writes
            for spots in self.spots.values()
            for spot in spots
        )

    def _fault(self, name: str, kinds: set[str], tensors: Mapping[str, Tensor]) -> str | None:
        """Why diffusers did not take this layer over as training left it; None if it did."""
        if kinds != KINDS:
            return "is incomplete in the file" if kinds else "is not in the file"
        if name not in self.targets:
            return "has no place in the base"
        down, up, alpha = (tensors[f"{name}.{kind}"] for kind in ("lora_down.weight", "lora_up.weight", "alpha"))
        (spot,) = self.spots[name]
        return _taken(spot, down, up, float(alpha) / len(down))


def _taken(spot: _Spot, down: Tensor, up: Tensor, wanted: float, lengths: Tensor | None = None) -> str | None:
    """Why diffusers did not take these factors over; None if it did."""
    from peft.tuners.lora import LoraLayer

    layer = spot.now
    if not isinstance(layer, LoraLayer) or ADAPTER not in layer.lora_A:
        return "was passed over"
    if not (_same(layer.lora_A[ADAPTER].weight, down) and _same(layer.lora_B[ADAPTER].weight, up)):
        return "got other numbers"
    if lengths is not None and not _same(layer.lora_magnitude_vector[ADAPTER].weight, lengths):
        return "got other lengths"
    if not math.isclose(scale := layer.scaling[ADAPTER], wanted, rel_tol=1e-6):
        return f"is scaled by {scale:.6g} in place of {wanted:.6g}"
    return None


def _mount(places: Mapping[str, Target], tensors: Mapping[str, Tensor], names: Collection[str]) -> dict[str, str]:
    """Let each layer compute as the file makes it; the layers that are not as they should be, and why."""
    held = by_layer(tensors)
    found = {name: FOREIGN for name in sorted(held.keys() - set(names))}
    for name in names:
        if name not in held:
            found[name] = "is not in the file"
        elif name not in places:
            found[name] = "has no place in the base"
        else:
            layer = places[name].base
            try:
                from_file(_without_numbers(layer), held[name])
            except (KeyError, ValueError) as error:
                found[name] = f"cannot be read ({error})"
            vars(layer)["forward"] = partial(_forward, name, layer, held[name])
    return found


def _forward(name: str, layer: Layer | Norm, held: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """What a layer computes with a file merged into it: for that moment, so that no second base is ever in memory."""
    try:
        merged = _merged(layer, held)
    except (KeyError, ValueError) as error:
        raise _Unreadable(name, f"cannot be read ({error})") from error
    found: Tensor = merged(x)
    return found


class _Unreadable(Exception):
    """A layer whose tensors in the file make no sense."""


def _without_numbers(layer: Layer | Norm) -> Layer | Norm:
    """A layer of the same make, of which the numbers may be elsewhere just now."""
    found = copy(layer)
    _become_plain(found)
    weight = layer.stand_in() if isinstance(layer, QuantizedLinear | QuantizedConv2d) else layer.weight
    found._parameters = {
        name: None if each is None else nn.Parameter(torch.empty_like(each, device="meta"), requires_grad=False)
        for name, each in (("weight", weight), ("bias", layer.bias))
    }
    return found


def _merged(layer: Layer | Norm, held: Mapping[str, Tensor]) -> Layer | Norm:
    """A copy of a layer, in plain numbers, with a file merged into it."""
    found = copy(layer)
    vars(found).pop("forward", None)
    _become_plain(found)
    held_as = {"weight": layer.weight, "bias": layer.bias}
    found._parameters = {
        name: None if each is None else nn.Parameter(each.detach().clone(), requires_grad=False)
        for name, each in held_as.items()
    }
    merge(found, held)
    return found


def _look_plain(layer: nn.Module) -> None:
    """Let a layer in few bits be what peft knows how to wrap; it still computes with the few bits."""
    if isinstance(layer, QuantizedLinear | QuantizedConv2d):
        inner = copy(layer)
        _become_plain(layer)
        layer.register_parameter("weight", inner.stand_in())
        vars(layer)["forward"] = inner.forward


def _become_plain(layer: nn.Module) -> None:
    """Be of the class of torch that a layer is of."""
    layer.__class__ = next(kind for kind in type(layer).__mro__ if kind.__module__.startswith("torch.nn"))


def _owner(modules: Modules, target: Target) -> nn.Module:
    for part in (modules.unet, *modules.encoders):
        module: nn.Module = part
        if dict(module.named_modules()).get(target.path) is target.module:
            return module
    raise AssertionError(f"{target.name} is in no part of its base")


def _writes(module: nn.Module) -> int:
    assert isinstance(module.weight, Tensor)
    return module.weight._version


def _same(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and torch.equal(ours.detach().cpu(), theirs.to(ours.dtype))


def _layers(path: Path, faults: Mapping[str, str], expected: int, reader: Reader) -> ModelFileError:
    matched = expected - sum(why != FOREIGN for why in faults.values())
    some = "; ".join(f"{name} {why}" for name, why in list(faults.items())[:3])
    what = f"is not what was trained: {matched} of {expected} layers match in {reader} ({some})"
    return ModelFileError(Problem("E-MOD-031", what, str(path), REPORT))


def _difference(path: Path, drawn: Tensor, reference: Tensor, limit: float, reader: Reader) -> float:
    assert drawn.shape == reference.shape, f"two scenes: {drawn.shape} and {reference.shape}"
    difference = float((drawn.float().cpu() - reference.float().cpu()).abs().mean())
    if difference <= limit:  # not so for NaN
        return difference
    there = "in diffusers" if reader == "diffusers" else "read again"
    what = f"draws another picture {there} than in training: they differ by {difference:.4f}, allowed is {limit:.4f}"
    raise ModelFileError(Problem("E-MOD-032", what, str(path), REPORT))


@contextmanager
def _silence() -> Iterator[None]:
    """No warnings, log lines or progress bars of the libraries: what matters is counted here."""
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    quiet = [logging.getLogger(name) for name in ("diffusers", "transformers", "peft")]
    levels = [each.level for each in quiet]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            transformers_logging.disable_progress_bar()
            for each in quiet:
                each.setLevel(logging.CRITICAL)
            yield
        finally:
            if bars:
                transformers_logging.enable_progress_bar()
            for each, level in zip(quiet, levels, strict=True):
                each.setLevel(level)
