"""What a file is by its first bytes, whatever its name says."""

from __future__ import annotations

from typing import NamedTuple

ENOUGH = 512
"""First bytes that suffice to tell."""

UNPICKLE = (
    "get the same model as .safetensors, or convert it with `impasto weights from-pickle FILE`; "
    "a pickle file can run any program when it is opened"
)
DOWNLOAD = "download the file itself, signed in where the site asks for it"
OTHER = "name a .safetensors file"
UNQUANTIZED = "get the model as .safetensors in 16 bits; model.quantize holds it in fewer while it trains"


class Kind(NamedTuple):
    """A kind of file that is not safetensors, as a problem."""

    code: str
    what: str
    fix: str


def kind(first: bytes) -> Kind | None:
    """The kind of file that begins with these bytes; None if it is none that is known."""
    if first.startswith(b"version https://git-lfs"):
        what = "is a git-LFS pointer: a note of 130 bytes that stands for the file, not the file"
        return Kind("E-MOD-003", what, "run `git lfs pull` in its folder, or " + DOWNLOAD)
    if _is_page(first):
        return Kind("E-MOD-003", "is a web page (a login or error page saved in place of the file)", DOWNLOAD)
    if _is_pickle(first):
        return Kind("E-MOD-004", "is a PyTorch pickle file; pickle files are not opened", UNPICKLE)
    for start, name in NAMES.items():
        if first.startswith(start):
            fix = UNQUANTIZED if start == b"GGUF" else OTHER
            return Kind("E-MOD-003", f"is {name}, not a safetensors file", fix)
    return None


NAMES = {
    b"GGUF": "a GGUF file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a numpy file",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"RIFF": "a RIFF file (WebP, WAV)",
    b"\x1f\x8b": "gzip-packed",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"%PDF": "a PDF",
    b"{": "JSON text",
    b"[": "JSON text",
    b"\x08": "perhaps an ONNX file",
}


def _is_page(first: bytes) -> bool:
    text = first.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<script", b"<!--"))


def _is_pickle(first: bytes) -> bool:
    """A zip (torch.save since 1.6), a tar (before 0.1.2), a bare pickle of protocol 2 to 5, or an older one's text."""
    bare = len(first) > 1 and first[0] == 0x80 and 2 <= first[1] <= 5
    old = first.startswith((b"(dp", b"(lp", b"cos\n", b"cposix\n", b"cnt\n", b"c__builtin__\n", b"cbuiltins\n"))
    return first.startswith(b"PK\x03\x04") or first[257:262] == b"ustar" or bare or old
