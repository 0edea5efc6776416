"""FLUX.1 in single files: its denoiser alone, as it was published, or all of it in one checkpoint. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from impasto.errors import ModelFileError, Problem
from impasto.families import flux_names
from impasto.families.card import Part
from impasto.families.flux_names import Shapes
from impasto.families.single_file import UNET
from impasto.weights import header, recognise

VAE = "vae."
"""Where a checkpoint that holds all of FLUX.1 has its VAE; its text encoders lie where Stable Diffusion 3's do."""

BARE = tuple(f"{each}." for each in ("double_blocks", "single_blocks", "img_in", "txt_in", "time_in", "vector_in",
                                     "guidance_in", "final_layer"))  # fmt: skip
"""How the denoiser's tensors begin in a file of its own."""

INSTEAD = "use FLUX.1 dev or schnell (published as flux1-dev.safetensors and flux1-schnell.safetensors)"
KINDS: Mapping[int, str] = {384: "FLUX.1 Fill, which paints into holes", 128: "FLUX.1 Canny or Depth"}
"""What a denoiser is that takes so many channels in place of 64."""

FIXES: Mapping[Part, str] = {
    "vae": "set model.vae_path to its VAE, published as ae.safetensors",
    "text_encoder": "set model.clip_l_path to CLIP-L, published as clip_l.safetensors",
    "text_encoder_3": "set model.t5_path to T5, published as t5xxl_fp16.safetensors or t5xxl_fp8_e4m3fn.safetensors",
}
"""What to do about a part that no file holds."""


def prefix(names: Collection[str]) -> str | None:
    """Before the names of the denoiser in a file that holds one; None where there is none."""
    return next((start for start in (UNET, "") if f"{start}double_blocks.0.img_attn.qkv.weight" in names), None)


def measures(path: Path, shapes: Shapes, metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """The measures of the denoiser in a single file; None where it holds none of FLUX.1.

    Raises ModelFileError, by name, for its kin that cannot be trained, and for one that is not complete.
    """
    if "redux_up.weight" in shapes:
        what = "is FLUX.1 Redux, which tells pictures to FLUX.1 dev, not a base model"
        raise ModelFileError(Problem("E-MOD-113", what, str(path), INSTEAD))
    start = prefix(shapes)
    if start is None:
        return None
    said = " ".join(value for key, value in metadata.items() if key.startswith("modelspec."))
    if "kontext" in said.casefold():
        raise _cannot(path, "FLUX.1 Kontext")
    try:
        found = flux_names.measures(shapes, start)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        what = f"a tensor that tells the denoiser's measures is missing or odd ({header.shown(str(error))})"
        raise ModelFileError(Problem("E-MOD-108", what, str(path), "the file is not complete; get another")) from error
    if found["out_channels"] != found["in_channels"]:
        takes = found["in_channels"]
        what = KINDS.get(takes, f"a kin of FLUX.1 whose denoiser takes {takes} channels")
        raise _cannot(path, what)
    return found


def parts(shapes: Shapes) -> dict[Part, bool]:
    """Which parts a single file holds beside the denoiser."""
    has = recognise.starts(shapes)
    return {
        "vae": has(f"{VAE}decoder.", "first_stage_model.decoder."),
        "text_encoder": has("text_encoders.clip_l."),
        "text_encoder_3": has("text_encoders.t5xxl."),
    }


def schedule(usual: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """The noise schedule of a denoiser without one of its own: dev's, or schnell's, which is drawn in even steps."""
    if measured["guidance_embeds"]:
        return dict(usual)
    return {**usual, "shift": 1.0, "use_dynamic_shifting": False}


def fit_together(path: Path, configs: Mapping[Part, Mapping[str, Any]]) -> None:
    """Raise ModelFileError where the denoiser listens to text of another width than its text encoders make."""
    hears = configs["unet"].get("joint_attention_dim"), configs["unet"].get("pooled_projection_dim")
    if hears != (configs["text_encoder_3"].get("d_model"), configs["text_encoder"].get("hidden_size")):
        what = f"its denoiser listens to text of the widths {ascii(hears)[:40]}, which its text encoders do not make"
        raise ModelFileError(Problem("E-MOD-103", f"{what}; such a model cannot be trained", str(path), INSTEAD))


def _cannot(path: Path, what: str) -> ModelFileError:
    return ModelFileError(Problem("E-MOD-103", f"it is {what}, which cannot be trained yet", str(path), INSTEAD))
