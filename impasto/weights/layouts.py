"""Adapter files of all programs as layers of ours, and ours as files in diffusers' layout.

No name is ever taken apart to find its layer: all spellings of every layer are known from the model's own modules. What
a file calls otherwise, and what it cuts into several (queries, keys and values), becomes one layer with our name:

    kohya       lora_unet_<path>, lora_te1_<path>: the published path, or diffusers' own
    lycoris     lycoris_<path>, lora_transformer_<path>
    diffusers   unet.<path>, transformer.<path>, text_encoder.<path>, or without the part; attention processors of old
    peft        base_model.model.<path>
    original    diffusion_model.<published path>, or without the part; x-labs' processors
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from impasto import families
from impasto.adapters.targets import Target
from impasto.errors import ModelFileError, Problem
from impasto.families.names import T5
from impasto.families.single_file import halves_swapped
from impasto.weights import file, peft, recognise
from impasto.weights.header import Header, shown

ALIKE = {
    "lora_A.weight": "lora_down.weight", "lora_A.default.weight": "lora_down.weight",
    "lora_B.weight": "lora_up.weight", "lora_B.default.weight": "lora_up.weight",
    "lora_magnitude_vector": "dora_scale", "lora_magnitude_vector.weight": "dora_scale",
    "lora_magnitude_vector.default.weight": "dora_scale",
}  # fmt: skip
"""What our files call a tensor that others call so."""

FACTORS = ("lora_down.weight", "lora_up.weight")
PARTS = {1: "text_encoder", 2: "text_encoder_2", 3: "text_encoder_3"}
ELSEWHERE = {1: "clip_l", 2: "clip_g", 3: "t5xxl"}
"""What single files call the text encoders."""

Get = Callable[[str], Tensor]


class Place(NamedTuple):
    """Where a module of a file belongs."""

    layer: str
    start: int
    stop: int
    """The pieces of the layer that it is."""

    turned: bool = False


@dataclass(frozen=True)
class Source:
    """A module of a file."""

    called: str
    place: Place
    tensors: Mapping[str, str]
    """The names of its tensors in the file, by what our files call them."""


@dataclass(frozen=True)
class Found:
    """The layers of a file, by our names for them."""

    path: Path
    targets: Mapping[str, Target]
    layers: Mapping[str, Sequence[Source]]
    told: peft.Told

    def kinds(self, name: str) -> frozenset[str]:
        """The tensors that a layer has."""
        return frozenset(kind for source in self.layers[name] for kind in source.tensors)

    def held(self, name: str, get: Get) -> dict[str, Tensor]:
        """The tensors of one layer as our own files hold them; `get` reads one of the file."""
        target, sources = self.targets[name], self.layers[name]
        pieces = [self._read(source, get) for source in sources]
        whole = sources[0].place.stop - sources[0].place.start == len(target.pieces) and len(sources) == 1
        if whole and not sources[0].place.turned:
            return pieces[0]
        for source, held in zip(sources, pieces, strict=True):
            if set(held) - {"alpha", "dora_scale"} != set(FACTORS):
                what = f"{shown(source.called)} is a part of one layer here, and only LoRA can be put together"
                fix = "use a file in the layout of Kohya's scripts"
                raise ModelFileError(Problem("E-MOD-051", what, str(self.path), fix))
        return _together(self.path, target, sources, pieces)

    def untold(self, name: str) -> bool:
        """Whether the file tells no alpha for a plain LoRA's layer."""
        return any(
            "alpha" not in source.tensors
            and FACTORS[0] in source.tensors
            and _told(self.told, source.called, 1) is None
            for source in self.layers[name]
        )

    def all(self, get: Get) -> dict[str, dict[str, Tensor]]:
        """The tensors of all layers."""
        return {name: self.held(name, get) for name in self.layers}

    def _read(self, source: Source, get: Get) -> dict[str, Tensor]:
        held = {kind: get(name) for kind, name in source.tensors.items()}
        if "lora_magnitude" in source.tensors.get("dora_scale", "") and FACTORS[1] in held:
            held["dora_scale"] = held["dora_scale"].reshape(-1, *[1] * (held[FACTORS[1]].ndim - 1))
        if "alpha" not in held and FACTORS[0] in held:
            rank = len(held[FACTORS[0]])
            told = _told(self.told, source.called, rank)
            held["alpha"] = torch.tensor(float(rank) if told is None else told)
        return held


def load(path: Path, targets: Iterable[Target]) -> dict[str, dict[str, Tensor]]:
    """The layers of an adapter file for the base with these layers, by our names for them.

    Raises ModelFileError when a tensor of it belongs nowhere, naming the first.
    """
    tensors, metadata = file.load(path)
    return find(path, tensors, metadata, targets).all(tensors.__getitem__)


