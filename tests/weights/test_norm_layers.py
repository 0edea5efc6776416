"""Files that hold norms beside their layers: told, measured, resized, merged, begun with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter

from impasto import adapters
from impasto.adapters.config import Adapter as Config
from impasto.adapters.config import Lora
from impasto.config import load
from impasto.errors import ConfigError
from impasto.families.family import Family
from impasto.weights import file, starting
from impasto.weights.combine import combine
from impasto.weights.inspect import inspect
from impasto.weights.low_rank import Rule
from impasto.weights.merge import by_layer
from impasto.weights.norms import norms
from impasto.weights.resize import resize
from tests.weights.adapters import saved

CONFIG = Lora(rank=4, alpha=2.0, train_norm=True)


@pytest.fixture
def path(tmp_path: Path, tiny_family: Family) -> Path:
    return saved(tmp_path / "a.safetensors", CONFIG, tiny_family.targets())


def of_norms(path: Path) -> dict[str, torch.Tensor]:
    return {name: value for name, value in file.load(path)[0].items() if name.endswith("_norm")}


def test_a_file_tells_that_it_holds_norms_and_how_long_they_are(path: Path) -> None:
    held = of_norms(path)
    assert held
    assert inspect(path).what == "LoRA + norms"
    found = norms(path).layers
    assert norms(path).untold == 0
    for name, value in held.items():
        layer, _, kind = name.partition(".")
        assert kind != "w_norm" or found[layer] == pytest.approx(float(value.norm()))


def test_other_ranks_leave_the_norms_as_they_were(path: Path) -> None:
    report = resize(path, out := path.with_name("b.safetensors"), Rule(rank=2))
    before, after = of_norms(path), of_norms(out)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(f"{len(before) // 2} norms are written as they were" in each for each in report.remarks)


def test_norms_of_several_files_are_added(path: Path, tiny_family: Family) -> None:
    other = saved(path.with_name("o.safetensors"), CONFIG, tiny_family.targets(), seed=2)
    combine([(path, 0.5), (other, -2.0)], out := path.with_name("both.safetensors"), None)
    first, second, found = of_norms(path), of_norms(other), of_norms(out)
    for name, value in found.items():
        torch.testing.assert_close(value, 0.5 * first[name] - 2 * second[name])


def test_a_training_may_begin_with_the_layers_and_norms_of_a_file(path: Path, tiny_family: Family) -> None:
    tensors, _ = file.load(path)
    sizes = starting.sizes(path, by_layer(tensors))
    adapter = adapters.build(Lora(train_norm=True), tiny_family.targets(), 0, sizes)
    list(starting.take_over(adapter, path, by_layer(tensors)))
    assert adapter.tensors().keys() == tensors.keys()
    assert all(torch.equal(value, tensors[name]) for name, value in adapter.tensors().items())


@pytest.mark.parametrize("kind", ["oft", "boft"])
def test_a_rotation_says_why_it_has_no_longest(kind: str) -> None:
    with pytest.raises(ConfigError, match="keeps the length of every weight"):
        load(None, [f"adapter.kind={kind}", "adapter.max_norm=1.0"])
    assert TypeAdapter(Config).validate_python({"kind": kind})
