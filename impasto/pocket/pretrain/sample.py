"""Drawing with the packaged model: plain DDIM with classifier-free guidance."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from impasto.pocket.pretrain.pictures import Pixels
from impasto.pocket.pretrain.tokenizer import tokenize
from impasto.pocket.pretrain.vae import decode

STEPS = 25
GUIDANCE = 4.0


@dataclass(frozen=True)
class Painter:
    """All parts of a model that draws pictures."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler


def painter(folder: Path) -> Painter:
    """The model in a folder, in single precision."""
    return Painter(
        UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32).eval(),
        AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval(),
        CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval(),
        CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        DDIMScheduler.from_pretrained(folder / "scheduler"),
    )


@torch.no_grad()
def draw_prompts(
    model: Painter, prompts: list[str], *, seed: int, steps: int = STEPS, guidance: float = GUIDANCE
) -> Pixels:
    """One picture for each prompt."""
    dice = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(prompts), 4, 16, 16, generator=dice)
    empty = _read(model, [""])
    parts = []
    for start in range(0, len(prompts), 32):
        some = slice(start, start + 32)
        parts.append(
            decode(model.vae, _denoise(model, noise[some], _read(model, prompts[some]), empty, steps, guidance))
        )
    return np.concatenate(parts)


def _denoise(model: Painter, noisy: Tensor, cond: Tensor, empty: Tensor, steps: int, guidance: float) -> Tensor:
    both = torch.cat([empty.expand_as(cond), cond])
    model.scheduler.set_timesteps(steps)
    for step in model.scheduler.timesteps:
        without, drawn = model.unet(torch.cat([noisy, noisy]), step, both).sample.chunk(2)
        noisy = model.scheduler.step(without + guidance * (drawn - without), step, noisy).prev_sample
    return noisy


def _read(model: Painter, prompts: list[str]) -> Tensor:
    ids = torch.from_numpy(tokenize(model.tokenizer, prompts).astype(np.int64))
    states: Tensor = model.text_encoder(ids).last_hidden_state
    return states
