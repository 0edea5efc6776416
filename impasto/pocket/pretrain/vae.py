"""The autoencoder: 64 x 64 pixels to 16 x 16 x 4 latents and back."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from impasto.pocket.pretrain.pictures import FRESH, Pixels, pictures
from impasto.pocket.pretrain.training import Trainee, batch, resume, train, trainable

BATCH = 8
KL = 1e-4
RATE = 1.5e-3
SCALING = 0.18215
"""The factor of Stable Diffusion 1; the whitening is folded into the weights so that it fits."""


def new_vae() -> AutoencoderKL:
    """An untrained autoencoder."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=64,
        scaling_factor=SCALING,
    )


def train_vae(work: Path, minutes: float, seed: int) -> None:
    """Train the autoencoder on the workspace's pictures and save it, whitened, as `vae/`."""
    torch.manual_seed(seed)
    pixels = np.load(work / "pictures.npy", mmap_mode="r")
    trainee = _trainee()

    def loss(step: int) -> Tensor:
        torch.manual_seed(seed + step)
        wanted = as_input(pixels[batch(len(pixels), BATCH, seed, step).numpy()])
        return _loss(_net(trainee), _recoloured(wanted))

    def glimpse(_: int) -> None:
        print(f"psnr on 64 fresh pictures: {psnr(_net(trainee), pictures(seed + FRESH, 64)[0]):.2f} dB", flush=True)

    train(trainee, loss, file=work / "vae.safetensors", minutes=minutes, peak=RATE, glimpse=glimpse)
    save_vae(work, seed)


def save_vae(work: Path, seed: int) -> None:
    """Write the averaged, whitened autoencoder of the last checkpoint as `vae/`."""
    trainee = _trainee()
    resume(trainee, work / "vae.safetensors")
    trainee.averaged()
    vae = _net(trainee)
    print(f"psnr: {psnr(vae, pictures(seed + FRESH, 512)[0]):.2f} dB")
    whiten(vae, np.load(work / "pictures.npy", mmap_mode="r")[:2048])
    print(f"psnr, whitened: {psnr(vae, pictures(seed + FRESH, 512)[0]):.2f} dB")
    vae.save_pretrained(work / "vae", safe_serialization=True)


@torch.no_grad()
def whiten(vae: AutoencoderKL, pixels: Pixels) -> None:
    """Fold each channel's mean and scale into the 1 x 1 convolutions, so that scaled latents have unit variance."""
    latents = encode(vae, pixels) / SCALING
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    print("latent channels: mean", mean.tolist(), "std", std.tolist())
    gain = 1 / (SCALING * std)
    narrow, wide = vae.quant_conv, vae.post_quant_conv
    channels = len(gain)
    narrow.weight[:channels] *= gain[:, None, None, None]
    narrow.bias[:channels] = (narrow.bias[:channels] - mean) * gain
    narrow.bias[channels:] += 2 * gain.log()
    wide.bias += wide.weight[:, :, 0, 0] @ mean
    wide.weight /= gain[None, :, None, None]


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: Pixels) -> Tensor:
    """The scaled latents (their means) of pictures, [N, 4, 16, 16]."""
    parts = [vae.encode(as_input(part)).latent_dist.mean for part in _portions(pixels)]
    return torch.cat(parts) * SCALING


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor) -> Pixels:
    """Pictures from scaled latents."""
    parts = [vae.decode(part / SCALING).sample for part in torch.split(latents, 64)]
    pixels = ((torch.cat(parts) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())


def psnr(vae: AutoencoderKL, pixels: Pixels) -> float:
    """Peak signal to noise of reconstructions in decibels, averaged over the pictures."""
    return float(np.mean(psnrs(vae, pixels)))


def psnrs(vae: AutoencoderKL, pixels: Pixels) -> np.ndarray:
    """Each picture's peak signal to noise, in decibels."""
    errors = (decode(vae, encode(vae, pixels)).astype(float) - pixels) ** 2
    decibels: np.ndarray = 10 * np.log10(255**2 / np.maximum(errors.mean((1, 2, 3)), 1e-9))
    return decibels


def encode_all(work: Path) -> None:
    """Encode the workspace's pictures: `latents.npy`, half precision."""
    vae = AutoencoderKL.from_pretrained(work / "vae")
    latents = encode(vae, np.load(work / "pictures.npy", mmap_mode="r"))
    print("latents: mean", latents.mean((0, 2, 3)).tolist(), "std", latents.std((0, 2, 3)).tolist())
    np.save(work / "latents.npy", latents.half().numpy())


def as_input(pixels: Pixels) -> Tensor:
    """Bytes [N, H, W, 3] to floats [N, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def _trainee() -> Trainee:
    return trainable(nn.ModuleDict({"vae": new_vae().to(memory_format=torch.channels_last)}), RATE, decay=0.998)


def _net(trainee: Trainee) -> AutoencoderKL:
    vae = trainee.nets["vae"]
    assert isinstance(vae, AutoencoderKL)
    return vae


def _loss(vae: AutoencoderKL, wanted: Tensor) -> Tensor:
    latents = vae.encode(wanted).latent_dist
    drawn = vae.decode(latents.sample()).sample
    kl = 0.5 * (latents.mean.square() + latents.var - 1 - latents.logvar).mean()
    error = drawn - wanted
    tint = error - error.mean(1, keepdim=True)
    loss: Tensor = error.abs().mean() + error.square().mean() + tint.abs().mean() + KL * kl
    return loss


def _recoloured(wanted: Tensor) -> Tensor:
    """Half of the pictures with red, green and blue exchanged, for colours that no scene puts side by side."""
    half = len(wanted) // 2
    return torch.cat([wanted[:half], wanted[half:, torch.randperm(3)]])


def _portions(pixels: Pixels) -> list[Pixels]:
    return [pixels[start : start + 64] for start in range(0, len(pixels), 64)]
