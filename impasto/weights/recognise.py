"""What a file holds and for which family, by the names and shapes of its tensors alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = Mapping[str, Shape]
Family = Literal["sd1", "sd2", "sdxl", "sdxl-refiner", "sd3", "flux"]
Layout = Literal["kohya", "diffusers", "peft", "lycoris", "original", "unknown"]

FAMILIES: Mapping[Family, str] = {
    "sd1": "Stable Diffusion 1.x",
    "sd2": "Stable Diffusion 2.x",
    "sdxl": "Stable Diffusion XL",
    "sdxl-refiner": "Stable Diffusion XL refiner",
    "sd3": "Stable Diffusion 3",
    "flux": "FLUX.1",
}

TEXT_WIDTHS: Mapping[int, Family] = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl-refiner"}
"""The family of a U-Net by the width of the text it listens to."""

OWN_WIDTHS: Mapping[int, Family] = {768: "sd1", 1024: "sd2"}
"""The family by the width of its only text encoder."""

SUFFIX = re.compile(
    r"^(?P<module>.+?)\.(?P<kind>alpha|scalar|rescale|dora_scale|diff|diff_b|on_input|w_norm|b_norm|[ab][12]\.weight"
    r"|lora_(?:down|up|mid)\.weight|lora\.(?:down|up)\.weight|lora_[AB](?:\.[^.]+)?\.weight|lora_magnitude_vector.*"
    r"|hada_(?:[wt][12](?:_[ab])?)|lokr_(?:t2|[w][12](?:_[ab])?)|oft_blocks(?:\.\d+)?)$"
)
PREFIX = re.compile(r"^(?:lora|oft)_(?P<part>unet|transformer|te\d?)_")
OLDER = re.compile(
    r"^(?P<above>.+?)\.(?P<processor>processor\.)?(?P<layer>\w+?)(?:_lora(?P<number>\d?)|\.lora_linear_layer)"
    r"\.(?P<end>down|up)\.weight$"
)
"""Names of diffusers' first versions, and of x-labs, whose layers stand in the attention's processor."""

INNER = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
"""What those first versions called the attention's layers in a text encoder."""

BARE = (
    "diffusion_model.", "model.diffusion_model.", "double_blocks.", "single_blocks.", "joint_blocks.",
    "input_blocks.", "middle_block.", "output_blocks.", "img_in.", "txt_in.", "time_in.", "vector_in.", "guidance_in.",
    "final_layer.",
)  # fmt: skip
"""How names begin that are those of the model's published files."""
PARTS = {"te": "text_encoder", "te1": "text_encoder", "te2": "text_encoder_2", "te3": "text_encoder_3"}

Tensors: TypeAlias = dict[str, Shape]
"""The tensors of one layer, by the last part of their names."""


@dataclass
class Layers:
    """The adapted layers of an adapter file."""

    kinds: list[str]
    layout: Layout
    layers: dict[str, Tensors]
    parts: dict[str, list[str]]
    """The layers of each part of the model."""

    unknown: list[str] = field(default_factory=list)
    """Tensors that no adapter has."""


def adapter(shapes: Shapes) -> Layers | None:
    """The layers of an adapter file; None if it is something else."""
    layers: dict[str, Tensors] = {}
    unknown = []
    for name, shape in shapes.items():
        module, kind = split(name)
        if module:
            layers.setdefault(module, {})[kind] = shape
        else:
            unknown.append(name)
    kinds = sorted({kind for name, tensors in layers.items() for kind in _kinds(name, tensors)})
    if not kinds:
        return None
    parts: dict[str, list[str]] = {}
    for name in layers:
        parts.setdefault(part_of(name), []).append(name)
    return Layers(kinds, _layout(next(iter(layers))), layers, parts, unknown)


