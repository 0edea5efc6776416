"""What a file is, by its first bytes: nothing here decodes, and a name is never believed.

What these checks need is in the first hundred bytes, but for JPEG and PNG, whose parts are walked from end to end: that
is how a file that was cut off, damaged, or made to take for ever is known before a decoder sees it.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"]
"""What can be trained on."""

Size = tuple[int, int]

MAX_PROFILE = 1 << 20
"""Bytes of a colour profile inside a PNG; larger ones are left out. Real ones have a few thousand."""

MAX_CHUNKS = 200_000
"""Parts of a PNG. A picture written in the smallest usual parts has about twelve thousand."""


@dataclass(frozen=True)
class Other:
    """Anything else, named so that its owner knows what he has."""

    code: str
    name: str


def kind(head: bytes) -> Kind | Other:
    """What begins like this."""
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    if head[:4] == b"RIFF":
        return "webp" if head[8:12] == b"WEBP" else Other("E-IMG-021", "a sound or video file")
    if head[4:8] == b"ftyp":
        return _boxed(head)
    return _text(head)


def webp_size(head: bytes) -> Size:
    """Width and height of a WebP; asking the decoder would already make room for all its pixels."""
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", head.ljust(30, b"\0"), 26)
    return width & 0x3FFF, height & 0x3FFF


def webp_missing(content: bytes) -> int:
    """Bytes that a WebP says it has and has not."""
    return max(0, int.from_bytes(content[4:8], "little") + 8 - len(content))


@dataclass(frozen=True)
class Jpeg:
    """What walking a JPEG's segments shows."""

    scans: int
    ended: bool
    """Whether its end mark is there."""


def jpeg(content: bytes, *, most_scans: int) -> Jpeg:
    """Walk a JPEG from segment to segment, up to so many scans."""
    at, scans = 2, 0
    while scans <= most_scans and (mark := _MARK.search(content, at)):
        at = mark.end()
        code = content[at - 1]
        if code == 0xD9:
            return Jpeg(scans, ended=True)
        at += int.from_bytes(content[at : at + 2], "big")
        scans += code == 0xDA
    return Jpeg(scans, ended=False)


@dataclass(frozen=True)
class Png:
    """What walking a PNG's chunks shows."""

    size: Size
    depth: int
    channels: int
    interlaced: bool
    animated: bool = False
    profile_dropped: bool = False
    fault: str = ""
    """Why it cannot be used, if so."""

    parts: tuple[memoryview, ...] = field(default=(), repr=False)
    """The chunks that make the picture. Texts, which can unpack to gigabytes, and animation are left out."""


def png_header(head: bytes) -> Png | None:
    """Size and depth of a PNG, if it begins like one."""
    if head[12:16] != b"IHDR" or len(head) < 29:
        return None
    width, height, depth, color, _, _, interlaced = struct.unpack_from(">IIBBBBB", head, 16)
    return Png((width, height), depth, {2: 3, 4: 2, 6: 4}.get(color, 1), bool(interlaced))


def png(content: bytes, header: Png) -> Png:
    """Walk a PNG from chunk to chunk, checking each sum."""
    view, at = memoryview(content), 8
    parts, names, dropped = [view[:8]], set[bytes](), False
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(content):
            return replace(header, fault="is cut off: its end is missing")
        name, end = content[at + 4 : at + 8], at + 12 + int.from_bytes(content[at : at + 4], "big")
        if end > len(content):
            return replace(header, fault=f"is cut off: {end - len(content):,} bytes or more are missing")
        again = name in names and name != b"IDAT"
        match "not needed" if again else _chunk(name, view[at:end]):
            case "part":
                parts.append(view[at:end])
            case "profile too large":
                dropped = True
            case "damaged":
                where = f"{name.decode('ascii', 'replace')} at byte {at:,}"
                return replace(header, fault=f"is damaged: the check sum of its {where} is wrong")
            case "not needed":
                pass
        names.add(name)
        if name == b"IEND":
            fault = "" if b"IDAT" in names else "is damaged: it has no pixels"
            animated = b"acTL" in names
            return replace(header, fault=fault, parts=tuple(parts), animated=animated, profile_dropped=dropped)
        at = end
    return replace(header, fault=f"is damaged: it has more than {MAX_CHUNKS:,} parts")


