"""Bases of every family, in folders and in single files, written with adapters in them and compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from impasto import families
from impasto.adapters.config import Adapter as Config
from impasto.adapters.config import Boft, DyLora, Full, Glora, Loha, Lokr, Lora, LoraFa, Oft
from impasto.adapters.targets import Target
from impasto.errors import ConfigError, ModelFileError
from impasto.families import detect, tiny
from impasto.families.config import Model
from impasto.families.names import T5, kohya_name
from impasto.weights import bases, file, header
from impasto.weights.bake import bake
from impasto.weights.convert import convert
from impasto.weights.extract import extract
from impasto.weights.low_rank import Rule
from impasto.weights.merge import by_layer, merge, merge_file
from tests.weights.adapters import deltas, saved

MINIATURES: dict[str, Callable[[Path], Path]] = {
    "sd1": tiny.stable_diffusion, "sd2": tiny.stable_diffusion_2, "sdxl": tiny.stable_diffusion_xl,
    "sd3": tiny.stable_diffusion_3,
}  # fmt: skip
KINDS: list[Config] = [
    Lora(rank=2, conv_rank=2), Lora(rank=2, decompose=True), LoraFa(rank=2), DyLora(rank=2), Loha(rank=2), Lokr(rank=2),
    Glora(rank=2), Full(), Oft(), Boft(),
]  # fmt: skip


@pytest.fixture(scope="module", params=MINIATURES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MINIATURES[request.param](tmp_path_factory.mktemp("bases") / "base")


@pytest.fixture(scope="module")
def one(folder: Path) -> Path:
    """The same base as a single file."""
    return tiny.single_file(folder, folder.parent / "one.safetensors")


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tiny.stable_diffusion_xl(tmp_path_factory.mktemp("xl") / "base")
    return folder, tiny.single_file(folder, folder.parent / "one.safetensors")


def layers(path: Path, described: Path | None = None) -> dict[str, Target]:
    model = Model(path=str(path), config_path=described, prediction="auto" if _flows(path, described) else "epsilon")
    family = families.load(detect.look(model), model, device=torch.device("cpu"), dtype=torch.float32)
    return {target.name: target for target in family.targets()}


def _flows(path: Path, described: Path | None) -> bool:
    """A family that learns a flow needs no word on what it predicts."""
    return bases.card_of(str(path), described).prediction == "flow"


@torch.no_grad()
def merged(path: Path, adapter: Path, described: Path | None = None, strength: float = 1.0) -> dict[str, Target]:
    """The layers of a base with an adapter merged in memory."""
    found = layers(path, described)
    for name, tensors in by_layer(file.load(adapter)[0]).items():
        merge(found[name].base, tensors, strength)
    return found


def assert_same(found: dict[str, Target], wanted: dict[str, Target]) -> None:
    assert found.keys() == wanted.keys()
    for name, target in wanted.items():
        assert torch.equal(found[name].base.weight, target.base.weight), name
        if target.base.bias is not None:
            assert torch.equal(found[name].base.bias, target.base.bias), name


def test_a_folder_of_every_family_becomes_the_base_with_the_adapter(tmp_path: Path, folder: Path) -> None:
    adapter = saved(tmp_path / "a.safetensors", Lora(rank=2, conv_rank=2), layers(folder).values())
    bake([(adapter, 0.5)], str(folder), tmp_path / "new")
    assert_same(layers(tmp_path / "new"), merged(folder, adapter, strength=0.5))


def test_a_single_file_of_every_family_becomes_one_with_the_adapter(tmp_path: Path, folder: Path, one: Path) -> None:
    adapter = saved(tmp_path / "a.safetensors", Lora(rank=2, conv_rank=2), layers(folder).values())
    new = tmp_path / "new.safetensors"
    bake([(adapter, 0.5)], str(one), new, config_path=folder)
    assert_same(layers(new, folder), merged(one, adapter, folder, strength=0.5))
    before, after = load_file(one), load_file(new)
    assert before.keys() == after.keys()
    kept = [name for name in before if name.startswith("first_stage_model.")]
    assert kept
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert "a.safetensors" in header.read(new).metadata["modelspec.merged_from"]


@pytest.mark.parametrize("config", KINDS, ids=lambda config: type(config).__name__)
def test_every_kind_can_be_merged_into_a_single_file_of_xl(
    tmp_path: Path, xl: tuple[Path, Path], config: Config
) -> None:
    folder, one = xl
    adapter = saved(tmp_path / "a.safetensors", config, layers(folder).values())
    bake([(adapter, 1.0)], str(one), tmp_path / "new.safetensors", config_path=folder)
    assert_same(layers(tmp_path / "new.safetensors", folder), merged(one, adapter, folder))


def test_another_precision_is_rounded_to_once(tmp_path: Path, xl: tuple[Path, Path]) -> None:
    folder, one = xl
    adapter, new = saved(tmp_path / "a.safetensors", Lora(rank=2), layers(folder).values()), tmp_path / "n.safetensors"
    bake([(adapter, 1.0)], str(one), new, precision="fp16", config_path=folder)
    assert {value.dtype for value in load_file(new).values()} == {torch.float16}
    found = layers(new, folder)
    for name, target in merged(one, adapter, folder).items():
        assert torch.equal(found[name].base.weight, target.base.weight.half().float()), name


def test_a_sum_that_is_too_large_for_its_type_writes_nothing(tmp_path: Path, xl: tuple[Path, Path]) -> None:
    folder, one = xl
    adapter, new = saved(tmp_path / "a.safetensors", Lora(rank=2), layers(folder).values()), tmp_path / "n.safetensors"
    with pytest.raises(ModelFileError, match="E-MOD-010"):
        bake([(adapter, 1e9)], str(one), new, precision="fp16", config_path=folder)
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_single_file_that_lacks_a_layer_is_refused_by_name(tmp_path: Path, xl: tuple[Path, Path]) -> None:
    folder, one = xl
    adapter = saved(tmp_path / "a.safetensors", Lora(rank=2), layers(folder).values())
    tensors = load_file(one)
    lacking = next(name for name in tensors if name.endswith("attn2.to_k.weight"))
    save_file({name: value for name, value in tensors.items() if name != lacking}, tmp_path / "cut.safetensors")
    with pytest.raises(ModelFileError, match=f"E-MOD-108 .*{lacking}"):
        bake([(adapter, 1.0)], str(tmp_path / "cut.safetensors"), tmp_path / "new.safetensors", config_path=folder)


def test_a_file_stays_a_file_and_a_folder_a_folder(tmp_path: Path, xl: tuple[Path, Path]) -> None:
    folder, one = xl
    with pytest.raises(ConfigError, match="is a single file"):
        bake([], str(one), tmp_path / "new", config_path=folder)
    with pytest.raises(ConfigError, match="is a folder"):
        bake([], str(folder), tmp_path / "new.safetensors")


def test_flux_in_a_folder_is_merged_into_and_extracted_from(tmp_path: Path) -> None:
    folder = tiny.flux(tmp_path / "base")
    opened = Lora.model_validate({"rank": 2, "targets": {"layers": "full"}})
    planted = saved(tmp_path / "a.safetensors", opened, layers(folder).values())
    bake([(planted, 1.0)], str(folder), tmp_path / "new")
    assert_same(layers(tmp_path / "new"), merged(folder, planted))
    report = extract(str(tmp_path / "new"), str(folder), tmp_path / "b.safetensors", Rule(rank=2), "fp32")
    wanted, found = deltas(planted), deltas(tmp_path / "b.safetensors")
    assert found.keys() == wanted.keys()
    assert any("single_blocks_1_linear1" in name for name in found)
    for name, delta in wanted.items():
        torch.testing.assert_close(found[name], delta, atol=1e-5, rtol=1e-4)
    assert report.remarks == []


def test_a_file_in_diffusers_layout_is_merged_into_a_base_alike(tmp_path: Path) -> None:
    folder = tiny.flux(tmp_path / "base")
    planted = saved(tmp_path / "a.safetensors", Lora(rank=2, alpha=3.0), (
        each for each in layers(folder).values() if each.encoder != T5))  # fmt: skip
    convert(planted, tmp_path / "b.safetensors", "diffusers", base=str(folder))
    bake([(planted, 0.5)], str(folder), tmp_path / "one")
    bake([(tmp_path / "b.safetensors", 0.5)], str(folder), tmp_path / "other")
    assert_same(layers(tmp_path / "one"), layers(tmp_path / "other"))


@pytest.mark.parametrize("against", ["file", "folder"])
def test_a_planted_difference_is_found_again_in_any_form(tmp_path: Path, folder: Path, one: Path, against: str) -> None:
    planted = saved(tmp_path / "a.safetensors", Lora(rank=2, conv_rank=2), layers(folder).values())
    new, out = tmp_path / "new.safetensors", tmp_path / "b.safetensors"
    bake([(planted, 1.0)], str(one), new, config_path=folder)
    base = str(one if against == "file" else folder)
    report = extract(str(new), base, out, Rule(rank=2), "fp32", config_path=folder)
    wanted, found = deltas(planted), deltas(out)
    assert found.keys() == wanted.keys()
    for name, delta in wanted.items():
        torch.testing.assert_close(found[name], delta, atol=1e-5, rtol=1e-4)
    assert report.remarks == []


def test_an_adapter_of_xl_with_the_names_of_diffusers_is_merged_alike(tmp_path: Path, xl: tuple[Path, Path]) -> None:
    folder, one = xl
    targets = layers(folder)
    own = saved(tmp_path / "a.safetensors", Lora(rank=2, conv_rank=2), targets.values())
    other = {target.name: kohya_name(target.part, target.path, encoder=target.encoder) for target in targets.values()}
    tensors = {
        f"{other[name]}.{kind}": value
        for name, held in by_layer(file.load(own)[0]).items()
        for kind, value in held.items()
    }
    assert any(name.startswith("lora_unet_down_blocks_1_") for name in tensors)
    assert not any("input_blocks" in name for name in tensors)
    file.write(tmp_path / "b.safetensors", tensors, {}, "fp32")
    for name in ("a", "b"):
        bake(
            [(tmp_path / f"{name}.safetensors", 1.0)],
            str(one),
            tmp_path / f"new-{name}.safetensors",
            config_path=folder,
        )
    wanted = layers(tmp_path / "new-a.safetensors", folder)
    assert_same(layers(tmp_path / "new-b.safetensors", folder), wanted)
    merge_file(targets, tmp_path / "b.safetensors", 1.0)
    assert_same(targets, wanted)


def test_a_base_of_8_bits_with_scales_is_read_and_not_written(xl: tuple[Path, Path], tmp_path: Path) -> None:
    folder, one = xl
    held = load_file(one)
    name = next(each for each in held if each.endswith("attn1.to_q.weight"))
    scale = held[name].abs().max() / 448
    narrow = {name: (held[name] / scale).to(torch.float8_e4m3fn), f"{name.removesuffix('weight')}scale_weight": scale}
    packed = tmp_path / "packed.safetensors"
    save_file(held | narrow, packed)
    before, after = layers(one, folder), layers(packed, folder)
    (changed,) = [key for key in before if not torch.equal(before[key].base.weight, after[key].base.weight)]
    assert torch.allclose(before[changed].base.weight, after[changed].base.weight, rtol=1 / 15, atol=float(scale) / 500)
    adapter = saved(tmp_path / "a.safetensors", Lora(rank=2), before.values())
    with pytest.raises(ModelFileError, match=r"E-MOD-119.*8 bits"):
        bake([(adapter, 1.0)], str(packed), tmp_path / "new.safetensors", config_path=folder)
