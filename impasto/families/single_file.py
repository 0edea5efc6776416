"""Where the tensors of a base lie in single files: the original names (CompVis, Stability) of what diffusers and
transformers call otherwise.

The tables go from a module's own names to those in a file, because a module knows exactly what it needs; `unfuse` and
`fuse` are the two directions for tensors. Nothing here needs torch until a tensor is moved.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

UNET = "model.diffusion_model."
VAE = "first_stage_model."

RESNET: Mapping[str, tuple[str, ...]] = {
    "norm1": ("in_layers", "0"),
    "conv1": ("in_layers", "2"),
    "time_emb_proj": ("emb_layers", "1"),
    "norm2": ("out_layers", "0"),
    "conv2": ("out_layers", "3"),
    "conv_shortcut": ("skip_connection",),
}
VAE_ATTENTION: Mapping[str, str] = {
    "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
}  # fmt: skip
VAE_LEGACY: Mapping[str, str] = {
    "group_norm": "group_norm", "to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn",
}  # fmt: skip
"""The names of the VAE's attention in diffusers' older files."""

OPEN_CLIP: Mapping[str, str] = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}  # fmt: skip
THIRDS = {"q_proj": 0, "k_proj": 1, "v_proj": 2}

KNOWN = re.compile(
    r"^(betas|scale_factor|logvar|lvlb_weights|global_step|v_pred|ztsnr|denoiser\.\w+"
    r"|(sqrt_|log_)?(one_minus_)?(recip_|recipm1_)?alphas_cumprod(_prev)?|sqrt_recip(m1)?_alphas_cumprod"
    r"|posterior_\w+|model_ema\..*|first_stage_model\.(loss|model_ema)\..*"
    r"|(cond_stage_model|conditioner\.embedders\.\d)\..*"
    r"(position_ids|logit_scale|attn_mask|text_projection|text_projection\.weight))$"
)
"""Tensors that files hold beside the model: schedules, averages, remains of other uses. They are left out."""


@dataclass(frozen=True)
class Place:
    """Where one tensor of a module lies in a file."""

    name: str
    third: int | None = None
    """Which third of a fused tensor it is: queries, keys, values."""

    turned: bool = False
    """Rows and columns change places."""

    swapped: bool = False
    """Its two halves change places."""


# -- tables: names of a module -> names in a file ----------------------------------------------------------------


def unet(paths: Iterable[str], layers: int) -> dict[str, str]:
    """Paths in diffusers' U-Net of `layers` ResNets a block -> the original ones, without prefix."""
    names = list(paths)
    attended = {name.split(".")[1] for name in names if name.startswith("up_blocks.") and ".attentions." in name}
    return {name: ".".join(_unet(name.split("."), layers, attended)) for name in names}


def vae(paths: Iterable[str], blocks: int) -> dict[str, str]:
    """Paths in diffusers' AutoencoderKL of `blocks` blocks a side -> the original ones, without prefix."""
    return {name: ".".join(_vae(name.split("."), blocks)) for name in paths}


def legacy_vae(paths: Iterable[str]) -> dict[str, str]:
    """Paths in diffusers' AutoencoderKL -> the ones in diffusers' older files."""
    return {name: ".".join(_attention(name.split("."), VAE_LEGACY)) for name in paths}


def clip(names: Iterable[str], prefix: str) -> dict[str, Place]:
    """Tensors of transformers' CLIP text model -> their places in files that hold it under `prefix`."""
    return {name: Place(prefix + name.removeprefix("text_model.")) for name in names}


def open_clip(names: Iterable[str], prefix: str) -> dict[str, Place]:
    """Tensors of transformers' CLIP text model -> their places in OpenCLIP's, which fuses queries, keys and values."""
    return {name: _open_clip(name.removeprefix("text_model."), prefix) for name in names}


def _unet(steps: list[str], layers: int, attended: Collection[str]) -> list[str]:
    match steps:
        case ["conv_in", *rest]:
            return ["input_blocks", "0", "0", *rest]
        case ["time_embedding", linear, *rest]:
            return ["time_embed", "0" if linear == "linear_1" else "2", *rest]
        case ["add_embedding", linear, *rest]:
            return ["label_emb", "0", "0" if linear == "linear_1" else "2", *rest]
        case ["conv_norm_out", *rest]:
            return ["out", "0", *rest]
        case ["conv_out", *rest]:
            return ["out", "2", *rest]
        case ["mid_block", "resnets", at, *rest]:
            return ["middle_block", "0" if at == "0" else "2", *_resnet(rest)]
        case ["mid_block", "attentions", "0", *rest]:
            return ["middle_block", "1", *rest]
        case ["down_blocks", block, "resnets", at, *rest]:
            return ["input_blocks", str((layers + 1) * int(block) + int(at) + 1), "0", *_resnet(rest)]
        case ["down_blocks", block, "attentions", at, *rest]:
            return ["input_blocks", str((layers + 1) * int(block) + int(at) + 1), "1", *rest]
        case ["down_blocks", block, "downsamplers", "0", "conv", *rest]:
            return ["input_blocks", str((layers + 1) * (int(block) + 1)), "0", "op", *rest]
        case ["up_blocks", block, "resnets", at, *rest]:
            return ["output_blocks", str((layers + 1) * int(block) + int(at)), "0", *_resnet(rest)]
        case ["up_blocks", block, "attentions", at, *rest]:
            return ["output_blocks", str((layers + 1) * int(block) + int(at)), "1", *rest]
        case ["up_blocks", block, "upsamplers", "0", *rest]:
            at = str((layers + 1) * int(block) + layers)
            return ["output_blocks", at, "2" if block in attended else "1", *rest]
        case _:
            return steps


