"""What a base model is, read from its configuration files: no weights, no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from impasto import pocket
from impasto.errors import ModelFileError, Problem
from impasto.families.config import Model

Part = Literal["unet", "text_encoder", "vae"]
FILES: dict[Part, tuple[str, ...]] = {
    "unet": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"),
    "vae": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"),
    "text_encoder": ("model.safetensors", "model.fp16.safetensors"),
}

LARGEST = 2**20
"""Bytes of the longest description that is read."""


@dataclass(frozen=True)
class Card:
    """What is known of a base before its weights are read."""

    folder: Path
    family: Literal["sd1"]
    name: str
    resolution: int
    """Pixels of a side it was made for."""

    step: int
    """Sides must be multiples of this many pixels."""

    factor: int
    """Pixels of a side of one latent."""

    prediction: Literal["epsilon", "v"]
    scheduler: dict[str, Any]
    """The noise schedule, as its own file says."""

    def weights(self, part: Part) -> Path:
        """The file that holds a part's weights."""
        for name in FILES[part]:
            if (self.folder / part / name).is_file():
                return self.folder / part / name
        return self.folder / part / FILES[part][0]

    def variant(self, part: Part) -> str | None:
        """The marker diffusers puts before `.safetensors`: None or `fp16`."""
        return "fp16" if self.weights(part).name.endswith(".fp16.safetensors") else None


def look(model: Model) -> Card:
    """Read what the base model says of itself.

    Raises ModelFileError (exit code 7), naming everything that is missing, when it is no such model.
    """
    folder = _folder(model.path)
    unet, vae, text, scheduler = (
        _read(folder / "unet" / "config.json"),
        _read(folder / "vae" / "config.json"),
        _read(folder / "text_encoder" / "config.json"),
        _read(folder / "scheduler" / "scheduler_config.json"),
    )
    _is_stable_diffusion_1(folder, unet, text)
    _has_sizes(folder, unet, vae, text)
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    card = Card(
        folder=folder,
        family="sd1",
        name="pocket" if model.path == "pocket" else folder.resolve().name,
        resolution=int(unet["sample_size"]) * factor,
        step=factor * 2 ** (len(unet["block_out_channels"]) - 1),
        factor=factor,
        prediction=_prediction(model, scheduler),
        scheduler=scheduler,
    )
    _has_weights(card)
    return card


def _folder(given: str) -> Path:
    try:
        folder = pocket.folder() if given == "pocket" else Path(given).expanduser()
        _is_a_folder(folder, given)
    except (OSError, RuntimeError, ValueError) as error:  # too long, of an unknown user, with a NUL in it
        what = f"the base model {ascii(given)[:100]} cannot be found ({str(error)[:100]})"
        raise ModelFileError(Problem("E-MOD-101", what, "model.path", "correct model.path")) from error
    return folder


def _is_a_folder(folder: Path, given: str) -> None:
    if folder.is_dir():
        if (folder / "model_index.json").is_file():
            return
        what, fix = "has no model_index.json, so it is no diffusers model", "name the folder that holds unet/ and vae/"
    elif folder.is_file():
        what = "is a single file, and only folders in diffusers' layout can be read yet"
        fix = "save it once with diffusers' save_pretrained() and name that folder"
    else:
        what, fix = "does not exist", "correct model.path, or use the built-in one: model.path = pocket"
    raise ModelFileError(Problem("E-MOD-101", f"the base model {folder.absolute()} {what}", "model.path", fix))


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no file")
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        found = json.loads(raw.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        fix = "the download is not complete; fetch the folder again"
        raise ModelFileError(Problem("E-MOD-102", f"cannot be read ({error})", str(path), fix)) from error
    if not isinstance(found, dict):
        raise ModelFileError(Problem("E-MOD-102", "is not a JSON object", str(path), "fetch the folder again"))
    return found


def _is_stable_diffusion_1(folder: Path, unet: dict[str, Any], text: dict[str, Any]) -> None:
    wrong = None
    if unet.get("_class_name") != "UNet2DConditionModel":
        wrong = f"its denoiser is a {unet.get('_class_name')}"
    elif unet.get("addition_embed_type"):
        wrong = "it looks like Stable Diffusion XL"
    elif unet.get("in_channels") != 4:
        wrong = f"its denoiser takes {unet.get('in_channels')} channels, as inpainting models do"
    elif unet.get("cross_attention_dim") != text.get("hidden_size"):
        wrong = "its text encoder and its denoiser do not fit together"
    if wrong:
        fix = "use a Stable Diffusion 1.x model"
        raise ModelFileError(Problem("E-MOD-103", f"{wrong}, which cannot be trained yet", str(folder), fix))


def _has_sizes(folder: Path, unet: dict[str, Any], vae: dict[str, Any], text: dict[str, Any]) -> None:
    """The numbers a model is built from, within what any model has: nothing is built by a description gone wild."""
    wanted = (
        ("unet", unet, "sample_size", 8192), ("unet", unet, "block_out_channels", 65536),
        ("vae", vae, "block_out_channels", 65536), ("text_encoder", text, "hidden_size", 65536),
        ("text_encoder", text, "num_hidden_layers", 256),
    )  # fmt: skip
    for part, values, key, most in wanted:
        found = values.get(key)
        sizes = found if key == "block_out_channels" and isinstance(found, list) and len(found) <= 16 else [found]
        if not sizes or not all(type(each) is int and 0 < each <= most for each in sizes):
            what = f"{key} is {ascii(found)[:60]}, which no model has"
            place = str(folder / part / "config.json")
            raise ModelFileError(Problem("E-MOD-102", what, place, "fetch the folder again"))


def _prediction(model: Model, scheduler: dict[str, Any]) -> Literal["epsilon", "v"]:
    if model.prediction != "auto":
        return model.prediction
    said = scheduler.get("prediction_type", "epsilon")
    if said not in ("epsilon", "v_prediction"):
        fix = "set model.prediction to epsilon or v"
        raise ModelFileError(Problem("E-MOD-104", f"prediction_type {said!r} is not known", "model.path", fix))
    return "v" if said == "v_prediction" else "epsilon"


def _has_weights(card: Card) -> None:
    parts: tuple[Part, ...] = ("unet", "text_encoder", "vae")
    missing = [card.weights(part) for part in parts if not card.weights(part).is_file()]
    if missing:
        fix = "fetch the folder again; only .safetensors weights are read, pickle files (.bin, .ckpt) are not"
        raise ModelFileError(*(Problem("E-MOD-105", "the weights are missing", str(path), fix) for path in missing))
