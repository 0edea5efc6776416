"""Stable Diffusion 3's denoiser in its published shape computes the same, and its adapters have the known names."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from impasto import adapters
from impasto.adapters.config import Lora
from impasto.families import mmdit, sd3_names
from impasto.families.single_file import UNET
from impasto.families.targets import sd3_targets
from tests.weights.listings import listing

VERSIONS = {"sd3m": "sd3-medium", "sd35m": "sd35-medium", "sd35l": "sd35-large"}


@cache
def published(version: str) -> Any:
    """A published denoiser, joined, without its numbers."""
    from diffusers import SD3Transformer2DModel

    config = sd3_names.measures(listing(f"{VERSIONS[version]}.original"), UNET).config()
    with torch.device("meta"):
        return mmdit.join(SD3Transformer2DModel.from_config(config))


@cache
def encoders() -> dict[int, nn.Module]:
    """The three text encoders of full size, without their numbers."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

    small = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    large = CLIPTextConfig(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20)
    t5 = T5Config(
        vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    with torch.device("meta"):
        return {1: CLIPTextModelWithProjection(small), 2: CLIPTextModelWithProjection(large), 3: T5EncoderModel(t5)}


def denoiser(**measures: Any) -> Any:
    """A miniature with random numbers."""
    from diffusers import SD3Transformer2DModel

    torch.manual_seed(0)
    return SD3Transformer2DModel(
        sample_size=8, num_layers=3, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=32,
        caption_projection_dim=16, pooled_projection_dim=24, pos_embed_max_size=8, **measures,
    ).eval()  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_a_joined_denoiser_has_every_tensor_of_the_published_file_as_it_is(version: str) -> None:
    shapes = {name: tuple(value.shape) for name, value in published(version).state_dict().items()}
    table = sd3_names.joined(shapes, UNET)
    file = listing(f"{VERSIONS[version]}.original")
    assert {table[name]: shape for name, shape in shapes.items()} == {
        name: shape for name, shape in file.items() if name.startswith(UNET)
    }


@pytest.mark.parametrize(("version", "layers"), [("sd3m", 237), ("sd35m", 263), ("sd35l", 377)])
def test_every_adapter_has_the_name_and_shape_of_sd_scripts(version: str, layers: int) -> None:
    targets = sd3_targets(published(version), {})
    adapter = adapters.build(Lora(rank=4), targets, seed=0)
    found = {key: tuple(value.shape) for key, value in adapter.tensors().items()}
    assert found == listing(f"lora.{version}.kohya.unet-only")
    assert len(adapter.layers) == layers


@pytest.mark.parametrize("version", VERSIONS)
def test_the_layers_around_the_blocks_are_there_for_whoever_asks(version: str) -> None:
    chosen = adapters.seats(Lora.model_validate({"targets": {"layers": "full"}}), sd3_targets(published(version), {}))
    assert {seat.target.name for seat in chosen} == {
        key.partition(".")[0] for key in listing(f"lora.{version}.kohya.emb-dims")
    }


@pytest.mark.parametrize(("name", "numbers"), [("te-clips", (1, 2)), ("te-clips-t5", (1, 2, 3))])
def test_text_encoders_have_their_numbers(name: str, numbers: tuple[int, ...]) -> None:
    there = {number: encoders()[number] for number in numbers}
    chosen = adapters.seats(Lora(), sd3_targets(published("sd3m"), there))
    names = {key.partition(".")[0] for key in listing(f"lora.sd3m.kohya.{name}")}
    assert {seat.target.name for seat in chosen} == names
    counts = {None: 237, 1: 72, 2: 192, 3: 168}
    assert Counter(seat.target.encoder for seat in chosen) == {each: counts[each] for each in (None, *numbers)}


def test_a_text_encoder_that_is_missing_leaves_the_numbers_of_the_others() -> None:
    chosen = sd3_targets(published("sd3m"), {2: encoders()[2]})
    assert {target.encoder for target in chosen} == {None, 2}


def test_each_layer_knows_what_it_does_and_where() -> None:
    found = {target.name: target for target in sd3_targets(published("sd35m"), encoders())}
    for name, role, block in (
        ("joint_blocks_3_x_block_attn_qkv", "attention", 3),
        ("joint_blocks_3_x_block_attn2_proj", "attention", 3),
        ("joint_blocks_3_context_block_mlp_fc1", "mlp", 3),
        ("joint_blocks_23_context_block_adaLN_modulation_1", "modulation", 23),
        ("final_layer_adaLN_modulation_1", "modulation", None),
        ("final_layer_linear", "projection", None),
        ("y_embedder_mlp_0", "embedding", None),
    ):
        target = found[f"lora_unet_{name}"]
        assert (target.role, target.number) == (role, block)
    assert found["lora_te3_encoder_block_0_layer_1_DenseReluDense_wo"].role == "mlp"
    assert found["lora_te3_encoder_block_0_layer_0_SelfAttention_q"].role == "attention"


@pytest.mark.parametrize(
    "measures", [{}, {"qk_norm": "rms_norm"}, {"qk_norm": "rms_norm", "dual_attention_layers": (0, 1)}]
)
@torch.no_grad()
def test_a_joined_denoiser_answers_as_diffusers_does(measures: dict[str, Any]) -> None:
    plain, joined = denoiser(**measures), mmdit.join(denoiser(**measures))
    told = {
        "hidden_states": torch.randn(2, 16, 8, 4), "encoder_hidden_states": torch.randn(2, 5, 32),
        "pooled_projections": torch.randn(2, 24), "timestep": torch.tensor([10.0, 700.5]),
    }  # fmt: skip
    one, other = (each(**told, return_dict=False)[0] for each in (plain, joined))
    assert one.std() > 0
    assert torch.allclose(one, other, atol=1e-5)


def test_checkpointed_blocks_give_the_same_gradients() -> None:
    def gradient(*, checkpointing: bool) -> torch.Tensor:
        model = mmdit.join(denoiser(qk_norm="rms_norm", dual_attention_layers=(0,)))
        if checkpointing:
            model.enable_gradient_checkpointing()
        torch.manual_seed(1)
        x = torch.randn(1, 16, 8, 8, requires_grad=True)
        words, pooled, t = torch.randn(1, 5, 32), torch.randn(1, 24), torch.tensor([500.0])
        model(x, words, pooled, t, return_dict=False)[0].square().sum().backward()
        assert x.grad is not None
        return x.grad

    assert torch.allclose(gradient(checkpointing=True), gradient(checkpointing=False), atol=1e-6)
