"""Layers from the tensors of a file, of whatever kind: the tensors' names tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from impasto.adapters import boft, full, glora, ia3, loha, lokr, lora, norm, oft
from impasto.adapters.adapter import AdapterLayer
from impasto.adapters.targets import Layer, Norm

Reader = Callable[[Layer, Mapping[str, Tensor]], AdapterLayer]

READERS: Mapping[str, Reader] = {
    "lora_down.weight": lora.from_file,
    "hada_w1_b": loha.from_file,
    "lokr_w1": lokr.from_file,
    "lokr_w1_a": lokr.from_file,
    "a2.weight": glora.from_file,
    "on_input": ia3.from_file,
    "diff": full.from_file,
    "oft_blocks": lambda base, tensors: (boft if tensors["oft_blocks"].ndim == 4 else oft).from_file(base, tensors),
}
"""Who reads the layers that have such a tensor. LoRA-FA and DyLoRA write plain LoRA."""


def from_file(base: Layer | Norm, tensors: Mapping[str, Tensor]) -> AdapterLayer:
    """The layer that a file's tensors for it (`lora_down.weight`, `alpha` ...) make on `base`.

    Raises ValueError or KeyError when they do not fit, or are of no kind that is known.
    """
    if isinstance(base, Norm):
        return norm.from_file(base, tensors)
    for name, reader in READERS.items():
        if name in tensors:
            return reader(base, tensors)
    raise ValueError(f"{', '.join(sorted(tensors))} is of no kind that is read here")
