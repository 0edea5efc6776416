"""What the denoiser of FLUX.1 calls its layers in published files, and what the file's shapes say of its measures.

The module is diffusers' in the published shape (`impasto/families/flux_shape.py`), so nothing is split or turned on the
way. Nothing here needs torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]

AROUND: Mapping[str, str] = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
"""What stands around the blocks."""

DOUBLE: Mapping[str, str] = {
    "norm1.linear": "img_mod.lin",
    "norm1_context.linear": "txt_mod.lin",
    "attn.to_qkv": "img_attn.qkv",
    "attn.add_qkv_proj": "txt_attn.qkv",
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "attn.norm_q.weight": "img_attn.norm.query_norm.scale",
    "attn.norm_k.weight": "img_attn.norm.key_norm.scale",
    "attn.norm_added_q.weight": "txt_attn.norm.query_norm.scale",
    "attn.norm_added_k.weight": "txt_attn.norm.key_norm.scale",
    "ff.net.0.proj": "img_mlp.0",
    "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
}
"""What a block holds in which pictures and words have layers of their own."""

SINGLE: Mapping[str, str] = {
    "norm.linear": "modulation.lin",
    "linear1": "linear1",
    "linear2": "linear2",
    "norm_q.weight": "norm.query_norm.scale",
    "norm_k.weight": "norm.key_norm.scale",
}
"""What a block holds in which they share them."""

BLOCKS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "transformer_blocks": ("double_blocks", DOUBLE),
    "single_transformer_blocks": ("single_blocks", SINGLE),
}


def published(names: Iterable[str], prefix: str = "") -> dict[str, str]:
    """Layers or tensors of the denoiser -> what a file calls them that holds them under `prefix`."""
    return {name: prefix + _published(name) for name in names}


def measures(shapes: Shapes, prefix: str = "") -> dict[str, Any]:
    """The measures of the denoiser that a file holds under `prefix`, as diffusers writes them. The blocks are counted,
    for there are models with fewer. Raises KeyError when it holds none."""
    of = {name[len(prefix) :]: shape for name, shape in shapes.items() if name.startswith(prefix)}
    width, channels = of["img_in.weight"]
    (head,) = of["double_blocks.0.img_attn.norm.query_norm.scale"]
    return {
        "_class_name": "FluxTransformer2DModel",
        "patch_size": 1,
        "in_channels": channels,
        "out_channels": of["final_layer.linear.weight"][0],
        "num_layers": _count("double_blocks", of),
        "num_single_layers": _count("single_blocks", of),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": of["txt_in.weight"][1],
        "pooled_projection_dim": of["vector_in.in_layer.weight"][1],
        "guidance_embeds": "guidance_in.in_layer.weight" in of,  # dev listens to a guidance, schnell does not
        "axes_dims_rope": [head // 8, head * 7 // 16, head * 7 // 16],  # 16, 56, 56 of 128
    }


def _published(name: str) -> str:
    for path, old in AROUND.items():
        if name == path or name.startswith(f"{path}."):
            return old + name[len(path) :]
    kind, number, inner = name.split(".", 2)
    blocks, table = BLOCKS[kind]
    for path, old in table.items():
        if inner == path or inner.startswith(f"{path}."):
            return f"{blocks}.{number}.{old}{inner[len(path) :]}"
    raise KeyError(name)


def _count(kind: str, shapes: Shapes) -> int:
    return len({found[1] for name in shapes if (found := re.match(rf"{kind}\.(\d+)\.", name))})
