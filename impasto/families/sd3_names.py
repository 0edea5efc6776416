"""Where the tensors of Stable Diffusion 3's denoiser lie in single files: the original names of what diffusers calls
otherwise, and what the file's shapes say of its measures.

There queries, keys and values are one layer, and the last norms tell shift before scale where diffusers has it the
other way round. Nothing here needs torch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

from impasto.families.single_file import Place

Shapes = Mapping[str, tuple[int, ...]]

HEAD = 64
"""Width of one attention head in every published model."""

AROUND: Mapping[str, str] = {
    "pos_embed.pos_embed": "pos_embed",
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "context_embedder": "context_embedder",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
"""What stands around the blocks."""

INSIDE: Mapping[str, str] = {
    "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "attn.to_out.0": "x_block.attn.proj",
    "attn.to_add_out": "context_block.attn.proj",
    "attn.norm_q": "x_block.attn.ln_q",
    "attn.norm_k": "x_block.attn.ln_k",
    "attn.norm_added_q": "context_block.attn.ln_q",
    "attn.norm_added_k": "context_block.attn.ln_k",
    "attn2.to_out.0": "x_block.attn2.proj",
    "attn2.norm_q": "x_block.attn2.ln_q",
    "attn2.norm_k": "x_block.attn2.ln_k",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
}
"""What has a layer of its own in a block."""

FUSED: Mapping[str, tuple[str, str, str]] = {
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
}
"""What is one layer there, and here three: queries, keys and values."""

WHOLE: Mapping[str, str] = {
    "attn.to_qkv": "x_block.attn.qkv",
    "attn.add_qkv_proj": "context_block.attn.qkv",
    "attn2.to_qkv": "x_block.attn2.qkv",
}
"""The same where the three are joined again (`impasto/families/mmdit.py`)."""

THIRDS: Mapping[str, tuple[str, int]] = {
    path: (fused, at) for fused, three in FUSED.items() for at, path in enumerate(three)
}


def places(names: Iterable[str], blocks: int, prefix: str = "") -> dict[str, Place]:
    """Layers or tensors of diffusers' SD3Transformer2DModel of `blocks` blocks -> their places in a file that holds
    them under `prefix`."""
    return {name: _place(name, blocks, prefix) for name in names}


def joined(names: Iterable[str], prefix: str = "") -> dict[str, str]:
    """The same for a denoiser in the published shape, where nothing is split or turned."""
    return {name: _joined(name, prefix) for name in names}


def _joined(name: str, prefix: str) -> str:
    for path, old in AROUND.items():
        if name == path or name.startswith(f"{path}."):
            return prefix + old + name[len(path) :]
    _, number, inner = name.split(".", 2)
    for path, old in {**INSIDE, **WHOLE}.items():
        if inner == path or inner.startswith(f"{path}."):
            return f"{prefix}joint_blocks.{number}.{old}{inner[len(path) :]}"
    raise KeyError(name)


def _place(name: str, blocks: int, prefix: str) -> Place:
    for path, old in AROUND.items():
        if name == path or name.startswith(f"{path}."):
            return Place(prefix + old + name[len(path) :], swapped=path == "norm_out.linear")
    _, number, inner = name.split(".", 2)
    start = f"{prefix}joint_blocks.{number}."
    for path, old in INSIDE.items():
        if inner == path or inner.startswith(f"{path}."):
            last = path == "norm1_context.linear" and int(number) == blocks - 1
            return Place(start + old + inner[len(path) :], swapped=last)
    for path, (fused, third) in THIRDS.items():
        if inner == path or inner.startswith(f"{path}."):
            return Place(start + fused + inner[len(path) :], third=third)
    raise KeyError(name)


@dataclass(frozen=True)
class Measures:
    """What the shapes of a denoiser in the original layout say of it."""

    blocks: int
    width: int
    dual: tuple[int, ...]
    """The blocks in which the picture also attends to itself alone (3.5 medium)."""

    normed: bool
    """Whether queries and keys are normed (3.5)."""

    head: int
    text_width: int
    pooled_width: int
    channels: int
    patch: int
    side: int
    """Patches a side that there are places for."""

    @property
    def version(self) -> str:
        """Which of the published models it is like, as they are called: `sd3-medium`, `sd3.5-medium`, `sd3.5-large`."""
        return version_of(self.config())

    def config(self) -> dict[str, Any]:
        """The same as diffusers writes it."""
        return {
            "_class_name": "SD3Transformer2DModel",
            "sample_size": 128,
            "patch_size": self.patch,
            "in_channels": self.channels,
            "out_channels": self.channels,
            "num_layers": self.blocks,
            "attention_head_dim": self.head,
            "num_attention_heads": self.width // self.head,
            "joint_attention_dim": self.text_width,
            "caption_projection_dim": self.width,
            "pooled_projection_dim": self.pooled_width,
            "pos_embed_max_size": self.side,
            "dual_attention_layers": list(self.dual),
            "qk_norm": "rms_norm" if self.normed else None,
        }


def version_of(config: Mapping[str, Any]) -> str:
    """Which of the published models one of these measures is like."""
    if not config.get("qk_norm"):
        return "sd3-medium"
    return "sd3.5-medium" if config.get("dual_attention_layers") else "sd3.5-large"


def measures(shapes: Shapes, prefix: str = "") -> Measures:
    """The measures of the denoiser that a file holds under `prefix`. Raises KeyError when it holds none."""
    of = {name[len(prefix) :]: shape for name, shape in shapes.items() if name.startswith(prefix)}
    numbers = sorted({int(found[1]) for name in of if (found := re.match(r"joint_blocks\.(\d+)\.", name))})
    width, channels, patch, _ = of["x_embedder.proj.weight"]
    norm = of.get("joint_blocks.0.x_block.attn.ln_q.weight")
    return Measures(
        blocks=len(numbers),
        width=width,
        dual=tuple(at for at in numbers if f"joint_blocks.{at}.x_block.attn2.qkv.weight" in of),
        normed=norm is not None,
        head=norm[0] if norm else HEAD,
        text_width=of["context_embedder.weight"][1],
        pooled_width=of["y_embedder.mlp.0.weight"][1],
        channels=channels,
        patch=patch,
        side=isqrt(of["pos_embed"][1]),
    )


# -- text encoders -----------------------------------------------------------------------------------------------

ENCODERS: Mapping[int, str] = {
    1: "text_encoders.clip_l.transformer.",
    2: "text_encoders.clip_g.transformer.",
    3: "text_encoders.t5xxl.transformer.",
}
"""Where a checkpoint holds a text encoder, by its number. Files of one encoder hold it without a prefix."""

PROJECTION = "text_projection.weight"
SHARED = ("shared.weight", "encoder.embed_tokens.weight")
"""The same tensor of T5 under two names; files hold one of them or both."""


def encoder_places(number: int, names: Iterable[str], held: Collection[str]) -> dict[str, Place]:
    """Tensors of transformers' module for a text encoder -> their places in the file that holds the tensors `held`.

    Published files of CLIP-L lack the projection, which is the identity there: it has no place then.
    """
    prefix = next((ENCODERS[number] for name in held if name.startswith(ENCODERS[number])), "")
    found = {}
    for name in names:
        places = [prefix + each for each in (SHARED if name in SHARED else (_published(number, name),))]
        place = next((each for each in places if each in held), places[0])
        if not (number == 1 and name == PROJECTION and place not in held):
            found[name] = Place(place)
    return found


def _published(number: int, name: str) -> str:
    """transformers 5.6 took `text_model` out of some paths; files have it."""
    nested = number == 3 or name.startswith(("text_model.", "text_projection."))
    return name if nested else f"text_model.{name}"
