"""Pictures for the browser: decoded, made smaller and encoded anew, so that no byte of a user's file gets there.

The thumbnails are kept in a folder, named by the file they are of, its size and its time: what changed is made anew.
"""

from __future__ import annotations

import hashlib
import io
import threading
from pathlib import Path

from fastapi.responses import Response
from PIL import Image

from impasto import files
from impasto.data import decode
from impasto.errors import DiskError
from impasto.web.problems import absent

QUALITY = 82
WIDTHS = (96, 160, 256, 384, 512, 768, 1024, 1536, 2048, 4096)
"""Widths that are made; what is asked for is rounded up, so that one picture has few thumbnails."""

_DECODING = threading.BoundedSemaphore(2)
"""Pictures of 100 million pixels take 300 MB each while they are decoded."""


def response(path: Path, width: int, cache: Path, *, known: str = "") -> Response:
    """A picture, at most `width` wide; nothing but a nod if the browser has it (`known`, its If-None-Match).

    Raises a 404 if it is none that can be shown.
    """
    status = path.stat()
    width = next((each for each in WIDTHS if each >= width), WIDTHS[-1])
    key = f"{path}\0{status.st_ino}\0{status.st_mtime_ns}\0{status.st_size}\0{width}"
    name = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    headers = {"Cache-Control": "private, no-cache", "ETag": f'"{name}"'}
    if known == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    kept = cache / "thumbnails" / name[:2] / f"{name}.webp"
    try:
        content = kept.read_bytes()
    except OSError:
        content = thumbnail(path, width)
        _keep(kept, content)
    return Response(content, media_type="image/webp", headers=headers)


def thumbnail(path: Path, width: int) -> bytes:
    """The picture as WebP, upright and in sRGB, without anything else of the file."""
    if path.stat().st_size > decode.MAX_BYTES:
        raise absent(path.name)
    try:
        with _DECODING:
            found = decode.decode(path.read_bytes(), enough=(width, width))
            image, alpha = found.rgb, found.alpha
            if alpha is not None:
                image = image.copy()
                image.putalpha(alpha)
            if image.width > width:
                image = image.resize(
                    (width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS
                )
            told = io.BytesIO()
            image.save(told, "WEBP", quality=QUALITY, method=2)
    except Exception as error:  # a decoder may raise anything on a broken picture
        raise absent(path.name) from error
    return told.getvalue()


def _keep(path: Path, content: bytes) -> None:
    try:
        files.make_folder(path.parent)
        files.write(path, content, durable=False)
    except (OSError, DiskError):  # a full disk: it is made again the next time
        pass
