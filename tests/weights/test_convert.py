"""The same LoRA under other names, readable by those who know these."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from impasto import families
from impasto.adapters.config import Adapter as Config
from impasto.adapters.config import Loha, Lora
from impasto.errors import ModelFileError
from impasto.families import detect, tiny
from impasto.families.config import Model
from impasto.families.family import Family
from impasto.families.sd import Modules
from impasto.weights import file, header, layouts, peft
from impasto.weights.combine import combine
from impasto.weights.convert import convert
from impasto.weights.diffusers_layout import Module, modules
from impasto.weights.inspect import inspect
from impasto.weights.low_rank import Rule
from impasto.weights.merge import by_layer
from impasto.weights.resize import resize
from tests.weights.adapters import saved
from tests.weights.listings import listing

LORA = Lora(rank=4, alpha=3.0, conv_rank=2, conv_alpha=1.0)


def payload(path: Path) -> bytes:
    return path.read_bytes()[header.read(path).start :]


def test_dora_goes_there_and_back_with_its_lengths(tmp_path: Path, tiny_base: Path, tiny_family: Family) -> None:
    own = saved(tmp_path / "a.safetensors", Lora(rank=2, conv_rank=2, decompose=True), tiny_family.targets())
    there, back = tmp_path / "b.safetensors", tmp_path / "c.safetensors"
    convert(own, there, "diffusers", base=str(tiny_base))
    convert(there, back, "kohya", base=str(tiny_base))
    assert payload(back) == payload(own)


@pytest.fixture
def kohya(tmp_path: Path, tiny_family: Family) -> Path:
    return saved(tmp_path / "a.safetensors", LORA, tiny_family.targets(), precision="bf16")


def test_there_and_back_the_tensors_are_the_same_bytes(kohya: Path, tiny_base: Path) -> None:
    there, back = kohya.with_name("b.safetensors"), kohya.with_name("c.safetensors")
    convert(kohya, there, "diffusers", base=str(tiny_base))
    assert convert(there, back, "kohya", base=str(tiny_base)).remarks == []
    assert payload(back) == payload(kohya)
    before, after = header.read(kohya), header.read(back)
    assert (after.tensors, after.metadata["ss_output_name"]) == (before.tensors, "a")
    assert after.metadata["sshs_model_hash"] == before.metadata["sshs_model_hash"]
    assert peft.KEY not in after.metadata


def test_every_published_layer_has_a_name_in_the_other_layout() -> None:
    targets = [target for target in families.outline(None) if not target.is_norm]
    assert {target.name for target in targets} == {name.partition(".")[0] for name in listing("lora.sd15.kohya.conv4")}
    unet = {
        f"unet.{name.removesuffix('.weight')}" for name in listing("sd15.diffusers.unet") if name.endswith(".weight")
    }
    named = {module.down.removesuffix(".lora_A.weight") for target in targets for module in modules(target, "unet")}
    assert {name for name in named if name.startswith("unet.")} <= unet
    assert "text_encoder.text_model.encoder.layers.11.mlp.fc2" in named
    spelt = layouts.spellings(targets)
    assert {spelt[name].layer for name in named} == {target.name for target in targets}


def places(base: Path) -> dict[str, Module]:
    """Where each layer of a base is in diffusers' modules."""
    targets = (target for target in families.outline(detect.look(Model(path=str(base)))) if not target.is_norm)
    return {target.name: modules(target, "unet")[0] for target in targets}


def test_diffusers_loads_every_layer_with_its_numbers_and_scale(kohya: Path, tiny_base: Path) -> None:
    from peft.tuners.lora import LoraLayer

    from impasto.weights.proof import _silence

    path = kohya.with_name("b.safetensors")
    convert(kohya, path, "diffusers", base=str(tiny_base))
    card = detect.look(Model(path=str(tiny_base)))
    modules = Modules.load(card, torch.float32, torch.device("cpu"))
    pipeline = families.pipeline(card, modules)
    with _silence():
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name="x", local_files_only=True)
    table, held = places(tiny_base), by_layer(file.load(kohya)[0])
    assert len(held) > 60
    for name, tensors in held.items():
        part = modules.unet if table[name].part == "unet" else modules.text
        layer = part.get_submodule(table[name].module)
        assert isinstance(layer, LoraLayer), name
        assert torch.equal(layer.lora_A["x"].weight, tensors["lora_down.weight"].float())
        assert torch.equal(layer.lora_B["x"].weight, tensors["lora_up.weight"].float())
        assert layer.scaling["x"] == float(tensors["alpha"]) / len(tensors["lora_down.weight"])


