"""A Stable Diffusion 1.x of medium size with random numbers, for measuring: 88 million parameters in its U-Net.

All proportions are those of the published model: four blocks of two layers, eight heads, a tenth of the weights.
"""

from __future__ import annotations

from pathlib import Path

import torch

CHANNELS = (128, 256, 384, 384)
WORDS = 256
"""Numbers a token."""


def made(folder: Path) -> Path:
    """Write it to `folder`, unless it is there."""
    return folder if (folder / "model_index.json").is_file() else write(folder)


def write(folder: Path, *, seed: int = 0, channels: tuple[int, ...] = CHANNELS) -> Path:
    """Write it to `folder`, in diffusers' layout."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from impasto.families.text import own_tokenizer

    torch.manual_seed(seed)
    tokenizer = own_tokenizer()
    reader = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WORDS, intermediate_size=4 * WORDS, num_hidden_layers=6,
        num_attention_heads=4, max_position_embeddings=77, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(32, 64, 128, 128), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, sample_size=256,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    StableDiffusionPipeline(
        vae=vae, unet=UNet2DConditionModel(sample_size=32, block_out_channels=channels, cross_attention_dim=WORDS),
        text_encoder=CLIPTextModel(reader), tokenizer=tokenizer, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)  # fmt: skip
    return folder