def png_lacks_rows(found: Png) -> bool:
    """Whether a PNG's pixels end too early in good order, which its decoder takes for black."""
    left = _png_bytes(found)
    unpack = zlib.decompressobj()
    for part in found.parts:
        packed = bytes(part[8:-4]) if bytes(part[4:8]) == b"IDAT" else b""
        while packed and left > 0:
            left -= len(unpack.decompress(packed, 1 << 20))
            packed = unpack.unconsumed_tail
    return left > 0


# what is below serves the above

_MARK = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""A JPEG mark that something belongs to: not filling, not a restart mark, not the start."""

_PNG_PARTS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"iCCP", b"eXIf"))

_MAGIC: tuple[tuple[bytes, Kind | Other], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\0\x10\0\0\0CR", Other("E-IMG-021", "a camera's raw file")),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\0\0\0\x0cJXL ", Other("E-IMG-020", "a JPEG XL picture")),
    (b"\xff\x0a", Other("E-IMG-020", "a JPEG XL picture")),
    (b"\x76\x2f\x31\x01", Other("E-IMG-010", "an OpenEXR picture, whose values have no known range")),
    (b"#?RADIANCE", Other("E-IMG-010", "a Radiance HDR picture, whose values have no known range")),
    (b"\0\0\0\x0cjP  ", Other("E-IMG-021", "a JPEG 2000 picture")),
    (b"8BPS", Other("E-IMG-021", "a Photoshop file")),
    (b"%PDF", Other("E-IMG-021", "a PDF")),
    (b"%!PS", Other("E-IMG-021", "a PostScript file")),
    (b"\xc5\xd0\xd3\xc6", Other("E-IMG-021", "a PostScript file")),
    (b"\0\0\x01\0", Other("E-IMG-021", "an icon")),
    (b"FUJIFILM", Other("E-IMG-021", "a camera's raw file")),
    (b"\x1a\x45\xdf\xa3", Other("E-IMG-021", "a video")),
    (b"\0\0\x01\xba", Other("E-IMG-021", "a video")),
    (b"FLV\x01", Other("E-IMG-021", "a video")),
    (b"OggS", Other("E-IMG-021", "a sound or video file")),
    (b"PK\x03\x04", Other("E-IMG-021", "a ZIP archive")),
)


_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Where each pass of an interlaced PNG begins, and in which steps it goes: x, y, x, y."""


def _png_bytes(found: Png) -> int:
    """Unpacked bytes of a PNG's rows; each row has one more, for its filter."""
    width, height = found.size
    total = 0
    for x, y, across, down in _PASSES if found.interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // across), -(-(height - y) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * found.channels * found.depth // 8))
    return total


def _chunk(name: bytes, chunk: memoryview) -> Literal["part", "not needed", "profile too large", "damaged"]:
    """What to do with a chunk of a PNG."""
    if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
        return "not needed" if name[:1].islower() else "damaged"
    if name == b"iCCP" and _unpacks_beyond(bytes(chunk[8:-4]), MAX_PROFILE):
        return "profile too large"
    return "part" if name in _PNG_PARTS else "not needed"


def _boxed(head: bytes) -> Kind | Other:
    """AVIF, HEIC, videos and Canon's raw files are boxes with a brand."""
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, length - 3, 4))}
    if brands & {b"avif", b"avis"}:
        return "avif"
    if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
        return Other("E-IMG-020", "a HEIC picture")
    return Other("E-IMG-021", "a camera's raw file" if b"crx " in brands else "a video")


def _text(head: bytes) -> Other:
    try:
        text = head.decode("utf-8-sig", "strict" if len(head) < 64 else "ignore").lstrip()
    except UnicodeDecodeError:
        return Other("E-IMG-005", "no picture of a known kind")
    if not text or sum(not (c.isprintable() or c.isspace()) for c in text) or len(text) * 2 < len(head):
        return Other("E-IMG-005", "no picture of a known kind")
    if "<svg" in text:
        return Other("E-IMG-021", "an SVG drawing")
    if text.startswith("<"):
        return Other("E-IMG-004", "a web page, not a picture")
    if text.startswith(("{", "[")):
        return Other("E-IMG-004", "a JSON text, not a picture")
    return Other("E-IMG-004", "a text, not a picture")


def _unpacks_beyond(chunk: bytes, limit: int) -> bool:
    """Whether the compressed part after a name and a zero unpacks to more than `limit`, or not at all."""
    try:
        packed = chunk[chunk.index(b"\0") + 2 :]
        return len(zlib.decompressobj().decompress(packed, limit + 1)) > limit
    except (ValueError, zlib.error):
        return True
