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


def stable_diffusion_3(folder: Path, *, seed: int = 0, t5: bool = True) -> Path:
    """Write a Stable Diffusion 3.5 medium of the same size: three text encoders, or two, and a transformer."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextModelWithProjection, T5Config, T5EncoderModel

    torch.manual_seed(seed)
    transformer = SD3Transformer2DModel(
        sample_size=8, num_layers=3, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=48,
        caption_projection_dim=16, pooled_projection_dim=40, pos_embed_max_size=16, qk_norm="rms_norm",
        dual_attention_layers=(0, 1),
    )  # fmt: skip
    vae = _vae(
        latent_channels=16, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=1.5305, shift_factor=0.0609
    )
    first, second, third = byte_tokenizer(), byte_tokenizer(pad="!"), _t5_tokenizer()
    reader = T5Config(
        vocab_size=len(third), d_model=48, d_kv=8, d_ff=16, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    StableDiffusion3Pipeline(
        transformer=transformer, vae=vae, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), tokenizer=first,
        text_encoder=CLIPTextModelWithProjection(_text(first, 16, projection_dim=16)), tokenizer_2=second,
        text_encoder_2=CLIPTextModelWithProjection(_text(second, 24, hidden_act="gelu", projection_dim=24)),
        tokenizer_3=third if t5 else None, text_encoder_3=T5EncoderModel(reader) if t5 else None,
    ).save_pretrained(folder, safe_serialization=True)  # fmt: skip
    return folder


def flux(folder: Path, *, seed: int = 0, dev: bool = True) -> Path:
    """Write a FLUX.1 dev or schnell of the same size: CLIP, T5, and a transformer of both kinds of blocks."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel, T5Config, T5EncoderModel

    torch.manual_seed(seed)
    transformer = FluxTransformer2DModel(
        in_channels=64, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, pooled_projection_dim=16, guidance_embeds=dev, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    vae = _vae(
        latent_channels=16, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611, shift_factor=0.1159
    )
    first, second = byte_tokenizer(), _t5_tokenizer()
    reader = T5Config(
        vocab_size=len(second), d_model=24, d_kv=8, d_ff=16, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    FluxPipeline(
        transformer=transformer, vae=vae, text_encoder=CLIPTextModel(_text(first, 16)), tokenizer=first,
        text_encoder_2=T5EncoderModel(reader), tokenizer_2=second,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if dev else 1.0, use_dynamic_shifting=dev),
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
        found |= original_names.fuse(places, module.state_dict())
    save_file({name: value.detach().to(dtype).contiguous() for name, value in found.items()}, path)
    return path


def flux_files(folder: Path, out: Path) -> dict[str, Path]:
    """Write a miniature of FLUX.1 once more as users have it, a file for each part: settings of a model -> files."""
    from safetensors.torch import load_file, save_file

    out.mkdir(parents=True)
    held = load_file(single_file(folder, out / "whole.safetensors"))
    starts = {
        "path": "model.diffusion_model.", "vae_path": "vae.", "clip_l_path": "text_encoders.clip_l.transformer.",
        "t5_path": "text_encoders.t5xxl.transformer.",
    }  # fmt: skip
    found = {setting: out / f"{setting}.safetensors" for setting in starts}
    for setting, start in starts.items():
        own = {name.removeprefix(start): value for name, value in held.items() if name.startswith(start)}
        save_file(own, found[setting])
    return found


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


def _vae(**measures: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
        **measures,
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


def _t5_tokenizer() -> Any:
    """A T5 tokenizer whose tokens are letters."""
    from transformers import T5Tokenizer

    letters = "abcdefghijklmnopqrstuvwxyz,."
    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0)]
    return T5Tokenizer(vocab=[*marks, *((each, -3.0) for each in ("\u2581", *letters))], extra_ids=0)
