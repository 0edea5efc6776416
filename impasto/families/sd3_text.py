"""What Stable Diffusion 3 is told by captions: two CLIP text encoders side by side, and T5 behind them.

Each of the three may be missing. What it would have said is zeros then, which is what diffusers draws with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from impasto.data.batch import Conditioning
from impasto.families import text

CLIP_L, CLIP_G, T5 = 1, 2, 3
"""The numbers of the text encoders, in the order in which they are told."""

IDS: Mapping[int, str] = {CLIP_L: "ids", CLIP_G: "ids_2", T5: "ids_3"}
"""Where the tokens for each of them stand in a conditioning: [N, 77] for CLIP, [N, T] for T5."""

SEEN: Mapping[int, str] = {CLIP_L: "seen", CLIP_G: "seen_2", T5: "seen_3"}
"""Where it stands which of those tokens an encoder attends to, [N, L]; without it, all of them, as the model was made
and as programs draw."""

BEFORE_LAST = -2
"""The layer that is read of both CLIP text encoders, without the final norm."""


@dataclass(frozen=True)
class Widths:
    """How much each encoder says of a token. The published numbers are the same in all versions."""

    clip_l: int = 768
    clip_g: int = 1280
    t5: int = 4096

    clip_tokens: int = 77
    t5_tokens: int = 256


def encode(encoders: Mapping[int, Any], cond: Conditioning, widths: Widths) -> dict[str, Tensor]:
    """Token ids of the encoders there are -> {"states": [N, 77 + T, t5], "pooled": [N, clip_l + clip_g]}.

    At least one encoder must be there; the others' share is zeros.
    """
    ids = next(cond[IDS[number]] for number in encoders)
    rows, device = len(ids), ids.device
    told = {number: _told(encoders[number], number, cond) for number in encoders}
    dtype = next(iter(told.values()))[0].dtype

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(rows, *shape, device=device, dtype=dtype)

    sides, pools = [], []
    for number, width in ((CLIP_L, widths.clip_l), (CLIP_G, widths.clip_g)):
        states, pooled = told.get(number) or (zeros(widths.clip_tokens, width), zeros(width))
        sides.append(states)
        pools.append(pooled)
    clips = torch.cat(sides, dim=-1)
    behind = told[T5][0] if T5 in told else zeros(widths.t5_tokens, widths.t5)
    padded = F.pad(clips, (0, widths.t5 - clips.shape[-1]))
    return {"states": torch.cat([padded, behind], dim=1), "pooled": torch.cat(pools, dim=-1)}


def hushed(said: Conditioning, silent: Tensor, widths: Widths) -> dict[str, Tensor]:
    """What is said, without the encoders that `silent` [N, 3] has 1 for: theirs is zeros, as if they were missing."""
    keeps = (1 - silent).to(said["states"].dtype)
    by_width = torch.cat([keeps[:, :1].expand(-1, widths.clip_l), keeps[:, 1:2].expand(-1, widths.clip_g)], dim=1)
    clips = F.pad(by_width, (0, widths.t5 - by_width.shape[1]), value=1.0)
    words, behind = said["states"][:, : widths.clip_tokens], said["states"][:, widths.clip_tokens :]
    states = torch.cat([words * clips[:, None], behind * keeps[:, 2, None, None]], dim=1)
    return {"states": states, "pooled": said["pooled"] * by_width.to(said["pooled"].dtype)}


def up_to_end(ids: Tensor, end: int) -> Tensor:
    """1 for tokens up to the first end mark, and 0 behind it, [N, L]."""
    last = (ids == end).int().argmax(dim=1)
    return (torch.arange(ids.shape[1], device=ids.device) <= last[:, None]).long()


def _told(encoder: Any, number: int, cond: Conditioning) -> tuple[Tensor, Tensor]:
    """States [N, L, D] of one encoder and, of CLIP, the pooled text [N, P]."""
    ids, seen = cond[IDS[number]], cond.get(SEEN[number])
    with text.own_precision(encoder):
        if number == T5:
            states = text.for_denoiser(encoder(ids, attention_mask=seen)[0])
            return states, states[:, 0]
        found = encoder(ids, attention_mask=seen, output_hidden_states=True)
    return text.for_denoiser(found.hidden_states[BEFORE_LAST]), text.for_denoiser(found.text_embeds)
