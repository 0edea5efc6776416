"""The names in adapter files are those that every other program reads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from impasto import adapters
from impasto.adapters.config import Lora
from impasto.adapters.targets import Target
from impasto.families import detect, loading
from impasto.families.card import Name
from impasto.families.names import kohya_name
from impasto.families.targets import sd_targets, sdxl_targets
from tests.weights.listings import listing

PARTS = ("unet", "text_encoder", "text_encoder_2")


@pytest.fixture(scope="module")
def parts() -> tuple[nn.Module, nn.Module]:
    """The U-Net and the text encoder of Stable Diffusion 1.5 in full size, without their numbers."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        return UNet2DConditionModel(sample_size=64, cross_attention_dim=768), CLIPTextModel(text)


@pytest.fixture(scope="module")
def targets(parts: tuple[nn.Module, nn.Module]) -> list[Target]:
    return sd_targets(*parts)


@pytest.mark.parametrize(
    ("config", "name", "layers"),
    [(Lora(rank=4), "lora.sd15.kohya", 264), (Lora(rank=4, conv_rank=4), "lora.sd15.kohya.conv4", 350)],
)
def test_every_name_and_shape_is_that_of_sd_scripts(
    targets: list[Target], config: Lora, name: str, layers: int
) -> None:
    adapter = adapters.build(config, targets, seed=0)
    assert {key: tuple(value.shape) for key, value in adapter.tensors().items()} == listing(name)
    assert len(adapter.layers) == layers


@pytest.mark.parametrize(
    ("family", "config", "name", "layers"),
    [
        ("sd2", Lora(rank=4), "lora.sd21.kohya", 192 + 138),
        ("sd2", Lora(rank=4, conv_rank=4), "lora.sd21.kohya.conv4", 278 + 138),
        ("sdxl", Lora(rank=4), "lora.sdxl.kohya", 722 + 264),
        ("sdxl", Lora(rank=4, conv_rank=4), "lora.sdxl.kohya.conv4", 788 + 264),
    ],
)
def test_every_family_has_the_names_of_sd_scripts(family: Name, config: Lora, name: str, layers: int) -> None:
    parts = {part: loading.build(part, measures) for part, measures in detect.packaged(family).items() if part in PARTS}
    encoders = [module for part, module in parts.items() if part.startswith("text_encoder")]
    unet = parts["unet"]
    found = sd_targets(unet, *encoders) if family == "sd2" else sdxl_targets(unet, encoders)
    chosen = [seat.target.name for seat in adapters.seats(config, found)]
    assert len(chosen) == layers
    assert set(chosen) == {key.partition(".")[0] for key in listing(name)}


def test_only_the_large_kernels_take_the_rank_of_convolutions(targets: list[Target]) -> None:
    chosen = {seat.target.name: seat.sized for seat in adapters.seats(Lora(rank=8, conv_rank=2), targets)}
    prefix = "lora_unet_up_blocks_1_resnets_0_"
    ranks = {name.removeprefix(prefix): size.rank for name, size in chosen.items() if name.startswith(prefix)}
    assert ranks == {"conv1": 2, "conv2": 2, "time_emb_proj": 8, "conv_shortcut": 8}
    assert chosen["lora_unet_down_blocks_0_downsamplers_0_conv"].rank == 2
    assert chosen["lora_unet_mid_block_attentions_0_proj_in"].rank == 8


def test_the_layers_outside_the_blocks_are_never_adapted(targets: list[Target]) -> None:
    paths = {target.path for target in targets}
    assert paths.isdisjoint({"conv_in", "conv_out", "time_embedding.linear_1", "embeddings.token_embedding"})


def test_each_layer_knows_what_it_does(targets: list[Target]) -> None:
    roles = {target.path: target.role for target in targets}
    assert roles["mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"] == "attention"
    assert roles["mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj"] == "mlp"
    assert roles["mid_block.attentions.0.proj_out"] == "projection"
    assert roles["mid_block.resnets.0.conv1"] == "resnet"
    assert roles["mid_block.resnets.0.time_emb_proj"] == "time"
    assert roles["up_blocks.0.upsamplers.0.conv"] == "conv"
    assert roles["encoder.layers.0.self_attn.out_proj"] == "attention"
    assert roles["encoder.layers.0.mlp.fc2"] == "mlp"


def test_a_base_without_text_encoder_has_targets_too(parts: tuple[nn.Module, nn.Module]) -> None:
    unet, _ = parts
    chosen = adapters.seats(Lora(), sd_targets(unet, None))
    assert len(chosen) == 192


@pytest.mark.parametrize(
    ("path", "encoder", "name"),
    [
        ("encoder.layers.0.mlp.fc1", None, "lora_te_text_model_encoder_layers_0_mlp_fc1"),
        ("text_model.encoder.layers.0.mlp.fc1", None, "lora_te_text_model_encoder_layers_0_mlp_fc1"),
        ("encoder.layers.3.self_attn.q_proj", 1, "lora_te1_text_model_encoder_layers_3_self_attn_q_proj"),
        ("text_model.encoder.layers.31.mlp.fc2", 2, "lora_te2_text_model_encoder_layers_31_mlp_fc2"),
        ("encoder.block.0.layer.0.SelfAttention.q", 3, "lora_te3_encoder_block_0_layer_0_SelfAttention_q"),
    ],
)
def test_text_encoders_are_named_as_published(path: str, encoder: int | None, name: str) -> None:
    assert kohya_name("text_encoder", path, encoder=encoder) == name