def test_what_diffusers_writes_is_read_with_its_alphas(tmp_path: Path, tiny_base: Path) -> None:
    from diffusers import StableDiffusionPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    modules = Modules.load(detect.look(Model(path=str(tiny_base))), torch.float32, torch.device("cpu"))
    modules.unet.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=["to_q"], alpha_pattern={"attn2.to_q": 2}))
    state = get_peft_model_state_dict(modules.unet)
    told = modules.unet.peft_config["default"].to_dict()
    plain = {key: sorted(each) if isinstance(each, set) else each for key, each in told.items()}
    StableDiffusionPipeline.save_lora_weights(
        tmp_path, unet_lora_layers=state, unet_lora_adapter_metadata=plain, weight_name="a.safetensors"
    )
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "kohya", base=str(tiny_base))
    held = by_layer(file.load(tmp_path / "b.safetensors")[0])
    assert {float(each["alpha"]) for name, each in held.items() if "attn1" in name} == {8.0}
    assert {float(each["alpha"]) for name, each in held.items() if "attn2" in name} == {2.0}
    found = inspect(tmp_path / "a.safetensors", norms=True)
    assert found.alphas == {8.0: 4, 2.0: 4}
    assert len(found.norms) == 8


LAYER = "down_blocks.0.attentions.0.proj_in"


def factors(start: str, ends: tuple[str, str], rank: int = 2) -> dict[str, Tensor]:
    return {
        f"{start}{LAYER}.{ends[0]}.weight": torch.ones(rank, 320, 1, 1),
        f"{start}{LAYER}.{ends[1]}.weight": torch.ones(320, rank, 1, 1),
    }


@pytest.mark.parametrize(
    ("start", "ends"),
    [
        ("unet.", ("lora_A", "lora_B")),
        ("unet.", ("lora_A.default", "lora_B.default")),
        ("unet.", ("lora.down", "lora.up")),
        ("base_model.model.", ("lora_A", "lora_B")),
    ],
)
def test_every_spelling_is_read_and_an_alpha_that_is_not_told_is_said_to_be_the_rank(
    tmp_path: Path, start: str, ends: tuple[str, str]
) -> None:
    file.write(tmp_path / "a.safetensors", factors(start, ends), {}, "fp32")
    done = convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "kohya")
    found, _ = file.load(tmp_path / "b.safetensors")
    name = "lora_unet_down_blocks_0_attentions_0_proj_in"
    assert found.keys() == {f"{name}.{each}" for each in ("alpha", "lora_down.weight", "lora_up.weight")}
    assert float(found[f"{name}.alpha"]) == 2
    assert "no alpha for 1 layers" in done.remarks[0]


@pytest.mark.parametrize(("config", "alpha"), [({"lora_alpha": 6}, 6), ({"lora_alpha": 6, "use_rslora": True}, 12)])
def test_the_config_beside_a_file_of_peft_is_read(tmp_path: Path, config: dict[str, object], alpha: float) -> None:
    path = tmp_path / "adapter_model.safetensors"
    file.write(path, factors("base_model.model.", ("lora_A", "lora_B"), rank=4), {}, "fp32")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    convert(path, tmp_path / "b.safetensors", "kohya")
    found, _ = file.load(tmp_path / "b.safetensors")
    assert float(found["lora_unet_down_blocks_0_attentions_0_proj_in.alpha"]) == alpha
    assert inspect(path).alphas == {alpha: 1}


@pytest.mark.parametrize(
    "told",
    [
        "no JSON", "[]", "[" * 100_000, '{"unet.lora_alpha": "x"}', '{"unet.lora_alpha": NaN}',
        '{"unet.alpha_pattern": [1]}', '{"unet.alpha_pattern": {"(a+)+$": 1}}',
        '{"unet.alpha_pattern": {"proj_in": true}}',
    ],
)  # fmt: skip
def test_alphas_that_cannot_be_understood_are_refused(tmp_path: Path, told: str) -> None:
    file.write(tmp_path / "a.safetensors", factors("unet.", ("lora_A", "lora_B")), {peft.KEY: told}, "fp32")
    with pytest.raises(ModelFileError, match="E-MOD-056"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "kohya")
    with pytest.raises(ModelFileError, match="E-MOD-056"):
        inspect(tmp_path / "a.safetensors")


KINDS: list[Config] = [Loha(rank=2), Lora(rank=2, train_norm=True)]


@pytest.mark.parametrize("config", KINDS, ids=["loha", "norms"])
def test_other_kinds_are_not_converted(tmp_path: Path, tiny_base: Path, tiny_family: Family, config: Config) -> None:
    path = saved(tmp_path / "a.safetensors", config, tiny_family.targets())
    with pytest.raises(ModelFileError, match=r"E-MOD-051 .*no layer of a LoRA"):
        convert(path, tmp_path / "b.safetensors", "diffusers", base=str(tiny_base))


