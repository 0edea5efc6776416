"""What a base model is: a folder, by its description files; a single file, by its tensors. No weights, no torch."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from impasto import pocket
from impasto.errors import ModelFileError, Problem
from impasto.families import flux_files, hub, original, shards, strangers, unknown
from impasto.families.card import ENCODERS, TITLES, Card, Name, Part, Prediction, prediction_of
from impasto.families.config import Model
from impasto.families.original import ANOTHER
from impasto.families.shards import Files

__all__ = ["Card", "Part", "look", "packaged"]

PARTS: tuple[Part, ...] = ("unet", "vae", *ENCODERS)
TRANSFORMER = "transformer"
"""The folder of a denoiser that is a transformer, and stands where a U-Net does."""

LARGEST = 2**20
"""Bytes of the longest description that is read."""

CONFIGS = Path(__file__).parent / "configs"
SIZES: Mapping[Part, Mapping[str, int]] = {
    "unet": {"sample_size": 8192, "block_out_channels": 65536},
    "vae": {"block_out_channels": 65536},
    "text_encoder": {"hidden_size": 65536, "num_hidden_layers": 256},
    "text_encoder_2": {"hidden_size": 65536, "num_hidden_layers": 256},
    "text_encoder_3": {"d_model": 65536, "num_layers": 256},
}
"""Numbers that a part is built from, and the most that any model has."""

TRANSFORMER_SIZES: Mapping[str, int] = {
    "sample_size": 8192, "patch_size": 64, "num_layers": 256, "num_attention_heads": 1024, "attention_head_dim": 1024,
    "joint_attention_dim": 65536, "pooled_projection_dim": 65536, "pos_embed_max_size": 2048,
}  # fmt: skip
"""The same of a denoiser that is a transformer."""

FLUX_SIZES: Mapping[str, int] = {
    "in_channels": 1024, "num_layers": 256, "num_single_layers": 256, "num_attention_heads": 1024,
    "attention_head_dim": 1024, "joint_attention_dim": 65536, "pooled_projection_dim": 65536,
}  # fmt: skip
"""The same of FLUX.1's."""

FLUX = "FluxTransformer2DModel"

SMALL = 64
"""Latents a side of the smaller Stable Diffusion 2.x, the one that predicts noise."""


def look(model: Model, *, heads: bool = False) -> Card:
    """Read what the base model says of itself. A base on the hub is fetched; with `heads`, of its weights no more than
    that needs.

    Raises ModelFileError (exit code 7), naming everything that is missing, when it is no such model.
    """
    title, model = hub.title(model), hub.local(model, heads=heads)
    if model.revision is not None:
        what, fix = "is for a base that is named by an id on the hub, as org/name", "take it out"
        raise ModelFileError(Problem("E-MOD-107", what, "model.revision", fix))
    card = _looked(model)
    if title is not None:
        card = replace(card, name=title, whole=not hub.is_outline(card.path))
    if wrong := unknown.settings(card, model):
        raise ModelFileError(*wrong)
    return card


def _looked(model: Model) -> Card:
    try:
        path = pocket.folder() if model.path == "pocket" else Path(model.path).expanduser()
        single = path.is_file()
        if not single:
            _is_a_model(path, model.path)
    except (OSError, RuntimeError, ValueError) as error:  # too long, of an unknown user, with a NUL in it
        what = f"the base model {ascii(model.path)[:100]} cannot be found ({str(error)[:100]})"
        raise ModelFileError(Problem("E-MOD-101", what, "model.path", "correct model.path")) from error
    return _file(path, model) if single else _folder(path, model)


def packaged(family: Name) -> dict[str, dict[str, Any]]:
    """The measures of a family as it was published: `unet`, `vae`, `text_encoder`, ..., `scheduler`."""
    found: dict[str, dict[str, Any]] = json.loads((CONFIGS / f"{family}.json").read_text("utf-8"))
    return found


def _folder(folder: Path, model: Model) -> Card:
    if stranger := strangers.in_folder(_read(folder / "model_index.json").get("_class_name")):
        raise ModelFileError(Problem(stranger.code, stranger.what, str(folder), stranger.fix))
    configs, scheduler = _described(folder)
    family = _family(folder, configs)
    folders = {part: _own_folder(folder, part) for part in configs}
    if family == "flux":
        folders["text_encoder_3"] = folder / "text_encoder_2"
    files = shards.of_all(folders, model.variant)
    return _card(model, folder, family, configs, scheduler, files, tokenizers=folder)


