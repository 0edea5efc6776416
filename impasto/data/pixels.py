"""From a picture file to the numbers of a bucket.

    look(path)                 is it usable, and how large is it upright?
    load(path)                 its pixels, upright, in sRGB, on a background
    render(pixels, placement)  scaled, cut, mirrored: [3, H, W] in -1..1

A file can hold anything. Whatever it holds, these give a result or a `Problem`, and never raise.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from impasto.data import traces
from impasto.data.buckets import Placement, Size
from impasto.data.decode import MAX_BYTES, Decoded, Unusable, decode
from impasto.data.findings import shown
from impasto.data.reading import read
from impasto.data.sniff import Kind
from impasto.errors import Problem

Bytes: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]
Background = Literal["white", "black", "grey"]

_BEHIND: dict[Background, int] = {"white": 255, "black": 0, "grey": 128}

HUE = 16.0
"""Degrees that hue may shift to either side."""

GAMMA = 0.05
"""How far the exponent of brightness may be from 1. Taken of values in 0..1, where it is a small change."""


@dataclass(frozen=True)
class Look:
    """What a picture is, known by decoding all of it once."""

    kind: Kind
    size: Size
    """Upright."""

    notes: tuple[Problem, ...] = ()

    trace: str = ""
    """What it looks like from far away (`impasto.data.traces`): equal or nearly so for pictures that look the same."""


@dataclass(frozen=True)
class Pixels:
    """A picture in memory."""

    rgb: Bytes
    """[H, W, 3]"""

    alpha: Bytes | None = None
    """[H, W], 255 where the picture covers its background; None if it does everywhere."""


def look(path: Path) -> Look | Problem:
    """Decode a picture for nothing but to know that it can be."""
    content = read(path, limit=MAX_BYTES)
    return content if isinstance(content, Problem) else examine(content, path)


def examine(content: bytes, path: Path) -> Look | Problem:
    """As `look`, for bytes at hand; the path is for the report."""
    decoded = _decoded(content, path, enough=(1, 1))
    if isinstance(decoded, Problem):
        return decoded
    if decoded.kind == "tiff" and path.suffix.lower() in _RAW:
        return Problem("E-IMG-021", "is a camera's raw file", shown(path), "save it as PNG, JPEG or WebP")
    notes = [replace(each, where=shown(path)) for each in decoded.notes]
    if decoded.alpha is not None:
        notes.append(Problem("E-IMG-054", "is partly transparent; data.alpha says what stands behind it", shown(path)))
    if not _named_as(decoded.kind, path):
        notes.append(Problem("E-IMG-050", f"is {_A[decoded.kind]}, whatever its name says", shown(path)))
    return Look(decoded.kind, decoded.size, tuple(notes), traces.of(decoded.rgb))


def load(
    path: Path, *, background: Background = "white", placement: Placement | None = None, id: str | None = None
) -> Pixels | Problem:
    """The pixels of a picture. With a placement, a much larger JPEG is decoded no larger than that needs; with an id,
    a file whose bytes are others by now is a problem."""
    content = read(path, limit=MAX_BYTES)
    if isinstance(content, Problem):
        return content
    if id is not None and hashlib.sha256(content).hexdigest() != id:
        return Problem("E-IMG-035", "has changed since the run began", shown(path), "start the run again")
    enough = None if placement is None else (2 * placement.resized[0], 2 * placement.resized[1])
    decoded = _decoded(content, path, enough=enough)
    return decoded if isinstance(decoded, Problem) else _on(decoded, background)


def render(pixels: Pixels, placement: Placement, *, flip: bool = False, color: int | None = None) -> Floats:
    """A picture as its bucket holds it: [3, H, W] in -1..1. `color` seeds a small shift of hue or brightness."""
    picture = Image.fromarray(pixels.rgb)
    if picture.size != placement.resized:
        # Lanczos, widened by the scale when shrinking; boxes first where far more is thrown away than it could see
        picture = picture.resize(placement.resized, Image.Resampling.LANCZOS, reducing_gap=3.0)
    left, top = placement.crop
    width, height = placement.bucket.width, placement.bucket.height
    cut = np.asarray(picture)[top : top + height, left : left + width].astype(np.float32) / np.float32(255)
    if color is not None:
        cut = _recolored(cut, Random(color))
    if flip:
        cut = cut[:, ::-1]
    return np.ascontiguousarray(cut.transpose(2, 0, 1) * 2 - 1)


def render_mask(mask: Bytes, placement: Placement, *, flip: bool = False) -> Floats:
    """A mask [H, W] as its picture's bucket holds it: scaled, cut and mirrored like the picture, [H, W] in 0..1."""
    picture = Image.fromarray(mask)
    if picture.size != placement.resized:
        picture = picture.resize(placement.resized, Image.Resampling.BILINEAR)
    left, top = placement.crop
    cut = np.asarray(picture)[top : top + placement.bucket.height, left : left + placement.bucket.width]
    return np.ascontiguousarray(cut[:, ::-1] if flip else cut).astype(np.float32) / np.float32(255)


