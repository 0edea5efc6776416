"""Adapter files of other programs: each adds to each layer what its own factors say, or is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from impasto import families
from impasto.adapters.targets import Target
from impasto.errors import ModelFileError
from impasto.families import detect, tiny
from impasto.families.config import Model
from impasto.families.targets import flux_targets
from impasto.weights import file, peft
from impasto.weights.inspect import inspect
from impasto.weights.layouts import find, load, spellings
from tests.families.test_flux_shape import encoders, full_size

Tensors = dict[str, Tensor]
Made = tuple[Tensors, dict[str, Tensor]]
"""A file's tensors, and what it adds to the layers, by our names."""


def outline(make: Callable[[Path], Path], folder: Path) -> dict[str, Target]:
    targets = families.outline(detect.look(Model(path=str(make(folder / "base")))))
    return {target.name: target for target in targets if not target.is_norm}


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return outline(tiny.flux, tmp_path_factory.mktemp("flux"))


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return outline(tiny.stable_diffusion_3, tmp_path_factory.mktemp("sd3"))


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return outline(tiny.stable_diffusion_xl, tmp_path_factory.mktemp("sdxl"))


def pair(rows: int, inputs: int, rank: int = 2) -> tuple[Tensor, Tensor]:
    """Any `down` and `up`."""
    generator = torch.Generator().manual_seed(rows * 1000 + inputs * 10 + rank)
    return torch.randn(rank, inputs, generator=generator), torch.randn(rows, rank, generator=generator)


def added(path: Path, tensors: Tensors, targets: dict[str, Target], told: dict[str, str] | None = None) -> Tensors:
    """What a file adds to each layer, by our own reader."""
    file.write(path, tensors, told or {}, "fp32")
    found = {}
    for name, held in load(path, targets.values()).items():
        down, up = held["lora_down.weight"], held["lora_up.weight"]
        found[name] = float(held["alpha"]) / len(down) * torch.einsum("or,r...->o...", up.flatten(1), down)
    return found


def same(found: Tensors, wanted: Tensors) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value.reshape(found[name].shape), atol=1e-5, rtol=1e-5)


# -- FLUX.1: width 32, MLP 128 -----------------------------------------------------------------------------------

QKV, LINEAR1 = "lora_unet_double_blocks_1_img_attn_qkv", "lora_unet_single_blocks_0_linear1"


def split(factors: tuple[str, str], named: Callable[[str], str], alpha: bool) -> Made:
    """Queries, keys, values (and the MLP) apart, of other ranks each, as diffusers has them."""
    tensors: Tensors = {}
    wanted = {}
    attention = [(f"transformer_blocks.1.attn.to_{each}", 32, rank) for each, rank in (("q", 2), ("k", 3), ("v", 2))]
    single = [(f"single_transformer_blocks.0.attn.to_{each}", 32, 2) for each in "qkv"]
    for name, pieces in ((QKV, attention), (LINEAR1, [*single, ("single_transformer_blocks.0.proj_mlp", 128, 4)])):
        rows = []
        for path, outputs, rank in pieces:
            down, up = pair(outputs, 32, rank)
            down, up = down + len(rows), up - len(rows)
            tensors |= {f"{named(path)}.{factors[0]}.weight": down, f"{named(path)}.{factors[1]}.weight": up}
            if alpha:
                tensors[f"{named(path)}.alpha"] = torch.tensor(1.5)
            rows.append((1.5 / rank if alpha else 1.0) * up @ down)
        wanted[name] = torch.cat(rows)
    return tensors, wanted


def published(start: str) -> Made:
    """One pair of factors a layer, under the published paths."""
    tensors, wanted = {}, {}
    for path, rows, inputs in (
        ("double_blocks.1.img_attn.qkv", 96, 32), ("single_blocks.0.linear2", 32, 160),
        ("single_blocks.1.modulation.lin", 96, 32), ("final_layer.adaLN_modulation.1", 64, 32),
    ):  # fmt: skip
        down, up = pair(rows, inputs)
        tensors |= {f"{start}{path}.lora_A.weight": down, f"{start}{path}.lora_B.weight": up}
        wanted["lora_unet_" + path.replace(".", "_")] = up @ down
    return tensors, wanted


