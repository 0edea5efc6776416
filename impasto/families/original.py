"""What a single file is, by the names and shapes of its tensors, never by its own name. No weights, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impasto.errors import ModelFileError, Problem
from impasto.families import flux_files, sd3_names, strangers
from impasto.families.card import ENCODERS, TITLES, Name, Part, Prediction, prediction_of
from impasto.families.single_file import KNOWN, UNET, VAE
from impasto.weights import header, recognise
from impasto.weights.header import Header

Shapes = Mapping[str, tuple[int, ...]]

CLIP = {"sd1": "cond_stage_model.transformer.", "sd2": "cond_stage_model.model."}
CLIP_XL = ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model.")
COMPLETE = "get the complete checkpoint: U-Net, VAE and text encoder in one file"
CLIP_L = f"{COMPLETE}, or set model.clip_l_path to CLIP-L (published as clip_l.safetensors)"
CLIP_G = f"{COMPLETE}, or set model.clip_g_path to CLIP-G (published as clip_g.safetensors)"
GIVEN: Mapping[tuple[Name, Part], str] = {
    **{(family, "vae"): "set model.vae_path to a VAE of this family" for family in TITLES},
    ("sd1", "text_encoder"): CLIP_L, ("sdxl", "text_encoder"): CLIP_L, ("sdxl", "text_encoder_2"): CLIP_G,
    **{("flux", part): fix for part, fix in flux_files.FIXES.items()},
}  # fmt: skip
"""What to do about a part that a checkpoint lacks."""

ANOTHER = "use a Stable Diffusion 1.x, 2.x, XL or 3 base model, or FLUX.1"


@dataclass(frozen=True)
class Found:
    """What a single file turned out to be."""

    family: Name
    prediction: Prediction | None
    """What it says that it predicts; None: nothing."""

    ends_in_noise: bool
    """Whether it says that its last timestep is pure noise."""

    parts: frozenset[Part]
    notes: tuple[Problem, ...] = ()
    """What is odd about it and keeps nobody from training."""

    unet: Mapping[str, Any] | None = None
    """The denoiser's measures, where the shapes tell all of them."""


def look(path: Path) -> Found:
    """What the file is. Raises ModelFileError when it is no base that can be trained, saying what it is instead."""
    try:
        head = header.read(path)
    except OSError as error:
        raise ModelFileError(
            Problem("E-MOD-101", f"cannot be read ({error})", str(path), "correct model.path")
        ) from error
    shapes = {name: entry.shape for name, entry in head.tensors.items()}
    if stranger := strangers.in_file(shapes):
        raise ModelFileError(Problem(stranger.code, stranger.what, str(path), stranger.fix))
    if (measured := flux_files.measures(path, shapes, head.metadata)) is not None:
        held = frozenset(part for part, there in flux_files.parts(shapes).items() if there)
        return Found("flux", None, False, held | {"unet"}, _foreign(path, shapes), measured)
    _is_a_whole_model(path, shapes)
    _can_be_trained(path, shapes)
    family = _family(path, shapes)
    return Found(
        family,
        _prediction(head),
        "ztsnr" in shapes,
        frozenset(_parts(family, shapes)),
        _foreign(path, shapes),
        _measured(path, shapes) if family == "sd3" else None,
    )


def _measured(path: Path, shapes: Shapes) -> dict[str, Any]:
    """The measures of a transformer. Raises ModelFileError where the tensors that tell them are not as they should."""
    try:
        return sd3_names.measures(shapes, UNET).config()
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        what = f"a tensor that tells the denoiser's measures is missing or odd ({header.shown(str(error))})"
        fix = "the file is not complete; get another"
        raise ModelFileError(Problem("E-MOD-108", what, str(path), fix)) from error


def inside(name: str) -> bool:
    """Whether a tensor's name says that it belongs to a part of the model."""
    return name.startswith(
        (UNET, VAE, flux_files.VAE, "cond_stage_model.", "conditioner.", "text_encoders.", *flux_files.BARE)
    )


def _foreign(path: Path, shapes: Shapes) -> tuple[Problem, ...]:
    """Tensors beside the model that nobody knows: left out, and told."""
    names = [name for name in shapes if not inside(name) and not KNOWN.match(name)]
    if not names:
        return ()
    what = f"{len(names)} tensors beside the model are not known and left out, among them {header.shown(names[0])}"
    return (Problem("W-MOD-112", what, str(path)),)


