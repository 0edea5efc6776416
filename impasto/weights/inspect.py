"""What an adapter or model file is: read from its head and its few scalars, without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite, sqrt
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from impasto.errors import ModelFileError, Problem
from impasto.weights import header, peft, recognise
from impasto.weights.header import NUMPY, Header, shown
from impasto.weights.recognise import FAMILIES, Family, Layers

T = TypeVar("T")
Numbers: TypeAlias = NDArray[np.float64]
UP = "lora_up.weight"
FACTORS = {
    ("lora_down.weight", UP), ("lora_A.weight", "lora_B.weight"), ("lora_A.default.weight", "lora_B.default.weight"),
}  # fmt: skip
"""What the factors of a low-rank layer are called."""

LAYOUTS = {
    "kohya": "Kohya names",
    "diffusers": "diffusers names",
    "peft": "PEFT names",
    "lycoris": "LyCORIS names",
    "original": "names of the published model",
    "unknown": "names of no known layout",
}

HIGHLIGHTS = {
    "modelspec.title": "title",
    "modelspec.author": "author",
    "ss_output_name": "name",
    "ss_sd_model_name": "base",
    "ss_base_model_version": "base version",
    "ss_steps": "steps",
    "ss_epoch": "epoch",
    "ss_learning_rate": "learning rate",
    "ss_resolution": "resolution",
    "ss_num_train_images": "pictures",
    "modelspec.date": "written",
    "impasto.version": "impasto",
}
"""Metadata worth a line, and what the line calls it."""

SAID: Mapping[str, Family] = {
    "sd_v1": "sd1", "sd_v1_v": "sd1", "sd_v2": "sd2", "sd_v2_v": "sd2", "sdxl_base_v1-0": "sdxl", "flux1": "flux",
    "sd3-medium": "sd3", "sd3.5-medium": "sd3", "sd3.5-large": "sd3",
}  # fmt: skip
"""The family by `ss_base_model_version`, for models of unusual widths."""


@dataclass(frozen=True)
class Inspection:
    """What there is to know of a file."""

    path: Path
    what: str
    """`LoRA`, `LoHa + DoRA`, `full model in one file`, `VAE` ..."""

    family: Family | None
    """The architecture it belongs to, if it tells."""

    size: int
    """Bytes."""

    tensors: int
    types: Mapping[str, int]
    """How many tensors have which element type."""

    metadata: Mapping[str, str]
    layout: str = ""
    """How its layers are named; empty for files that are no adapters, as is all that follows."""

    parts: Mapping[str, int] = field(default_factory=dict)
    """Adapted layers in each part of the model."""

    ranks: Mapping[int, int] = field(default_factory=dict)
    """How many layers have which rank."""

    alphas: Mapping[float, int] = field(default_factory=dict)
    """How many layers have which alpha."""

    norms: Mapping[str, float] = field(default_factory=dict)
    """How far each layer's weight is moved (Frobenius norm), where it was asked for."""

    remarks: tuple[str, ...] = ()
    """What is odd about it."""

    def lines(self) -> list[str]:
        """All of it for people, a fact a line."""
        family = FAMILIES[self.family] if self.family else "unknown family"
        found = [f"{shown(self.path.name)[1:-1]}: {self.what}, {family}" + (f", {self.layout}" if self.layout else "")]
        found.append(f"size: {self.size:,} bytes, {self.tensors:,} tensors ({_counts(self.types)})")
        if self.parts:
            found.append("layers: " + ", ".join(f"{part} {count}" for part, count in self.parts.items()))
        if self.ranks:
            found.append(f"rank: {_counts(self.ranks)}")
        if self.alphas:
            found.append(f"alpha: {_counts(self.alphas)}")
        if self.norms:
            most = max(self.norms, key=lambda name: self.norms[name])
            mean = sum(self.norms.values()) / len(self.norms)
            found.append(f"norm: mean {mean:.4g}, largest {self.norms[most]:.4g} in {shown(most)[1:-1]}")
        found += [
            f"{word}: {shown(self.metadata[key])[1:-1]}" for key, word in HIGHLIGHTS.items() if self.metadata.get(key)
        ]
        return found + [f"odd: {remark}" for remark in self.remarks]


def inspect(path: Path, *, norms: bool = False) -> Inspection:
    """What the safetensors file at `path` is. `norms` reads all of it, else the head and the alphas suffice.

    The folder of a checkpoint is told by the adapter in it. Raises ModelFileError, saying what the file is instead,
    when it is not safetensors or not whole.
    """
    if (inside := path / "adapter.safetensors").is_file():
        path = inside
    head = header.read(path)
    shapes = {name: entry.shape for name, entry in head.tensors.items()}
    found = recognise.adapter(shapes)
    what, family = recognise.model(shapes) if found is None else (" + ".join(found.kinds), None)
    types = _commonest(entry.dtype for entry in head.tensors.values())
    plain = Inspection(path, what, family, head.size, len(head.tensors), types, head.metadata)
    return plain if found is None else _adapter(plain, head, found, norms=norms)


def _adapter(plain: Inspection, head: Header, found: Layers, *, norms: bool) -> Inspection:
    alphas = _alphas(plain.path, head, found)
    family, width = recognise.adapter_family(found)
    ranks = {name: rank for name, tensors in found.layers.items() if (rank := recognise.rank(tensors)) is not None}
    return replace(
        plain,
        family=family or SAID.get(head.metadata.get("ss_base_model_version", "")),
        layout=LAYOUTS[found.layout],
        parts={part: len(names) for part, names in sorted(found.parts.items())},
        ranks=_commonest(ranks.values()),
        alphas=_commonest(alphas.values()),
        norms=_norms(plain.path, head, found, alphas) if norms else {},
        remarks=tuple(_remarks(found, ranks, alphas, None if family else width)),
    )