FLUX: dict[str, Made] = {
    "diffusers": split(("lora_A", "lora_B"), lambda path: f"transformer.{path}", alpha=False),
    "PEFT": split(("lora_A", "lora_B"), lambda path: f"base_model.model.{path}", alpha=False),
    "OneTrainer": split(
        ("lora_down", "lora_up"), lambda path: f"lora_transformer.{path}".replace(".", "_"), alpha=True
    ),
    "LyCORIS": split(("lora_down", "lora_up"), lambda path: f"lycoris.{path}".replace(".", "_"), alpha=True),
    "ComfyUI": published("diffusion_model."),
    "published": published(""),
}


@pytest.mark.parametrize("program", FLUX)
def test_every_programs_file_for_flux_adds_what_it_says(tmp_path: Path, flux: dict[str, Target], program: str) -> None:
    tensors, wanted = FLUX[program]
    same(added(tmp_path / "a.safetensors", tensors, flux), wanted)
    assert inspect(tmp_path / "a.safetensors").family == "flux"


def test_x_labs_files_add_what_diffusers_makes_of_them(tmp_path: Path, flux: dict[str, Target]) -> None:
    from diffusers.loaders.lora_conversion_utils import _convert_xlabs_flux_lora_to_diffusers

    tensors: Tensors = {}
    for name, rows, inputs in (
        ("double_blocks.0.processor.qkv_lora1", 96, 32), ("double_blocks.0.processor.qkv_lora2", 96, 32),
        ("double_blocks.0.processor.proj_lora1", 32, 32), ("double_blocks.1.processor.proj_lora2", 32, 32),
        ("single_blocks.1.processor.qkv_lora", 96, 32), ("single_blocks.1.processor.proj_lora", 32, 160),
    ):  # fmt: skip
        down, up = pair(rows, inputs)
        tensors |= {f"{name}.down.weight": down, f"{name}.up.weight": up + len(tensors)}
    theirs = {name: each.contiguous() for name, each in _convert_xlabs_flux_lora_to_diffusers(dict(tensors)).items()}
    wanted = added(tmp_path / "theirs.safetensors", theirs, flux)
    found = added(tmp_path / "a.safetensors", tensors, flux)
    assert len(found) == 6
    same(found, wanted)
    single = found["lora_unet_single_blocks_1_linear1"]
    assert single[:96].any()
    assert not single[96:].any()


def test_kohyas_files_for_the_published_flux_add_what_diffusers_makes_of_them() -> None:
    from diffusers.loaders.lora_conversion_utils import _convert_kohya_flux_lora_to_diffusers

    targets = flux_targets(full_size("flux1-dev"), {1: encoders()[1]})
    tensors: Tensors = {}
    for target in targets:
        down, up = pair(*target.layer.weight.shape)
        alpha = 2.0 if "final_layer" in target.name else 0.5  # of the last layer's, diffusers takes none
        tensors |= {
            f"{target.name}.lora_down.weight": down, f"{target.name}.lora_up.weight": up,
            f"{target.name}.alpha": torch.tensor(alpha),
        }  # fmt: skip
    theirs = _convert_kohya_flux_lora_to_diffusers({name: each.clone() for name, each in tensors.items()})
    assert any(".to_q_lora." in name for name in theirs)  # text encoders as its first versions called them
    one, other = (find(Path("x"), each, {}, targets) for each in (tensors, theirs))
    assert one.layers.keys() == other.layers.keys() == {target.name for target in targets}
    for name in one.layers:
        found = [_probed(each.held(name, held.__getitem__)) for each, held in ((one, tensors), (other, theirs))]
        torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


def _probed(held: dict[str, Tensor]) -> Tensor:
    """What a layer adds for one input: the whole of it would be large."""
    down, up = held["lora_down.weight"], held["lora_up.weight"]
    probe = torch.randn(down.shape[1], generator=torch.Generator().manual_seed(0))
    return float(held["alpha"]) / len(down) * up @ (down @ probe)


def test_three_of_one_scale_keep_their_numbers_side_by_side(tmp_path: Path, flux: dict[str, Target]) -> None:
    path = "transformer.transformer_blocks.0.attn.add_{}_proj"
    pairs = {each: pair(32, 32, rank) for each, rank in (("q", 2), ("k", 4))}  # v is not there: it adds nothing
    tensors = {
        f"{path.format(each)}.lora_{end}.weight": value
        for each, two in pairs.items()
        for end, value in zip("AB", two, strict=True)
    }
    file.write(tmp_path / "a.safetensors", tensors, {}, "fp32")
    (held,) = load(tmp_path / "a.safetensors", flux.values()).values()
    up = held["lora_up.weight"]
    assert float(held["alpha"]) == 6 == len(held["lora_down.weight"])
    assert torch.equal(held["lora_down.weight"], torch.cat([pairs["q"][0], pairs["k"][0]]))
    wanted = torch.zeros(96, 6)
    wanted[:32, :2], wanted[32:64, 2:] = pairs["q"][1], pairs["k"][1]
    assert torch.equal(up, wanted)


