"""Files and folders that users take for a base and that are none that can be trained, called by their names.

Each is told by tensors that only it has, or by the class that its folder names. The marks are those of the published
files, in the original layout and in diffusers'. No weights, no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from impasto.families.flux_files import INSTEAD

Shapes = Mapping[str, tuple[int, ...]]


class Stranger(NamedTuple):
    """Something that is no base that can be trained."""

    what: str
    """As a problem says it."""

    code: str
    fix: str


class Mark(NamedTuple):
    """How something is told."""

    title: str
    words: tuple[str, ...]
    """Each stands somewhere in a tensor's name."""


PREFIXES = ("model.diffusion_model.", "diffusion_model.")
"""What names of a denoiser begin with in files of whole models and of some programs."""

OTHER_BASES = (
    Mark("Chroma", ("distilled_guidance_layer.",)),
    Mark("FLUX.2", ("double_stream_modulation_img.",)),
    Mark("HunyuanVideo", ("txt_in.individual_token_refiner.",)),
    Mark("HunyuanVideo", ("context_embedder.token_refiner.",)),
    Mark("HunyuanDiT", ("text_embedding_padding",)),
    Mark("Wan", ("patch_embedding.", "head.modulation")),
    Mark("Wan", ("patch_embedding.", "condition_embedder.time_proj.")),
    Mark("Qwen-Image", ("transformer_blocks.0.img_mod.", "txt_norm.")),
    Mark("Z-Image", ("cap_pad_token", "noise_refiner.")),
    Mark("Lumina", ("cap_embedder.", "context_refiner.")),
    Mark("Lumina", ("time_caption_embed.", "context_refiner.")),
    Mark("PixArt", ("y_embedder.y_embedding", "cross_attn.q_linear.")),
    Mark("Sana", ("caption_norm.", "mlp.inverted_conv.")),
    Mark("Sana", ("caption_norm.", "ff.conv_inverted.")),
    Mark("LTX-Video", ("patchify_proj.", "adaln_single.")),
    Mark("LTX-Video", ("proj_in.", "caption_projection.", "time_embed.emb.", "transformer_blocks.0.scale_shift_table")),
    Mark("PixArt", ("adaln_single.", "caption_projection.", "pos_embed.proj.")),
    Mark("AuraFlow", ("cond_seq_linear.", "double_layers.")),
    Mark("AuraFlow", ("register_tokens", "joint_transformer_blocks.")),
    Mark("HiDream", ("double_stream_blocks.0.block.",)),
    Mark("Mochi", ("t5_y_embedder.",)),
    Mark("CogVideoX", ("patch_embed.text_proj.",)),
    Mark("Stable Cascade", ("clip_txt_pooled_mapper.",)),
    Mark("Stable Cascade", ("effnet_mapper.",)),
    Mark("Stable Video Diffusion", ("time_stack.", "time_mixer.")),
    Mark("Stable Video Diffusion", ("temporal_transformer_blocks.", "time_pos_embed.")),
    Mark("Kolors", ("encoder_hid_proj.", "add_embedding.")),
    Mark("Playground 2.5", ("edm_mean", "edm_std")),
)
"""Bases of other kinds. The more particular stand first."""

HELPERS = (
    Mark("a ControlNet", ("control_model.",)),
    Mark("a ControlNet", ("controlnet_cond_embedding.",)),
    Mark("a ControlNet", ("controlnet_x_embedder.",)),
    Mark("a ControlNet", ("controlnet_blocks.",)),
    Mark("an IP-Adapter", ("ip_adapter.", "image_proj.")),
    Mark("an IP-Adapter", ("to_k_ip.",)),
    Mark("a motion module (AnimateDiff)", ("motion_modules.", "temporal_transformer.")),
    Mark("a T2I-Adapter", ("adapter.body.0.",)),
    Mark("an image encoder (CLIP vision)", ("vision_model.encoder.layers.",)),
    Mark("an upscaler", ("body.0.rdb1.",)),
    Mark("an upscaler", ("RDB1.conv1.",)),
    Mark("an upscaler", ("residual_group.", "conv_first.")),
    Mark("the decoder of Stable Cascade", ("vquantizer.codebook.",)),
    Mark("a VAE of videos", ("decoder.upsamples.0.residual.",)),
    Mark("a language model", ("model.embed_tokens.", "model.layers.0.self_attn.")),
    Mark("a textual inversion", ("emb_params",)),
    Mark("a textual inversion", ("string_to_param.",)),
)
"""What goes with a base and is none."""

HYPERNETWORK = re.compile(r"(?:\d+\.)?\d+\.linear\.\d+\.(?:weight|bias)")
EMBEDDED = {768, 1024, 1280}
"""Widths of a textual inversion's vectors."""