def published(head: Header) -> list[Target]:
    """The layers of the family that a file tells by its names and shapes, as that was published."""
    found = recognise.adapter({name: entry.shape for name, entry in head.tensors.items()})
    return families.published(recognise.adapter_family(found)[0] if found else None)


def find(path: Path, names: Iterable[str], metadata: Mapping[str, str], targets: Iterable[Target]) -> Found:
    """The layers of the file at `path` that holds tensors of these names.

    Raises ModelFileError when one of them belongs nowhere or is there twice, naming the first.
    """
    by_name = {target.name: target for target in targets}
    spelt = spellings(by_name.values())
    modules: dict[str, dict[str, str]] = {}
    for name in names:
        module, kind = recognise.split(name)
        modules.setdefault(module or name, {})[ALIKE.get(kind, kind)] = name
    if lost := [module for module in modules if module not in spelt]:
        raise _lost(path, lost, modules)
    layers: dict[str, list[Source]] = {}
    for module, tensors in modules.items():
        place = spelt[module]
        if len(half := set(FACTORS) & set(tensors)) == 1:
            missing = "lora_up" if FACTORS[0] in half else "lora_down"
            what = f"has only one half of {shown(module)}: {missing} is missing"
            raise ModelFileError(Problem("E-MOD-041", what, str(path), "fetch or write the file again"))
        layers.setdefault(place.layer, []).append(Source(module, place, tensors))
    inside = {name: sorted(sources, key=lambda each: each.place.start) for name, sources in layers.items()}
    found = {name: inside[name] for name in by_name if name in inside}
    for sources in found.values():
        for one, other in pairwise(sources):
            if other.place.start < one.place.stop:
                what = f"has {shown(one.called)} and {shown(other.called)}, which are the same layer"
                raise ModelFileError(Problem("E-MOD-041", what, str(path), "use a file of one program"))
    return Found(path, by_name, found, peft.told(path, metadata))


def spellings(targets: Iterable[Target]) -> dict[str, Place]:
    """The layers by all names that files have for them; a name that two layers have leads nowhere."""
    found: dict[str, Place | None] = {}
    for target in targets:
        own: dict[str, Place] = {}
        for name, place in _spelt(target):
            own.setdefault(name, place)
        for name, place in own.items():
            found[name] = None if name in found else place
        found[target.name] = own[target.name]
    return {name: place for name, place in found.items() if place is not None}


# -- names -------------------------------------------------------------------------------------------------------


def _spelt(target: Target) -> Iterator[tuple[str, Place]]:
    count = len(target.pieces)
    whole = Place(target.name, 0, count)
    yield target.name, whole
    if target.part != "unet":
        for start, path in _text_paths(target):
            yield start + path, whole
        if target.encoder == T5:  # FLUX.1's second text encoder, which some programs count so
            yield f"lora_te2_{target.path}".replace(".", "_"), whole
        return
    if target.published:
        for start in ("diffusion_model.", "model.diffusion_model.", "transformer.", "base_model.model.", ""):
            yield start + target.published, whole
        yield f"lycoris_{target.published}".replace(".", "_"), whole
        yield from _processors(target)
    for at, piece in enumerate(target.pieces):
        place = Place(target.name, at, at + 1, piece.turned)
        for start in ("unet.", "transformer.", "base_model.model.", "diffusion_model.", ""):
            yield start + piece.path, place
        for start in ("lora_unet.", "lora_transformer.", "lycoris.", "lycoris_unet.", "lycoris_transformer."):
            yield f"{start}{piece.path}".replace(".", "_"), place


def _text_paths(target: Target) -> Iterator[tuple[str, str]]:
    number = target.encoder or 1
    starts = [f"{PARTS[number]}.", f"text_encoders.{ELSEWHERE[number]}.transformer.", "base_model.model."]
    if number == T5:
        starts.append("text_encoder_2.")  # of FLUX.1, as diffusers counts
    published = target.path if number == T5 or target.path.startswith("text_model.") else f"text_model.{target.path}"
    for start in starts:
        for path in (published, published.removeprefix("text_model.")):
            yield start, path


_DOUBLE = re.compile(r"(?P<block>double_blocks\.\d+)\.(?P<side>img|txt)_attn\.(?P<layer>qkv|proj)")
_SINGLE = re.compile(r"(?P<block>single_blocks\.\d+)\.(?P<layer>linear[12])")


