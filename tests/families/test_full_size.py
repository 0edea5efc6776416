"""Bases of full size with random numbers are what the published files are, name by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from impasto.families import detect, full_size, loading
from impasto.families.card import Card, Name
from impasto.families.config import Model
from impasto.families.sd import Modules
from impasto.weights import header
from tests.weights.listings import listing


def miniature(tiny_base: Path) -> Card:
    return replace(detect.look(Model(path=str(tiny_base))), original=True)


def test_a_file_is_written_a_tensor_at_a_time_and_read_as_a_base(tiny_base: Path, tmp_path: Path) -> None:
    path = full_size.write_parts(miniature(tiny_base), tmp_path / "base.safetensors", dtype=torch.bfloat16)
    card = detect.look(Model(path=str(path), config_path=tiny_base))
    loaded = Modules.load(card, torch.float32, torch.device("cpu"))
    held = header.read(path)
    assert {entry.dtype for entry in held.tensors.values()} == {"BF16"}
    count = sum(each.numel() for part in (loaded.unet, loaded.text, loaded.vae) for each in part.parameters())
    assert sum(entry.count for entry in held.tensors.values()) == count
    states = torch.randn(1, 77, 16, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        drawn = loaded.unet(noise, torch.tensor([500]), encoder_hidden_states=states).sample
    assert bool(drawn.isfinite().all())
    assert float(drawn.std()) > 0.01


def test_the_same_seed_writes_the_same_bytes(tiny_base: Path, tmp_path: Path) -> None:
    def written(name: str, seed: int) -> bytes:
        path = tmp_path / name
        return full_size.write_parts(miniature(tiny_base), path, dtype=torch.float16, seed=seed).read_bytes()

    assert written("a", 1) == written("b", 1) != written("c", 2)


@pytest.mark.parametrize(("family", "published"), [("sd1", "sd15.original"), ("sdxl", "sdxl-base.original")])
def test_every_tensor_has_a_name_and_shape_of_the_published_file(family: Name, published: str) -> None:
    card = full_size.published(family, Path("base.safetensors"))
    true = listing(published)
    ours = dict(full_size.places(card))
    assert ours.keys() <= true.keys()
    assert {name: tuple(true[name]) for name in ours} == ours
    left = [name for name in true if name not in ours and not loading.spare(card, card.path, name)]
    assert left == []
