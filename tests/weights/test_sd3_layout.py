"""Adapters of Stable Diffusion 3 in diffusers' own loader: the same picture as in training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from impasto import adapters
from impasto.adapters.adapter import Adapter
from impasto.adapters.config import Lora
from impasto.adapters.riders import Riders, Route
from impasto.adapters.targets import Target
from impasto.families import mmdit
from impasto.families.targets import sd3_targets
from impasto.families.tiny import byte_tokenizer
from impasto.weights import peft
from impasto.weights.merge import by_layer, merge
from impasto.weights.sd3_layout import Factors, to_diffusers, to_kohya
from tests.families.test_mmdit import denoiser
from tests.families.test_sd3_text import clip

MEASURES = {"qk_norm": "rms_norm", "dual_attention_layers": (0, 1)}


def pipeline() -> Any:
    """Stable Diffusion 3.5 in small, without T5, always the same."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 8), latent_channels=16, norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, use_quant_conv=False, use_post_quant_conv=False,
        scaling_factor=1.5305, shift_factor=0.0609, sample_size=16,
    )  # fmt: skip
    encoders = clip(12), clip(12)
    found = StableDiffusion3Pipeline(
        transformer=denoiser(**MEASURES), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae.eval(),
        text_encoder=encoders[0], text_encoder_2=encoders[1], text_encoder_3=None, tokenizer=byte_tokenizer(),
        tokenizer_2=byte_tokenizer(pad="!"), tokenizer_3=None,
    )  # fmt: skip
    found.set_progress_bar_config(disable=True)
    return found


@torch.no_grad()
def picture(drawing: Any) -> Tensor:
    return torch.as_tensor(
        drawing(
            "a red thing", height=16, width=16, num_inference_steps=3, guidance_scale=3.0, output_type="pt",
            generator=torch.Generator().manual_seed(1), max_sequence_length=16,
        ).images
    )  # fmt: skip


def trained(targets: list[Target], config: Lora) -> Adapter:
    """An adapter as after a training: no factor is zero."""
    adapter = adapters.build(config, targets, seed=0)
    generator = torch.Generator().manual_seed(2)
    for parameter in adapter.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return adapter


def factors(tensors: dict[str, Tensor]) -> dict[str, Factors]:
    return {
        name: (held["lora_down.weight"].detach(), held["lora_up.weight"].detach(), float(held["alpha"]))
        for name, held in by_layer(tensors).items()
    }


def joined(drawing: Any) -> list[Target]:
    """Give a pipeline's denoiser the published shape, and list its layers."""
    mmdit.join(drawing.transformer)
    return sd3_targets(drawing.transformer, {1: drawing.text_encoder, 2: drawing.text_encoder_2})


@pytest.mark.parametrize("layers", ["attention-mlp", "full"])
def test_diffusers_loads_what_was_trained_and_draws_the_same_picture(tmp_path: Path, layers: str) -> None:
    ours, theirs, merged = pipeline(), pipeline(), pipeline()
    plain = picture(ours)
    targets = joined(ours)
    adapter = trained(targets, Lora.model_validate({"rank": 2, "alpha": 1.0, "targets": {"layers": layers}}))
    riders = Riders(targets)
    riders.mount(adapter)
    with riders.routed([Route(adapter, 0, 1)]):
        drawn = picture(ours)
    assert (drawn - plain).abs().mean() > 4 / 255
    assert not riders.silent()

    found, sizes = to_diffusers(factors(adapter.tensors()), targets)
    save_file(found, tmp_path / "x.safetensors", {peft.KEY: peft.written(sizes)})
    theirs.load_lora_weights(str(tmp_path), weight_name="x.safetensors", local_files_only=True)
    assert (picture(theirs) - drawn).abs().mean() < 1 / 255

    places = {target.name: target for target in joined(merged)}
    for name, held in by_layer(adapter.tensors()).items():  # the file in Kohya's layout, by our own reader
        merge(places[name].layer, held)
    assert (picture(merged) - drawn).abs().mean() < 1 / 255


def test_of_kohyas_layout_diffusers_takes_nothing(tmp_path: Path) -> None:
    """If this fails one day, diffusers has learnt it, and files can be proven there as they are."""
    drawing = pipeline()
    adapter = trained(joined(pipeline()), Lora(rank=2))
    held = {name: value.detach().contiguous() for name, value in adapter.tensors().items()}
    save_file(held, tmp_path / "x.safetensors")
    plain = picture(drawing)
    drawing.load_lora_weights(str(tmp_path), weight_name="x.safetensors", local_files_only=True)
    assert torch.equal(picture(drawing), plain)


def test_there_and_back_is_the_same_to_the_bit() -> None:
    targets = joined(pipeline())
    before = factors(trained(targets, Lora.model_validate({"rank": 2, "targets": {"layers": "full"}})).tensors())
    tensors, sizes = to_diffusers(before, targets)
    after = to_kohya(tensors, lambda part, path, rank: sizes[part][path][1], targets)
    assert after.keys() == before.keys()
    for name, (down, up, alpha) in before.items():
        assert torch.equal(after[name][0], down)
        assert torch.equal(after[name][1], up)
        assert after[name][2] == alpha


def test_queries_keys_and_values_trained_apart_add_the_same_together() -> None:
    targets = joined(pipeline())
    path = "transformer.transformer_blocks.1.attn.to_"
    apart = {f"{path}{each}": (torch.randn(rank, 16), torch.randn(16, rank)) for each, rank in (("q", 2), ("v", 3))}
    tensors = {
        f"{name}.lora_{end}.weight": each for name, two in apart.items() for end, each in zip("AB", two, strict=True)
    }
    ((name, (down, up, alpha)),) = to_kohya(tensors, lambda part, path, rank: 1.5, targets).items()
    assert name == "lora_unet_joint_blocks_1_x_block_attn_qkv"
    assert (down.shape, up.shape) == ((5, 16), (48, 5))
    added = alpha / len(down) * up @ down
    queries, keys, values = added.chunk(3)
    for found, (each, rank) in ((queries, ("q", 2)), (values, ("v", 3))):
        low, high = apart[f"{path}{each}"]
        assert torch.allclose(found, 1.5 / rank * high @ low, atol=1e-5)
    assert not keys.any()
    assert math.isclose(alpha, 5.0)


def test_what_belongs_nowhere_is_named() -> None:
    targets = joined(pipeline())
    strange = {"transformer.transformer_blocks.9.attn.to_q.lora_A.weight": torch.zeros(2, 16)}
    with pytest.raises(KeyError, match=r"blocks\.9"):
        to_kohya(strange, lambda part, path, rank: 1.0, targets)
