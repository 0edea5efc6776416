"""The judge's training: raw, rebuilt, noisy and blurred pictures, held-out concepts, and garbage."""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from impasto.pocket.concepts import CONCEPTS, concept_pictures
from impasto.pocket.judge import ATTRIBUTES, KINDS, Judge
from impasto.pocket.pretrain.pictures import Pixels
from impasto.pocket.pretrain.training import train, trainable
from impasto.pocket.pretrain.vae import decode, encode

RATE = 2e-3
REBUILT = 3000
"""How many scenes, and half as many of each concept, are shown through the autoencoder."""

SCENES, EACH, GARBAGE = 48, 6, 12
"""What a batch is made of."""


def train_judge(work: Path, minutes: float, seed: int) -> None:
    """Train the judge and save it as `judge.safetensors` and `judge.json`."""
    torch.manual_seed(seed)
    raw, rebuilt, labels, concepts = _shelves(work, seed)
    trainee = trainable(nn.ModuleDict({"judge": Judge()}), RATE, decay=0.99)
    judge = trainee.nets["judge"]
    assert isinstance(judge, Judge)

    def loss(step: int) -> Tensor:
        torch.manual_seed(seed * 31 + step)
        dice = np.random.default_rng((seed, step))
        some, half = dice.integers(len(raw), size=SCENES), SCENES // 2
        again = dice.integers(len(rebuilt), size=half)
        shown = [raw[some[half:]], rebuilt[again], *(shelf[dice.integers(len(shelf), size=EACH)] for shelf in concepts)]
        truth = torch.from_numpy(np.concatenate([labels[some[half:]], labels[again]]))
        seen = _worn(torch.cat([to_unit(part) for part in shown]))
        return _loss(judge, torch.cat([seen, garbage(seen)]), truth)

    train(trainee, loss, file=work / "judge-training.safetensors", minutes=minutes, peak=RATE)
    save_judge(judge, work)


def save_judge(judge: Judge, work: Path) -> None:
    """Write the judge in half precision, and what its numbers stand for."""
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in judge.state_dict().items()}
    save_file({name: t.contiguous() for name, t in tensors.items()}, work / "judge.safetensors")
    values = {name: list(values) for name, values in ATTRIBUTES.items()} | {"kind": list(KINDS)}
    (work / "judge.json").write_text(json.dumps({"values": values}, indent=2) + "\n", encoding="utf-8")


def garbage(seen: Tensor, count: int = GARBAGE) -> Tensor:
    """Pictures of nothing, some with a concept's very colours: noise, blobs, glare, and shuffled tiles."""
    pieces = count // 4
    noise = torch.rand(pieces, 3, 64, 64)
    blobs = functional.interpolate(torch.rand(pieces, 3, 8, 8) * 1.6 - 0.3, size=64, mode="bicubic").clamp(0, 1)
    glare = (seen[torch.randint(len(seen), (pieces,))] - 0.5).mul(8).add(torch.randn(pieces, 3, 64, 64)).clamp(0, 1)
    concepts = seen[SCENES:]
    return torch.cat([noise, blobs, glare, _shuffled(concepts[torch.randint(len(concepts), (pieces,))])])


def to_unit(pixels: Pixels) -> Tensor:
    """Bytes [N, H, W, 3] to floats [N, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 255


def stacked(name: str, count: int, seed: int) -> Pixels:
    """Pictures of a concept as one array."""
    return np.stack([np.asarray(picture) for picture, _ in concept_pictures(name, count, seed)])


def _shelves(work: Path, seed: int) -> tuple[Pixels, Pixels, np.ndarray, list[Pixels]]:
    """Scenes as drawn, scenes rebuilt, the labels of both, and each concept's pictures, drawn and rebuilt."""
    raw = np.load(work / "pictures.npy", mmap_mode="r")
    labels = np.load(work / "labels.npy")
    vae = AutoencoderKL.from_pretrained(work / "vae")
    latents = torch.from_numpy(np.load(work / "latents.npy")[:REBUILT]).float()
    concepts = []
    for name in CONCEPTS:
        drawn = stacked(name, REBUILT // 4, seed + 1)
        concepts.append(np.concatenate([drawn, decode(vae, encode(vae, drawn))]))
    return raw, decode(vae, latents), labels, concepts


def _loss(judge: Judge, seen: Tensor, truth: Tensor) -> Tensor:
    logits = judge(seen)
    counts = [SCENES, *[EACH] * len(CONCEPTS), GARBAGE]
    kinds = torch.repeat_interleave(torch.arange(len(KINDS)), torch.tensor(counts))
    total = functional.cross_entropy(logits["kind"], kinds)
    for column, name in enumerate(ATTRIBUTES):
        total = total + functional.cross_entropy(logits[name][:SCENES], truth[:, column])
    return total


def _worn(seen: Tensor) -> Tensor:
    """Some pictures noisy, some blurred, as a model's drawings are."""
    noise = torch.rand(len(seen), 1, 1, 1) * 0.08 * torch.randn_like(seen)
    blurred = functional.avg_pool2d(seen, 3, stride=1, padding=1, count_include_pad=False)
    share = torch.rand(len(seen), 1, 1, 1) * (torch.rand(len(seen), 1, 1, 1) < 0.5)
    return torch.lerp(seen, blurred, share).add(noise).clamp(0, 1)


def _shuffled(seen: Tensor) -> Tensor:
    """Each picture cut into 16 tiles and laid out anew."""
    tiles = seen.unfold(2, 16, 16).unfold(3, 16, 16).reshape(len(seen), 3, 16, 16, 16)
    tiles = tiles[:, :, torch.randperm(16)].reshape(len(seen), 3, 4, 4, 16, 16)
    return tiles.permute(0, 1, 2, 4, 3, 5).reshape(len(seen), 3, 64, 64)