def split(name: str) -> tuple[str, str]:
    """The layer that a tensor belongs to, and which of its tensors it is; empty for what no adapter has."""
    if found := OLDER.match(name):
        return _older(found), f"lora_{found['end']}.weight"
    if found := SUFFIX.match(name):
        return found["module"], found["kind"].replace("lora.", "lora_")
    if PREFIX.match(name) and name.endswith(".weight"):  # iA3 calls its vector just so
        return name.removesuffix(".weight"), "weight"
    return "", ""


def _older(found: re.Match[str]) -> str:
    above, layer = found["above"], found["layer"]
    if not found["processor"]:
        return f"{above}.{INNER.get(layer, layer)}"
    if layer in INNER:
        return f"{above}.to_out.0" if layer == "to_out" else f"{above}.{layer}"
    return f"{above}.processor.{layer}_lora{found['number'] or ''}"


def _kinds(name: str, tensors: Tensors) -> Iterable[str]:
    """The words of LyCORIS for what one layer holds."""
    tests: Mapping[str, bool] = {
        "LoRA": "lora_down.weight" in tensors or any(kind.startswith("lora_A") for kind in tensors),
        "LoHa": "hada_w1_a" in tensors,
        "LoKr": "lokr_w1" in tensors or "lokr_w1_a" in tensors,
        "OFT": any(kind.startswith("oft_blocks") for kind in tensors) and name.startswith("oft_unet"),
        "Diag-OFT": len(tensors.get("oft_blocks", ())) == 3 and not name.startswith("oft_unet"),
        "BOFT": len(tensors.get("oft_blocks", ())) == 4,
        "GLoRA": "a1.weight" in tensors,
        "full difference": "diff" in tensors,
        "norms": "w_norm" in tensors,
        "iA3": "on_input" in tensors,
        "DoRA": "dora_scale" in tensors or any(kind.startswith("lora_magnitude") for kind in tensors),
        "Tucker": "lora_mid.weight" in tensors or "hada_t1" in tensors or "lokr_t2" in tensors,
    }
    return (kind for kind, holds in tests.items() if holds)


def _layout(module: str) -> Layout:
    if PREFIX.match(module):
        return "kohya"
    if module.startswith("lycoris_"):
        return "lycoris"
    if module.startswith("base_model.model."):
        return "peft"
    if module.startswith(BARE):
        return "original"
    own = ("unet.", "text_encoder", "transformer.", "down_blocks.", "mid_block.", "up_blocks.", "transformer_blocks.",
           "single_transformer_blocks.")  # fmt: skip
    return "diffusers" if module.startswith(own) else "unknown"


def part_of(module: str) -> str:
    """The part of the model that a layer is in, by its name in any layout."""
    if found := PREFIX.match(module):
        return PARTS.get(found["part"], "unet")
    first = module.partition(".")[0]
    return first if first in ("unet", "transformer", "text_encoder", "text_encoder_2") else "model"


def plain(tensors: Tensors) -> bool:
    """Whether a layer adds the same to any base: none of its tensors asks what the base's weight is."""
    asks = {"a1.weight", "oft_blocks", "on_input", "dora_scale", "lora_mid.weight", "hada_t1", "lokr_t2"}
    return not asks & tensors.keys()


def rank(tensors: Tensors) -> int | None:
    """The rank of one layer; None for kinds that have none."""
    for kind, shape in tensors.items():
        low = kind in ("lora_down.weight", "hada_w1_b", "lokr_w2_b", "lokr_w1_b", "a2.weight")
        if (low or kind.startswith("lora_A")) and shape:
            return shape[0]
    return None


def adapter_family(found: Layers) -> tuple[Family | None, int | None]:
    """The family an adapter was trained for, if its names or shapes tell, and the width of the text its U-Net hears."""
    flat = {name.replace(".", "_"): tensors for name, tensors in found.layers.items()}
    width = (
        None if any("oft_blocks" in kinds for kinds in flat.values()) else _width(flat, ("attn2_to_k", "attn2_to_v"))
    )
    has = _finder(flat)
    if has("double_blocks_", "single_blocks_", "single_transformer_blocks_"):
        return "flux", None
    if has("joint_blocks_"):
        return "sd3", None
    if has("_add_q_proj", "_add_k_proj"):
        return ("flux" if _width(flat, ("add_q_proj", "add_k_proj")) == 3072 else "sd3"), None
    if has("input_blocks_", "output_blocks_", "lora_te2_", "text_encoder_2_"):
        return "sdxl", width
    if width is None and not has("lora_te1_"):  # the first of several text encoders is the same in three families
        own = _width(flat, ("self_attn_q_proj",))
        return OWN_WIDTHS.get(own or 0), None
    return TEXT_WIDTHS.get(width or 0), width


