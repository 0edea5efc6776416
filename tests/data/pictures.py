"""Pictures for tests, made of numbers: good ones, and every way for one to be bad."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

WIDTH, HEIGHT = 48, 32


def colors(width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> np.ndarray:
    """A smooth picture with noise on it: [H, W, 3]."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    smooth = np.stack([x / width, y / height, (x + y) / (width + height)], -1) * 220
    return (smooth + np.random.default_rng(seed).integers(0, 30, smooth.shape)).astype(np.uint8)


def picture(width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> Image.Image:
    return Image.fromarray(colors(width, height, seed))


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def jpeg(**options: Any) -> bytes:
    return saved(picture(), "JPEG", **{"quality": 95, **options})


def png(**options: Any) -> bytes:
    return saved(picture(), "PNG", **options)


def chunk(name: bytes, content: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def raw_png(width: int, height: int, depth: int, kind: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG of these filtered rows, with other chunks before its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_png(values: np.ndarray, *extra: bytes) -> bytes:
    """16-bit values [H, W] or [H, W, C] as PNG."""
    height, width = values.shape[:2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return raw_png(width, height, 16, kind, rows, *extra)


def with_chunk(content: bytes, added: bytes) -> bytes:
    """A PNG with one more chunk after its header."""
    return content[:33] + added + content[33:]


def icc(kind: str = "sRGB") -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes()  # type: ignore[arg-type]


def wide_icc() -> bytes:
    """A profile whose primaries are swapped (red is sRGB's green ...), so that a conversion cannot be missed."""
    whole = bytearray(icc())
    count = struct.unpack_from(">I", whole, 128)[0]
    table = {bytes(whole[132 + 12 * n : 136 + 12 * n]): 132 + 12 * n for n in range(count)}
    offsets = {tag: struct.unpack_from(">II", whole, table[tag] + 4) for tag in (b"rXYZ", b"gXYZ", b"bXYZ")}
    for tag, other in ((b"rXYZ", b"gXYZ"), (b"gXYZ", b"bXYZ"), (b"bXYZ", b"rXYZ")):
        struct.pack_into(">II", whole, table[tag] + 4, *offsets[other])
    return bytes(whole).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be")).replace(b"sRGB", b"swap")


def tree(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Every name below a folder with size, time and content: what a read-only promise is measured by."""
    found = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[os.fsencode(path.relative_to(folder)).decode("latin-1")] = (state.st_size, state.st_mtime_ns, content)
    return found


def many_scans(scans: int) -> bytes:
    """A progressive JPEG whose last pass is there over and over again."""
    content = saved(picture(), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * scans + b"\xff\xd9"


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises a lot."""
    return raw_png(width, height, 8, 2, b"\0" * 1000)


Make = Callable[[], bytes]
