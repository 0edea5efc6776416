"""Pictures of a run: its loss curve, and grids of what it draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from impasto.events import Validated

if TYPE_CHECKING:
    from impasto.engine.layers import Row
    from impasto.preflight.report import BucketPlan

INK, PAPER, QUIET = "#222222", "#ffffff", "#8a8f98"
FILL, LINE, OTHER = "#8fb3dc", "#1f5fa8", "#b5651d"
BARS = 14
"""Buckets that are drawn: those with most pictures."""

WIDE, TALL = 3.0, 2.7
"""Inches of the axes that they are drawn in, about."""


def loss_curve(
    steps: Sequence[int], losses: Sequence[float], *, title: str, measured: Sequence[Validated] = ()
) -> bytes:
    """Every step's loss as a dot, and its running mean as a line; below, what was measured at each noise level against
    its first value, held-out pictures beside training pictures: a PNG."""
    from matplotlib.figure import Figure

    shown = len(measured) > 1
    figure = Figure(figsize=(7.2, 6.6 if shown else 3.6), dpi=120, layout="constrained")
    axes, *below = figure.subplots(2 if shown else 1, 1, squeeze=False)[:, 0]
    axes.plot(steps, losses, ".", color="#9db8d9", markersize=3, label="each step")
    axes.plot(steps, running_mean(losses), "-", color="#1f5fa8", linewidth=1.8, label="running mean")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    axes.set_ylim(bottom=0)
    for each in below:
        _measured(each, measured)
    drawn = BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def _measured(axes: Any, measured: Sequence[Validated]) -> None:
    """Loss with fixed noise over its first value, a colour for each noise level: held-out solid, training dashed."""
    from matplotlib import colormaps

    levels = sorted({level for each in measured for level in (*each.losses, *each.training)}, key=int)
    for at, level in enumerate(levels):
        colour = colormaps["viridis"](0.1 + 0.75 * at / max(1, len(levels) - 1))
        for style, name, losses in (
            ("-", f"t = {level}, held out", [each.losses.get(level) for each in measured]),
            ("--", f"t = {level}, training", [each.training.get(level) for each in measured]),
        ):
            found = [(each.step, loss) for each, loss in zip(measured, losses, strict=True) if loss]
            if found:
                values = [loss / found[0][1] for _, loss in found]
                axes.plot([step for step, _ in found], values, style, color=colour, linewidth=1.4, label=name)
    best = min((each for each in measured if each.step and each.loss), key=lambda each: each.loss or 0.0, default=None)
    if best is not None:
        axes.axvline(best.step, color=QUIET, linewidth=1.0, label=f"lowest, held out: step {best.step}")
    axes.set_xlabel("step")
    axes.set_ylabel("loss with fixed noise, over its first")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7, ncols=2)


def ranks(means: Mapping[int, float], *, title: str) -> bytes:
    """The loss at each rank as a line, and that of the base alone as a level: a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 3.4), dpi=120, layout="constrained")
    axes = figure.subplots()
    held = [rank for rank in means if rank]
    axes.plot(held, [means[rank] for rank in held], "o-", color="#1f5fa8", linewidth=1.8, label="cut to this rank")
    if 0 in means:
        axes.axhline(means[0], color=QUIET, linestyle="--", linewidth=1.2, label="base alone")
    axes.set_xscale("log", base=2)
    axes.set_xticks(held, [str(rank) for rank in held])
    axes.minorticks_off()
    axes.set_xlabel("rank")
    axes.set_ylabel("loss with the same noise")
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    drawn = BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def blocks(rows: Sequence[Row], *, title: str) -> bytes:
    """The base's blocks as a U, with text encoders beside it, coloured by rank and by learning rate: a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 5.2), dpi=120, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left")
    measures: list[tuple[str, Callable[[Row], float | None]]] = [
        ("rank", lambda row: row.rank), ("learning rate", lambda row: row.rate),
    ]  # fmt: skip
    for axes, (name, measure) in zip(figure.subplots(1, 2), measures, strict=True):
        found: dict[tuple[float, float], list[float]] = {}
        labels: dict[tuple[float, float], str] = {}
        for row in rows:
            at = _place(row, rows)
            labels[at] = str(row.block) if row.block is not None else f"text {row.encoder or ''}".strip()
            found.setdefault(at, []).extend([] if (value := measure(row)) is None else [float(value)])
        axes.set_title(name if any(found.values()) else f"{name}: this kind has none", loc="left", fontsize=10)
        _boxes(axes, labels, found)
    drawn = BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def _place(row: Row, rows: Sequence[Row]) -> tuple[float, float]:
    """Down at the left, the middle at the foot, up at the right, text encoders beside."""
    if row.block is None:
        return 3.3, -float(row.encoder or 1)
    down = [each.block for each in rows if each.stage == "down" and each.block is not None]
    up = [each.block for each in rows if each.stage == "up" and each.block is not None]
    deepest = max([max(down, default=0) - min(down, default=0), max(up, default=0) - min(up, default=0)])
    match row.stage:
        case "down":
            return 0.0, -float(row.block - min(down))
        case "up":
            return 2.0, float(row.block - max(up))
        case _:
            middle = [each.block for each in rows if each.stage == "mid" and each.block is not None]
            return 1.0, -float(deepest + 1 + row.block - min(middle))


def _boxes(
    axes: Any, labels: Mapping[tuple[float, float], str], found: Mapping[tuple[float, float], list[float]]
) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import FancyBboxPatch

    every = [value for values in found.values() for value in values]
    low, high = (min(every), max(every)) if every else (0.0, 1.0)
    for (x, y), label in labels.items():
        values = found[x, y]
        mean = sum(values) / len(values) if values else 0.0
        share = (mean - low) / (high - low) if high > low else 0.5
        colour = colormaps["YlGnBu"](0.05 + 0.45 * share) if values else "#eeeeee"
        axes.add_patch(FancyBboxPatch((x, y), 0.86, 0.7, boxstyle="round,pad=0.02", facecolor=colour, edgecolor=QUIET))
        span = (
            ""
            if not values
            else f"{min(values):.3g}"
            if min(values) == max(values)
            else (f"{min(values):.3g} to {max(values):.3g}")
        )
        axes.text(x + 0.05, y + 0.35, label, fontsize=7, color=INK, va="center")
        axes.text(x + 0.82, y + 0.35, span, fontsize=7, color=INK, va="center", ha="right")
    axes.set_xlim(-0.1, 4.3 if any(x > 3 for x, _ in labels) else 3.0)
    axes.set_ylim(min((y for _, y in labels), default=0) - 0.2, 1.0)
    axes.axis("off")


def buckets(axes: Any, found: Sequence[BucketPlan]) -> None:
    """Each bucket as a bar as long as it has pictures, from upright to wide, with its shape drawn before it."""
    shown = sorted(sorted(found, key=lambda each: -each.pictures)[:BARS], key=lambda each: each.width / each.height)
    rows = max(len(shown), 5)  # one bar alone is no wall
    most, longest = max(each.pictures for each in shown), max(max(each.width, each.height) for each in shown)
    side = min(0.8 * TALL / rows, 0.3)
    for row, each in enumerate(shown):
        axes.barh(row, each.pictures, height=0.62, color=FILL, edgecolor=LINE, linewidth=0.8)
        axes.text(each.pictures + most * 0.02, row, f"{each.pictures}", fontsize=7, va="center", color=INK)
        across, up = side * 1.35 * most / WIDE * each.width / longest, side * rows / TALL * each.height / longest
        corner = (-0.11 * most - across / 2, row - up / 2)
        axes.add_patch(_rectangle(corner, across, up))
        axes.text(-0.22 * most, row, f"{each.width} × {each.height}", fontsize=7, va="center", ha="right", color=INK)
    more = f", the {BARS} largest drawn" if len(found) > len(shown) else ""
    axes.set_xlim(-0.2 * most, most * 1.15)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_yticks([])
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xticks([each for each in axes.get_xticks() if 0 <= each <= most])
    axes.set_xlabel("pictures")
    axes.set_title(f"{len(found)} bucket{'s' if len(found) > 1 else ''}{more}", loc="left", fontsize=10, pad=8)
    axes.spines["left"].set_position(("data", 0))


def _rectangle(corner: tuple[float, float], width: float, height: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, facecolor=PAPER, edgecolor=LINE, linewidth=0.9)


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


def thumbnail(path: Path) -> bytes:
    """A picture as a JPEG of at most 256 pixels a side, small enough for a file's metadata."""
    drawn = BytesIO()
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((256, 256), Image.Resampling.LANCZOS)
    small.save(drawn, "JPEG", quality=85)
    return drawn.getvalue()


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` pixels, at about 7 pixels a letter."""
    lines, room = [""], max(8, width // 7)
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines[:4]
