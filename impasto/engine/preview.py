"""Pictures drawn from a base with one adapter, or none: the same code for previews, proofs and `impasto sample`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from impasto.adapters.adapter import Adapter
from impasto.adapters.riders import Riders, Route
from impasto.data.batch import Conditioning
from impasto.engine import plots
from impasto.engine.config import Prompt
from impasto.engine.device import Compute
from impasto.families.detect import Card
from impasto.families.family import Family
from impasto.objectives.process import Process
from impasto.objectives.sampling import sample

if TYPE_CHECKING:
    from impasto.engine.member import Member
    from impasto.engine.trainer import Trainer

Said = Callable[[Sequence[str]], Conditioning]
"""What texts mean to a base, on the device: `Family.tokenize`, or `Family.encode` of it."""


def nothing() -> None:
    """What to poll when nobody can ask for a stop."""


@torch.no_grad()
def draw(
    family: Family,
    compute: Compute,
    prompt: Prompt,
    card: Card,
    *,
    riders: Riders | None = None,
    adapter: Adapter | None = None,
    process: Process | None = None,
    said: Said | None = None,
    poll: Callable[[], None] = nothing,
) -> Tensor:
    """One picture [3, H, W] in 0..1, on the host.

    Without `adapter` the base draws alone, without `process` by its own schedule, and without `said`, which may know
    what words mean, they are encoded. The first noise comes from a host generator with the prompt's seed, as in
    diffusers' pipelines, so the same seed starts from the same noise there.
    """
    clean = drawn(
        family, compute, prompt, card, riders=riders, adapter=adapter, process=process, said=said, poll=poll
    )  # fmt: skip
    return shown(family, clean)


@torch.no_grad()
def drawn(
    family: Family,
    compute: Compute,
    prompt: Prompt,
    card: Card,
    *,
    riders: Riders | None = None,
    adapter: Adapter | None = None,
    process: Process | None = None,
    said: Said | None = None,
    poll: Callable[[], None] = nothing,
) -> Tensor:
    """The same as latents [1, C, h, w], on the device."""
    latents = first_noise(prompt, card).to(compute.device)
    guidance = card.usual_guidance if prompt.guidance is None else prompt.guidance
    words = texts_of(prompt, card)
    guided = len(words) > 1
    meant = said(words) if said else _on(family.tokenize(words), compute.device)
    with _routed(riders, adapter, len(words)), compute.autocast():
        encoded = family.encode(meant)  # once for all denoising steps
    told = torch.full((len(words),), prompt.embedded_guidance, device=latents.device)
    cond = {**encoded, "sizes": _sizes(latents, card).repeat(len(words), 1), "guidance": told}

    def predict(x: Tensor, t: Tensor) -> Tensor:
        with _routed(riders, adapter, len(words)), compute.autocast():
            both = family.predict(x.repeat(len(words), 1, 1, 1), t.repeat(len(words)), cond).float()
        if not guided:
            return both
        without, with_words = both.chunk(2)
        return without + guidance * (with_words - without)

    process = process or family.process
    with family.lending.denoiser.use():
        return sample(predict, process, latents, steps=prompt.steps, sampler=prompt.sampler, poll=poll)


def shown(family: Family, clean: Tensor) -> Tensor:
    """Latents [1, C, h, w] as a picture [3, H, W] in 0..1, on the host."""
    with family.vae() as vae:
        return vae.decode(clean)[0].cpu()


def of_member(
    member: Member, prompt: Prompt, trainer: Trainer, card: Card, said: Said, poll: Callable[[], None]
) -> bytes:
    """What a member draws now, with the weights that files show, as a PNG."""
    with member.averaged():
        pixels = draw(
            trainer.family, trainer.compute, prompt, card,
            riders=trainer.riders, adapter=member.adapter, process=member.objective.process, said=said, poll=poll,
        )  # fmt: skip
    return png(pixels)


def texts_of(prompt: Prompt, card: Card) -> list[str]:
    """The texts that a picture is drawn from: what not to draw, where words are followed closely, and what to draw."""
    guidance = card.usual_guidance if prompt.guidance is None else prompt.guidance
    return [prompt.negative, prompt.text] if guidance != 1.0 else [prompt.text]


def first_noise(prompt: Prompt, card: Card) -> Tensor:
    """[1, C, h, w], the noise the picture starts from."""
    width, height = (side or card.resolution for side in (prompt.width, prompt.height))
    shape = (1, card.channels, height // card.factor, width // card.factor)
    return torch.randn(shape, generator=torch.Generator().manual_seed(prompt.seed))


def _sizes(latents: Tensor, card: Card) -> Tensor:
    """[1, 6], a picture that was never scaled or cut: see `Conditioning`."""
    height, width = (side * card.factor for side in latents.shape[-2:])
    return torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=latents.device)


def picture(pixels: Tensor) -> Image.Image:
    """[3, H, W] in 0..1 -> a picture of 8 bits a channel."""
    return Image.fromarray((pixels.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))


def png(pixels: Tensor) -> bytes:
    """[3, H, W] in 0..1 -> a PNG."""
    return plots.png(picture(pixels))


def _routed(riders: Riders | None, adapter: Adapter | None, rows: int) -> AbstractContextManager[None]:
    if riders is None or adapter is None:
        return nullcontext()
    return riders.routed([Route(adapter, 0, rows)])


def _on(cond: Conditioning, device: torch.device) -> Conditioning:
    return {name: value.to(device) for name, value in cond.items()}
