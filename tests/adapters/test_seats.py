"""Which layers get an adapter, how large and how fast: presets, blocks and rules."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from impasto import adapters
from impasto.adapters.config import Adapter as Config
from impasto.adapters.config import Full, Lora, Oft
from impasto.adapters.rules import curve
from impasto.adapters.targets import Seat, Target
from impasto.errors import ConfigError
from impasto.families.blocks import unet_blocks
from impasto.families.targets import sd_targets, sdxl_targets, select
from tests.weights.listings import listing

SINE_12 = [0, 0.1423, 0.2817, 0.4154, 0.5406, 0.6549, 0.7557, 0.8413, 0.9096, 0.9595, 0.9898, 1]
SINE_9 = [0, 0.1951, 0.3827, 0.5556, 0.7071, 0.8315, 0.9239, 0.9808, 1]


@pytest.fixture(scope="module")
def targets() -> list[Target]:
    """Every layer of Stable Diffusion 1.5 in full size, without its numbers."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        return sd_targets(UNet2DConditionModel(sample_size=64, cross_attention_dim=768), CLIPTextModel(text))


@pytest.fixture(scope="module")
def xl() -> nn.Module:
    """The U-Net of Stable Diffusion XL, its attentions less deep."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel(
            block_out_channels=(320, 640, 1280), down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * 2),
            up_block_types=(*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"), cross_attention_dim=2048,
            transformer_layers_per_block=(1, 2, 10), attention_head_dim=(5, 10, 20), use_linear_projection=True,
        )  # fmt: skip


def config(**values: Any) -> Any:
    return TypeAdapter(Config).validate_python(values)


def seats(found: list[Target], **values: Any) -> dict[str, Seat]:
    return {seat.target.name: seat for seat in adapters.seats(config(**values), found)}


# -- parts and presets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "unet", "words"),
    [
        ({}, 192, 72),
        ({"targets": {"text_encoder": False}}, 192, 0),
        ({"targets": {"unet": False}}, 0, 72),
        ({"targets": {"layers": "attention"}}, 128, 48),
        ({"targets": {"layers": "attention-mlp"}}, 192, 72),
        ({"targets": {"layers": "full"}}, 278, 72),
        ({"conv_rank": 2}, 278, 72),
        ({"kind": "oft", "conv": True}, 278, 72),
        ({"kind": "full", "targets": {"layers": "full"}}, 278, 72),
    ],
)
def test_presets_hold_as_many_layers_as_published(
    targets: list[Target], values: dict[str, Any], unet: int, words: int
) -> None:
    parts = Counter(seat.target.part for seat in seats(targets, **values).values())
    assert (parts["unet"], parts["text_encoder"]) == (unet, words)


def test_in_the_full_preset_convolutions_take_the_usual_size(targets: list[Target]) -> None:
    found = seats(targets, rank=8, alpha=4.0, targets={"layers": "full"})
    assert found["lora_unet_mid_block_resnets_0_conv1"].sized == adapters.targets.Size(8, 4.0)


def test_a_preset_without_convolutions_and_a_rank_for_them_do_not_go_together() -> None:
    with pytest.raises(ValidationError, match="leaves out the convolutions"):
        config(conv_rank=4, targets={"layers": "attention"})


@pytest.mark.parametrize(
    ("values", "norms"),
    [
        ({}, 0),
        ({"train_norm": True}, 64),
        ({"train_norm": True, "targets": {"layers": "full"}}, 108),
        ({"kind": "ia3", "train_norm": True}, 64),
        ({"train_norm": True, "rules": [{"role": "norm", "match": "mid_block", "skip": True}]}, 60),
    ],
)
def test_norms_go_with_the_layers_around_them(targets: list[Target], values: dict[str, Any], norms: int) -> None:
    found = seats(targets, **values)
    assert sum(seat.target.is_norm for seat in found.values()) == norms
    assert len(found) - norms == len(seats(targets, **{**values, "train_norm": False, "rules": []}))


def test_norms_cannot_be_trained_on_a_base_without_any(targets: list[Target]) -> None:
    with pytest.raises(ConfigError, match=r"E-CFG-135.*has none.*Fix: delete adapter\.train_norm"):
        seats([target for target in targets if not target.is_norm], train_norm=True)


def test_a_rule_for_norms_needs_norms_and_decides_their_rate(targets: list[Target]) -> None:
    rule = {"role": "norm", "rate": 0.5}
    with pytest.raises(ConfigError, match="no layer has role = 'norm'"):
        seats(targets, rules=[rule])
    found = seats(targets, train_norm=True, rules=[rule])
    assert {seat.rate for seat in found.values() if seat.target.is_norm} == {0.5}
    assert {seat.rate for seat in found.values() if not seat.target.is_norm} == {1.0}


def test_norms_of_the_larger_model_have_the_names_of_published_files(xl: nn.Module) -> None:
    found = seats(sdxl_targets(xl, []), train_norm=True, targets={"layers": "full"})
    ours = {name for name, seat in found.items() if seat.target.is_norm}
    listed = {key.partition(".")[0] for key in listing("lyco.sdxl.locon.train-norm") if key.endswith("_norm")}
    assert ours == listed
    assert len(ours) == len(listed) == 255


# -- blocks --------------------------------------------------------------------------------------------------------


def test_blocks_are_numbered_as_sd_scripts_does(targets: list[Target]) -> None:
    where = {target.path: target.number for target in targets if target.part == "unet"}
    assert where["down_blocks.0.resnets.0.conv1"] == 1
    assert where["down_blocks.0.attentions.1.proj_in"] == 2
    assert where["down_blocks.0.downsamplers.0.conv"] == 3
    assert where["down_blocks.3.resnets.1.conv2"] == 11
    assert where["mid_block.attentions.0.proj_in"] == where["mid_block.resnets.1.conv1"] == 12
    assert where["up_blocks.0.resnets.0.conv1"] == 13
    assert where["up_blocks.0.upsamplers.0.conv"] == 15
    assert where["up_blocks.3.attentions.2.proj_out"] == 24
    attended = Counter(
        target.number for target in targets if target.part == "unet" and target.default and not target.is_norm
    )
    assert attended == dict.fromkeys([1, 2, 4, 5, 7, 8, 12, *range(16, 25)], 12)
    assert {target.block.counted.total for target in targets if target.block} == {25}


def test_the_larger_model_has_23_blocks(xl: nn.Module) -> None:
    found = list(select("unet", xl, blocks=unet_blocks(xl, xl=True)))
    assert {target.block.counted.total for target in found if target.block} == {23}
    attended = Counter(target.number for target in found if target.default and not target.is_norm)
    assert attended == {
        **dict.fromkeys([5, 6], 22), **dict.fromkeys([8, 9, 11, 13, 14, 15], 102), **dict.fromkeys([16, 17, 18], 22),
    }  # fmt: skip
    where = {target.path: target.number for target in found}
    assert [where[f"mid_block.{each}"] for each in ("resnets.0.conv1", "attentions.0.proj_in", "resnets.1.conv1")] == [
        10, 11, 12,
    ]  # fmt: skip


@pytest.mark.parametrize(("count", "sine"), [(12, SINE_12), (9, SINE_9)])
def test_presets_have_the_published_values(count: int, sine: list[float]) -> None:
    steps = [at / (count - 1) for at in range(count)]
    assert curve("sine", count) == pytest.approx(sine, abs=1e-4)
    assert curve("cosine", count) == pytest.approx(sine[::-1], abs=1e-4)
    assert curve("linear", count) == pytest.approx(steps)
    assert curve("reverse_linear", count) == pytest.approx(steps[::-1])
    assert curve("zeros", count) == [0] * count
    assert curve("sine+.25", count) == pytest.approx([each + 0.25 for each in sine], abs=1e-4)


def test_a_block_with_factor_zero_gets_no_adapter(targets: list[Target]) -> None:
    found = seats(targets, blocks={"down_rates": "sine", "mid_rates": 0.5, "up_rates": [1.0] * 11 + [0.2],
                                   "zero_threshold": 0.2})  # fmt: skip
    rates = {seat.target.number: seat.rate for seat in found.values() if seat.target.block}
    assert rates.keys() == {2, 4, 5, 7, 8, 12, *range(16, 24)}  # 1 has 0.1423
    assert rates[12] == 0.5
    assert rates[8] == pytest.approx(0.9096, abs=1e-4)
    assert {seat.rate for seat in found.values() if seat.target.part == "text_encoder"} == {1.0}


def test_sizes_by_block(targets: list[Target]) -> None:
    ranks = [number % 4 for number in range(25)]
    found = seats(targets, rank=9, alpha=3.0, blocks={"ranks": ranks, "alphas": [2.0] * 25, "conv_ranks": [5] * 25})
    assert all(seat.sized.rank == ranks[seat.target.number or 0] for seat in found.values()
               if seat.target.block and not seat.target.large)  # fmt: skip
    numbers = {seat.target.number for seat in found.values() if seat.target.block and not seat.target.large}
    assert all(number is not None and number % 4 for number in numbers)
    assert {seat.sized for seat in found.values() if seat.target.large} == {adapters.targets.Size(5, 1.0)}
    assert found["lora_te_text_model_encoder_layers_0_mlp_fc1"].sized == adapters.targets.Size(9, 3.0)


@pytest.mark.parametrize(
    ("blocks", "where", "says"),
    [
        ({"down_rates": [1.0] * 11}, "down_rates", "12 blocks"),
        ({"up_rates": [1.0] * 13}, "up_rates", "12 blocks"),
        ({"mid_rates": [1.0, 1.0, 1.0]}, "mid_rates", "1 blocks"),
        ({"ranks": [4] * 23}, "ranks", "25 blocks"),
        ({"conv_alphas": [4.0]}, "conv_alphas", "25 blocks"),
    ],
)
def test_a_list_of_another_length_says_how_many_blocks_there_are(
    targets: list[Target], blocks: dict[str, Any], where: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        seats(targets, blocks=blocks)
    assert caught.value.problems[0].where == f"adapter.blocks.{where}"


@pytest.mark.parametrize("preset", ["cosinus", "sine+", "sine+x", "0.5,0.5", ""])
def test_a_preset_that_is_none_is_refused(preset: str) -> None:
    with pytest.raises(ValidationError):
        config(blocks={"down_rates": preset})


def test_kinds_without_a_rank_take_rates_but_no_sizes(targets: list[Target]) -> None:
    assert {seat.rate for seat in adapters.seats(Oft(blocks={"mid_rates": 0.5}), targets)} == {1.0, 0.5}  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="no rank"):
        config(kind="full", blocks={"ranks": [4] * 25})
    with pytest.raises(ValidationError, match="no rank"):
        config(kind="oft", rules=[{"role": "mlp", "alpha": 1.0}])


# -- rules ---------------------------------------------------------------------------------------------------------


def test_the_last_rule_that_says_a_thing_decides_it(targets: list[Target]) -> None:
    found = seats(
        targets,
        rank=4,
        rules=[
            {"match": "attn2", "rank": 16, "alpha": 8.0, "rate": 2.0},
            {"match": "attn2_to_k$", "rank": 32},
            {"role": "mlp", "skip": True},
            {"block": 12, "rate": 0.5},
        ],
    )
    prefix = "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_"
    assert found[prefix + "attn2_to_q"] == Seat(
        found[prefix + "attn2_to_q"].target, adapters.targets.Size(16, 8.0), 2.0
    )
    assert found[prefix + "attn2_to_k"].sized == adapters.targets.Size(32, 8.0)
    assert found[prefix + "attn1_to_k"].sized == adapters.targets.Size(4, 1.0)
    assert not any(seat.target.role == "mlp" for seat in found.values())
    assert {seat.rate for seat in found.values() if seat.target.number == 12} == {0.5}


def test_a_rule_can_open_what_the_preset_leaves_out(targets: list[Target]) -> None:
    found = seats(targets, rules=[{"match": "^lora_unet_mid_block_resnets", "skip": False, "rank": 2}])
    opened = {name: seat.sized.rank for name, seat in found.items() if "resnets" in name}
    assert len(opened) == 6
    assert set(opened.values()) == {2}


def test_a_rule_that_no_layer_heeds_is_an_error_with_names_near_it(targets: list[Target]) -> None:
    with pytest.raises(ConfigError, match="lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k") as caught:
        seats(targets, rules=[{"match": "mid_block_attention_0_transformer_blocks_0_attn2_to_k", "rank": 8}])
    assert caught.value.problems[0].where == "adapter.rules.0"
    with pytest.raises(ConfigError, match="none of them gets an adapter"):
        seats(targets, rules=[{"role": "resnet", "rank": 8}])


@pytest.mark.parametrize(
    "rule", [{"rank": 4}, {"match": "a"}, {"match": "a(", "rank": 4}, {"match": "a", "rank": 0}, {"role": "norm"}]
)
def test_a_rule_that_says_nothing_or_nonsense_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(rules=[rule])


def test_ranks_of_rules_and_blocks_are_whole_units_too() -> None:
    with pytest.raises(ValidationError, match=r"rules\.0\.rank must be a multiple of unit"):
        config(kind="dylora", rank=4, unit=2, rules=[{"role": "mlp", "rank": 3}])


def test_equal_layers_of_other_rates_are_apart_and_fast_ones_too(targets: list[Target]) -> None:
    few = [target for target in targets if "attn2_to_q" in target.name and target.number in (11, 12, 16)]
    adapter = adapters.build(Lora(blocks={"mid_rates": 0.5}), few, seed=0)  # type: ignore[arg-type]
    assert [group.name for group in adapter.groups()] == ["unet", "unet x0.5"] or len(few) == 1
    assert {group.name for group in adapter.groups({"unet"})} == {"unet", "unet fast", "unet x0.5", "unet x0.5 fast"}
    assert sum(map(len, adapter.groups({"unet"}).values())) == len(list(adapter.parameters()))
    assert not any(group.fast for group in adapters.build(Full(), few, seed=0).groups({"unet"}))
