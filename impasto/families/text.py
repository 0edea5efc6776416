"""CLIP text: tokens in windows of 75, encoded to states. Shared by every family with a CLIP text encoder.

A caption of W tokens in `n` windows has 75 n + 2 states: the start mark, the tokens, and end marks and padding. The
attention in CLIP looks back only, so that what stands behind the end mark does not touch what is before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from impasto.data.batch import Conditioning
from impasto.errors import ConfigError, Problem
from impasto.families import t5_tokens
from impasto.families.config import Emphasis, Model
from impasto.families.emphasis import parse
from impasto.families.tokens import vocabulary

WINDOW = 75
"""Words' tokens in one window; with the start and end marks it is 77 long."""


def own_tokenizer() -> Any:
    """The CLIPTokenizer of all Stable Diffusion models, from the vocabulary that comes with impasto."""
    from transformers import CLIPTokenizer

    vocab, merges = vocabulary()
    return CLIPTokenizer(vocab=vocab, merges=merges, pad_token="<|endoftext|>", model_max_length=77)


def own_t5_tokenizer() -> Any:
    """T5's tokenizer, from the vocabulary that comes with impasto."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=t5_tokens.tokenizer(), pad_token=t5_tokens.PAD, eos_token=t5_tokens.END,
        unk_token=t5_tokens.UNKNOWN,
    )  # fmt: skip


def conditioning(tokenizer: Any, captions: Sequence[str], model: Model, *, pad: int | None = None) -> dict[str, Tensor]:
    """Captions -> all that `shaped` and `encode` want, dim 0 the caption.

    `ids` [N, windows, 77]; with emphasis also `emphasis` [N, 75 * windows + 2], how much each state counts; without
    token padding also `mask` [N, longest], which states are the caption's own. `pad` fills captions up, or what the
    tokenizer says.
    """
    read = [_read(tokenizer, text, model.max_tokens, model.emphasis) for text in captions]
    found = {"ids": _framed(tokenizer, [tokens for tokens, _ in read], model.max_tokens, pad)}
    if model.emphasis != "off":
        rows = [[1.0, *weights, *[1.0] * (model.max_tokens + 1 - len(weights))] for _, weights in read]
        found["emphasis"] = torch.tensor(rows, dtype=torch.float32)
    if not model.token_padding:
        lengths = torch.tensor([len(tokens) + 2 for tokens, _ in read])
        found["mask"] = torch.arange(int(lengths.max())) < lengths[:, None]
    return found


def tokenize(
    tokenizer: Any, captions: Sequence[str], max_tokens: int, emphasis: Emphasis = "off", *, pad: int | None = None
) -> Tensor:
    """Captions -> token ids [N, windows, 77], each window with its own start and end mark.

    `tokenizer` is a transformers CLIPTokenizer. A caption is cut at `max_tokens` (75, 150 or 225), and filled up with
    `pad`, or what the tokenizer says.
    """
    return _framed(tokenizer, [_read(tokenizer, text, max_tokens, emphasis)[0] for text in captions], max_tokens, pad)


def encode(encoder: nn.Module, ids: Tensor, clip_skip: int) -> Tensor:
    """Token ids [N, windows, 77] -> states [N, 75 * windows + 2, D].

    `clip_skip` 1 is the last layer, 2 the one before; the final norm is applied to either. Of several windows only the
    first start mark and the last end mark are kept.
    """
    with own_precision(encoder):
        if clip_skip == 1:
            states = encoder(flat(ids)).last_hidden_state
        else:
            hidden = encoder(flat(ids), output_hidden_states=True).hidden_states
            inner: Any = getattr(encoder, "text_model", encoder)  # transformers before 5.6 nested it
            states = inner.final_layer_norm(hidden[-clip_skip])
    return joined(for_denoiser(states), ids)


def flat(ids: Tensor) -> Tensor:
    """Token ids [N, windows, 77] -> [N * windows, 77], as encoders take them."""
    return ids.reshape(-1, ids.shape[-1])


def for_denoiser(states: Tensor) -> Tensor:
    """States as they are where the denoiser computes in their precision, else in fp32."""
    kind = states.device.type
    denoiser = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
    return states if states.dtype == denoiser else states.float()


def joined(states: Tensor, ids: Tensor) -> Tensor:
    """States [N * windows, 77, D] of token ids [N, windows, 77] -> [N, 75 * windows + 2, D]."""
    states = states.reshape(*ids.shape, -1)
    words = states[:, :, 1:-1].flatten(1, 2)  # [N, 75 * windows, D]
    return torch.cat([states[:, 0, :1], words, states[:, -1, -1:]], dim=1)


def shaped(states: Tensor, cond: Conditioning, emphasis: Emphasis) -> dict[str, Tensor]:
    """States [N, 75 * windows + 2, D] of `cond` -> {"states", "mask" where padding is off}, as the denoiser wants them.

    Emphasis multiplies the states of a token; `mean` then restores the mean that each example had, as one number. With
    a mask, states behind the longest caption are cut off, and those behind each caption are masked.
    """
    if "emphasis" in cond:
        weighted = states * cond["emphasis"].to(states.dtype)[:, :, None]
        states = _rescaled(weighted, states) if emphasis == "mean" else weighted
    if "mask" in cond:
        return {"states": states[:, : cond["mask"].shape[1]], "mask": cond["mask"]}
    return {"states": states}


def own_precision(encoder: nn.Module) -> torch.autocast:
    """A text encoder computes in the precision it is held in, whatever the denoiser computes in."""
    held = next(encoder.parameters())
    return torch.autocast(held.device.type, dtype=held.dtype, enabled=held.dtype != torch.float32)


def check(encoder: Any, clip_skip: int) -> None:
    """Raise ConfigError if the text encoder has no such layer."""
    layers = encoder.config.num_hidden_layers
    if clip_skip > layers:
        what = f"the text encoder has {layers} layers, so its layer {clip_skip} from the end is not there"
        raise ConfigError(Problem("E-CFG-090", what, "model.clip_skip", f"clip_skip = {layers} or less"))


# what is below serves the above


def _read(tokenizer: Any, caption: str, max_tokens: int, emphasis: Emphasis) -> tuple[list[int], list[float]]:
    """The tokens of a caption without marks, and how much each counts."""
    tokens: list[int] = []
    weights: list[float] = []
    for text, weight in [(caption, 1.0)] if emphasis == "off" else parse(caption):
        found = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
        tokens += found
        weights += [weight] * len(found)
    return tokens[:max_tokens], weights[:max_tokens]


def _rescaled(weighted: Tensor, states: Tensor) -> Tensor:
    """`weighted` with the mean of `states` [N, L, D], example by example. A mean that is nothing but rounding, as an
    encoder could have whose last norm has no bias, is left alone: by it one cannot divide."""
    before, after = (each.float().mean((1, 2), keepdim=True) for each in (states, weighted))
    least = 1e-4 * states.float().std((1, 2), keepdim=True)
    safe = (before.abs() > least) & (after.abs() > least)
    factor = torch.where(safe, before / torch.where(safe, after, 1.0), 1.0)
    return (weighted.float() * factor).to(states.dtype)


def _framed(tokenizer: Any, words: Sequence[list[int]], max_tokens: int, pad: int | None) -> Tensor:
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    pad = tokenizer.pad_token_id if pad is None else pad
    rows = [[_window(ids[at : at + WINDOW], start, end, pad) for at in range(0, max_tokens, WINDOW)] for ids in words]
    return torch.tensor(rows, dtype=torch.long)


def _window(words: list[int], start: int, end: int, pad: int) -> list[int]:
    return [start, *words, end, *[pad] * (WINDOW - len(words))]
