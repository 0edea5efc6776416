"""Miniatures of each family with random weights, for tests: every kind of layer, a few thousand numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

TWO_BLOCKS: dict[str, Any] = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 16,
    "attention_head_dim": 2,
}


def stable_diffusion(folder: Path, *, seed: int = 0, prediction: str = "epsilon") -> Path:
    """Write a Stable Diffusion 1.x of 16x16 pictures and 8x8 latents to `folder`, in diffusers' layout."""
    return _one_encoder(folder, seed, prediction, **TWO_BLOCKS)


def stable_diffusion_2(folder: Path, *, seed: int = 0, prediction: str = "v") -> Path:
    """Write a Stable Diffusion 2.x of the same size: it predicts v, and its projections are linear."""
    return _one_encoder(folder, seed, prediction, "!", **TWO_BLOCKS, use_linear_projection=True)


def stable_diffusion_xl(folder: Path, *, seed: int = 0, prediction: str = "epsilon") -> Path:
    """Write a Stable Diffusion XL of the same size: two text encoders, and a U-Net that is told sizes."""
    from diffusers import StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    unet = _unet(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=40,
        attention_head_dim=(1, 2),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 6 * 8,
    )
    tokenizer = byte_tokenizer()
    StableDiffusionXLPipeline(
        vae=_vae(), unet=unet, tokenizer=tokenizer, tokenizer_2=byte_tokenizer(pad="!"),
        scheduler=_scheduler(prediction),
        text_encoder=CLIPTextModel(_text(tokenizer, 16)),
        text_encoder_2=CLIPTextModelWithProjection(_text(tokenizer, 24, hidden_act="gelu", projection_dim=24)),
        add_watermarker=False,
    ).save_pretrained(folder, safe_serialization=True)  # fmt: skip
    return folder


def single_file(folder: Path, path: Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """Write a miniature once more, as one file in the original layout."""
    from dataclasses import replace

    from safetensors.torch import save_file

    from impasto.families import detect, loading
    from impasto.families import single_file as original_names
    from impasto.families.config import Model
    from impasto.families.sd import Modules

    card = detect.look(Model(path=str(folder)))
    modules = Modules.load(card, dtype, torch.device("cpu"))
    loaded = dict(zip(card.encoders, modules.encoders, strict=True)) | {"unet": modules.unet, "vae": modules.vae}
    found: dict[str, torch.Tensor] = {}
    for part, module in loaded.items():
        places = loading.original_table(replace(card, original=True), part, module)
        found |= original_names.fuse(places, dict(module.named_parameters()))
    save_file({name: value.detach().to(dtype).contiguous() for name, value in found.items()}, path)
    return path


def _one_encoder(folder: Path, seed: int, prediction: str, pad: str = "<|endoftext|>", **measures: Any) -> Path:
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel

    torch.manual_seed(seed)
    unet, vae, tokenizer = _unet(**measures), _vae(), byte_tokenizer(pad)
    StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(_text(tokenizer, 16)), tokenizer=tokenizer, unet=unet,
        scheduler=_scheduler(prediction), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)  # fmt: skip
    return folder


def _unet(**measures: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, **measures
    )


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
    )


def _text(tokenizer: Any, width: int, **measures: Any) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=77, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, **measures,
    )  # fmt: skip


def _scheduler(prediction: str) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1,
        prediction_type="v_prediction" if prediction == "v" else prediction,
    )  # fmt: skip


def byte_tokenizer(pad: str = "<|endoftext|>") -> Any:
    """A CLIPTokenizer whose tokens are single bytes: a vocabulary of 514. `!` is its number 0."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    names = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={name: at for at, name in enumerate(names)}, merges=[], pad_token=pad, model_max_length=77
    )