def _is_a_whole_model(path: Path, shapes: Shapes) -> None:
    if any(name.startswith(UNET) for name in shapes):
        return
    if recognise.adapter(shapes) is not None:
        what, fix = "is an adapter, not a base model", "name the base it was made for, with all of its weights"
    else:
        kind, family = recognise.model(shapes)
        of = f" of {recognise.FAMILIES[family]}" if family else ""
        what, fix = f"holds no base model but this: {kind}{of}", COMPLETE
        if family == "flux":
            fix = "name the whole folder that it is from, or the file as it was published (flux1-dev.safetensors)"
    raise ModelFileError(Problem("E-MOD-113", what, str(path), fix))


def _can_be_trained(path: Path, shapes: Shapes) -> None:
    kind = recognise.model(shapes)[1]
    first = shapes.get(f"{UNET}input_blocks.0.0.weight", ())
    wrong = None
    if kind == "sd3":
        return
    if kind == "sdxl-refiner":
        wrong = f"it is {recognise.FAMILIES[kind]}"
    elif len(first) != 4:
        wrong = "its denoiser is of a kind that is not known"
    elif first[1] != 4:
        uses = {9: ", as inpainting models do", 8: ", as models that edit pictures do"}.get(first[1], "")
        wrong = f"its denoiser takes {first[1]} channels in place of 4{uses}"
    if wrong:
        raise ModelFileError(Problem("E-MOD-103", f"{wrong}, which cannot be trained yet", str(path), ANOTHER))


def _family(path: Path, shapes: Shapes) -> Name:
    has = recognise.starts(shapes)
    if has(f"{UNET}joint_blocks."):
        return "sd3"
    if has(f"{UNET}label_emb."):
        return "sdxl"
    if has(CLIP["sd2"]):
        return "sd2"
    if has("cond_stage_model."):
        return "sd1"
    width = next((shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight")), 0)
    match recognise.TEXT_WIDTHS.get(width):
        case "sd1":
            return "sd1"
        case "sd2":
            return "sd2"
        case _:
            what = f"its denoiser listens to text of a width ({width}) that no known model has"
            raise ModelFileError(Problem("E-MOD-103", what, str(path), ANOTHER))


def _parts(family: Name, shapes: Shapes) -> list[Part]:
    has = recognise.starts(shapes)
    if family == "sd3":
        encoders: dict[Part, bool] = {part: has(sd3_names.ENCODERS[at]) for at, part in enumerate(ENCODERS, start=1)}
        inside_it = encoders | {"vae": has(f"{VAE}decoder.", f"{VAE}encoder."), "unet": True}
        return [part for part, held in inside_it.items() if held]
    first, second = CLIP_XL if family == "sdxl" else (CLIP[family], "")
    holds: Mapping[Part, bool] = {
        "unet": True,
        "vae": has(f"{VAE}decoder.", f"{VAE}encoder."),
        "text_encoder": has(first),
        "text_encoder_2": bool(second) and has(second),
    }
    return [part for part, held in holds.items() if held]


def check_parts(path: Path, found: Found, needed: tuple[Part, ...], *, vae_given: bool) -> None:
    """Raise ModelFileError naming every part that the file lacks and nobody gave."""
    given: frozenset[Part] = frozenset({"vae"}) if vae_given else frozenset()
    names = {"vae": "VAE", "text_encoder": "text encoder", "text_encoder_2": "second text encoder"}
    if found.family == "flux":
        names = {"vae": "VAE", "text_encoder": "CLIP-L", "text_encoder_3": "T5"}
    lacking = [part for part in needed if part not in found.parts | given]
    if lacking:
        raise ModelFileError(
            *(
                Problem(
                    "E-MOD-105",
                    f"is a {TITLES[found.family]} checkpoint without a {names.get(part, part)}",
                    str(path),
                    GIVEN.get((found.family, part), COMPLETE),
                )
                for part in lacking
            )
        )


def _prediction(head: Header) -> Prediction | None:
    if "v_pred" in head.tensors:
        return "v"
    return prediction_of(head.metadata.get("modelspec.prediction_type"))
