"""The denoiser of FLUX.1 in its published shape computes the same, and its adapters have the known names."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from impasto import adapters
from impasto.adapters.config import Lora
from impasto.families import flux_names, flux_shape
from impasto.families.targets import flux_targets
from tests.weights.listings import listing

VERSIONS = ("flux1-dev", "flux1-schnell")


@cache
def full_size(version: str) -> Any:
    """A published denoiser, joined, without its numbers."""
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        config = flux_names.measures(listing(f"{version}.original"))
        return flux_shape.join(FluxTransformer2DModel.from_config(config))


@cache
def encoders() -> dict[int, nn.Module]:
    """Both text encoders of full size, without their numbers."""
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    clip = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    t5 = T5Config(
        vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    with torch.device("meta"):
        return {1: CLIPTextModel(clip), 3: T5EncoderModel(t5)}


def denoiser(*, guided: bool) -> Any:
    """A miniature with random numbers, as diffusers has it."""
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(0)
    found = FluxTransformer2DModel(
        in_channels=8, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=12, pooled_projection_dim=10, guidance_embeds=guided, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    return found.eval().requires_grad_(False)


def answer(transformer: Any, *, guided: bool, x: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    rolls = torch.Generator().manual_seed(1)
    own = torch.randn(2, 6, 8, generator=rolls)
    words, pooled = torch.randn(2, 5, 12, generator=rolls), torch.randn(2, 10, generator=rolls)
    places = torch.zeros(6, 3)
    places[:, 1], places[:, 2] = torch.arange(6) // 3, torch.arange(6) % 3
    found: Tensor = transformer(
        own if x is None else x, words, pooled, torch.tensor([0.3, 0.9]), places, torch.zeros(5, 3),
        guidance=torch.ones(2) if guided else None,
        joint_attention_kwargs=None if mask is None else {"attention_mask": mask}, return_dict=False,
    )[0]  # fmt: skip
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_a_joined_denoiser_has_every_tensor_of_the_published_file_as_it_is(version: str) -> None:
    shapes = {name: tuple(value.shape) for name, value in full_size(version).state_dict().items()}
    table = flux_names.published(shapes)
    assert {table[name]: shape for name, shape in shapes.items()} == listing(f"{version}.original")
    assert len(set(table.values())) == len(shapes)


def test_the_two_published_models_differ_in_whether_they_listen_to_a_guidance() -> None:
    dev, schnell = (flux_names.measures(listing(f"{version}.original")) for version in VERSIONS)
    assert (dev.pop("guidance_embeds"), schnell.pop("guidance_embeds")) == (True, False)
    assert dev == schnell
    assert (dev["num_layers"], dev["num_single_layers"], dev["axes_dims_rope"]) == (19, 38, [16, 56, 56])


@pytest.mark.parametrize(
    ("name", "numbers", "layers"),
    [("unet-only", (), 304), ("te-clip", (1,), 304 + 72), ("te-clip-t5", (1, 3), 304 + 72 + 168)],
)
def test_every_adapter_has_the_name_and_shape_of_sd_scripts(name: str, numbers: tuple[int, ...], layers: int) -> None:
    targets = flux_targets(full_size("flux1-dev"), {number: encoders()[number] for number in numbers})
    adapter = adapters.build(Lora(rank=4), targets, seed=0)
    assert len(adapter.layers) == layers
    wanted = listing("lora.flux.kohya.te-clip-t5")
    if 3 not in numbers:
        wanted = {key: shape for key, shape in wanted.items() if not key.startswith("lora_te3_")}
    if 1 not in numbers:
        wanted = {key: shape for key, shape in wanted.items() if key.startswith("lora_unet_")}
    assert {key: tuple(value.shape) for key, value in adapter.tensors().items()} == wanted


def test_the_layers_around_the_blocks_have_their_published_names_for_whoever_asks() -> None:
    chosen = adapters.seats(
        Lora.model_validate({"targets": {"layers": "full"}}), flux_targets(full_size("flux1-dev"), {})
    )
    names = {seat.target.name for seat in chosen}
    published = {key.partition(".")[0] for key in listing("lora.flux.kohya.in-dims")}
    assert names - published == {"lora_unet_final_layer_adaLN_modulation_1", "lora_unet_final_layer_linear"}
    assert not published - names


def test_double_and_single_blocks_are_counted_one_after_the_other() -> None:
    found = Counter(target.number for target in flux_targets(full_size("flux1-dev"), {}) if target.block)
    assert found == {**dict.fromkeys(range(19), 10), **dict.fromkeys(range(19, 57), 3)}
    chosen = adapters.seats(
        Lora.model_validate({"blocks": {"down_rates": "zeros", "up_rates": [1.0] * 38}}),
        flux_targets(full_size("flux1-dev"), {}),
    )
    assert len(chosen) == 38 * 3


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("masked", [False, True])
def test_a_joined_denoiser_computes_what_the_usual_one_does(guided: bool, masked: bool) -> None:
    usual = denoiser(guided=guided)
    joined = flux_shape.join(deepcopy(usual))
    mask = torch.arange(11).ne(3)[None, None, None] if masked else None
    expected = answer(usual, guided=guided, mask=mask)
    assert torch.allclose(answer(joined, guided=guided, mask=mask), expected, atol=1e-5)
    if masked:
        assert not torch.allclose(expected, answer(usual, guided=guided), atol=1e-3)


def test_checkpointed_blocks_give_the_same_gradients() -> None:
    found = []
    for checkpointed in (False, True):
        joined = flux_shape.join(denoiser(guided=True))
        if checkpointed:
            joined.enable_gradient_checkpointing()
            joined.train()
        x = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(2)).requires_grad_()
        answer(joined, guided=True, x=x).square().sum().backward()
        assert x.grad is not None
        found.append(x.grad)
    assert torch.allclose(found[0], found[1], atol=1e-6)


def test_diffusers_reads_the_layout_as_it_was_trained() -> None:
    from diffusers import FluxPipeline

    rolls = torch.Generator().manual_seed(0)
    mine: dict[str, Tensor] = {}
    for name, shape in listing("lora.flux.kohya.te-clip-t5").items():
        if "_blocks_0_" in name:
            mine[name] = torch.randn(shape, generator=rolls) if shape else torch.tensor(2.0)
    theirs = FluxPipeline.lora_state_dict(dict(mine))
    parts = {
        "lora_unet_double_blocks_0_img_attn_qkv": [f"transformer_blocks.0.attn.to_{each}" for each in "qkv"],
        "lora_unet_double_blocks_0_txt_attn_qkv": [f"transformer_blocks.0.attn.add_{each}_proj" for each in "qkv"],
        "lora_unet_single_blocks_0_linear1": [
            *(f"single_transformer_blocks.0.attn.to_{each}" for each in "qkv"),
            "single_transformer_blocks.0.proj_mlp",
        ],
        "lora_unet_single_blocks_0_linear2": ["single_transformer_blocks.0.proj_out"],
    }
    for name, paths in parts.items():
        down, up = (mine[f"{name}.lora_{each}.weight"] for each in ("down", "up"))
        x = torch.randn(down.shape[1], generator=rolls)
        added = [
            theirs[f"transformer.{path}.lora_B.weight"] @ (theirs[f"transformer.{path}.lora_A.weight"] @ x)
            for path in paths
        ]
        assert torch.allclose(torch.cat(added), 0.5 * up @ (down @ x), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("guided", [True, False])
def test_the_denoiser_is_asked_as_its_own_forward_asks(guided: bool) -> None:
    joined = flux_shape.join(denoiser(guided=guided))
    assert torch.allclose(asked(joined, [0.3, 0.9], guided=guided), answer(joined, guided=guided), atol=1e-6)


def test_noise_levels_are_told_exactly_in_few_bits_too() -> None:
    """Its own forward rounds them: 0.9 and 0.901 are the same to it in bf16."""
    joined = flux_shape.join(denoiser(guided=False)).to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        one, other = asked(joined, [0.9, 0.9], guided=False), asked(joined, [0.901, 0.901], guided=False)
    assert not torch.equal(one, other)


def asked(joined: Any, sigma: list[float], *, guided: bool) -> Tensor:
    rolls = torch.Generator().manual_seed(1)
    own = torch.randn(2, 6, 8, generator=rolls)
    words, pooled = torch.randn(2, 5, 12, generator=rolls), torch.randn(2, 10, generator=rolls)
    places = torch.zeros(6, 3)
    places[:, 1], places[:, 2] = torch.arange(6) // 3, torch.arange(6) % 3
    told = [torch.tensor(sigma), *([torch.ones(2)] if guided else [])]
    with torch.no_grad():
        return flux_shape.answer(joined, own, words, pooled, told, places)
