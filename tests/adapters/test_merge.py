"""A file of any kind is merged into a base for drawing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from impasto import adapters
from impasto.adapters.config import Adapter as Config
from impasto.adapters.config import Boft, Full, Glora, Ia3, Loha, Lokr, Lora, Oft
from impasto.errors import ModelFileError
from impasto.families.family import Family
from impasto.weights import file
from impasto.weights.merge import merge_file as merge

KINDS: list[Config] = [
    Lora(rank=2, conv_rank=2, decompose=True), Loha(rank=2), Lokr(rank=2), Glora(rank=2), Ia3(), Full(conv=True),
    Oft(), Boft(), Lora(rank=2, conv_rank=2, train_norm=True),
]  # fmt: skip


@pytest.mark.parametrize("config", KINDS, ids=[each.kind for each in KINDS])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_a_file_acts_with_the_weight_it_is_given(
    tmp_path: Path, tiny_family: Family, config: Config, weight: float
) -> None:
    targets = {target.name: target for target in tiny_family.targets()}
    adapter = adapters.build(config, targets.values(), seed=0)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
        wanted = {}
        for name, layer in adapter.items():
            base = targets[name].base
            wanted[name] = base.weight + weight * (layer.weight(base) - base.weight)
        file.write(tmp_path / "a.safetensors", adapter.tensors(), {}, "fp32")
        merge(targets, tmp_path / "a.safetensors", weight)
    for name, value in wanted.items():
        torch.testing.assert_close(targets[name].base.weight.detach(), value)


def test_tensors_that_are_not_understood_are_refused_by_name(tmp_path: Path, tiny_family: Family) -> None:
    targets = {target.name: target for target in tiny_family.targets()}
    name = next(iter(targets))
    held = {f"{name}.hada_w1_a": torch.zeros(2, 2), f"{name}.hada_t1": torch.zeros(2, 2)}
    file.write(tmp_path / "a.safetensors", held, {}, "fp32")
    with pytest.raises(ModelFileError, match=f"E-MOD-041.*{name}"):
        merge(targets, tmp_path / "a.safetensors", 1.0)