def _resnet(steps: list[str]) -> list[str]:
    return [*RESNET.get(steps[0], steps[:1]), *steps[1:]] if steps else []


def _vae(steps: list[str], blocks: int) -> list[str]:
    match steps:
        case [side, "mid_block", "resnets", at, *rest]:
            return [side, "mid", f"block_{int(at) + 1}", *_shortcut(rest)]
        case [side, "mid_block", "attentions", "0", *_]:
            return [side, "mid", "attn_1", *_attention(steps, VAE_ATTENTION)[4:]]
        case ["encoder", "down_blocks", block, "resnets", at, *rest]:
            return ["encoder", "down", block, "block", at, *_shortcut(rest)]
        case ["encoder", "down_blocks", block, "downsamplers", "0", *rest]:
            return ["encoder", "down", block, "downsample", *rest]
        case ["decoder", "up_blocks", block, "resnets", at, *rest]:
            return ["decoder", "up", str(blocks - 1 - int(block)), "block", at, *_shortcut(rest)]
        case ["decoder", "up_blocks", block, "upsamplers", "0", *rest]:
            return ["decoder", "up", str(blocks - 1 - int(block)), "upsample", *rest]
        case [side, "conv_norm_out", *rest]:
            return [side, "norm_out", *rest]
        case _:
            return steps


def _shortcut(steps: list[str]) -> list[str]:
    return ["nin_shortcut" if step == "conv_shortcut" else step for step in steps]


def _attention(steps: list[str], table: Mapping[str, str]) -> list[str]:
    """The middle attention of the VAE by another table; every other path as it is."""
    if steps[1:3] != ["mid_block", "attentions"]:
        return steps
    inner = ".".join(steps[4:])
    found = next((old for old in table if inner == old or inner.startswith(f"{old}.")), None)
    return [*steps[:4], *(table[found] + inner[len(found) :]).split(".")] if found else steps


def _open_clip(name: str, prefix: str) -> Place:
    match name.split("."):
        case ["embeddings", "token_embedding", "weight"]:
            return Place(f"{prefix}token_embedding.weight")
        case ["embeddings", "position_embedding", "weight"]:
            return Place(f"{prefix}positional_embedding")
        case ["final_layer_norm", kind]:
            return Place(f"{prefix}ln_final.{kind}")
        case ["text_projection", "weight"]:
            return Place(f"{prefix}text_projection", turned=True)
        case ["encoder", "layers", at, "self_attn", third, kind] if third in THIRDS:
            return Place(f"{prefix}transformer.resblocks.{at}.attn.in_proj_{kind}", third=THIRDS[third])
        case ["encoder", "layers", at, *inner, kind]:
            return Place(f"{prefix}transformer.resblocks.{at}.{OPEN_CLIP['.'.join(inner)]}.{kind}")
        case _:
            return Place(prefix + name)


# -- tensors, both ways ------------------------------------------------------------------------------------------


def held(place: Place, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that a module's tensor of this shape has in a file."""
    if place.turned:
        return shape[::-1]
    return shape if place.third is None else (3 * shape[0], *shape[1:])


def unfuse(place: Place, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What a module of this shape takes from the file's tensor."""
    if place.third is not None:
        tensor = tensor.chunk(3)[place.third]
    if place.turned:
        tensor = tensor.T
    if place.swapped:
        tensor = halves_swapped(tensor)
    return tensor.reshape(shape)  # a linear layer may be kept as a convolution of 1x1


def halves_swapped(tensor: Tensor) -> Tensor:
    """The rows of a tensor, the second half before the first."""
    return tensor.roll(len(tensor) // 2, dims=0)


def put(place: Place, into: Tensor, value: Tensor) -> None:
    """Write a module's tensor into the file's, where `unfuse` would take it from."""
    spot = into if place.third is None else into.chunk(3)[place.third]
    value = halves_swapped(value) if place.swapped else value
    spot.copy_((value.T if place.turned else value).reshape(spot.shape))


def fuse(places: Mapping[str, Place], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a module under their names in a file: the way back."""
    import torch

    found: dict[str, Tensor] = {}
    thirds: dict[str, dict[int, Tensor]] = {}
    for name, place in places.items():
        tensor = tensors[name].T if place.turned else tensors[name]
        tensor = halves_swapped(tensor) if place.swapped else tensor
        if place.third is None:
            found[place.name] = tensor.contiguous()
        else:
            thirds.setdefault(place.name, {})[place.third] = tensor
    return found | {name: torch.cat([each[at] for at in range(3)]) for name, each in thirds.items()}
