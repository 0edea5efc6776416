"""CLIP text: tokens in windows of 75, encoded to states. Shared by every family with a CLIP text encoder."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

WINDOW = 75
"""Words' tokens in one window; with the start and end marks it is 77 long."""


MERGES = Path(__file__).parent / "clip" / "merges.txt.gz"
"""CLIP's byte pairs (MIT, see LICENSE beside it); the vocabulary follows from them."""


def own_tokenizer() -> Any:
    """The CLIPTokenizer of all Stable Diffusion models, from the vocabulary that comes with impasto."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    merges = [tuple(line.split(" ")) for line in gzip.decompress(MERGES.read_bytes()).decode("utf-8").splitlines()]
    letters = list(bytes_to_unicode().values())
    names = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    marks = ["<|startoftext|>", "<|endoftext|>"]
    vocab = {name: at for at, name in enumerate([*names, *marks])}
    return CLIPTokenizer(vocab=vocab, merges=merges, pad_token="<|endoftext|>", model_max_length=77)


def tokenize(tokenizer: Any, captions: Sequence[str], max_tokens: int, *, pad: int | None = None) -> Tensor:
    """Captions -> token ids [N, windows, 77], each window with its own start and end mark.

    `tokenizer` is a transformers CLIPTokenizer. A caption is cut at `max_tokens` (75, 150 or 225), and filled up with
    `pad`, or what the tokenizer says.
    """
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    pad = tokenizer.pad_token_id if pad is None else pad
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
    if clip_skip == 1:
        states = encoder(flat(ids)).last_hidden_state
    else:
        hidden = encoder(flat(ids), output_hidden_states=True).hidden_states
        inner: Any = getattr(encoder, "text_model", encoder)  # transformers before 5.6 nested it
        states = inner.final_layer_norm(hidden[-clip_skip])
    return joined(states, ids)


def flat(ids: Tensor) -> Tensor:
    """Token ids [N, windows, 77] -> [N * windows, 77], as encoders take them."""
    return ids.reshape(-1, ids.shape[-1])


def joined(states: Tensor, ids: Tensor) -> Tensor:
    """States [N * windows, 77, D] of token ids [N, windows, 77] -> [N, 75 * windows + 2, D]."""
    states = states.reshape(*ids.shape, -1)
    words = states[:, :, 1:-1].flatten(1, 2)  # [N, 75 * windows, D]
    return torch.cat([states[:, 0, :1], words, states[:, -1, -1:]], dim=1)
