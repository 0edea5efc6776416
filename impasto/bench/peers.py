"""The same training by diffusers and peft: a bare loop written tightly, and the loop as their documentation has it.

Neither knows anything of impasto. Both adapt the layers of attention of a frozen U-Net by peft's LoRA, in fp32 or under
autocast, with AdamW, clipped gradients and the objective of DDPM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

ATTENTION = ["to_k", "to_q", "to_v", "to_out.0"]
"""The layers of attention, as diffusers names them."""


@dataclass(frozen=True)
class Task:
    """What all loops do."""

    base: Path
    pictures: Path
    resolution: int
    batch: int
    rank: int
    rate: float
    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> AbstractContextManager[object]:
        """As impasto computes in this precision."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def files(self) -> list[tuple[Path, str]]:
        """Pictures and captions."""
        return [(path, path.with_suffix(".txt").read_text("utf-8")) for path in sorted(self.pictures.glob("*.png"))]


@dataclass(frozen=True)
class Parts:
    """A base, read by diffusers and transformers, with an adapter by peft."""

    unet: Any
    vae: Any
    encoder: Any
    tokenizer: Any
    noise: Any

    @classmethod
    def load(cls, task: Task) -> Parts:
        """Frozen but for the adapter."""
        from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
        from peft import LoraConfig
        from transformers import CLIPTextModel, CLIPTokenizer

        def part(kind: Any, folder: str) -> Any:
            found = kind.from_pretrained(task.base, subfolder=folder).to(task.device, task.dtype)
            return found.requires_grad_(False)

        unet = part(UNet2DConditionModel, "unet")
        vae, encoder = part(AutoencoderKL, "vae"), part(CLIPTextModel, "text_encoder")
        unet.add_adapter(
            LoraConfig(r=task.rank, lora_alpha=task.rank, init_lora_weights="gaussian", target_modules=ATTENTION)
        )
        for each in unet.parameters():
            if each.requires_grad:
                each.data = each.data.float()
        tokenizer = CLIPTokenizer.from_pretrained(task.base, subfolder="tokenizer")
        return cls(unet, vae, encoder, tokenizer, DDPMScheduler.from_pretrained(task.base, subfolder="scheduler"))

    def trained(self) -> list[Tensor]:
        """The adapter's numbers."""
        return [each for each in self.unet.parameters() if each.requires_grad]

    def latents(self, pixels: Tensor) -> Tensor:
        """A draw of the picture encoder's distribution, scaled."""
        drawn: Tensor = self.vae.encode(pixels.to(self.vae.device, self.vae.dtype)).latent_dist.sample()
        scale: float = self.vae.config.scaling_factor
        return drawn * scale

    def ids(self, captions: Sequence[str]) -> Tensor:
        """Captions as tokens, all of one length."""
        found = self.tokenizer(
            list(captions), max_length=77, padding="max_length", truncation=True, return_tensors="pt"
        )
        ids: Tensor = found.input_ids
        return ids


def pixels(path: Path, side: int) -> Tensor:
    """A picture as [3, H, W] in -1..1, scaled and cut to a square."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    scale = side / min(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BILINEAR)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    cut = np.asarray(picture.crop((left, top, left + side, top + side)))
    return torch.from_numpy(cut.copy()).permute(2, 0, 1).float() / 127.5 - 1


def bare(task: Task) -> Callable[[], None]:
    """A step that does what must be done, and nothing else: pictures and captions are encoded before, the optimizer is
    torch's fused one, nothing is read off the device or told."""
    parts = Parts.load(task)
    with torch.no_grad(), task.autocast():
        files = task.files()
        latents = [parts.latents(pixels(path, task.resolution)[None])[0].float() for path, _ in files]
        states = [parts.encoder(parts.ids([text]).to(task.device))[0][0] for _, text in files]
    parts.unet.train()
    trained = parts.trained()
    optimizer = torch.optim.AdamW(trained, lr=task.rate, fused=True)
    steps = len(parts.noise.alphas_cumprod)
    alphas = parts.noise.alphas_cumprod.to(task.device)
    kept, spread = alphas.sqrt()[:, None, None, None], (1 - alphas).sqrt()[:, None, None, None]
    at = 0

    def step() -> None:
        nonlocal at
        some = [(at + each) % len(latents) for each in range(task.batch)]
        at += task.batch
        x = torch.stack([latents[each] for each in some])
        noise = torch.randn_like(x)
        t = torch.randint(steps, (task.batch,), device=task.device)
        with task.autocast():
            predicted = parts.unet(
                kept[t] * x + spread[t] * noise, t,
                encoder_hidden_states=torch.stack([states[each] for each in some]), return_dict=False,
            )[0]  # fmt: skip
        F.mse_loss(predicted.float(), noise).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def documented(task: Task) -> Callable[[], None]:
    """A step as the documentation of diffusers trains a LoRA: a loader decodes and scales pictures, VAE and text
    encoder run each time, accelerate leads, torch's usual AdamW, a schedule, the loss is read and shown."""
    from accelerate import Accelerator
    from diffusers.optimization import get_scheduler
    from tqdm.auto import tqdm

    accelerator = Accelerator(cpu=task.device.type == "cpu")
    parts = Parts.load(task)
    optimizer = torch.optim.AdamW(parts.trained(), lr=task.rate)
    schedule = get_scheduler("constant", optimizer=optimizer, num_warmup_steps=0, num_training_steps=10**6)
    files = task.files()
    tokens = parts.ids([text for _, text in files])

    class Pictures(torch.utils.data.Dataset[dict[str, Tensor]]):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, at: int) -> dict[str, Tensor]:
            return {"pixels": pixels(files[at][0], task.resolution), "ids": tokens[at]}

    loader = torch.utils.data.DataLoader(Pictures(), batch_size=task.batch, shuffle=True, drop_last=True)
    unet, optimizer, loader, schedule = accelerator.prepare(parts.unet, optimizer, loader, schedule)
    unet.train()
    bar = tqdm(total=10**6, disable=None, leave=False)  # shown on a terminal only

    def endless() -> Iterator[dict[str, Tensor]]:
        while True:
            yield from loader

    batches = endless()

    def step() -> None:
        batch = next(batches)
        with accelerator.accumulate(unet):
            latents = parts.latents(batch["pixels"])
            noise = torch.randn_like(latents)
            t = torch.randint(parts.noise.config.num_train_timesteps, (len(latents),), device=latents.device).long()
            noisy = parts.noise.add_noise(latents, noise, t)
            states = parts.encoder(batch["ids"].to(latents.device), return_dict=False)[0]
            with task.autocast():
                predicted = unet(noisy, t, states, return_dict=False)[0]
            loss = F.mse_loss(predicted.float(), noise.float(), reduction="mean")
            mean = accelerator.gather(loss.repeat(task.batch)).mean()
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(parts.trained(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        bar.update(1)
        bar.set_postfix(loss=mean.item(), rate=schedule.get_last_lr()[0])

    return step
