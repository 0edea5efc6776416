"""Places of Stable Diffusion 3: cut from the base's table as diffusers does, elsewhere by dice, or spread."""

from __future__ import annotations

import pytest
import torch

from impasto.families.places import cut_at, found

SIZES = [(16, 16), (12, 20), (14, 10), (6, 16)]
"""Of latents, some with an odd number of parts; the base was made for 16 x 16."""


@pytest.fixture(scope="module")
def embed() -> torch.nn.Module:
    """As Stable Diffusion 3.5 has it, in small: 8 parts a side, a table of 24."""
    from diffusers.models.embeddings import PatchEmbed

    torch.manual_seed(0)
    return PatchEmbed(height=16, width=16, patch_size=2, in_channels=4, embed_dim=32, pos_embed_max_size=24)


@pytest.mark.parametrize("size", SIZES)
def test_the_middle_is_where_diffusers_cuts(embed: torch.nn.Module, size: tuple[int, int]) -> None:
    ours = found(embed, torch.full((2, 2), -1.0), *size, scaled=False)
    assert torch.equal(ours, embed.cropped_pos_embed(*size).expand(2, -1, -1))


@pytest.mark.parametrize(("share", "first"), [(0.0, 0), (0.5, 8), (0.9999, 16)])
def test_a_cut_elsewhere_is_a_window_of_the_table(embed: torch.nn.Module, share: float, first: int) -> None:
    ours = found(embed, torch.tensor([[share, 0.0]]), 16, 16, scaled=False)
    table = embed.pos_embed.reshape(24, 24, -1)
    assert torch.equal(ours[0], table[first : first + 8, :8].flatten(0, 1))


def test_every_window_is_as_likely(embed: torch.nn.Module) -> None:
    shares = (torch.arange(17 * 40) + 0.5) / (17 * 40)
    ours = found(embed, torch.stack([shares, torch.zeros_like(shares)], dim=1), 16, 16, scaled=False)
    rows = [embed.pos_embed.reshape(24, 24, -1)[at, 0] for at in range(17)]
    assert [sum(torch.equal(each[0], row) for each in ours) for row in rows] == [40] * 17


def test_at_the_bases_own_size_scaling_changes_nothing(embed: torch.nn.Module) -> None:
    usual = found(embed, torch.full((1, 2), -1.0), 16, 16, scaled=False)
    assert torch.equal(found(embed, torch.full((1, 2), -1.0), 16, 16, scaled=True), usual)


@pytest.mark.parametrize(("size", "spacing"), [((8, 8), 2.0), ((4, 16), 2.0), ((32, 32), 0.5), ((12, 12), 8 / 6)])
def test_scaled_places_cover_those_of_a_whole_picture(
    embed: torch.nn.Module, size: tuple[int, int], spacing: float
) -> None:
    from diffusers.models.embeddings import get_2d_sincos_pos_embed_from_grid

    rows, columns = size[0] // 2, size[1] // 2
    down = (11.5 + (torch.arange(rows, dtype=torch.float64) - (rows - 1) / 2) * spacing) / 3
    across = (11.5 + (torch.arange(columns, dtype=torch.float64) - (columns - 1) / 2) * spacing) / 3
    grid = torch.stack(torch.meshgrid(across, down, indexing="xy")).reshape(2, 1, columns, rows)
    theirs = get_2d_sincos_pos_embed_from_grid(32, grid, output_type="pt")
    ours = found(embed, torch.full((1, 2), -1.0), *size, scaled=True)[0]
    torch.testing.assert_close(ours, theirs.float(), atol=2e-5, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_scaled_places_cut_elsewhere_stay_within_the_table(embed: torch.nn.Module, share: float) -> None:
    from impasto.families.places import _indices

    for parts in range(1, 16):
        places = _indices(parts, 24, torch.tensor([share]), 1.5)
        assert float(places.min()) >= 0
        assert float(places.max()) <= 23 or (parts - 1) * 1.5 > 23


def test_each_row_has_its_own_places_and_then_all_is_as_before(embed: torch.nn.Module) -> None:
    latents = torch.randn(3, 4, 16, 12)
    before = embed(latents)
    places = torch.tensor([[-1.0, -1.0], [0.0, 0.0], [0.6, 0.1]])
    with cut_at(embed, {"places": places}):
        together = embed(latents)
    for row in range(3):
        with cut_at(embed, {"places": places[row : row + 1]}):
            torch.testing.assert_close(embed(latents[row : row + 1])[0], together[row])
    torch.testing.assert_close(together[0], before[0])
    assert not torch.allclose(together[1], before[1])
    assert torch.equal(embed(latents), before)