def test_a_layer_that_the_base_has_not_is_named(tmp_path: Path) -> None:
    path, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    file.write(path, {"lora_unet_x.lora_down.weight": torch.ones(2, 3), "lora_unet_x.lora_up.weight": torch.ones(3, 2)},
               {}, "fp32")  # fmt: skip
    with pytest.raises(ModelFileError, match=r"E-MOD-040 .*'lora_unet_x'.*--base"):
        convert(path, out, "diffusers")
    file.write(path, {"unet.x.lora_A.weight": torch.ones(2, 3), "unet.x.lora_B.weight": torch.ones(3, 2)}, {}, "fp32")
    with pytest.raises(ModelFileError, match=r"E-MOD-040 .*'unet\.x'"):
        convert(path, out, "kohya")
    assert not out.exists()


def test_an_adapter_of_xl_goes_there_and_back_and_diffusers_draws_alike(tmp_path: Path) -> None:
    from peft.tuners.lora import LoraLayer

    from impasto.weights.proof import _silence

    base = tiny.stable_diffusion_xl(tmp_path / "base")
    card = detect.look(Model(path=str(base)))
    modules = Modules.load(card, torch.float32, torch.device("cpu"))
    own = saved(tmp_path / "a.safetensors", LORA, families.layers(card, modules))
    there, back = tmp_path / "b.safetensors", tmp_path / "c.safetensors"
    convert(own, there, "diffusers", base=str(base))
    assert convert(there, back, "kohya", base=str(base)).remarks == []
    assert payload(back) == payload(own)
    pipeline = families.pipeline(card, modules)
    parts = {"unet": modules.unet, "text_encoder": modules.encoders[0], "text_encoder_2": modules.encoders[1]}
    table, held = places(base), by_layer(file.load(own)[0])
    assert {table[name].part for name in held} == parts.keys()
    with _silence():
        pipeline.load_lora_weights(str(tmp_path), weight_name=there.name, adapter_name="x", local_files_only=True)
    for name, tensors in held.items():
        part = parts[table[name].part]
        inner = dict(part.named_modules())
        layer = inner.get(table[name].module) or inner[table[name].path]
        assert isinstance(layer, LoraLayer), name
        assert torch.equal(layer.lora_A["x"].weight, tensors["lora_down.weight"].float())
        assert torch.equal(layer.lora_B["x"].weight, tensors["lora_up.weight"].float())
        assert layer.scaling["x"] == float(tensors["alpha"]) / len(tensors["lora_down.weight"])


def test_a_name_that_two_text_encoders_share_is_not_guessed(tmp_path: Path) -> None:
    base = tiny.stable_diffusion_xl(tmp_path / "base")
    start = "base_model.model.text_model.encoder.layers.0.mlp.fc1"
    tensors = {f"{start}.lora_A.weight": torch.ones(2, 16), f"{start}.lora_B.weight": torch.ones(32, 2)}
    file.write(tmp_path / "a.safetensors", tensors, {}, "fp32")
    with pytest.raises(ModelFileError, match=r"E-MOD-040 .*no place"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "kohya", base=str(base))


def test_a_file_of_published_xl_needs_no_base(tmp_path: Path) -> None:
    path, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    wide = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    word = "text_encoder_2.text_model.encoder.layers.31.mlp.fc2"
    tensors = {
        f"{name}.{end}.weight": torch.ones(shape)
        for name, sides in ((wide, (2048, 640)), (word, (5120, 1280)))
        for end, shape in (("lora_A", (2, sides[0])), ("lora_B", (sides[1], 2)))
    }
    file.write(path, tensors, {}, "fp32")
    convert(path, out, "kohya")
    assert by_layer(file.load(out)[0]).keys() == {
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k",
        "lora_te2_text_model_encoder_layers_31_mlp_fc2",
    }


def test_resize_and_merge_take_it_as_they_take_kohyas(kohya: Path, tiny_base: Path) -> None:
    other, base = kohya.with_name("b.safetensors"), str(tiny_base)
    convert(kohya, other, "diffusers", base=base)
    for name, path in (("one", kohya), ("two", other)):
        resize(path, kohya.with_name(f"{name}.safetensors"), Rule(rank=1), base=base)
        combine([(path, 0.5), (kohya, 1.0)], kohya.with_name(f"{name}-sum.safetensors"), None, base=base)
    assert payload(kohya.with_name("one.safetensors")) == payload(kohya.with_name("two.safetensors"))
    assert payload(kohya.with_name("one-sum.safetensors")) == payload(kohya.with_name("two-sum.safetensors"))
    assert peft.KEY not in header.read(kohya.with_name("two.safetensors")).metadata