def _file(path: Path, model: Model) -> Card:
    found = original.look(path)
    if model.variant is not None:
        what, fix = "is for folders in diffusers' layout, and the base is a single file", "take it out"
        raise ModelFileError(Problem("E-MOD-107", what, "model.variant", fix))
    given_files = _given_encoders(model, unknown.BESIDE.get(found.family, ()))
    if model.config_path is None:
        given = packaged(found.family)
        scheduler = given.pop("scheduler")
        given |= {} if found.unet is None else {"unet": dict(found.unet)}
        if found.family == "flux":
            scheduler = flux_files.schedule(scheduler, given["unet"])
        configs: dict[Part, dict[str, Any]] = {part: given[part] for part in PARTS if part in given}
    else:
        configs, scheduler = _described(model.config_path.expanduser())
    if found.family == "sd3":
        silent = set(ENCODERS) - found.parts - given_files.keys()
        configs = {part: values for part, values in configs.items() if part not in silent}
        _has_words(path, configs)
    found = replace(found, parts=found.parts | given_files.keys())
    original.check_parts(path, found, tuple(configs), vae_given=model.vae_path is not None)
    prediction = prediction_of(model.prediction) or found.prediction
    if prediction is None and found.family == "sd2" and model.config_path is None:
        what = "Stable Diffusion 2.x was made in two kinds, and this file does not say which one it is"
        fix = 'set model.prediction = "v" for models of 768 pixels, "epsilon" for "base" models of 512 pixels'
        raise ModelFileError(Problem("E-MOD-104", what, str(path), fix))
    if prediction is not None:
        scheduler["prediction_type"] = "v_prediction" if prediction == "v" else "epsilon"
    if found.family == "sd2" and prediction == "epsilon" and model.config_path is None:
        configs["unet"]["sample_size"] = SMALL
    if found.ends_in_noise and prediction == "v":
        scheduler["rescale_betas_zero_snr"] = True
    if found.family == "flux":
        flux_files.fit_together(path, configs)
    files: dict[Part, Files] = dict.fromkeys(configs, (path,)) | given_files
    tokenizers = model.config_path.expanduser() if model.config_path is not None else None
    return _card(model, path, found.family, configs, scheduler, files, tokenizers=tokenizers, notes=found.notes)


def _given_encoders(model: Model, parts: Collection[Part]) -> dict[Part, Files]:
    """Those of these text encoders that the settings give: a file, the folder of one, or of a whole model."""
    said = unknown.given(model)
    found: dict[Part, Files] = {}
    for part, path in ((part, path.expanduser()) for part in parts if (path := said[part]) is not None):
        if path.is_dir():
            found[part] = shards.of(path / part if (path / part).is_dir() else path, part)
        elif path.is_file():
            found[part] = (path,)
        else:
            what, fix = f"the text encoder {path.absolute()} does not exist", "name a .safetensors file or a folder"
            raise ModelFileError(Problem("E-MOD-101", what, "model", fix))
    return found


def _has_words(path: Path, configs: Mapping[Part, Any]) -> None:
    """Raise ModelFileError where no text encoder is there."""
    if not any(part in configs for part in ENCODERS):
        what = f"is a {TITLES['sd3']} checkpoint without a text encoder"
        fix = "set model.clip_l_path and model.clip_g_path, and model.t5_path for long captions"
        raise ModelFileError(Problem("E-MOD-105", what, str(path), fix))


def _card(
    model: Model,
    path: Path,
    family: Name,
    configs: dict[Part, dict[str, Any]],
    scheduler: dict[str, Any],
    files: dict[Part, Files],
    *,
    tokenizers: Path | None,
    notes: tuple[Problem, ...] = (),
) -> Card:
    described = path if model.config_path is None else model.config_path.expanduser()
    for part, values in configs.items():
        _has_sizes(described / part / "config.json", part, values)
    if model.vae_path is not None:
        files["vae"], configs["vae"] = _vae(model.vae_path.expanduser(), configs["vae"])
    factor = 2 ** (len(configs["vae"]["block_out_channels"]) - 1)
    return Card(
        path=path,
        family=family,
        name="pocket" if model.path == "pocket" else path.resolve().stem if path.is_file() else path.resolve().name,
        resolution=_resolution(configs, factor),
        step=factor * _divisor(configs["unet"]),
        factor=factor,
        prediction=_prediction(model, scheduler),
        scheduler=scheduler,
        configs=configs,
        files=files,
        original=path.is_file(),
        tokenizers=tokenizers,
        notes=notes,
    )


# -- a folder ----------------------------------------------------------------------------------------------------


def _is_a_model(folder: Path, given: str) -> None:
    if folder.is_dir():
        if (folder / "model_index.json").is_file():
            return
        what, fix = "has no model_index.json, so it is no diffusers model", strangers.meant(folder)
    else:
        what, fix = "does not exist", "correct model.path, or use the built-in one: model.path = pocket"
    raise ModelFileError(Problem("E-MOD-101", f"the base model {folder.absolute()} {what}", "model.path", fix))


def _described(folder: Path) -> tuple[dict[Part, dict[str, Any]], dict[str, Any]]:
    """What the folder's description files say of its parts, and its noise schedule."""
    parts: list[Part] = ["unet", "vae"]
    some = (folder / TRANSFORMER).is_dir()  # of those, any text encoder may be missing
    parts += [part for part in ENCODERS if (part == "text_encoder" and not some) or (folder / part).is_dir()]
    configs = {part: _read(_own_folder(folder, part) / "config.json") for part in parts}
    if configs["unet"].get("_class_name") == FLUX and "text_encoder_2" in configs:
        configs["text_encoder_3"] = configs.pop("text_encoder_2")  # T5 is the third of all families
    return configs, _read(folder / "scheduler" / "scheduler_config.json")


