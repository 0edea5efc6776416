"""Adapters of every kind with numbers in them, on the layers of a miniature."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from impasto import adapters
from impasto.adapters.config import Adapter as Config
from impasto.adapters.targets import Target
from impasto.families.config import Precision
from impasto.weights import file
from impasto.weights.merge import by_layer


def trained(config: Config, targets: Iterable[Target], *, seed: int = 1) -> dict[str, Tensor]:
    """The tensors of an adapter whose every parameter was moved."""
    adapter = adapters.build(config, targets, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return {name: value.detach().clone() for name, value in adapter.tensors().items()}


def saved(
    path: Path, config: Config, targets: Iterable[Target], *, seed: int = 1, precision: Precision = "fp32"
) -> Path:
    """The same as a file."""
    file.write(
        path, trained(config, targets, seed=seed), {"ss_output_name": path.stem, "ss_network_dim": "x"}, precision
    )
    return path


def deltas(path: Path) -> dict[str, Tensor]:
    """What each layer of a plain LoRA file adds, in fp64, by the formula in its description alone."""
    tensors, _ = file.load(path)
    found = {}
    for name, held in by_layer(tensors).items():
        down, up = held["lora_down.weight"].double(), held["lora_up.weight"].double()
        scale = float(held["alpha"]) / len(down)
        found[name] = scale * torch.einsum("or,r...->o...", up.flatten(1), down)
    return found


def merged_deltas(tensors: dict[str, Tensor], targets: Iterable[Target]) -> dict[str, Tensor]:
    """What each layer of an adapter of any kind adds to its base, by its own merge."""
    from impasto.adapters.reading import from_file

    places = {target.name: target.base for target in targets}
    with torch.no_grad():
        return {
            name: from_file(places[name], held).weight(places[name]) - places[name].weight.float()
            for name, held in by_layer(tensors).items()
        }