MOST_VECTORS = 256
"""Vectors that a word could be given."""

KOLORS = 5632
"""Numbers that its denoiser is told beside text and time, where Stable Diffusion XL is told 2816."""

PIPELINES: Mapping[str, str] = {
    "Chroma": "Chroma", "Flux2": "FLUX.2", "FluxKontext": "FLUX.1 Kontext", "FluxFill": "FLUX.1 Fill",
    "FluxControl": "FLUX.1 Canny or Depth", "HunyuanVideo": "HunyuanVideo", "HunyuanDiT": "HunyuanDiT",
    "HunyuanImage": "HunyuanImage", "Wan": "Wan", "QwenImage": "Qwen-Image", "ZImage": "Z-Image", "Lumina": "Lumina",
    "PixArt": "PixArt", "Sana": "Sana", "LTX": "LTX-Video", "AuraFlow": "AuraFlow", "HiDream": "HiDream",
    "Mochi": "Mochi", "CogVideoX": "CogVideoX", "CogView": "CogView", "StableCascade": "Stable Cascade",
    "Wuerstchen": "Würstchen", "StableVideoDiffusion": "Stable Video Diffusion", "Kolors": "Kolors",
    "Kandinsky": "Kandinsky", "IFPipeline": "DeepFloyd IF", "AnimateDiff": "AnimateDiff", "StableAudio": "Stable Audio",
    "StableDiffusionUpscale": "an upscaler", "StableDiffusionLatentUpscale": "an upscaler",
    "StableDiffusionInstructPix2Pix": "InstructPix2Pix", "OmniGen": "OmniGen", "Cosmos": "Cosmos",
    "StableUnCLIP": "Stable unCLIP",
}  # fmt: skip
"""What the classes of folders begin with, by the names of what they are."""

ANOTHER = "use a Stable Diffusion 1.x, 2.x, XL or 3 base model, or FLUX.1"
ITS_BASE = "name the base it was made for; this belongs to drawing"


def in_file(shapes: Shapes) -> Stranger | None:
    """What a file is by the names and shapes in it, if it is known and no base that can be trained."""
    names = [_bare(name) for name in shapes]
    everything = "\n".join(names)
    if found := _marked(OTHER_BASES, everything):
        return _other(found)
    if shapes.get(f"{PREFIXES[0]}label_emb.0.0.weight", (0, 0))[-1:] == (KOLORS,):
        return _other("Kolors")
    if any(name.startswith(PREFIXES[0]) for name in shapes):
        return None  # a whole model, with whatever beside it
    found = _marked(HELPERS, everything)
    if found is None and names and all(HYPERNETWORK.fullmatch(name) for name in names):
        found = "a hypernetwork"
    if found is None and _is_inversion(shapes):
        found = "a textual inversion"
    return None if found is None else Stranger(f"is {found}, not a base model", "E-MOD-113", ITS_BASE)


def in_folder(kind: object) -> Stranger | None:
    """What a folder is by the class that its model_index.json names."""
    found = next((title for begin, title in PIPELINES.items() if str(kind).startswith(begin)), None)
    return None if found is None else _other(found)


def meant(folder: Path) -> str:
    """What was probably meant by a folder that is no model."""
    if (folder.parent / "model_index.json").is_file():
        return f"name the folder above, {folder.parent.absolute()}"
    if inside := next((each.parent for each in sorted(folder.glob("*/model_index.json"))), None):
        return f"name the folder in it, {inside.absolute()}"
    files = sorted(each for each in folder.glob("*.safetensors") if not each.is_dir())
    if len(files) == 1:
        return f"name the file in it, {files[0].absolute()}"
    return "name one of the files in it" if files else "name the folder that holds unet/ and vae/"


def _other(title: str) -> Stranger:
    kin = title.startswith(("FLUX", "Chroma"))
    return Stranger(f"is {title}, which cannot be trained yet", "E-MOD-103", INSTEAD if kin else ANOTHER)


def _marked(marks: Iterable[Mark], everything: str) -> str | None:
    return next((mark.title for mark in marks if all(word in everything for word in mark.words)), None)


def _bare(name: str) -> str:
    return next((name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)), name)


def _is_inversion(shapes: Shapes) -> bool:
    """A few vectors as wide as a text encoder's, and nothing else."""
    if not 1 <= len(shapes) <= 2 or any("." in name for name in shapes):
        return False
    return all(shape[-1:] and shape[-1] in EMBEDDED and _is_word(shape) for shape in shapes.values())


def _is_word(shape: tuple[int, ...]) -> bool:
    return len(shape) == 1 or (len(shape) == 2 and shape[0] <= MOST_VECTORS)
