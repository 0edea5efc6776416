"""Pictures in tiles: covered without a gap or a seam, and close to the whole."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from impasto import families
from impasto.families import detect
from impasto.families.config import Model
from impasto.families.sd import KlEncoder
from impasto.families.tiles import starts, tiled


def test_tiles_cover_everything_and_overlap() -> None:
    for length in range(1, 200):
        for tile in (8, 9, 64):
            found = starts(length, tile)
            assert found[0] == 0
            assert found[-1] == max(0, length - tile)
            assert all(after - before <= tile - tile // 4 for before, after in itertools.pairwise(found))


@pytest.mark.parametrize(("unit", "factor"), [(8, 1), (1, 8), (1, 1)])
def test_what_looks_only_at_its_own_place_is_the_same_in_tiles(unit: int, factor: int) -> None:
    x = torch.randn(2, 3, 13 * unit, 21 * unit, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def local(x: Tensor) -> tuple[Tensor, ...]:
        small = torch.nn.functional.avg_pool2d(x, unit)
        return (small.repeat_interleave(factor, -1).repeat_interleave(factor, -2),)

    (whole,), (found,) = local(x), tiled(local, x, tile=8 * unit, unit=unit, factor=factor)
    assert torch.allclose(found, whole, atol=1e-6)  # tiles fade in fp32


def test_a_picture_encoder_in_tiles_is_near_the_whole() -> None:
    model = Model()  # the pocket base, whose encoder has learnt
    family = families.load(detect.look(model), model, device=torch.device("cpu"), dtype=torch.float32)
    vae = family.lending.vae.module
    y, x = torch.meshgrid(torch.linspace(0, 1, 128), torch.linspace(0, 1, 160), indexing="ij")
    picture = torch.stack([(9 * x + 3 * y).sin(), (7 * y).cos(), (20 * x * y).sin()])[None]
    whole, parts = KlEncoder(vae, family.device), KlEncoder(vae, family.device, 96)
    mean, std = whole.encode(picture)
    tiled_mean, tiled_std = parts.encode(picture)
    assert mean.shape == tiled_mean.shape
    assert std.shape == tiled_std.shape
    assert float((tiled_mean - mean).abs().mean() / mean.abs().mean()) < 0.15
    assert float((parts.decode(mean) - whole.decode(mean)).abs().mean()) < 0.06
    small = picture[..., :64, :96]
    assert torch.equal(parts.encode(small)[0], whole.encode(small)[0]), "what fits into a tile is done whole"


def test_a_preview_that_does_not_fit_is_decoded_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    family = families.load(detect.look(model), model, device=torch.device("cpu"), dtype=torch.float32)
    encoder = KlEncoder(family.lending.vae.module, family.device)
    latents = torch.randn(1, 4, 140, 16, generator=torch.Generator().manual_seed(0))
    decoded, seen = KlEncoder._decoded, []

    def short_of_memory(self: KlEncoder, latents: Tensor) -> tuple[Tensor, ...]:
        seen.append(tuple(latents.shape[-2:]))
        if latents.shape[-2] > 128:
            raise torch.OutOfMemoryError("no memory")
        return decoded(self, latents)

    monkeypatch.setattr(KlEncoder, "_decoded", short_of_memory)
    assert encoder.decode(latents).shape == (1, 3, 560, 64)
    assert seen == [(140, 16), (128, 16), (128, 16)]