def _processors(target: Target) -> Iterator[tuple[str, Place]]:
    """x-labs' names: the attention's layers alone, in its processor."""
    for start in ("", "diffusion_model."):
        if found := _DOUBLE.fullmatch(target.published):
            name = f"{found['layer']}_lora{1 if found['side'] == 'img' else 2}"
            yield f"{start}{found['block']}.processor.{name}", Place(target.name, 0, len(target.pieces))
        if found := _SINGLE.fullmatch(target.published):
            first = found["layer"] == "linear1"
            name, stop = ("qkv_lora", 3) if first else ("proj_lora", 1)
            yield f"{start}{found['block']}.processor.{name}", Place(target.name, 0, stop)


def _told(told: peft.Told, called: str, rank: int) -> float | None:
    part, _, path = called.partition(".")
    inside = part in ("unet", "transformer", *PARTS.values())
    layer = path if inside else called.removeprefix("base_model.model.")
    return told.alpha(part if inside else "", layer, rank)


def _lost(path: Path, lost: Sequence[str], modules: Mapping[str, Mapping[str, str]]) -> ModelFileError:
    names = (name for each in modules.values() for name in each.values())
    if control := next((name for name in names if name.endswith((".lora_B.bias", "_norm.scale"))), None):
        what = f"holds {shown(control)}, as control LoRAs of Black Forest Labs do: they change what the model takes in"
        return ModelFileError(Problem("E-MOD-043", what, str(path), "use a LoRA that was made for text alone"))
    what = f"{len(lost)} of its {len(modules)} layers have no place in the base, first {shown(lost[0])}"
    fix = "name the base it was trained on, as with --base FOLDER; `impasto inspect` tells what the file is"
    return ModelFileError(Problem("E-MOD-040", what, str(path), fix))


# -- one layer of several ----------------------------------------------------------------------------------------


def _together(
    path: Path, target: Target, sources: Sequence[Source], pieces: Sequence[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """One layer of its pieces, block by block: exactly what they add apart. A piece that is not there adds nothing."""
    downs = [held[FACTORS[0]] for held in pieces]
    ups = [_turned(source, held[FACTORS[1]]) for source, held in zip(sources, pieces, strict=True)]
    scales = [float(held["alpha"]) / len(down) for held, down in zip(pieces, downs, strict=True)]
    complete = sum(source.place.stop - source.place.start for source in sources) == len(target.pieces)
    rows = [sum(piece.rows for piece in target.pieces[source.place.start : source.place.stop]) for source in sources]
    for source, up, count in zip(sources, ups, rows, strict=True):
        if len(up) != count:
            what = f"{shown(source.called)} is for {len(up)} outputs, and the base has {count} there"
            raise ModelFileError(Problem("E-MOD-041", what, str(path), "use the base it was trained on"))
    found: dict[str, Tensor]
    alike = len({scale for scale in scales}) == 1
    if complete and alike and all(torch.equal(down, downs[0]) for down in downs):
        found = {FACTORS[0]: downs[0], FACTORS[1]: torch.cat(ups), "alpha": pieces[0]["alpha"].float()}
    else:
        found = _blocks(target, sources, downs, ups, scales, rows)
    if lengths := [_turned(source, held["dora_scale"]) for source, held in zip(sources, pieces, strict=True)
                   if "dora_scale" in held]:  # fmt: skip
        if not complete or len(lengths) != len(pieces):
            what = f"{shown(target.name)} has lengths (DoRA) for some of its parts only, which is no one layer"
            fix = "use a file in the layout of Kohya's scripts"
            raise ModelFileError(Problem("E-MOD-051", what, str(path), fix))
        found["dora_scale"] = torch.cat(lengths)
    return found


def _blocks(
    target: Target, sources: Sequence[Source], downs: Sequence[Tensor], ups: Sequence[Tensor],
    scales: Sequence[float], rows: Sequence[int],
) -> dict[str, Tensor]:  # fmt: skip
    """Factors side by side. One scale stays in alpha; several go into the factors, in fp32."""
    alike = len(set(scales)) == 1
    rank = sum(map(len, downs))
    starts = [sum(piece.rows for piece in target.pieces[: source.place.start]) for source in sources]
    up = ups[0].new_zeros(sum(piece.rows for piece in target.pieces), rank, *ups[0].shape[2:])
    up = up if alike else up.float()
    column = 0
    for start, count, each, scale in zip(starts, rows, ups, scales, strict=True):
        width = each.shape[1]
        up[start : start + count, column : column + width] = each if alike else each.float() * scale
        column += width
    return {
        FACTORS[0]: torch.cat(list(downs)),
        FACTORS[1]: up,
        "alpha": torch.tensor((scales[0] if alike else 1.0) * rank),
    }


def _turned(source: Source, rows: Tensor) -> Tensor:
    return halves_swapped(rows) if source.place.turned else rows
