"""Workspace -> the packaged model: half precision, diffusers layout, every file moved into place whole."""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

from impasto.pocket.pretrain.base import new_scheduler

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def export(work: Path, target: Path) -> None:
    """Assemble the model from the workspace and put it into the package."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        new = Path(scratch)
        for kind, name in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae"), (CLIPTextModel, "text_encoder")):
            kind.from_pretrained(work / name).to(torch.float16).save_pretrained(new / name, safe_serialization=True)
        shutil.copytree(work / "tokenizer", new / "tokenizer")
        new_scheduler().save_pretrained(new / "scheduler")
        (new / "model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n")
        for file in (*work.glob("judge.safetensors"), *work.glob("judge.json")):
            shutil.copy(file, new / file.name)
        _forget_origins(new)
        _move(new, target)
    print(f"{sum(file.stat().st_size for file in target.rglob('*') if file.is_file()) / 1e6:.2f} MB in the package")


def _forget_origins(folder: Path) -> None:
    """Drop what the libraries note about the machine a model was saved on."""
    for file in folder.rglob("*.json"):
        content = json.loads(file.read_text())
        if isinstance(content, dict) and "_name_or_path" in content:
            del content["_name_or_path"]
            file.write_text(json.dumps(content, indent=2) + "\n")


def _move(source: Path, target: Path) -> None:
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        file.replace(place)
