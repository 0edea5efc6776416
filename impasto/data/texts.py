"""Caption files: bytes that someone's editor wrote, as clean lines, or the problem with them."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from impasto.data.findings import Finding, note, shown, stop
from impasto.data.reading import read

MAX_BYTES = 1 << 20
"""What is read of a caption file."""

MAX_CHARACTERS = 16_384
"""What is used of a caption. Text encoders read the first few hundred."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)", re.DOTALL)
_JOINERS = "\u200c\u200d"
"""Invisible, but part of words and of pictograms."""


@dataclass(frozen=True)
class Text:
    """A caption as it is used, and what had to be done for that. None: it cannot be used at all."""

    caption: str | None
    findings: tuple[Finding, ...] = ()


def read_caption(path: Path, *, every_line: bool = False) -> Text:
    """The caption in a file."""
    where = shown(path)
    content = read(path, limit=MAX_BYTES)
    if not isinstance(content, bytes):
        code = "E-CAP-004" if content.code == "E-IMG-031" else "E-CAP-005"
        return Text(None, (Finding("stop", replace(content, code=code)),))
    text = _decoded(content, where)
    if text.caption is None:
        return text
    clean = cleaned(text.caption, where, every_line=every_line)
    cut = [note("E-CAP-052", f"is longer than {MAX_BYTES:,} bytes; the rest is not read", where)]
    return Text(clean.caption, (*text.findings, *(cut if len(content) > MAX_BYTES else ()), *clean.findings))


def cleaned(text: str, where: str, *, every_line: bool = False) -> Text:
    """One line of visible characters: the first line that has any; or every line that has."""
    findings = []
    visible = text if text.isprintable() else "".join(_visible(_ESCAPES.sub("", text)))
    if len(visible.replace("\n", "")) < len(text.replace("\n", "").replace("\r", "")):
        findings.append(note("E-CAP-051", "control characters or direction marks are taken out", where))
    lines = [stripped for line in visible.split("\n") if (stripped := line.strip())]
    if len(lines) > 1 and not every_line:
        fix = 'put it all on one line to use it, or set data.captions.lines = "random"'
        findings.append(note("E-CAP-053", f"has {len(lines)} lines; the first is the caption", where, fix))
    caption = "\n".join(lines if every_line else lines[:1])
    if len(caption) > MAX_CHARACTERS:
        what = f"has {len(caption):,} characters; the first {MAX_CHARACTERS:,} are used"
        findings.append(note("E-CAP-052", what, where))
    return Text(caption[:MAX_CHARACTERS].rstrip(), tuple(findings))


# what is below serves the above


def _decoded(content: bytes, where: str) -> Text:
    """UTF-8, or another encoding that is certain."""
    encoding, start = _encoding(content)
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        text = decoder.decode(content[start:MAX_BYTES], final=len(content) <= MAX_BYTES)
    except UnicodeDecodeError as error:
        if _is_binary(content):
            return Text(None, (_binary(where),))
        at = start + error.start
        what = f"is not {encoding.upper()}: byte {at:,} is 0x{content[at]:02x}, and what it is cannot be known"
        return Text(None, (stop("E-CAP-002", what, where, "save it as UTF-8 in a text editor"),))
    if "\0" in text and _is_binary(content):
        return Text(None, (_binary(where),))
    other = note("E-CAP-050", f"is read as {encoding.upper()}", where, "save it as UTF-8")
    return Text(text, () if encoding == "utf-8" else (other,))


def _encoding(content: bytes) -> tuple[str, int]:
    """Which encoding, and where the text begins."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding, len(mark)
    if _is_bare_utf16(content):
        return "utf-16-le" if content[1] == 0 else "utf-16-be", 0
    return "utf-8", 0


def _is_bare_utf16(content: bytes) -> bool:
    """UTF-16 of plain Latin letters without its mark: every second byte is zero and no other is. Nothing else is."""
    even, odd = content[::2], content[1::2]
    return (
        len(content) >= 4
        and len(even) == len(odd)
        and {any(even), any(odd)} == {True, False}
        and (0 not in (odd if any(odd) else even))
    )


def _binary(where: str) -> Finding:
    return stop("E-CAP-003", "is not a text", where, "remove it, or put the caption in its place")


def _is_binary(content: bytes) -> bool:
    head = content[:4096]
    return sum(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in head) > max(8, len(head) // 20)


def _visible(text: str) -> Iterable[str]:
    for character in text.replace("\r\n", "\n").replace("\r", "\n"):
        match unicodedata.category(character):
            case "Cc":
                yield {"\n": "\n", "\t": " ", "\v": "\n", "\f": "\n"}.get(character, "")
            case "Zl" | "Zp":
                yield "\n"
            case "Cf" | "Cs":
                yield character if character in _JOINERS else ""
            case _:
                yield character