def test_alphas_told_in_the_metadata_are_those_of_the_pieces(tmp_path: Path, flux: dict[str, Target]) -> None:
    tensors, wanted = FLUX["diffusers"]
    told = peft.written({"transformer": {name.split(".lora_")[0].removeprefix("transformer."): (
        len(value), 3.0 * len(value)) for name, value in tensors.items() if "lora_A" in name}})  # fmt: skip
    found = added(tmp_path / "a.safetensors", tensors, flux, {peft.KEY: told})
    same(found, {name: 3.0 * value for name, value in wanted.items()})


def test_the_last_norms_halves_stand_in_diffusers_files_the_other_way_round(
    tmp_path: Path, flux: dict[str, Target]
) -> None:
    down, up = pair(64, 32)
    name = "transformer.norm_out.linear"
    found = added(tmp_path / "a.safetensors", {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}, flux)
    same(found, {"lora_unet_final_layer_adaLN_modulation_1": torch.cat([up[32:], up[:32]]) @ down})


def test_a_control_lora_is_refused_for_what_it_is(tmp_path: Path, flux: dict[str, Target]) -> None:
    tensors = {
        "img_in.lora_A.weight": torch.ones(2, 128), "img_in.lora_B.weight": torch.ones(32, 2),
        "img_in.lora_B.bias": torch.ones(32), "double_blocks.0.img_attn.norm.query_norm.scale": torch.ones(16),
    }  # fmt: skip
    file.write(tmp_path / "a.safetensors", tensors, {}, "fp32")
    with pytest.raises(ModelFileError, match=r"E-MOD-043.*control LoRA"):
        load(tmp_path / "a.safetensors", flux.values())


def test_the_first_name_that_belongs_nowhere_is_told(tmp_path: Path, flux: dict[str, Target]) -> None:
    tensors, _ = FLUX["ComfyUI"]
    strange = {name.replace("double_blocks.1", "double_blocks.7"): value for name, value in tensors.items()}
    file.write(tmp_path / "a.safetensors", strange, {}, "fp32")
    with pytest.raises(ModelFileError, match=r"E-MOD-040.*1 of its 4 layers.*double_blocks\.7\.img_attn\.qkv"):
        load(tmp_path / "a.safetensors", flux.values())
    half = {name: value for name, value in tensors.items() if not name.endswith("qkv.lora_B.weight")}
    file.write(tmp_path / "b.safetensors", half, {}, "fp32")
    with pytest.raises(ModelFileError, match=r"E-MOD-041.*half.*qkv.*lora_up is missing"):
        load(tmp_path / "b.safetensors", flux.values())


def test_other_kinds_on_a_part_of_a_layer_are_refused(tmp_path: Path, flux: dict[str, Target]) -> None:
    name = "lycoris_transformer_blocks_0_attn_to_q"
    held = {f"{name}.lokr_w1": torch.ones(4, 4), f"{name}.lokr_w2": torch.ones(8, 8), f"{name}.alpha": torch.ones(())}
    file.write(tmp_path / "a.safetensors", held, {}, "fp32")
    with pytest.raises(ModelFileError, match=r"E-MOD-051.*only LoRA can be put together"):
        load(tmp_path / "a.safetensors", flux.values())
    whole = {key.replace("attn_to_q", "ff_net_2"): value for key, value in held.items()}
    file.write(tmp_path / "b.safetensors", whole, {}, "fp32")
    assert load(tmp_path / "b.safetensors", flux.values()).keys() == {"lora_unet_double_blocks_0_img_mlp_2"}


