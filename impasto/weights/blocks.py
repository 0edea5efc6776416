"""Where in its model a layer of an adapter file lies: for tables and pictures, never for finding it."""

from __future__ import annotations

import re
from typing import NamedTuple

from impasto.weights import recognise

_BLOCK = re.compile(
    r"(?P<word>(?:down|up|input|output|double|single|joint|transformer|single_transformer)_blocks|encoder_layers"
    r"|encoder_block|mid_block|middle_block)(?:_(?P<number>\d+))?"
)
_ORDER = ("down_blocks", "input_blocks", "mid_block", "middle_block", "up_blocks", "output_blocks")
_ROLES = {
    "modulation": ("mod_lin", "modulation_lin", "adaLN_modulation", "_norm_linear", "_norm1_", "norm_out_linear"),
    "self-attention": (
        "attn1", "self_attn", "SelfAttention", "attn_qkv", "attn_proj", "attn2_qkv", "attn2_proj", "attn_to_",
        "attn_add_",
    ),
    "cross-attention": ("attn2",),
    "attention and feed-forward": ("_linear1", "_linear2"),
    "feed-forward": ("_ff_", "mlp", "DenseReluDense"),
    "projections": ("proj_in", "proj_out"),
}  # fmt: skip
OTHER = "convolutions and rest"
ROLES = (*_ROLES, OTHER)
"""What layers do, in the order of a table."""


class Block(NamedTuple):
    """A block of a part of the model; they sort as they stand in the model."""

    part: str
    place: int
    word: str
    number: int

    def __str__(self) -> str:
        spoken = self.word.replace("_", " ").replace("encoder layers", "layer").replace("blocks", "block")
        return f"{self.part} {spoken}{'' if self.number < 0 else f' {self.number}'}".strip()


def block(name: str) -> Block:
    """The block of a layer, by its name in any layout."""
    flat = name.replace(".", "_")
    part = recognise.part_of(name).replace("_", " ")
    found = _BLOCK.search(flat)
    if found is None:
        return Block(part, len(_ORDER), "others", -1)
    word, number = found["word"], found["number"]
    place = _ORDER.index(word) if word in _ORDER else 0
    return Block(part, place, word, -1 if number is None or word == "mid_block" else int(number))


def role(name: str) -> str:
    """What a layer does in its block."""
    flat = name.replace(".", "_")
    return next((role for role, words in _ROLES.items() if any(word in flat for word in words)), OTHER)
