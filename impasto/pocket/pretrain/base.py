"""The base: a text encoder and a denoiser, trained together on captions and latents."""

from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from impasto.pocket.pretrain.muon import Muon
from impasto.pocket.pretrain.tokenizer import LENGTH, WAYS, tokenize
from impasto.pocket.pretrain.training import Trainee, batch, leads, own_rows, resume, train

BATCH = 32
RATE = 1e-3
WIDTH = 96
DROPPED = 0.1
"""The share of captions left empty, for classifier-free guidance."""

EMPHASIS = 3.0
"""How much more the loss weighs where a thing stands, and one latent around it: a plain backdrop teaches little, an
outline much."""

NOISIER = 0.75
"""Timesteps are 1000 u^0.75 for uniform u: outlines are settled in the noisy part, and the rest is mere polish."""


def new_unet() -> UNet2DConditionModel:
    """An untrained denoiser: Stable Diffusion 1's modules, three levels instead of four."""
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 96, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=(2, 3, 4),
        cross_attention_dim=WIDTH,
        norm_num_groups=8,
    )


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained text encoder for a tokenizer's vocabulary."""
    assert isinstance(tokenizer.eos_token_id, int)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=3,
        max_position_embeddings=LENGTH,
        hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule, but predicting v.

    Colours and backgrounds are settled at the noisiest steps, where an error in predicted noise is an error fourteen
    times as large in the picture. A small model cannot afford that; v bounds it.
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def train_base(work: Path, minutes: float, seed: int, start: Path | None = None) -> None:
    """Train the base on the workspace's latents and tokens, and save `unet/` and `text_encoder/`.

    It goes on from the workspace's checkpoint; without one, from the model in the folder `start`, or from nothing.
    """
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    latents = torch.from_numpy(np.load(work / "latents.npy"))
    tokens = torch.from_numpy(np.load(work / "tokens.npy").astype(np.int64))
    weights = emphasis(torch.from_numpy(np.load(work / "things.npy")))
    empty = torch.from_numpy(tokenize(tokenizer, [""]).astype(np.int64))
    trainee = _trainee(tokenizer, seed, start)
    kept = new_scheduler().alphas_cumprod
    unet, text_encoder = _nets(trainee)
    mine = list(own_rows(BATCH))

    def loss(step: int) -> Tensor:
        dice = torch.Generator().manual_seed(seed * 7919 + step)
        some = batch(len(latents), BATCH, seed, step)
        ids = tokens[some, torch.randint(WAYS, (BATCH,), generator=dice)]
        ids = torch.where(torch.rand(BATCH, 1, generator=dice) < DROPPED, empty, ids)
        noise = torch.randn(BATCH, *latents.shape[1:], generator=dice)
        steps = _stratified(dice)
        noisy, v = corrupt(latents[some].float(), noise, kept[steps])
        noisy = noisy[mine].contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            drawn = unet(noisy, steps[mine], text_encoder(ids[mine]).last_hidden_state).sample
        error: Tensor = (weights[some][mine] * (drawn.float() - v[mine]).square()).mean()
        return error

    train(
        trainee,
        loss,
        file=work / "base.safetensors",
        minutes=minutes,
        peak=RATE,
        glimpse=lambda _: save_base(work, trainee.steps),
    )
    if leads():
        save_base(work, trainee.steps)


def save_base(work: Path, steps: int = 0) -> None:
    """Write the averaged networks of the last checkpoint as `unet/` and `text_encoder/`."""
    trainee = _trainee(CLIPTokenizer.from_pretrained(work / "tokenizer"), seed=0)
    if (work / "base.safetensors").exists():
        resume(trainee, work / "base.safetensors")
        trainee.averaged()
    unet, text_encoder = _nets(trainee)
    unet.save_pretrained(work / "unet", safe_serialization=True)
    text_encoder.save_pretrained(work / "text_encoder", safe_serialization=True)
    print(f"base saved after {steps} steps", flush=True)


def corrupt(latents: Tensor, noise: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Noisy latents and the v to predict (Salimans and Ho 2022), for each example's share of kept signal."""
    signal, rest = kept.sqrt()[:, None, None, None], (1 - kept).sqrt()[:, None, None, None]
    return signal * latents + rest * noise, signal * noise - rest * latents


def emphasis(things: Tensor) -> Tensor:
    """The weight of each latent in the loss, [N, 1, H, W], 1 on average, from where things stand [N, H, W]."""
    near = functional.max_pool2d(things[:, None].float(), 3, stride=1, padding=1)
    weights = 1 + EMPHASIS * near
    return weights / weights.mean()


def _stratified(dice: torch.Generator) -> Tensor:
    """Timesteps spread evenly over the batch: less noise in the loss than independent ones."""
    even = (torch.arange(BATCH) + torch.rand(BATCH, generator=dice)) / BATCH
    return (even**NOISIER * 1000).long()


def _trainee(tokenizer: CLIPTokenizer, seed: int, start: Path | None = None) -> Trainee:
    torch.manual_seed(seed)
    unet = new_unet().to(memory_format=torch.channels_last)
    nets = nn.ModuleDict({"unet": unet, "text_encoder": new_text_encoder(tokenizer)})
    if start is not None:
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(start / "unet").float().state_dict())
        words = CLIPTextModel.from_pretrained(start / "text_encoder").float()
        nets["text_encoder"].load_state_dict(words.state_dict())
    return Trainee(nets, Muon(nets, RATE, betas=(0.9, 0.99)), decay=0.9985)


def _nets(trainee: Trainee) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    unet, text_encoder = trainee.nets["unet"], trainee.nets["text_encoder"]
    assert isinstance(unet, UNet2DConditionModel)
    assert isinstance(text_encoder, CLIPTextModel)
    return unet, text_encoder
