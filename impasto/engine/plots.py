"""Pictures of a run: its loss curve, and grids of what it draws."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, PAPER, QUIET = "#222222", "#ffffff", "#8a8f98"


def loss_curve(steps: Sequence[int], losses: Sequence[float], *, title: str) -> bytes:
    """Every step's loss as a dot, and its running mean as a line: a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, losses, ".", color="#9db8d9", markersize=3, label="each step")
    axes.plot(steps, running_mean(losses), "-", color="#1f5fa8", linewidth=1.8, label="running mean")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    axes.set_ylim(bottom=0)
    drawn = BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def running_mean(values: Sequence[float], back: int = 25) -> list[float]:
    """The mean of each value and the ones before it, at most `back` of them."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - back, 0)
    return [float(each) for each in (sums[ends] - sums[starts]) / (ends - starts)]


def grid(rows: Sequence[tuple[str, Sequence[Image.Image]]], captions: Sequence[str], scale: int = 1) -> Image.Image:
    """Rows of pictures, each row with its name at the left and each column with its caption at the foot."""
    width, height = rows[0][1][0].width * scale, rows[0][1][0].height * scale
    gap, left, foot = 8, 112, 18 * (1 + max(len(_wrapped(text, width)) for text in captions))
    font = ImageFont.load_default(13)
    sheet = Image.new(
        "RGB", (left + len(captions) * (width + gap) + gap, gap + len(rows) * (height + gap) + foot), PAPER
    )
    pen = ImageDraw.Draw(sheet)
    for down, (name, pictures) in enumerate(rows):
        top = gap + down * (height + gap)
        pen.multiline_text((gap, top + height // 2 - 16), name, fill=INK, font=font)
        for across, picture in enumerate(pictures):
            big = picture.resize((width, height), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
            sheet.paste(big, (left + across * (width + gap), top))
    for across, text in enumerate(captions):
        place = (left + across * (width + gap), gap + len(rows) * (height + gap))
        pen.multiline_text(place, "\n".join(_wrapped(text, width)), fill=QUIET, font=font, spacing=3)
    return sheet


def png(sheet: Image.Image) -> bytes:
    """A picture as a PNG."""
    drawn = BytesIO()
    sheet.save(drawn, "PNG")
    return drawn.getvalue()


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` pixels, at about 7 pixels a letter."""
    lines, room = [""], max(8, width // 7)
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines[:4]
