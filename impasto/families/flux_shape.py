"""The denoiser of FLUX.1 in the shape in which it was published, for training.

diffusers splits what is one layer there: queries, keys and values, and in the blocks that words and pictures share also
the first layer of the MLP. An adapter as every program reads it rides on the one layer (one `lora_down` for all of
them), so they are put together again. And the last norm takes shift before scale, so that its rows stand as in files.
What is computed stays the same.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from impasto.families.mmdit import JOINED, ShiftFirst, joined

Places = tuple[Tensor, Tensor]
"""Cosines and sines of where tokens are, each [L, D / heads]."""


class DoubleAttention:
    """What the attention of a double block computes: words and picture attend to all there is, words first."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Places | None = None,
    ) -> tuple[Tensor, Tensor]:
        """[N, L, D] and [N, T, D] -> the same."""
        query, key, value = _heads(attn.to_qkv(hidden_states), attn.head_dim)
        told_query, told_key, told_value = _heads(attn.add_qkv_proj(encoder_hidden_states), attn.head_dim)
        seen = _attend(
            torch.cat([attn.norm_added_q(told_query), attn.norm_q(query)], dim=1),
            torch.cat([attn.norm_added_k(told_key), attn.norm_k(key)], dim=1),
            torch.cat([told_value, value], dim=1),
            image_rotary_emb,
            attention_mask,
        )
        words = encoder_hidden_states.shape[1]
        return attn.to_out[0](seen[:, words:].contiguous()), attn.to_add_out(seen[:, :words].contiguous())


class SingleBlock(nn.Module):
    """A block in which words and picture share all layers: `linear1` makes queries, keys, values and the MLP's inside,
    `linear2` takes what comes of them."""

    def __init__(self, usual: Any) -> None:
        """Takes the parts of diffusers' FluxSingleTransformerBlock over."""
        super().__init__()
        attention = usual.attn
        self.norm, self.linear2 = usual.norm, usual.proj_out
        self.linear1 = joined([attention.to_q, attention.to_k, attention.to_v, usual.proj_mlp])
        self.norm_q, self.norm_k = attention.norm_q, attention.norm_k
        self.head: int = attention.head_dim
        self.split = [3 * attention.inner_dim, usual.mlp_hidden_dim]

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        image_rotary_emb: Places | None = None,
        joint_attention_kwargs: dict[str, Any] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Picture [N, L, D] and words [N, T, D] -> words and picture."""
        words = encoder_hidden_states.shape[1]
        both = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        normed, gate = self.norm(both, emb=temb)
        attending, inside = self.linear1(normed).split(self.split, dim=2)
        query, key, value = _heads(attending, self.head)
        mask = (joint_attention_kwargs or {}).get("attention_mask")
        seen = _attend(self.norm_q(query), self.norm_k(key), value, image_rotary_emb, mask)
        found = torch.cat([seen, F.gelu(inside, approximate="tanh")], dim=2)
        both = both + gate[:, None] * self.linear2(found)
        if both.dtype == torch.float16:
            both = both.clip(-65504, 65504)
        return both[:, :words], both[:, words:]


def join(transformer: Any) -> Any:
    """Give diffusers' FluxTransformer2DModel the published shape, in place. Works without numbers too."""
    for block in transformer.transformer_blocks:
        for name, three in JOINED.items():
            setattr(block.attn, name, joined([getattr(block.attn, each) for each in three]))
            for each in three:
                delattr(block.attn, each)
        block.attn.set_processor(DoubleAttention())
    for at, block in enumerate(transformer.single_transformer_blocks):
        transformer.single_transformer_blocks[at] = SingleBlock(block)
    transformer.norm_out = ShiftFirst(transformer.norm_out)
    return transformer


def answer(
    transformer: Any,
    x: Tensor,
    words: Tensor,
    pooled: Tensor,
    told: list[Tensor],
    places: Tensor,
    attended: dict[str, Any] | None = None,
) -> Tensor:
    """What the denoiser says [N, L, C] to patches [N, L, C], as its own forward does, but for σ and guidance, `told`
    [N] each: they stay in fp32 until they are waves. In bf16 its own takes every σ between a half and 1 to one of 128.
    """
    hidden, words = transformer.x_embedder(x), transformer.context_embedder(words)
    conditions = transformer.time_text_embed(*(1000 * each.float() for each in told), pooled)
    turns = transformer.pos_embed(torch.cat([places.new_zeros(words.shape[1], 3), places]))
    again = torch.is_grad_enabled() and transformer.gradient_checkpointing
    for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
        if again:
            run = transformer._gradient_checkpointing_func
            words, hidden = run(block, hidden, words, conditions, turns, attended)
        else:
            words, hidden = block(hidden, words, conditions, turns, attended)
    found: Tensor = transformer.proj_out(transformer.norm_out(hidden, conditions))
    return found


def _heads(fused: Tensor, head: int) -> list[Tensor]:
    """[N, L, 3 D] -> queries, keys and values, each [N, L, heads, D / heads]."""
    rows, length, _ = fused.shape
    return [each.reshape(rows, length, -1, head) for each in fused.chunk(3, dim=2)]


def _attend(query: Tensor, key: Tensor, value: Tensor, places: Places | None, mask: Tensor | None) -> Tensor:
    """[N, L, heads, D / heads] each -> [N, L, D]."""
    from diffusers.models.embeddings import apply_rotary_emb

    if places is not None:
        query, key = (apply_rotary_emb(each, places, sequence_dim=1) for each in (query, key))
    query, key, value = (each.transpose(1, 2) for each in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