def _own_folder(folder: Path, part: Part) -> Path:
    """Where a part lies in a folder."""
    instead = folder / TRANSFORMER
    return instead if part == "unet" and instead.is_dir() else folder / part


def _resolution(configs: Mapping[Part, Mapping[str, Any]], factor: int) -> int:
    """Pixels of a side a base was made for. FLUX.1's denoiser does not say; its VAE does."""
    if configs["unet"].get("_class_name") == FLUX:
        return int(configs["vae"]["sample_size"])
    return int(configs["unet"]["sample_size"]) * factor


def _divisor(unet: Mapping[str, Any]) -> int:
    """What the sides of latents are divided by in a denoiser."""
    if unet.get("_class_name") == FLUX:
        return 2  # a token is 2 by 2 latents
    if "patch_size" in unet:
        return int(unet["patch_size"])
    return int(2 ** (len(unet["block_out_channels"]) - 1))


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


def _family(folder: Path, configs: Mapping[Part, Mapping[str, Any]]) -> Name:
    unet = configs["unet"]
    if unet.get("_class_name") == "SD3Transformer2DModel" and any(part in configs for part in ENCODERS):
        return "sd3"
    if unet.get("_class_name") == FLUX:
        return _flux(folder, configs)
    widths = [configs[part].get("hidden_size") for part in ENCODERS if part in configs]
    width = sum(each for each in widths if type(each) is int)
    wrong = None
    if unet.get("_class_name") != "UNet2DConditionModel":
        wrong = f"its denoiser is a {unet.get('_class_name')}"
    elif unet.get("in_channels") != 4:
        wrong = f"its denoiser takes {unet.get('in_channels')} channels, as inpainting models do"
    elif unet.get("addition_embed_type") and "text_encoder_2" not in configs:
        wrong = "it looks like the refiner of Stable Diffusion XL"
    elif unet.get("cross_attention_dim") != width:
        wrong = "its text encoder and its denoiser do not fit together"
    if wrong:
        raise ModelFileError(Problem("E-MOD-103", f"{wrong}, which cannot be trained yet", str(folder), ANOTHER))
    if unet.get("addition_embed_type"):
        return "sdxl"
    return "sd2" if unet.get("use_linear_projection") else "sd1"


def _flux(folder: Path, configs: Mapping[Part, Mapping[str, Any]]) -> Name:
    takes, latents = configs["unet"].get("in_channels"), configs["vae"].get("latent_channels")
    wrong = None
    if type(latents) is not int or takes != 4 * latents:
        wrong = f"its denoiser takes {ascii(takes)[:20]} channels, as FLUX.1 Fill, Canny and Depth do"
    elif not {"text_encoder", "text_encoder_3"} <= configs.keys():
        wrong = "it is FLUX.1 without both of its text encoders"
    if wrong:
        fix = flux_files.INSTEAD
        raise ModelFileError(Problem("E-MOD-103", f"{wrong}, which cannot be trained yet", str(folder), fix))
    flux_files.fit_together(folder, configs)
    return "flux"


def _has_sizes(file: Path, part: Part, values: Mapping[str, Any]) -> None:
    """The numbers a part is built from, within what any model has: nothing is built by a description gone wild."""
    denoisers = {"SD3Transformer2DModel": TRANSFORMER_SIZES, FLUX: FLUX_SIZES}
    usual = SIZES[part]
    for key, most in (denoisers.get(values.get("_class_name", ""), usual) if part == "unet" else usual).items():
        found = values.get(key)
        sizes = found if key == "block_out_channels" and isinstance(found, list) and len(found) <= 16 else [found]
        if not sizes or not all(type(each) is int and 0 < each <= most for each in sizes):
            what = f"{key} is {ascii(found)[:60]}, which no model has"
            raise ModelFileError(Problem("E-MOD-102", what, str(file), "fetch the folder again"))


# -- what both have ----------------------------------------------------------------------------------------------


def _vae(path: Path, usual: dict[str, Any]) -> tuple[Files, dict[str, Any]]:
    """The VAE given by `model.vae_path`: its files and its measures."""
    folder = path / "vae" if (path / "vae").is_dir() else path
    if folder.is_dir():
        found = _read(folder / "config.json")
        _has_sizes(folder / "config.json", "vae", found)
        return shards.of(folder, "vae"), found
    if not path.is_file():
        fix = "name a .safetensors file, or a folder with config.json beside the weights"
        raise ModelFileError(Problem("E-MOD-101", f"the VAE {path.absolute()} does not exist", "model.vae_path", fix))
    return (path,), usual


def _prediction(model: Model, scheduler: Mapping[str, Any]) -> Prediction:
    if str(scheduler.get("_class_name", "")).startswith("FlowMatch"):
        return "flow"
    said = scheduler.get("prediction_type", "epsilon")
    found = prediction_of(model.prediction) or prediction_of(said)
    if found is None:
        fix = "set model.prediction to epsilon or v"
        raise ModelFileError(Problem("E-MOD-104", f"prediction_type {said!r} is not known", "model.path", fix))
    return found