# -- Stable Diffusion 3, XL, 1.x ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start",
    ["transformer.transformer_blocks.1.attn2.to_{}", "lora_transformer_transformer_blocks_1_attn2_to_{}"],
)
def test_queries_keys_and_values_apart_are_one_layer_of_stable_diffusion_3(
    tmp_path: Path, sd3: dict[str, Target], start: str
) -> None:
    pairs = {each: pair(16, 16, rank) for each, rank in zip("qkv", (1, 2, 3), strict=True)}
    ends = ("lora_A", "lora_B") if "." in start else ("lora_down", "lora_up")
    tensors = {
        f"{start.format(each)}.{end}.weight": value
        for each, two in pairs.items()
        for end, value in zip(ends, two, strict=True)
    }
    wanted = torch.cat([up @ down for down, up in pairs.values()])
    same(added(tmp_path / "a.safetensors", tensors, sd3), {"lora_unet_joint_blocks_1_x_block_attn2_qkv": wanted})


def test_published_names_of_stable_diffusion_3_are_read(tmp_path: Path, sd3: dict[str, Target]) -> None:
    name = "diffusion_model.joint_blocks.2.context_block.attn.qkv"
    down, up = pair(48, 16)
    tensors = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    wanted = {"lora_unet_joint_blocks_2_context_block_attn_qkv": up @ down}
    same(added(tmp_path / "a.safetensors", tensors, sd3), wanted)


@pytest.mark.parametrize("start", ["unet.", "", "lora_unet_", "diffusion_model."])
def test_xl_is_read_by_both_names_of_its_layers(tmp_path: Path, sdxl: dict[str, Target], start: str) -> None:
    target = next(each for each in sdxl.values() if each.path.endswith("attn2.to_v"))
    paths = {"unet.": target.path, "": target.path, "lora_unet_": target.path.replace(".", "_")}
    assert "input_blocks" in target.name or "middle_block" in target.name or "output_blocks" in target.name
    down, up = pair(*target.layer.weight.shape)
    name = start + paths.get(start, target.published)
    tensors = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    same(added(tmp_path / "a.safetensors", tensors, sdxl), {target.name: up @ down})


def test_the_first_versions_of_diffusers_are_read(tmp_path: Path) -> None:
    targets = {target.name: target for target in families.outline(None)}
    attention = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    text = "text_encoder.text_model.encoder.layers.0"
    names = {
        f"{attention}.processor.to_q_lora": f"lora_unet_{attention}.to_q",
        f"unet.{attention}.processor.to_out_lora": f"lora_unet_{attention}.to_out.0",
        f"{text}.self_attn.q_proj.lora_linear_layer": "lora_te_text_model.encoder.layers.0.self_attn.q_proj",
        f"{text}.self_attn.to_out_lora": "lora_te_text_model.encoder.layers.0.self_attn.out_proj",
    }
    tensors, wanted = {}, {}
    for name, own in names.items():
        down, up = pair(768 if "text" in name else 320, 768 if "text" in name else 320)
        tensors |= {f"{name}.down.weight": down, f"{name}.up.weight": up}
        wanted[own.replace(".", "_")] = up @ down
    same(added(tmp_path / "a.safetensors", tensors, targets), wanted)


def test_lengths_of_peft_are_those_of_dora(tmp_path: Path) -> None:
    targets = {target.name: target for target in families.outline(None)}
    path = "base_model.model.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    down, up = pair(1280, 1280)
    held = {"lora_A.weight": down, "lora_B.weight": up, "lora_magnitude_vector.weight": torch.ones(1280)}
    file.write(tmp_path / "a.safetensors", {f"{path}.{kind}": value for kind, value in held.items()}, {}, "fp32")
    (found,) = load(tmp_path / "a.safetensors", targets.values()).values()
    assert found["dora_scale"].shape == (1280, 1)
    assert float(found["alpha"]) == 2


def test_no_spelling_leads_to_two_layers(
    flux: dict[str, Target], sd3: dict[str, Target], sdxl: dict[str, Target]
) -> None:
    for targets in (flux, sd3, sdxl):
        spelt = spellings(targets.values())
        assert targets.keys() <= spelt.keys()
        assert {place.layer for place in spelt.values()} == targets.keys()


def test_a_layer_that_is_there_under_two_names_is_refused(flux: dict[str, Target]) -> None:
    names = [
        f"{start}double_blocks.0.img_attn.qkv.lora_{each}.weight" for start in ("", "diffusion_model.") for each in "AB"
    ]
    with pytest.raises(ModelFileError, match=r"E-MOD-041.*which are the same layer"):
        find(Path("a.safetensors"), names, {}, flux.values())