def _finder(names: Iterable[str]) -> Callable[..., bool]:
    everything = "\n".join(names)
    return lambda *words: any(word in everything for word in words)


def _width(layers: Mapping[str, Tensors], ends: tuple[str, ...]) -> int | None:
    """How many numbers go into the first layer with such a name."""
    for name, tensors in layers.items():
        if name.endswith(ends) and (inputs := _inputs(tensors)):
            return inputs
    return None


def _inputs(tensors: Tensors) -> int | None:
    def second(*kinds: str) -> int | None:
        return next((tensors[kind][1] for kind in kinds if len(tensors.get(kind, ())) > 1), None)

    for kind in tensors:
        if kind in ("lora_down.weight", "hada_w1_b", "a2.weight", "diff") or kind.startswith("lora_A"):
            return second(kind)
    one, two = second("lokr_w1", "lokr_w1_b"), second("lokr_w2", "lokr_w2_b")
    if one and two:  # a Kronecker product
        return one * two
    blocks = tensors.get("oft_blocks", ())
    return blocks[-3] * blocks[-2] if len(blocks) > 2 else None  # outputs; the layers asked for are square


def model(shapes: Shapes) -> tuple[str, Family | None]:
    """What a file that is no adapter holds, in words, and its family."""
    has = starts(shapes)
    if has("model.diffusion_model."):
        return "full model in one file", _model_family(shapes)
    if has("double_blocks.", "single_transformer_blocks."):
        return "denoiser (transformer)", "flux"
    if has("joint_blocks.") or ("pos_embed.proj.weight" in shapes and has("transformer_blocks.")):
        return "denoiser (transformer)", "sd3"
    if has("time_embedding.", "time_embed.") and has("down_blocks.", "input_blocks."):
        return "denoiser (U-Net)", _unet_family(shapes)
    if has("first_stage_model.", "encoder.conv_in.") and has("first_stage_model.", "decoder.conv_in."):
        return _vae(shapes), None
    if has("text_model.encoder.layers.", "encoder.layers."):
        return "text encoder (CLIP)", None
    if has("encoder.block."):
        return "text encoder (T5)", None
    return "tensors of an unknown kind", None


def starts(shapes: Shapes) -> Callable[..., bool]:
    """Whether any tensor's name starts with one of some words."""
    everything = "\n" + "\n".join(shapes)
    return lambda *words: any(f"\n{word}" in everything for word in words)


def _model_family(shapes: Shapes) -> Family | None:
    has = starts(shapes)
    families: Mapping[str, Family] = {
        "model.diffusion_model.double_blocks.": "flux",
        "model.diffusion_model.joint_blocks.": "sd3",
        "conditioner.embedders.1.": "sdxl",
        "conditioner.embedders.0.model.": "sdxl-refiner",
    }
    return next((family for start, family in families.items() if has(start)), None) or _unet_family(shapes)


def _unet_family(shapes: Shapes) -> Family | None:
    widths = (shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight") and len(shape) > 1)
    return TEXT_WIDTHS.get(next(widths, 0))


def _vae(shapes: Shapes) -> str:
    shape = next((shape for name, shape in shapes.items() if name.endswith("decoder.conv_in.weight")), ())
    channels = shape[1] if len(shape) > 1 else 0
    return {4: "VAE (Stable Diffusion 1.x, 2.x, XL)", 16: "VAE (Stable Diffusion 3, FLUX.1)"}.get(channels, "VAE")
