"""Stable Diffusion 3's denoiser in the shape in which it was published, for training.

diffusers splits what is one layer there: queries, keys and values. An adapter as every program reads it rides on the
one layer (one `lora_down` for all three), so the three are put together again. And the last norms take shift before
scale, so that the rows of their linear layer, and of an adapter on it, stand as in files. What is computed stays the
same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from impasto.families.single_file import halves_swapped

JOINED = {
    "to_qkv": ("to_q", "to_k", "to_v"),
    "add_qkv_proj": ("add_q_proj", "add_k_proj", "add_v_proj"),
}
"""What an attention's joined layer is called here, and what diffusers has in its place."""


class ShiftFirst(nn.Module):
    """A norm that is scaled and shifted by a condition, like diffusers' AdaLayerNormContinuous, but shift comes first
    among the rows of its linear layer."""

    def __init__(self, usual: Any) -> None:
        """Takes the parts of `usual` over, its rows turned."""
        super().__init__()
        self.silu, self.linear, self.norm = usual.silu, usual.linear, usual.norm
        for each in (self.linear.weight, self.linear.bias):
            each.data = halves_swapped(each.data)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[N, L, D] normed, then scaled and shifted by what [N, D] says."""
        shift, scale = self.linear(self.silu(condition).to(x.dtype)).chunk(2, dim=1)
        found: Tensor = self.norm(x) * (1 + scale)[:, None] + shift[:, None]
        return found


class JointAttention:
    """What an attention with joined layers computes: the picture, and with it the words if there are any, attend to
    all there is."""

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor | tuple[Tensor, Tensor]:
        """[N, L, D] (and [N, T, D]) -> the same."""
        query, key, value = _heads(attn, attn.to_qkv(hidden_states))
        query, key = _normed(query, attn.norm_q), _normed(key, attn.norm_k)
        if encoder_hidden_states is not None:
            told_query, told_key, told_value = _heads(attn, attn.add_qkv_proj(encoder_hidden_states))
            query = torch.cat([query, _normed(told_query, attn.norm_added_q)], dim=2)
            key = torch.cat([key, _normed(told_key, attn.norm_added_k)], dim=2)
            value = torch.cat([value, told_value], dim=2)
        seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        if encoder_hidden_states is None:
            found: Tensor = attn.to_out[0](seen)
            return found
        picture, words = seen[:, : hidden_states.shape[1]], seen[:, hidden_states.shape[1] :]
        return attn.to_out[0](picture), words if attn.context_pre_only else attn.to_add_out(words)


def join(transformer: Any) -> Any:
    """Give diffusers' SD3Transformer2DModel the published shape, in place. Works without numbers too."""
    last = transformer.transformer_blocks[-1]
    for block in transformer.transformer_blocks:
        for attention in (block.attn, block.attn2):
            if attention is not None:
                _join(attention)
    last.norm1_context = ShiftFirst(last.norm1_context)
    transformer.norm_out = ShiftFirst(transformer.norm_out)
    return transformer


def _join(attention: Any) -> None:
    for name, three in JOINED.items():
        parts: list[nn.Linear | None] = [getattr(attention, each, None) for each in three]
        if found := [part for part in parts if part is not None]:
            setattr(attention, name, joined(found))
            for each in three:
                delattr(attention, each)
    attention.set_processor(JointAttention())


@torch.no_grad()
def joined(parts: Iterable[nn.Linear]) -> nn.Linear:
    """One layer with the outputs of all `parts`, one after another."""
    parts = list(parts)
    weight = torch.cat([part.weight for part in parts])
    bias = torch.cat([part.bias for part in parts])
    found = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    found.weight = nn.Parameter(weight, requires_grad=False)
    found.bias = nn.Parameter(bias, requires_grad=False)
    return found


def _heads(attn: Any, joined: Tensor) -> list[Tensor]:
    """[N, L, 3 D] -> queries, keys and values, each [N, heads, L, D / heads]."""
    rows, length, _ = joined.shape
    return [each.reshape(rows, length, attn.heads, -1).transpose(1, 2) for each in joined.chunk(3, dim=2)]


def _normed(x: Tensor, norm: nn.Module | None) -> Tensor:
    return x if norm is None else norm(x)
