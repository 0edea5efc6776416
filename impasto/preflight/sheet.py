"""Visits as files: each picture by itself, a list of all that was chosen, and sheets to look at."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from impasto import files
from impasto.data.pixels import Bytes
from impasto.preflight.drawn import Drawn

LIST = "visits.jsonl"
A_SHEET = 40
"""Visits on one sheet."""

INK, PAPER, QUIET, RED = "#222222", "#ffffff", "#6b7280", "#b91c1c"
CELL, GAP, COLUMNS = 256, 12, 5
LETTERS = 13
"""Height of letters in pixels."""

LINE = 17
MOST = 5
"""Lines of a caption that fit."""


@dataclass(frozen=True)
class Written:
    """How much was written."""

    visits: int
    sheets: int
    cut: int
    """Captions that are longer than what the base reads."""


def write(found: Iterable[Drawn], out: Path) -> Written:
    """Write visits into a folder; nothing where there are none."""
    lines, on_sheet, sheets, cut = list[str](), list[Drawn](), 0, 0
    for each in found:
        lines.append(json.dumps(_one(each, out, number=len(lines) + 1), ensure_ascii=False) + "\n")
        cut += any(reading.cut for reading in each.reads)
        on_sheet.append(each)
        if len(on_sheet) == A_SHEET:
            sheets += 1
            files.write(out / f"sheet-{sheets}.png", sheet(on_sheet))
            on_sheet.clear()
    if on_sheet:
        sheets += 1
        files.write(out / f"sheet-{sheets}.png", sheet(on_sheet))
    if lines:
        files.write(out / LIST, "".join(lines).encode("utf-8", "backslashreplace"))
    return Written(len(lines), sheets, cut)


def sheet(some: Sequence[Drawn]) -> bytes:
    """A PNG of these visits, in rows: what is not learnt is red, captions are below."""
    columns = min(COLUMNS, len(some))
    rows = [some[at : at + columns] for at in range(0, len(some), columns)]
    foot = LINE * (3 + MOST)
    tall = [max(_shown(each).height for each in row) for row in rows]
    height = GAP + sum(each + foot + GAP for each in tall)
    drawn = Image.new("RGB", (GAP + columns * (CELL + GAP), height), PAPER)
    pen, font, top = ImageDraw.Draw(drawn), ImageFont.load_default(LETTERS), GAP
    for row, most in zip(rows, tall, strict=True):
        for across, each in enumerate(row):
            left = GAP + across * (CELL + GAP)
            drawn.paste(_shown(each), (left, top))
            for down, (text, colour) in enumerate(_lines(each, font)):
                pen.text((left, top + most + 4 + down * LINE), text, fill=colour, font=font)
        top += most + foot + GAP
    made = BytesIO()
    drawn.save(made, "PNG")
    return made.getvalue()


# what is below serves the above


def _one(each: Drawn, out: Path, *, number: int) -> dict[str, object]:
    """Write one visit's picture and mask; what is told of it."""
    files.make_folder(out / "pictures")
    name = f"pictures/{number:05d}-{re.sub(r'[^A-Za-z0-9_.-]+', '_', each.example.path.stem)[:60]}"
    files.write(out / f"{name}.png", _png(each.pixels))
    told: dict[str, object] = {"file": f"{name}.png", **each.about}
    if each.counts is not None:
        files.write(out / f"{name}-mask.png", _png(each.counts))
        told["mask"] = f"{name}-mask.png"
    return told


def _png(pixels: Bytes) -> bytes:
    made = BytesIO()
    Image.fromarray(pixels).save(made, "PNG")
    return made.getvalue()


def _shown(each: Drawn) -> Image.Image:
    """Small, and red where nothing is learnt."""
    pixels = each.pixels
    if each.counts is not None:
        share = each.counts[..., None].astype(np.float32) / 255
        red = 0.35 * pixels.mean(axis=2, keepdims=True) + 0.65 * np.asarray([185, 28, 28], np.float32)
        pixels = (share * pixels + (1 - share) * red).astype(np.uint8)
    found = Image.fromarray(pixels)
    scale = CELL / max(found.size)
    size = max(1, round(found.width * scale)), max(1, round(found.height * scale))
    return found.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _lines(each: Drawn, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> list[tuple[str, str]]:
    visit = each.visit
    bucket, grown = visit.placement.bucket, visit.placement.enlarged(each.example.size)
    said = [f"step {each.step}", f"{bucket.width}x{bucket.height}", f"scale {grown:.2g}"]
    said += ["mirrored"] if visit.flip else []
    said += ["recoloured"] if visit.color is not None else []
    said += [f"counts {each.weight:g}"] if each.weight != 1 else []
    said += [f"without {' and '.join(each.silent)}"] if each.silent else []
    found = [(line, QUIET) for line in _wrapped(", ".join(said), font)[:2]]
    cut = [f"{read.reader} reads {read.limit} of {read.tokens} tokens" for read in each.reads if read.cut]
    found += [(line, RED) for line in _wrapped("; ".join(cut), font)[:1]]
    words = _wrapped(each.caption, font) if each.caption else ["(no words)"]
    if len(words) > MOST:
        words = [*words[: MOST - 1], words[MOST - 1] + " ..."]
    return found + [(line, INK if each.caption else QUIET) for line in words]


def _wrapped(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> list[str]:
    """Lines that fit below a picture."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= CELL:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