def _alphas(path: Path, head: Header, found: Layers) -> dict[str, float]:
    """The alpha of each layer that has one."""
    names = [name for name, entry in head.tensors.items() if name.endswith(".alpha") and entry.count == 1]
    readable = [name for name in names if head.tensors[name].dtype in NUMPY]
    own = {name.removesuffix(".alpha"): float(header.numbers(path, head, name).item()) for name in readable}
    return _told(path, head, found) | own


def _told(path: Path, head: Header, found: Layers) -> dict[str, float]:
    """What a file with the names of diffusers or PEFT tells of its layers' alphas."""
    alphas: dict[str, float] = {}
    if found.layout in ("diffusers", "peft"):
        told = peft.told(path, head.metadata)
        for name, tensors in found.layers.items():
            part, _, layer = ("", "", name) if found.layout == "peft" else name.partition(".")
            alpha = told.alpha(part, layer, recognise.rank(tensors) or 1)
            alphas |= {} if alpha is None else {name: alpha}
    return alphas


def _remarks(found: Layers, ranks: Mapping[str, int], alphas: Mapping[str, float], width: int | None) -> Iterator[str]:
    if width:
        yield f"its U-Net listens to text of width {width}, as no published family does"
    if found.unknown:
        yield f"{len(found.unknown)} tensors that no adapter has, among them {shown(found.unknown[0])}"
    if empty := [name for name, rank in ranks.items() if rank == 0]:
        yield f"{len(empty)} layers of rank 0, among them {shown(empty[0])}"
    if found.layout == "kohya" and (bare := [name for name in ranks if name not in alphas]):
        yield f"{len(bare)} layers without alpha, which then counts as their rank, among them {shown(bare[0])}"
    if halves := [name for name, tensors in found.layers.items() if ("lora_down.weight" in tensors) != (UP in tensors)]:
        yield f"{len(halves)} layers with only one of lora_down and lora_up, among them {shown(halves[0])}"
    texts = [name for name in found.parts.get("text_encoder", ()) if UP in found.layers[name]]
    if len({alphas[name] for name in texts if name in alphas}) > 1:
        yield "the alphas in the text encoder differ; diffusers then takes one of them for all"


def _norms(path: Path, head: Header, found: Layers, alphas: Mapping[str, float]) -> dict[str, float]:
    """The Frobenius norm of what each layer adds to its weight, where that does not depend on the base."""
    norms: dict[str, float] = {}
    for name, kinds in found.layers.items():
        entries = {kind: head.tensors.get(f"{name}.{kind}") for kind in kinds if kind != "alpha"}
        if recognise.plain(kinds) and all(each and each.dtype in NUMPY and each.count for each in entries.values()):
            held = {kind: _finite(path, head, f"{name}.{kind}") for kind in entries}
            low = recognise.rank(kinds)
            scale = alphas.get(name, float(low)) / low if low else 1.0
            if not isfinite(scale):
                raise _not_finite(path, f"{name}.alpha")
            norm = _norm(held)
            norms |= {} if norm is None else {name: abs(scale) * norm}
    return norms


def _finite(path: Path, head: Header, name: str) -> Numbers:
    """The numbers of a tensor, in fp64."""
    found = header.numbers(path, head, name).astype(np.float64)
    if not np.isfinite(found).all():
        raise _not_finite(path, name)
    return found


def _not_finite(path: Path, name: str) -> ModelFileError:
    what = f"holds numbers that are not finite, first in {shown(name)}"
    return ModelFileError(Problem("E-MOD-010", what, str(path), "use an earlier file of the same training"))


def _norm(held: Mapping[str, Numbers]) -> float | None:
    """Of one layer's product, without its scale; None for one that is not whole."""
    match sorted(held):
        case [down, up] if (down, up) in FACTORS:
            return _low_rank(held[up], held[down])
        case ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"]:
            product = (held["hada_w1_a"] @ held["hada_w1_b"]) * (held["hada_w2_a"] @ held["hada_w2_b"])
            return float(np.linalg.norm(product))
        case ["diff"] | ["diff", "diff_b"]:
            return float(np.linalg.norm(held["diff"]))
        case ["w_norm"] | ["b_norm", "w_norm"]:
            return float(np.linalg.norm(held["w_norm"]))
        case [*kinds] if kinds and all(kind.startswith("lokr_w") for kind in kinds):
            one, two = _factor(held, "lokr_w1"), _factor(held, "lokr_w2")
            return None if one is None or two is None else one * two  # that of a Kronecker product
    return None


def _factor(held: Mapping[str, Numbers], name: str) -> float | None:
    """The norm of a weight that is whole or a product of two."""
    if name in held:
        return float(np.linalg.norm(held[name]))
    if f"{name}_a" in held and f"{name}_b" in held:
        return _low_rank(held[f"{name}_a"], held[f"{name}_b"])
    return None


def _low_rank(up: Numbers, down: Numbers) -> float:
    """The norm of up @ down, which is never built."""
    a, b = down.reshape(len(down), -1), up.reshape(len(up), -1)  # [rank, in], [out, rank]
    return sqrt(max(0.0, float(((b.T @ b) * (a @ a.T)).sum())))


def _commonest(values: Iterable[T]) -> dict[T, int]:
    """Each value and how often it comes, the most frequent first."""
    return dict(sorted(Counter(values).items(), key=lambda each: (-each[1], str(each[0]))))


def _counts(values: Mapping[T, int]) -> str:
    """`16`, or `16 (192 times), 4 (72 times)`."""
    if len(values) == 1:
        return _short(next(iter(values)))
    some = [f"{_short(value)} ({count} times)" for value, count in list(values.items())[:6]]
    return ", ".join(some) + (", ..." if len(values) > 6 else "")


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
