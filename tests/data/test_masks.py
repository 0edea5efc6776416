"""Masks: which belongs to which picture, and that they are cut like it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from impasto.data.buckets import Bucket, Placement
from impasto.data.config import Data, Dataset, Masks
from impasto.data.encode import shrunk
from impasto.data.examples import Example, Scan, scan
from impasto.data.pixels import Pixels, grey, load, render, render_mask
from tests.data.pictures import picture, tree


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, one of them in a sub-folder."""
    (tmp_path / "pictures" / "sub").mkdir(parents=True)
    picture(48, 32, 0).save(tmp_path / "pictures" / "a.png")
    picture(32, 48, 1).save(tmp_path / "pictures" / "sub" / "b.jpg")
    return tmp_path / "pictures"


def draw_mask(path: Path, width: int = 48, height: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", (width, height))
    image.paste(255, (0, 0, width // 2, height))
    image.save(path)
    return path


def scanned(folder: Path, masks: Masks) -> Scan:
    before = tree(folder)
    data = Data.model_validate(
        {"sets": [{"path": folder, "captions": {"missing": "empty"}}], "masks": masks.model_dump()}
    )
    found = scan(data)
    assert tree(folder) == before
    return found


def codes(found: Scan) -> list[str]:
    return sorted(str(each).split(":")[0] + " " + each.problem.code for each in found.findings)


def names(examples: tuple[Example, ...]) -> dict[str, str | None]:
    return {each.path.name: each.mask.path.name if each.mask else None for each in examples}


def test_masks_lie_in_a_folder_at_the_same_place(folder: Path) -> None:
    masks = folder.parent / "masks"
    draw_mask(masks / "a.png")
    draw_mask(masks / "sub" / "B.webp", 32, 48)
    found = scanned(folder, Masks(folder=masks))
    assert names(found.examples[0]) == {"a.png": "a.png", "b.jpg": "B.webp"}
    assert not codes(found)


def test_masks_lie_beside_pictures_with_a_suffix_and_are_no_pictures(folder: Path) -> None:
    draw_mask(folder / "a-mask.png")
    draw_mask(folder / "sub" / "b-mask.png", 32, 48)
    found = scanned(folder, Masks(suffix="-mask"))
    assert names(found.examples[0]) == {"a.png": "a-mask.png", "b.jpg": "b-mask.png"}
    assert len(scanned(folder, Masks()).examples[0]) == 4


def test_a_folder_of_masks_within_the_set_holds_no_pictures(folder: Path) -> None:
    draw_mask(folder / "masks" / "a.png")
    draw_mask(folder / "masks" / "sub" / "b.png", 32, 48)
    found = scanned(folder, Masks(folder=folder / "masks"))
    assert names(found.examples[0]) == {"a.png": "a.png", "b.jpg": "b.png"}


def test_a_picture_without_mask_stops_the_run_unless_it_may_count_whole(folder: Path) -> None:
    draw_mask(folder.parent / "masks" / "a.png")
    draw_mask(folder.parent / "masks" / "else.png")
    rules = Masks(folder=folder.parent / "masks")
    assert codes(scanned(folder, rules)) == ["note E-MSK-050", "stop E-MSK-001"]
    whole = scanned(folder, rules.model_copy(update={"missing": "whole"}))
    assert names(whole.examples[0]) == {"a.png": "a.png", "b.jpg": None}
    assert codes(whole) == ["note E-MSK-050"]


def test_a_mask_that_is_broken_or_of_another_shape_stops_the_run(folder: Path) -> None:
    draw_mask(folder.parent / "masks" / "a.png", 32, 48)
    (folder.parent / "masks" / "sub").mkdir()
    (folder.parent / "masks" / "sub" / "b.png").write_bytes(b"no picture")
    assert codes(scanned(folder, Masks(folder=folder.parent / "masks"))) == ["stop E-MSK-002", "stop E-MSK-003"]


def test_a_smaller_mask_of_the_same_shape_will_do(folder: Path) -> None:
    draw_mask(folder.parent / "masks" / "a.png", 24, 16)
    found = scanned(folder, Masks(folder=folder.parent / "masks", missing="whole"))
    assert names(found.examples[0])["a.png"] == "a.png"


PLACEMENTS = [
    Placement(Bucket(32, 32), (48, 32), (8, 0)),
    Placement(Bucket(16, 16), (24, 16), (3, 0)),
    Placement(Bucket(64, 48), (72, 48), (8, 0)),
    Placement(Bucket(40, 24), (48, 32), (5, 7)),
]


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("flip", [False, True])
def test_a_mask_is_scaled_cut_and_mirrored_like_its_picture(placement: Placement, flip: bool) -> None:
    y, x = np.mgrid[0:32, 0:48]
    spot = (255 * np.exp(-((x - 30) ** 2 + (y - 12) ** 2) / 40)).astype(np.uint8)
    shown = render(Pixels(np.repeat(spot[..., None], 3, 2)), placement, flip=flip)[0] / 2 + 0.5
    mask = render_mask(spot, placement, flip=flip)
    assert mask.shape == (placement.bucket.height, placement.bucket.width)
    assert np.unravel_index(mask.argmax(), mask.shape) == pytest.approx(
        np.unravel_index(shown.argmax(), shown.shape), abs=1
    )
    assert np.abs(mask - shown).max() < 0.12


def test_a_mask_is_0_where_black_and_1_where_white(tmp_path: Path) -> None:
    loaded = load(draw_mask(tmp_path / "m.png"))
    assert isinstance(loaded, Pixels)
    mask = render_mask(grey(loaded), PLACEMENTS[0])
    assert (mask[:, :15] == 1).all()
    assert (mask[:, 17:] == 0).all()


def test_latents_count_as_their_pixels_do_on_average() -> None:
    mask = torch.zeros(16, 16)
    mask[:8, :8], mask[8:, :4] = 1, 1
    assert_close(shrunk(mask, (2, 2)), torch.tensor([[[1.0, 0.0], [0.5, 0.0]]]))
    assert shrunk(mask, (3, 5)).shape == (1, 3, 5)


def test_a_set_may_have_masks_of_its_own() -> None:
    data = Data(sets=(Dataset(path=Path("a"), masks=Masks(alpha=True)), Dataset(path=Path("b"))))
    assert [data.masks_of(each).used for each in data.sets] == [True, False]