def grey(pixels: Pixels) -> Bytes:
    """A picture's brightness: [H, W]"""
    return np.asarray(Image.fromarray(pixels.rgb).convert("L"))


# what is below serves the above


def _decoded(content: bytes, path: Path, *, enough: Size | None) -> Decoded | Problem:
    try:
        return decode(content, enough=enough)
    except Unusable as error:
        return Problem(error.code, error.what, shown(path), error.fix)
    except MemoryError:
        return Problem("E-IMG-013", "needs more memory than there is", shown(path), "make it smaller")
    except Exception as error:  # decoders raise a dozen kinds on damaged files, not all of them documented
        what = f"is damaged ({shown(str(error))[:120] or type(error).__name__})"
        return Problem("E-IMG-003", what, shown(path), "copy or download it again")


def _on(decoded: Decoded, background: Background) -> Pixels:
    if decoded.alpha is None:
        return Pixels(np.asarray(decoded.rgb))
    shade = _BEHIND[background]
    behind = Image.new("RGB", decoded.rgb.size, (shade, shade, shade))
    behind.paste(decoded.rgb, mask=decoded.alpha)
    return Pixels(np.asarray(behind), np.asarray(decoded.alpha))


def _recolored(picture: Floats, rng: Random) -> Floats:
    """Hue turned about the grey axis, or brightness bent: [H, W, 3] in 0..1."""
    if rng.random() < 0.5:
        return picture ** np.float32(rng.uniform(1 - GAMMA, 1 + GAMMA))
    angle = np.radians(rng.uniform(-HUE, HUE))
    # Rodrigues' rotation about (1, 1, 1) / sqrt(3)
    same, cross = (1 - np.cos(angle)) / 3, np.sin(angle) / np.sqrt(3)
    turn = np.full((3, 3), same) + np.eye(3) * np.cos(angle) + np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) * cross
    turned: Floats = picture @ turn.T.astype(np.float32)
    return np.clip(turned, 0, 1)


_RAW = frozenset((".dng", ".nef", ".nrw", ".arw", ".cr2", ".orf", ".rw2", ".pef", ".srw"))
"""Cameras put their raw files in TIFF's clothes; inside is a thumbnail."""

_A: dict[Kind, str] = {
    "jpeg": "a JPEG",
    "png": "a PNG",
    "webp": "a WebP",
    "gif": "a GIF",
    "bmp": "a BMP",
    "tiff": "a TIFF",
    "avif": "an AVIF",
}

_ENDINGS: dict[Kind, tuple[str, ...]] = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "png": (".png", ".apng"),
    "webp": (".webp",),
    "gif": (".gif",),
    "bmp": (".bmp", ".dib"),
    "tiff": (".tif", ".tiff"),
    "avif": (".avif",),
}


def _named_as(kind: Kind, path: Path) -> bool:
    return path.suffix.lower().strip() in _ENDINGS[kind]
