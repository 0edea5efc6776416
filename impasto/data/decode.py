"""A picture's bytes as an upright picture in sRGB, or the problem with them.

Limits come before decoding, so that no file can take much time or memory. Pillow is given only formats it decodes in
process; which one, the bytes say and not the name.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from impasto.data import sniff
from impasto.data.sniff import Kind, Size
from impasto.errors import Problem

MAX_BYTES = 300_000_000
MAX_PIXELS = 100_000_000
MAX_SCANS = 100
"""Passes of a progressive JPEG. Real ones have about ten; a thousand are a trap that decodes for minutes."""

MAX_SCANNED = 1_500_000_000
"""Pixels times passes."""

SHORTEST = 16
MOST_ELONGATED = 16

_FORMATS: dict[Kind, type[ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,  # by class, so that a phone's double JPEG is opened as the JPEG it begins as
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
}

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unusable(Exception):
    """Why a picture is left out. Never leaves `pixels`."""

    def __init__(self, code: str, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.code, self.what, self.fix = code, what, fix


@dataclass(frozen=True)
class Decoded:
    """A picture, upright and in sRGB."""

    kind: Kind
    size: Size
    """Upright, whole; `rgb` may be smaller if less was asked for."""

    rgb: Image.Image
    alpha: Image.Image | None
    """None if nothing is transparent."""

    notes: tuple[Problem, ...]


def decode(content: bytes, *, enough: Size | None = None) -> Decoded:
    """Decode all of a picture. A JPEG much larger than `enough` (upright) is scaled down by its decoder, which still
    reads every byte. Raises Unusable and whatever a decoder may raise."""
    kind = _kind(content)
    notes: list[Problem] = []
    with quiet():
        found = _checked(content, kind, notes)
        image = _FORMATS[kind](io.BytesIO(content if found is None else b"".join(found.parts)))
        _limits(image.size)
        stored = image.size
        turn = _orientation(image, notes) if kind == "jpeg" else None
        if kind == "jpeg" and enough is not None:
            image.draft(None, enough[::-1] if turn in _SIDEWAYS else enough)
        _load(image)
        if found is not None and not np.asarray(image.crop((0, stored[1] - 2, *stored))).any():
            _check_rows(found)
        if kind not in ("jpeg", "tiff"):  # a TIFF is turned by Pillow itself
            turn = _orientation(image, notes)
        if kind not in ("jpeg", "png") and getattr(image, "is_animated", False):
            notes.append(Problem("E-IMG-053", "has several pictures; the first is used"))
        rgb, alpha = _colors(image, kind, 8 if found is None else found.depth, notes)
    if turn is not None:
        rgb, alpha = rgb.transpose(turn), alpha and alpha.transpose(turn)
        stored = stored[::-1] if turn in _SIDEWAYS else stored
    return Decoded(kind, stored, rgb, _visible(alpha), tuple(notes))


@contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warnings: what they warn of is either checked here or does not matter. Filters belong to the
    whole process, so whoever decodes in threads should hold this around them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


# what is below serves the above

_SIDEWAYS = frozenset((_UPRIGHT[5], _UPRIGHT[6], _UPRIGHT[7], _UPRIGHT[8]))


def _kind(content: bytes) -> Kind:
    if not content:
        raise Unusable("E-IMG-001", "is an empty file", _AGAIN)
    if len(content) > MAX_BYTES:
        raise Unusable("E-IMG-015", f"has more than {MAX_BYTES:,} bytes", "save it smaller")
    found = sniff.kind(content[:4096])
    if isinstance(found, sniff.Other):
        raise Unusable(found.code, f"is {found.name}", _OTHERS[found.code])
    if found in ("avif", "webp") and not features.check(found):
        raise Unusable("E-IMG-020", f"is {found.upper()}, which this Pillow cannot read", "install Pillow's own wheel")
    return found


_AGAIN = "copy or download it again"

_OTHERS = {
    "E-IMG-004": "download the picture itself",
    "E-IMG-005": "remove it, or save it as PNG, JPEG or WebP",
    "E-IMG-010": "save it as PNG, JPEG or WebP",
    "E-IMG-020": "save it as PNG, JPEG or WebP; impasto brings no decoder for this kind",
    "E-IMG-021": "leave it out, or save a picture of it as PNG, JPEG or WebP",
}


def _checked(content: bytes, kind: Kind, notes: list[Problem]) -> sniff.Png | None:
    """Refuse what can be refused without decoding; of a PNG, what is known of it."""
    match kind:
        case "png":
            return _checked_png(content, notes)
        case "jpeg":
            _check_jpeg(content)
        case "webp":
            _limits(sniff.webp_size(content))
            if missing := sniff.webp_missing(content):
                raise Unusable("E-IMG-002", f"is cut off: {missing:,} bytes are missing", _AGAIN)
        case _:
            pass
    return None


def _checked_png(content: bytes, notes: list[Problem]) -> sniff.Png:
    header = sniff.png_header(content)
    if header is None:
        raise Unusable("E-IMG-003", "is damaged: its header is missing", _AGAIN)
    _limits(header.size)
    found = sniff.png(content, header)
    if found.fault:
        raise Unusable("E-IMG-003", found.fault, _AGAIN)
    if found.profile_dropped:
        notes.append(Problem("E-IMG-052", "its colour profile is broken or huge; it is used as sRGB"))
    if found.animated:
        notes.append(Problem("E-IMG-053", "is animated; the first picture is used"))
    return found


def _check_rows(found: sniff.Png) -> None:
    """Rows that are missing are black; so if the last ones are, count."""
    if sniff.png_lacks_rows(found):
        raise Unusable("E-IMG-003", "is damaged: it ends before its last row", _AGAIN)


def _check_jpeg(content: bytes) -> None:
    found = sniff.jpeg(content, most_scans=MAX_SCANS)
    if found.scans > MAX_SCANS:
        raise Unusable("E-IMG-014", f"would take too long: it has more than {MAX_SCANS} passes", "save it anew")
    if not found.ended:
        raise Unusable("E-IMG-002", f"is cut off{_rows_of(content)}", _AGAIN)
    width, height = JpegImagePlugin.JpegImageFile(io.BytesIO(content)).size
    if width * height <= MAX_PIXELS and width * height * found.scans > MAX_SCANNED:
        raise Unusable("E-IMG-014", f"would take too long: {found.scans} passes over {width}x{height}", "save it anew")


def _limits(size: Size) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        most = f"{MAX_PIXELS // 10**6} million"
        raise Unusable(
            "E-IMG-013", f"has too many pixels: {width}x{height}, where {most} are allowed", "make it smaller"
        )
    if min(size) < SHORTEST:
        raise Unusable(
            "E-IMG-012", f"is too small: {width}x{height}, where each side must have {SHORTEST} pixels", "leave it out"
        )
    if max(size) > MOST_ELONGATED * min(size):
        raise Unusable("E-IMG-012", f"is too narrow: {width}x{height}, where {MOST_ELONGATED}:1 is the limit", "cut it")


def _load(image: ImageFile.ImageFile) -> None:
    try:
        image.load()
    except OSError as error:
        if "truncated" not in str(error):
            raise
        raise Unusable("E-IMG-002", f"is cut off{_rows(image)}", _AGAIN) from error


def _rows_of(content: bytes) -> str:
    """Where a JPEG without an end mark breaks off."""
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(content))
    if image.size[0] * image.size[1] > MAX_PIXELS:
        return ""
    try:
        image.load()
    except OSError:
        return _rows(image)
    return ": its end mark is missing"


def _rows(image: Image.Image) -> str:
    """How far a decoder came: what it has not reached is black."""
    box = image.im.getbbox() if image._im is not None else None
    return f" after row {box[3]} of {image.size[1]}" if box and box[3] < image.size[1] else ""


def _orientation(image: Image.Image, notes: list[Problem]) -> Image.Transpose | None:
    """How to turn the picture upright. A broken EXIF block must not cost a good picture."""
    try:
        found = image.getexif()
        turn = found.get(ExifTags.Base.Orientation, 1)
        if image.info.get("exif") and not found:
            turn = None
    except Exception:  # an EXIF block is made by anyone, and its reader raises whatever it runs into
        turn = None
    if turn not in range(9):
        notes.append(Problem("E-IMG-051", "its EXIF orientation cannot be read; it is used as stored"))
        return None
    return _UPRIGHT.get(turn)


def _colors(image: Image.Image, kind: Kind, depth: int, notes: list[Problem]) -> tuple[Image.Image, Image.Image | None]:
    """RGB in sRGB, and what is transparent."""
    profile = image.info.get("icc_profile")
    image = _eight_bits(image, kind, depth)
    grey, alpha = image.mode in ("1", "L", "LA"), None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    if image.mode != "CMYK":
        image = _in_mode(image, "L" if grey else "RGB")
    if profile and (converted := _to_srgb(image, profile, notes)) is not None:
        image = converted
    return _in_mode(image, "RGB"), alpha


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Pillow would copy a picture that is in its mode already."""
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image, kind: Kind, depth: int) -> Image.Image:
    """Scale 16 bits to 8, where Pillow would clip."""
    key = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        if kind == "tiff" and _tiff_bits(image) != 16:
            raise Unusable("E-IMG-010", "has values of no known range", "save it with 8 or 16 bits")
        deep = np.asarray(image).astype(np.uint16)
        grey = Image.fromarray(((deep - (deep >> 8) + 128) >> 8).astype(np.uint8))
        if key is None:
            return grey
        return Image.merge("LA", (grey, Image.fromarray(np.where(deep == key, 0, 255).astype(np.uint8))))
    if image.mode in ("I", "F"):
        raise Unusable("E-IMG-010", "has values of no known range", "save it with 8 or 16 bits")
    if image.mode not in _MODES:
        raise Unusable("E-IMG-022", f"has colours of an unsupported kind ({image.mode})", "save it as RGB")
    if depth == 16 and isinstance(key, tuple):
        image.info["transparency"] = tuple(part >> 8 for part in key)  # as the decoder did to the colours
    return image


_MODES = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"))


def _tiff_bits(image: Image.Image) -> int:
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (16,))
    return int(bits[0])


def _to_srgb(image: Image.Image, profile: bytes, notes: list[Problem]) -> Image.Image | None:
    """Convert by a profile; None (and a note) if it is of no use, None if it is sRGB itself."""
    try:
        if len(profile) > 4 * sniff.MAX_PROFILE:
            raise ImageCms.PyCMSError("huge")
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        if space != _SPACES[image.mode]:
            raise ImageCms.PyCMSError("of another colour space")
        if "sRGB" in (source.profile.profile_description or ""):
            return None
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), intent, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append(Problem("E-IMG-052", "its colour profile is broken or huge; it is used as sRGB"))
        return None


_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}


def _visible(alpha: Image.Image | None) -> Image.Image | None:
    """What is transparent, if anything is."""
    if alpha is None:
        return None
    least, most = alpha.getextrema()
    if most == 0:
        raise Unusable("E-IMG-011", "shows nothing: all of it is transparent", "leave it out")
    return None if least == 255 else alpha
