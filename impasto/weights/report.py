"""What a change of ranks did to each block of an adapter: for people as a table, for programs as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from impasto.files import JSON
from impasto.weights import blocks


@dataclass(frozen=True)
class Line:
    """One layer."""

    name: str
    before: int | None
    """Its rank before; None for kinds without."""

    after: int
    alpha: float
    kept: float
    """Of its energy, the sum of its squared singular values."""

    energy: float


@dataclass(frozen=True)
class Row:
    """Several layers."""

    name: str
    layers: int
    before: str
    after: str
    share: float
    """Of the energy that is kept, 0..1."""


@dataclass
class Report:
    """What was written."""

    file: Path
    lines: list[Line] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """What the file does not hold, and why."""

    def rows(self) -> Iterator[Row]:
        """Each block, in the order of the model, then all."""
        by_block: dict[blocks.Block, list[Line]] = {}
        for line in self.lines:
            by_block.setdefault(blocks.block(line.name), []).append(line)
        for block in sorted(by_block):
            yield _row(str(block), by_block[block])
        yield _row("all", self.lines)

    def json(self) -> JSON:
        """The same for programs, with each layer."""
        layers = [
            {
                "name": each.name,
                "rank_before": each.before,
                "rank": each.after,
                "alpha": each.alpha,
                "energy": _share([each]),
            }
            for each in self.lines
        ]
        return {
            "file": str(self.file), "energy": _share(self.lines), "layers": layers, "remarks": list(self.remarks),
        }  # fmt: skip


def _row(name: str, lines: Sequence[Line]) -> Row:
    before = [each.before for each in lines if each.before is not None]
    return Row(name, len(lines), _range(before), _range([each.after for each in lines]), _share(lines))


def _share(lines: Sequence[Line]) -> float:
    energy = sum(each.energy for each in lines)
    return sum(each.kept for each in lines) / energy if energy else 1.0


def _range(ranks: Sequence[int]) -> str:
    """`8`, or `2-16, mean 7.5`."""
    if not ranks:
        return "none"
    low, high = min(ranks), max(ranks)
    return str(low) if low == high else f"{low}-{high}, mean {sum(ranks) / len(ranks):.1f}"
