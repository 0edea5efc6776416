"""Pixels: what comes out of a file is what was in it, upright, in sRGB, scaled and cut as its placement says."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from impasto.data.buckets import Bucket, Placement, place, sizes
from impasto.data.pixels import Look, Pixels, load, look, render
from tests.data.pictures import chunk, colors, deep_png, icc, jpeg, picture, png, raw_png, saved, wide_icc

RGB = colors().astype(int)


def loaded(tmp_path: Path, content: bytes, background: str = "white") -> np.ndarray:
    path = tmp_path / "a"
    path.write_bytes(content)
    found = load(path, background=background)  # type: ignore[arg-type]
    assert isinstance(found, Pixels), found
    return found.rgb.astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_pictures_are_turned_upright(format: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(picture(), format, exif=exif, **({"quality": 98} if format in ("JPEG", "AVIF", "WEBP") else {}))
    path = tmp_path / "a"
    path.write_bytes(content)
    with Image.open(path) as stored:
        turned = ImageOps.exif_transpose(stored).convert("RGB")
    assert np.array_equal(loaded(tmp_path, content), np.asarray(turned))
    found = look(path)
    assert isinstance(found, Look)
    assert found.size == turned.size == ((32, 48) if orientation > 4 else (48, 32))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    deep = np.linspace(0, 65_535, 32 * 48).reshape(32, 48).astype(int)
    grey = loaded(tmp_path, deep_png(deep))
    assert np.abs(grey - (deep / 257)[..., None]).max() <= 1
    rgb = np.stack([deep, deep[::-1], deep[:, ::-1]], -1)
    assert np.abs(loaded(tmp_path, deep_png(rgb)) - rgb / 257).max() <= 1
    tiff = saved(Image.fromarray(deep.astype(np.uint16)), "TIFF")
    assert np.abs(loaded(tmp_path, tiff) - (deep / 257)[..., None]).max() <= 1


def test_sixteen_bits_with_a_transparent_colour_or_channel(tmp_path: Path) -> None:
    deep = np.full((32, 48), 30_000)
    deep[:, :10] = 513
    keyed = loaded(tmp_path, deep_png(deep, chunk(b"tRNS", struct.pack(">H", 513))))
    assert (keyed[:, :10] == 255).all()
    assert (keyed[:, 10:] == 117).all()
    rgb = np.stack([deep, deep, deep], -1)
    keyed = loaded(tmp_path, deep_png(rgb, chunk(b"tRNS", struct.pack(">3H", 513, 513, 513))))
    assert (keyed[:, :10] == 255).all()
    assert np.abs(keyed[:, 10:] - 30_000 / 257).max() <= 1
    alpha = np.where(deep == 513, 0, 65_535)
    with_alpha = loaded(tmp_path, deep_png(np.stack([deep, alpha], -1)))
    assert (with_alpha[:, :10] == 255).all()
    assert np.abs(with_alpha[:, 10:] - 30_000 / 257).max() <= 1


def test_cmyk_and_ycck_are_the_colours_they_print(tmp_path: Path) -> None:
    ink = picture(6, 4).resize((48, 32), Image.Resampling.NEAREST).convert("CMYK")  # flat where JPEG has its blocks
    c, m, y, k = (np.asarray(part).astype(float) for part in ink.split())
    reference = np.stack([(255 - part) * (255 - k) / 255 for part in (c, m, y)], -1)
    assert np.abs(loaded(tmp_path, saved(ink, "TIFF")) - reference).max() <= 1
    content = saved(ink, "JPEG", quality=100, subsampling=0)
    assert np.abs(loaded(tmp_path, content) - reference).max() <= 3
    assert np.abs(loaded(tmp_path, content.replace(b"Adobe", b"Nobod")) - reference).max() <= 3
    assert np.abs(loaded(tmp_path, ycck(ink)) - reference).max() <= 3


def ycck(ink: Image.Image) -> bytes:
    """A JPEG that holds ink as luma, chroma and black; what is stored is the inverse, as Photoshop does."""
    *cmy, k = ink.split()
    parts = (*Image.merge("RGB", cmy).convert("YCbCr").split(), ImageOps.invert(k))
    content = saved(Image.merge("CMYK", [ImageOps.invert(part) for part in parts]), "JPEG", quality=100, subsampling=0)
    at = content.index(b"Adobe") + 11
    return content[:at] + b"\2" + content[at + 1 :]


def test_palettes_grey_and_bits_are_exact(tmp_path: Path) -> None:
    for image in (picture().convert("L"), picture().convert("1"), picture().quantize(16)):
        reference = np.asarray(image.convert("RGB"))
        for format in ("PNG", "TIFF", "BMP", "GIF"):
            assert np.array_equal(loaded(tmp_path, saved(image, format)), reference), (image.mode, format)


@pytest.mark.parametrize(("background", "shade"), [("white", 255), ("black", 0), ("grey", 128)])
def test_transparent_pictures_stand_on_the_background(background: str, shade: int, tmp_path: Path) -> None:
    alpha = np.tile(np.linspace(0, 255, 48).astype(np.uint8), (32, 1))
    share = alpha[..., None] / 255
    rgba = Image.fromarray(np.dstack([colors(), alpha]))
    reference = RGB * share + shade * (1 - share)
    for format, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        assert np.abs(loaded(tmp_path, saved(rgba, format, **options), background) - reference).max() <= 1, format
    grey = picture().convert("L")
    la = Image.merge("LA", (grey, Image.fromarray(alpha)))
    reference = np.asarray(grey)[..., None] * share + shade * (1 - share)
    assert np.abs(loaded(tmp_path, saved(la, "PNG"), background) - reference).max() <= 1


def test_transparent_palettes_and_keys(tmp_path: Path) -> None:
    palette = Image.fromarray(np.tile(np.arange(48, dtype=np.uint8) % 3, (32, 1))).convert("P")
    palette.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    fades = saved(palette, "PNG", transparency=bytes([0, 128, 255]))
    found = loaded(tmp_path, fades, "black")
    assert found[0, 0].tolist() == [0, 0, 0]
    assert np.abs(found[0, 1] - [0, 100, 0]).max() <= 1
    assert found[0, 2].tolist() == [0, 0, 200]
    one = saved(palette, "GIF", transparency=1)
    assert loaded(tmp_path, one)[0, 1].tolist() == [255, 255, 255]
    key = raw_png(48, 32, 8, 0, (b"\0" + b"\7\10" * 24) * 32, chunk(b"tRNS", b"\0\7"))
    assert loaded(tmp_path, key)[0, :2].tolist() == [[255, 255, 255], [8, 8, 8]]
    bit = raw_png(48, 32, 1, 0, (b"\0" + b"\x55" * 6) * 32, chunk(b"tRNS", b"\0\0"))
    assert loaded(tmp_path, bit, "grey")[0, :2].tolist() == [[128, 128, 128], [255, 255, 255]]


def test_a_profile_is_applied(tmp_path: Path) -> None:
    flat = Image.new("RGB", (48, 32), (255, 0, 0))
    swapped = loaded(tmp_path, saved(flat, "PNG", icc_profile=wide_icc()))[0, 0]
    assert swapped.argmax() == 1  # its red is our green
    assert loaded(tmp_path, saved(flat, "PNG"))[0, 0].tolist() == [255, 0, 0]


def test_an_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    assert np.array_equal(loaded(tmp_path, png(icc_profile=icc())), RGB)


def test_opaque_alpha_is_no_alpha(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved(picture().convert("RGBA"), "PNG"))
    found = load(path)
    assert isinstance(found, Pixels)
    assert found.alpha is None
    assert np.array_equal(found.rgb, RGB)


def test_a_large_jpeg_is_decoded_no_larger_than_needed(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    path.write_bytes(saved(picture(1024, 640), "JPEG", quality=95, exif=exif))
    placement = place((640, 1024), sizes((64, 64), 32, 128, 16))
    whole, small = load(path), load(path, placement=placement)
    assert isinstance(whole, Pixels)
    assert isinstance(small, Pixels)
    assert whole.rgb.shape == (1024, 640, 3)
    assert small.rgb.shape[0] < 512
    assert np.abs(render(whole, placement) - render(small, placement)).mean() < 0.02


def test_rendering_scales_cuts_and_mirrors() -> None:
    pixels = Pixels(colors())
    placement = Placement(Bucket(16, 16), (48, 32), (5, 7))
    cut = render(pixels, placement)
    assert cut.shape == (3, 16, 16)
    assert cut.dtype == np.float32
    expected = RGB[7:23, 5:21].transpose(2, 0, 1) / 127.5 - 1
    assert np.allclose(cut, expected, atol=1e-6)
    assert np.allclose(render(pixels, placement, flip=True), expected[:, :, ::-1], atol=1e-6)


@pytest.mark.parametrize("scale", [0.2, 0.5, 0.9, 1.7])
def test_scaling_keeps_flat_and_smooth_pictures(scale: float) -> None:
    y, x = np.mgrid[0:200, 0:240]
    smooth = np.stack([x, y, (x + y) / 2], -1).astype(np.uint8)
    width, height = round(240 * scale), round(200 * scale)
    placed = render(Pixels(smooth), Placement(Bucket(width, height), (width, height), (0, 0)))
    y, x = (np.mgrid[0:height, 0:width] + 0.5) / scale - 0.5
    expected = np.stack([x, y, (x + y) / 2]) / 127.5 - 1
    inside = np.s_[:, 4:-4, 4:-4]
    assert np.abs(placed[inside] - expected[inside]).max() < 0.03


def test_colours_shift_little_and_by_their_seed_alone() -> None:
    pixels = Pixels(colors())
    placement = Placement(Bucket(48, 32), (48, 32), (0, 0))
    plain = render(pixels, placement)
    shifted = [render(pixels, placement, color=seed) for seed in range(12)]
    assert all(np.array_equal(one, render(pixels, placement, color=seed)) for seed, one in enumerate(shifted))
    change = [np.abs(one - plain).max() for one in shifted]
    assert min(change) > 0
    assert max(change) < 0.5
    grey = Pixels(np.full((32, 48, 3), 100, np.uint8))
    for seed in range(12):  # hue has no hold on grey
        kept = render(grey, placement, color=seed)
        assert np.allclose(kept[0], kept[1], atol=1e-5)
        assert -1 <= kept.min() <= kept.max() <= 1


def test_looking_needs_no_name(tmp_path: Path) -> None:
    path = tmp_path / "-rf 'x' %s [1]\n\u202e日本.jpg"
    path.write_bytes(jpeg())
    assert isinstance(look(path), Look)
