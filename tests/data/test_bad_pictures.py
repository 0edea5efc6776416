"""Every kind of picture that can lie in a folder: used, used with a note, or skipped with its reason. Never a crash."""

from __future__ import annotations

import os
import socket
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from impasto.data.pixels import Look, Pixels, load, look
from impasto.errors import Problem
from tests.data.pictures import (
    Make,
    bomb,
    chunk,
    colors,
    deep_png,
    jpeg,
    many_scans,
    picture,
    png,
    raw_png,
    saved,
    tree,
    wide_icc,
    with_chunk,
)

USE = ""
SHORT = b"\0" * 16

CASES: dict[str, tuple[str, str, Make]] = {
    # name of the case: (name of the file, the code of the skip or the note, the file)
    "an empty file": ("a.png", "skip E-IMG-001", lambda: b""),
    "a JPEG cut in the middle": ("a.jpg", "skip E-IMG-002", lambda: jpeg()[: len(jpeg()) // 2]),
    "a JPEG without its last 20 bytes": ("a.jpg", "skip E-IMG-002", lambda: jpeg()[:-20]),
    "a JPEG without its end mark": ("a.jpg", "skip E-IMG-002", lambda: jpeg()[:-2]),
    "a progressive JPEG cut": ("a.jpg", "skip E-IMG-002", lambda: jpeg(progressive=True)[:-200]),
    "a JPEG header alone": ("a.jpg", "skip E-IMG-003", lambda: jpeg()[:100] + b"\xff\xd9"),
    "a JPEG of noise": ("a.jpg", "skip E-IMG-003", lambda: b"\xff\xd8\xff\xe0" + bytes(range(200)) * 9 + b"\xff\xd9"),
    "a PNG cut": ("a.png", "skip E-IMG-003", lambda: png()[:-700]),
    "a PNG without its end": ("a.png", "skip E-IMG-003", lambda: png()[:-12]),
    "a PNG with a wrong check sum": ("a.png", "skip E-IMG-003", lambda: _flipped(png(), -20)),
    "a PNG whose pixels do not unpack": ("a.png", "skip E-IMG-003", lambda: _png_of(b"no zlib stream")),
    "a PNG with too few rows": ("a.png", "skip E-IMG-003", lambda: raw_png(48, 32, 8, 2, b"\0" * 145 * 9)),
    "a PNG without pixels": ("a.png", "skip E-IMG-003", lambda: png()[:33] + chunk(b"IEND", b"")),
    "a PNG without a header": ("a.png", "skip E-IMG-003", lambda: png()[:8] + chunk(b"IEND", b"") + SHORT),
    "a PNG with an impossible depth": ("a.png", "skip E-IMG-003", lambda: raw_png(48, 32, 7, 2, b"\0" * 4640)),
    "a WebP cut": ("a.webp", "skip E-IMG-002", lambda: saved(picture(), "WEBP")[:-40]),
    "a GIF cut": ("a.gif", "skip E-IMG-002", lambda: saved(picture(), "GIF")[:-300]),
    "a BMP cut": ("a.bmp", "skip E-IMG-002", lambda: saved(picture(), "BMP")[:-300]),
    "a TIFF cut": ("a.tif", "skip E-IMG-00", lambda: saved(picture(), "TIFF", compression="tiff_lzw")[:-300]),
    "an AVIF cut": ("a.avif", "skip E-IMG-003", lambda: saved(picture(), "AVIF")[:-60]),
    "a web page": ("a.jpg", "skip E-IMG-004", lambda: b"<!DOCTYPE html><html><body>404</body></html>" * 9),
    "a JSON answer": ("a.jpg", "skip E-IMG-004", lambda: b'{"error": "rate limit"}' * 9),
    "a plain text": ("a.png", "skip E-IMG-004", lambda: "nicht gefunden, tut mir leid: ä".encode() * 300),
    "bytes of nothing": ("a.png", "skip E-IMG-005", lambda: bytes(range(256)) * 40),
    "an EXR": ("a.exr", "skip E-IMG-010", lambda: b"\x76\x2f\x31\x01" + SHORT),
    "a Radiance picture": ("a.hdr", "skip E-IMG-010", lambda: b"#?RADIANCE\n" + SHORT),
    "a float TIFF": ("a.tif", "skip E-IMG-010", lambda: saved(Image.new("F", (48, 32), 0.5), "TIFF")),
    "a 32-bit TIFF": ("a.tif", "skip E-IMG-010", lambda: saved(Image.new("I", (48, 32), 70_000), "TIFF")),
    "all transparent": ("a.png", "skip E-IMG-011", lambda: saved(Image.new("RGBA", (48, 32), (9, 9, 9, 0)), "PNG")),
    "one pixel": ("a.png", "skip E-IMG-012", lambda: saved(Image.new("RGB", (1, 1)), "PNG")),
    "a line of 10000": ("a.png", "skip E-IMG-012", lambda: saved(Image.new("RGB", (10_000, 1)), "PNG")),
    "31x5000": ("a.png", "skip E-IMG-012", lambda: saved(Image.new("RGB", (31, 5000)), "PNG")),
    "144 million pixels in 140 KB": ("a.png", "skip E-IMG-013", lambda: _large_bomb()),
    "a PNG that claims 60000x60000": ("a.png", "skip E-IMG-013", lambda: bomb(60_000, 60_000)),
    "a WebP that claims 16000x16000": ("a.webp", "skip E-IMG-013", lambda: _webp_bomb()),
    "a GIF that claims 60000x60000": ("a.gif", "skip E-IMG-013", lambda: _gif_bomb()),
    "a BMP that claims 60000x60000": ("a.bmp", "skip E-IMG-013", lambda: _bmp_bomb()),
    "a JPEG that claims 60000x60000": ("a.jpg", "skip E-IMG-013", lambda: _jpeg_bomb()),
    "a JPEG of a thousand passes": ("a.jpg", "skip E-IMG-014", lambda: many_scans(1000)),
    "a HEIC": ("a.heic", "skip E-IMG-020", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + SHORT),
    "a JPEG XL": ("a.jxl", "skip E-IMG-020", lambda: b"\xff\x0a" + SHORT),
    "a JPEG XL in a box": ("a.jxl", "skip E-IMG-020", lambda: b"\0\0\0\x0cJXL \r\n\x87\n" + SHORT),
    "an SVG": ("a.svg", "skip E-IMG-021", lambda: b'<?xml version="1.0"?><svg width="9"></svg>'),
    "a PDF": ("a.pdf", "skip E-IMG-021", lambda: b"%PDF-1.7\n" + SHORT),
    "an EPS": ("a.eps", "skip E-IMG-021", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n" + SHORT),
    "a Photoshop file": ("a.psd", "skip E-IMG-021", lambda: b"8BPS\0\x01" + SHORT),
    "an icon": ("a.ico", "skip E-IMG-021", lambda: saved(picture(), "ICO")),
    "a video": ("a.mp4", "skip E-IMG-021", lambda: b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + SHORT),
    "a camera's raw file": ("a.nef", "skip E-IMG-021", lambda: saved(picture(), "TIFF")),
    "CIELAB": ("a.tif", "skip E-IMG-022", lambda: saved(Image.new("LAB", (48, 32)), "TIFF")),
    "a JPEG": ("a.jpg", USE, jpeg),
    "a name in capitals": ("a.JPEG", USE, jpeg),
    "a space after the ending": ("a.jpeg ", USE, jpeg),
    "a JPEG with rubbish after its end": ("a.jpg", USE, lambda: jpeg() + b"\0" * 500),
    "a phone's double JPEG": ("a.jpg", USE, lambda: saved(picture(), "MPO", save_all=True, append_images=[picture()])),
    "a PNG": ("a.png", USE, png),
    "a palette": ("a.png", USE, lambda: saved(picture().quantize(16), "PNG")),
    "a black PNG": ("a.png", USE, lambda: saved(Image.new("RGB", (48, 32)), "PNG")),
    "one bit": ("a.png", USE, lambda: saved(picture().convert("1"), "PNG")),
    "a WebP": ("a.webp", USE, lambda: saved(picture(), "WEBP")),
    "an AVIF": ("a.avif", USE, lambda: saved(picture(), "AVIF")),
    "a BMP": ("a.bmp", USE, lambda: saved(picture(), "BMP")),
    "a TIFF": ("a.tiff", USE, lambda: saved(picture(), "TIFF", compression="tiff_lzw")),
    "16 bits of grey": ("a.png", USE, lambda: deep_png(np.full((32, 48), 40_000))),
    "texts that unpack to 80 MB": ("a.png", USE, lambda: _text_bomb()),
    "a JPEG named PNG": ("a.png", "note E-IMG-050", jpeg),
    "a PNG named JPEG": ("a.jpg", "note E-IMG-050", png),
    "a WebP named JPEG": ("a.jpg", "note E-IMG-050", lambda: saved(picture(), "WEBP")),
    "EXIF orientation 9": ("a.jpg", "note E-IMG-051", lambda: jpeg(exif=_exif(9))),
    "EXIF orientation 65535": ("a.png", "note E-IMG-051", lambda: png(exif=_exif(65_535))),
    "an EXIF block of rubbish": ("a.jpg", "note E-IMG-051", lambda: jpeg(exif=b"Exif\0\0rubbish" + SHORT)),
    "a broken profile": ("a.png", "note E-IMG-052", lambda: png(icc_profile=b"rubbish" * 30)),
    "a profile of 80 MB": ("a.png", "note E-IMG-052", lambda: with_chunk(png(), chunk(b"iCCP", _packed(80 << 20)))),
    "a JPEG with a profile of 5 MB": ("a.jpg", "note E-IMG-052", lambda: jpeg(icc_profile=wide_icc() * 10_000)),
    "a grey profile in a colour picture": ("a.jpg", "note E-IMG-052", lambda: jpeg(icc_profile=_grey_icc())),
    "an animated GIF": ("a.gif", "note E-IMG-053", lambda: _animated("GIF")),
    "an animated PNG": ("a.png", "note E-IMG-053", lambda: _animated("PNG")),
    "an animated WebP": ("a.webp", "note E-IMG-053", lambda: _animated("WEBP")),
    "a TIFF of two pages": ("a.tif", "note E-IMG-053", lambda: _animated("TIFF")),
    "half transparent": ("a.png", "note E-IMG-054", lambda: saved(_half_transparent(), "PNG")),
}


@pytest.mark.parametrize(("name", "outcome", "make"), CASES.values(), ids=CASES.keys())
def test_each_kind_of_picture_is_used_or_left_out_for_its_reason(
    name: str, outcome: str, make: Make, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(make())
    before, began = tree(tmp_path), time.monotonic()
    found, loaded = look(path), load(path)
    assert time.monotonic() - began < 2
    assert tree(tmp_path) == before
    if outcome.startswith("skip"):
        assert isinstance(found, Problem), found
        assert f"skip {found.code}".startswith(outcome), found
        assert found.what
        assert str(path) in str(found).replace("\\\\", "\\")
        if outcome != "skip E-IMG-021" or name != "a.nef":
            assert isinstance(loaded, Problem)
    else:
        assert isinstance(found, Look), found
        assert [f"note {each.code}" for each in found.notes] == ([outcome] if outcome else [])
        assert isinstance(loaded, Pixels), loaded
        assert loaded.rgb.shape == (found.size[1], found.size[0], 3)


def test_a_cut_picture_says_how_far_it_goes(tmp_path: Path) -> None:
    whole = saved(picture(64, 640), "JPEG", quality=95)
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    assert "is cut off after row 3" in str(look(tmp_path / "a.jpg"))
    (tmp_path / "b.jpg").write_bytes(whole[:-2])
    assert "is cut off" in str(look(tmp_path / "b.jpg"))


def test_a_bomb_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_large_bomb())
    began = time.monotonic()
    assert isinstance(look(tmp_path / "a.png"), Problem)
    assert time.monotonic() - began < 0.1


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / "s.png"))
        for name in ("pipe.png", "folder.png", "s.png"):
            found = look(tmp_path / name)
            assert isinstance(found, Problem)
            assert found.code == "E-IMG-031"
    assert isinstance(device := look(Path("/dev/zero")), Problem)
    assert device.code == "E-IMG-031"


def test_links_are_followed_and_dead_ones_told(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(png())
    (tmp_path / "good.png").symlink_to("real.png")
    (tmp_path / "dead.png").symlink_to("nowhere.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert isinstance(look(tmp_path / "good.png"), Look)
    for name in ("dead.png", "loop.png", "never.png"):
        found = look(tmp_path / name)
        assert isinstance(found, Problem)
        assert found.code == "E-IMG-033"


def test_a_file_without_rights_is_told_with_its_rights(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    path = tmp_path / "a.png"
    path.write_bytes(png())
    path.chmod(0)
    found = look(path)
    assert isinstance(found, Problem)
    assert found.code == "E-IMG-030"
    assert "----------" in found.fix


def test_a_path_that_is_too_long_is_told(tmp_path: Path) -> None:
    found = look(tmp_path / ("x" * 300 + ".png"))
    assert isinstance(found, Problem)
    assert found.code == "E-IMG-034"


def test_a_picture_that_changed_under_way_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    found = load(path, id="0" * 64)
    assert isinstance(found, Problem)
    assert found.code == "E-IMG-035"


def test_one_flipped_byte_never_raises(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
        whole = saved(picture(24, 20), format)
        for _ in range(30):
            broken = bytearray(whole)
            for at in rng.integers(0, len(whole), 3):
                broken[at] = rng.integers(256)
            path = tmp_path / "a"
            path.write_bytes(bytes(broken))
            assert isinstance(look(path), Look | Problem)
            assert isinstance(load(path), Pixels | Problem)


def _flipped(content: bytes, at: int) -> bytes:
    broken = bytearray(content)
    broken[at] ^= 1
    return bytes(broken)


def _png_of(pixels: bytes) -> bytes:
    return png()[:33] + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _packed(size: int) -> bytes:
    return b"name\0\0" + zlib.compress(b"\0" * size, 9)


def _text_bomb() -> bytes:
    return with_chunk(png(), chunk(b"zTXt", _packed(80 << 20)))


def _large_bomb() -> bytes:
    return raw_png(12_000, 12_000, 1, 0, b"\0" * 1501 * 12_000)


def _webp_bomb() -> bytes:
    whole = saved(picture(), "WEBP", lossless=True)
    bits = 15_999 | 15_999 << 14
    return whole[:21] + bits.to_bytes(4, "little") + whole[25:]


def _gif_bomb() -> bytes:
    whole = saved(picture(), "GIF")
    return whole[:6] + struct.pack("<HH", 60_000, 60_000) + whole[10:]


def _bmp_bomb() -> bytes:
    whole = saved(picture(), "BMP")
    return whole[:18] + struct.pack("<ii", 60_000, 60_000) + whole[26:]


def _jpeg_bomb() -> bytes:
    whole = jpeg()
    at = whole.index(b"\xff\xc0") + 5
    return whole[:at] + struct.pack(">HH", 60_000, 60_000) + whole[at + 4 :]


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _grey_icc() -> bytes:
    return wide_icc().replace(b"RGB ", b"GRAY", 1)


def _animated(format: str) -> bytes:
    return saved(picture(), format, save_all=True, append_images=[picture(seed=1), picture(seed=2)])


def _half_transparent() -> Image.Image:
    image = Image.fromarray(colors()).convert("RGBA")
    ImageDraw.Draw(image).rectangle((0, 0, 20, 31), fill=(0, 0, 0, 0))
    return image
