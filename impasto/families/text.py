"""CLIP text: tokens in windows of 75, encoded to states. Shared by every family with a CLIP text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

WINDOW = 75
"""Words' tokens in one window; with the start and end marks it is 77 long."""


def tokenize(tokenizer: Any, captions: Sequence[str], max_tokens: int) -> Tensor:
    """Captions -> token ids [N, windows, 77], each window with its own start and end mark.

    `tokenizer` is a transformers CLIPTokenizer. A caption is cut at `max_tokens` (75, 150 or 225).
    """
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    words = [tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids for text in captions]
    rows = [[_window(ids[at : at + WINDOW], start, end, pad) for at in range(0, max_tokens, WINDOW)] for ids in words]
    return torch.tensor(rows, dtype=torch.long)


def _window(words: list[int], start: int, end: int, pad: int) -> list[int]:
    return [start, *words, end, *[pad] * (WINDOW - len(words))]


def encode(encoder: nn.Module, ids: Tensor, clip_skip: int) -> Tensor:
    """Token ids [N, windows, 77] -> states [N, 75 * windows + 2, D].

    `clip_skip` 1 is the last layer, 2 the one before; the final norm is applied to either. Of several windows only the
    first start mark and the last end mark are kept.
    """
    n, windows, length = ids.shape
    flat = ids.reshape(n * windows, length)
    with own_precision(encoder):
        if clip_skip == 1:
            states = encoder(flat).last_hidden_state
        else:
            hidden = encoder(flat, output_hidden_states=True).hidden_states
            inner: Any = getattr(encoder, "text_model", encoder)  # transformers before 5.6 nested it
            states = inner.final_layer_norm(hidden[-clip_skip])
    kind = ids.device.type
    denoiser = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
    states = states if states.dtype == denoiser else states.float()
    states = states.reshape(n, windows, length, -1)
    words = states[:, :, 1:-1].flatten(1, 2)  # [N, 75 * windows, D]
    return torch.cat([states[:, 0, :1], words, states[:, -1, -1:]], dim=1)


def own_precision(encoder: nn.Module) -> torch.autocast:
    """A text encoder computes in the precision it is held in, whatever the denoiser computes in."""
    held = next(encoder.parameters())
    return torch.autocast(held.device.type, dtype=held.dtype, enabled=held.dtype != torch.float32)
