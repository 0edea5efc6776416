"""How far an adapter moves each block of its model: Frobenius norms of what its layers add, scale included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from math import isnan, nan, sqrt
from pathlib import Path

from impasto.errors import ModelFileError, Problem
from impasto.files import JSON
from impasto.weights import blocks
from impasto.weights.inspect import inspect


@dataclass(frozen=True)
class Row:
    """A block, or all of them."""

    name: str
    layers: int
    roles: Sequence[float]
    """The norm of a typical layer of each role (root mean square), in the order of `blocks.ROLES`; NaN for none."""

    all: float
    """The same of all its layers."""

    largest: str
    """The layer that moves most."""


@dataclass(frozen=True)
class Norms:
    """Of one file."""

    path: Path
    layers: dict[str, float]
    untold: int
    """Layers whose effect depends on the base."""

    def rows(self) -> list[Row]:
        """Each block in the order of the model, then all."""
        by_block: dict[blocks.Block, dict[str, float]] = {}
        for name, norm in self.layers.items():
            by_block.setdefault(blocks.block(name), {})[name] = norm
        return [*(_row(str(each), by_block[each]) for each in sorted(by_block)), _row("all", self.layers)]

    def table(self) -> tuple[list[str], list[list[float]]]:
        """The roles that some layer has, then all; and of each row the norms in them, NaN for none."""
        rows = self.rows()
        there = [at for at in range(len(blocks.ROLES)) if any(not isnan(row.roles[at]) for row in rows)]
        return [*(blocks.ROLES[at] for at in there), "all"], [
            [*(row.roles[at] for at in there), row.all] for row in rows
        ]

    def json(self) -> JSON:
        """All of it for programs."""
        rows: list[JSON] = []
        for row in self.rows():
            roles = zip(blocks.ROLES, row.roles, strict=True)
            told: dict[str, JSON] = {"name": row.name, "layers": row.layers, "norm": row.all, "largest": row.largest}
            rows.append(told | {role: None if isnan(norm) else norm for role, norm in roles})
        return {"file": str(self.path), "blocks": rows, "layers": self.layers, "untold": self.untold}


def norms(path: Path) -> Norms:
    """Of the adapter file at `path`. Raises ModelFileError when none of its layers has a norm of its own."""
    found = inspect(path, norms=True)
    count = sum(found.parts.values())
    if not count:
        what, fix = f"is no adapter but a {found.what}", "name an adapter's .safetensors file"
        raise ModelFileError(Problem("E-MOD-050", what, str(path), fix))
    if not found.norms:
        what = f"is {found.what}: how far its layers move a weight depends on the base"
        fix = "LoRA, LoHa, LoKr and full differences have norms"
        raise ModelFileError(Problem("E-MOD-051", what, str(path), fix))
    return Norms(path, dict(found.norms), count - len(found.norms))


def picture(found: Norms) -> bytes:
    """Blocks down, roles across, the norm of a typical layer in each field: a PNG."""
    from matplotlib.figure import Figure

    rows = found.rows()
    figure = Figure(figsize=(8.0, 1.2 + 0.3 * len(rows)), dpi=120, layout="constrained")
    axes = figure.subplots()
    heads, values = found.table()
    shown = axes.imshow(values, cmap="YlGnBu", aspect="auto", vmin=0)
    axes.set_xticks(range(len(heads)), heads)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    most = max(row.all if isnan(each) else each for row in rows for each in (*row.roles, row.all)) or 1.0
    for down, line in enumerate(values):
        for across, value in enumerate(line):
            if not isnan(value):
                ink = "white" if value > 0.6 * most else "#222222"
                axes.text(across, down, f"{value:.3g}", ha="center", va="center", fontsize=7, color=ink)
    figure.colorbar(shown, ax=axes, label="norm of a typical layer")
    axes.set_title(found.path.name, loc="left", fontsize=10)
    drawn = BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def _row(name: str, layers: dict[str, float]) -> Row:
    by_role = [[norm for layer, norm in layers.items() if blocks.role(layer) == role] for role in blocks.ROLES]
    largest = max(layers, key=lambda layer: layers[layer])
    return Row(name, len(layers), [_typical(each) for each in by_role], _typical(list(layers.values())), largest)


def _typical(norms: Sequence[float]) -> float:
    return sqrt(sum(norm * norm for norm in norms) / len(norms)) if norms else nan
