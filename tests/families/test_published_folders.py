"""Folders in diffusers' layout as they are published: every tensor finds its place, and none is left over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from impasto.errors import ModelFileError
from impasto.families import detect, loading, sd3_names, shards
from impasto.families.card import Card, Name
from impasto.families.config import Model
from impasto.families.single_file import UNET
from tests.families import sparse
from tests.weights.listings import listing

PUBLISHED: dict[str, tuple[Name, dict[str, str]]] = {
    "sd1": (
        "sd1",
        {"unet": "sd15.diffusers.unet", "vae": "vae-kl-f8.diffusers.legacy-attn", "text_encoder": "clip-l.hf"},
    ),
    "sd2": ("sd2", {"unet": "sd21.diffusers.unet", "vae": "vae-kl-f8.diffusers", "text_encoder": "clip-h23.hf"}),
    "sdxl": (
        "sdxl",
        {
            "unet": "sdxl-base.diffusers.unet", "vae": "vae-kl-f8.diffusers", "text_encoder": "clip-l.hf",
            "text_encoder_2": "clip-g.hf.with-projection",
        },
    ),
    "sd3.5": (
        "sd3",
        {
            "unet": "sd35-medium.diffusers.transformer", "vae": "flux-sd3-vae.diffusers",
            "text_encoder": "clip-l.hf.with-projection", "text_encoder_2": "clip-g.hf.with-projection",
            "text_encoder_3": "t5xxl.hf",
        },
    ),
}  # fmt: skip
POSITIONS = "text_model.embeddings.position_ids"


def published(folder: Path, name: str) -> Path:
    """A folder with the published descriptions, and weights of full size that take no room."""
    family, parts = PUBLISHED[name]
    configs = detect.packaged(family)
    scheduler = configs.pop("scheduler")
    if family == "sd3":
        configs["unet"] = sd3_names.measures(listing("sd35-medium.original"), UNET).config()
    for part, values in {**configs, "scheduler": scheduler}.items():
        place = folder / ("transformer" if part == "unet" and family == "sd3" else part)
        place.mkdir(parents=True)
        described = "scheduler_config.json" if part == "scheduler" else "config.json"
        (place / described).write_text(json.dumps(values))
        if part != "scheduler":
            sparse.write(place / f"{shards.stem(part)}.safetensors", listing(parts[part]))
    (folder / "model_index.json").write_text("{}")
    return folder


def check(card: Card) -> None:
    loading.checked(card, {part: loading.empty(card, part) for part in card.configs})


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_folder_is_found_and_complete(tmp_path: Path, name: str) -> None:
    folder = published(tmp_path / "base", name)
    card = detect.look(Model(path=str(folder)))
    assert card.family == PUBLISHED[name][0]
    check(card)
    text = folder / "text_encoder" / "model.safetensors"
    sparse.write(text, {**listing(PUBLISHED[name][1]["text_encoder"]), POSITIONS: (1, 77), "logit_scale": ()})
    check(detect.look(Model(path=str(folder))))


@pytest.mark.parametrize(
    ("part", "extra", "code"),
    [
        ("unet", "mid_block.control.weight", "E-MOD-111"),
        ("vae", "encoder.odd.weight", "E-MOD-111"),
        ("text_encoder", "text_model.encoder.layers.3.odd.weight", "E-MOD-111"),
    ],
)
def test_a_tensor_that_nobody_knows_is_refused_within_a_part(tmp_path: Path, part: str, extra: str, code: str) -> None:
    folder = published(tmp_path / "base", "sd1")
    held = listing(PUBLISHED["sd1"][1][part])
    sparse.write(folder / part / f"{shards.stem(part)}.safetensors", {**held, extra: (4,)})
    with pytest.raises(ModelFileError, match=f"{code} .*{extra}"):
        check(detect.look(Model(path=str(folder))))
