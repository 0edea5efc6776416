"""The page on what sweeps reach, made from what was measured: scripts/halving, sweep_speed, fleet_bench and sweep_kills
write it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs" / "explanation"
NAME = "sweeps"

HEAD = """\
# What sweeps reach

<!-- made by scripts/halving and scripts/sweep_speed -->

[Sweeps](../how-to/sweeps.md) train many runs that differ in a few settings. This page holds what was measured, and how
to measure it again."""


def keep(docs: Path, part: str, found: dict[str, Any]) -> None:
    """Keep what was measured beside what other scripts measured, and write the page anew."""
    path = docs / f"{NAME}.json"
    before = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    after = {**before, part: found}
    path.write_text(json.dumps(after, indent=1) + "\n", "utf-8")
    (docs / f"{NAME}.md").write_text("\n\n".join(page(after)) + "\n", "utf-8")


def page(measured: dict[str, Any]) -> Iterator[str]:
    """The page, paragraph by paragraph."""
    yield HEAD
    if "speed" in measured:
        yield from _speed(measured["speed"])
    if "halving" in measured:
        yield from _halving(measured["halving"])
    if "kills" in measured:
        yield from _kills(measured["kills"])


def _speed(found: dict[str, Any]) -> Iterator[str]:
    yield "## One sweep against separate runs"
    yield (
        f"{found['variants']} variants of the quickstart, {found['steps']} steps each, two pictures held out, on\n"
        f"{found['cores']} cores: `impasto train` once for each variant, and `impasto sweep` once. Everything is\n"
        "counted that a user waits for: starting the program, loading, encoding, previews, the proof of each file."
    )
    base = found["sides"][0]
    lines = ["| | seconds | of processor | share | steps | farthest weight | loss |", "| --- " * 7 + "|"]
    for side in found["sides"]:
        far = f"{median(side['different']):.0e}, at most {max(side['different']):.0e}" if side["different"] else ""
        loss = f"{median(side['losses']):.0e}, at most {max(side['losses']):.0e}" if side["losses"] else ""
        share, took = side["processor"] / base["processor"], f"{side['seconds']:.0f} | {side['processor']:.0f}"
        lines.append(f"| {side['name']} | {took} | {share:.0%} | {side['steps']} | {far} | {loss} |")
    yield "\n".join(lines)
    yield (
        "*Share* is of the processor's time, which holds on a busy machine too. *Farthest weight* is the largest\n"
        "difference of any number in a file to the separate run's, as a share of the largest number there; *loss* is\n"
        "how far the loss on held-out pictures lies from the separate run's. Both are rounding, which grows with\n"
        "every step, faster at higher rates, and which Adam magnifies where a gradient is near zero: the last row\n"
        "shows how far runs lie from themselves when only the number of threads, and so the order of sums, is another."
    )
    yield "Measure it again: `.venv/bin/python scripts/sweep_speed`."


def _halving(found: dict[str, Any]) -> Iterator[str]:
    yield "## Does halving keep the best?"
    yield (
        "A cheap stand-in for an adapter: a low-rank product learns a matrix of rank 6 from noisy examples, with Adam\n"
        f"and a cosine schedule over {found['steps']} steps. 16 variants, 4 ranks and 4 learning rates, are\n"
        "trained in full to know the best; then the code of a sweep decides from their losses on held-out examples,\n"
        "rung by rung. *Behind* is how much worse than the best the one was that halving ended with, in the worst seed."
    )
    lines = ["| | eta | rungs | the best was kept | behind | steps trained |", "| --- " * 6 + "|"]
    for row in found["rows"]:
        rungs, kept = ", ".join(map(str, row["rungs"])), f"in {row['kept']} of {row['seeds']} seeds"
        lines.append(
            f"| {row['problem']} | {row['eta']} | {rungs} | {kept} | {row['behind']:.1%} | {row['share']:.0%} |"
        )
    yield "\n".join(lines)
    yield "Measure it again: `.venv/bin/python scripts/halving`."


def _kills(found: dict[str, Any]) -> Iterator[str]:
    yield "## Kills"
    yield (
        "Sweeps of 6 variants with halving on a miniature were killed with `kill -9` at random moments and gone on\n"
        f"with, {found['kills']} times. {found['sweeps']} of them came to their end so, each with the same decisions\n"
        "for the same reasons, and the same weights to the bit as one that nobody touched."
    )
    yield "Measure it again: `scripts/sweep_kills`."
