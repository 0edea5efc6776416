"""Several adapter files as one: their factors side by side, which is exact, or its best approximation of a rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from impasto.errors import ModelFileError, Problem
from impasto.families.config import Precision
from impasto.weights import deltas, stream
from impasto.weights.deltas import Delta, Opened, Outline
from impasto.weights.file import DTYPES
from impasto.weights.low_rank import Product, Rule
from impasto.weights.report import Line, Report
from impasto.weights.resize import alpha_of, noted, remarks, write_factors, write_layer
from impasto.weights.stream import Spool

Weighted = Sequence[tuple[Path, float]]
"""Files, each with how strongly it acts."""


@dataclass(frozen=True)
class _Part:
    """One of the files."""

    file: Opened
    strength: float


def combine(given: Weighted, out: Path, rule: Rule | None, *, base: str | None = None) -> Report:
    """Write to `out` what the files add together, each times its strength.

    Without a rule, the factors of plain LoRAs are put side by side: the ranks add up and nothing is lost. With one, the
    sum is approximated, and may be of all kinds that have a low-rank form.
    """
    report = Report(out)
    with ExitStack() as stack:
        readers = [(stack.enter_context(stream.opened(path)), strength) for path, strength in given]
        targets = deltas.targets(base)
        parts = [_Part(deltas.opened(reader, targets), strength) for reader, strength in readers]
        outline = deltas.outline(targets)
        precision = _precision(parts)
        with stream.spooled(out, precision) as spool:
            for name in dict.fromkeys(name for part in parts for name in part.file.kinds):
                if any(deltas.is_norm(part.file.kinds.get(name, ())) for part in parts):
                    _write_norm(spool, name, parts)
                    continue
                found = _deltas(parts, name, outline)
                report.lines.append(_write(spool, name, found, rule, DTYPES[precision]))
                report.remarks += [each for _, _, delta in found for each in remarks(name, delta)]
            files = {part.file.path.name: part.strength for part in parts}
            told = {"made": "merge", "files": files, "rank": rule and rule.rank, "energy": rule and rule.energy}
            metadata = noted(parts[0].file.reader.head.metadata, report, told)
            spool.commit(metadata | {"modelspec.merged_from": ", ".join(files)})
    return report


@torch.no_grad()
def _write_norm(spool: Spool, name: str, parts: Sequence[_Part]) -> None:
    """Write what the files add to a norm's weight and bias together."""
    sums: dict[str, Tensor] = {}
    for part in (each for each in parts if name in each.file.kinds):
        for kind, tensor in part.file.held(name).items():
            if kind not in deltas.NORM or (kind in sums and sums[kind].shape != tensor.shape):
                what, fix = f"{name} is another thing there", "merge adapters of one base only"
                raise ModelFileError(Problem("E-MOD-053", what, str(part.file.path), fix))
            sums[kind] = sums.get(kind, torch.zeros(())) + part.strength * tensor.double()
    for kind, tensor in sums.items():
        spool.add(f"{name}.{kind}", tensor)


def _precision(parts: Sequence[_Part]) -> Precision:
    """The one precision of all files, or the one that holds every number of each."""
    found = {stream.precision_of(part.file.reader.head) for part in parts}
    return found.pop() if len(found) == 1 else "fp32"


def _deltas(parts: Sequence[_Part], name: str, outline: Outline | None) -> list[tuple[Path, float, Delta]]:
    """What each file that has the layer adds to it, with its strength."""
    found: list[tuple[Path, float, Delta]] = []
    for part in parts:
        if name in part.file.kinds:
            path = part.file.path
            delta = deltas.delta(path, name, part.file.held(name), outline)
            if found and delta.shape != (first := found[0][2].shape):
                what = f"{name} is for a weight of {list(delta.shape)}, in {found[0][0].name} for one of {list(first)}"
                fix = "merge adapters of one base only; `impasto inspect` tells the family of each"
                raise ModelFileError(Problem("E-MOD-053", what, str(path), fix))
            found.append((path, part.strength, delta))
    return found


def _write(
    spool: Spool, name: str, found: Sequence[tuple[Path, float, Delta]], rule: Rule | None, dtype: torch.dtype
) -> Line:
    delta = _sum(found)
    if rule is not None:
        return write_layer(spool, name, delta, rule, dtype)
    if not isinstance(delta.matrix, Product):
        path = next(path for path, _, each in found if not isinstance(each.matrix, Product))
        what = f"{name} is no plain LoRA's, so it cannot be put beside others"
        raise ModelFileError(Problem("E-MOD-051", what, str(path), "approximate the sum: --rank 16, or --energy 0.99"))
    rank = len(delta.matrix.down)
    alpha = alpha_of(delta.scale, rank, dtype)
    scaled = Product(delta.matrix.up / (float(alpha) / rank), delta.matrix.down)
    write_factors(spool, name, delta, scaled, alpha)
    return Line(name, delta.rank, rank, float(alpha), 1.0, 1.0)


@torch.no_grad()
def _sum(found: Sequence[tuple[Path, float, Delta]]) -> Delta:
    """What several deltas add together, side by side where all of them are products; with the scale of the first."""
    first = found[0][2]
    ranks = [delta.rank for _, _, delta in found if delta.rank is not None]
    products = [(weight, each.matrix) for _, weight, each in found if isinstance(each.matrix, Product)]
    matrix: Product | Tensor
    if len(products) == len(found):
        ups, downs = [weight * each.up for weight, each in products], [each.down for _, each in products]
        matrix = Product(torch.cat(ups, dim=1), torch.cat(downs))
    else:
        matrix = torch.zeros(first.shape[0], math.prod(first.shape[1:]), dtype=torch.float64)
        for _, weight, delta in found:
            each = delta.matrix
            matrix += weight * (each.up @ each.down if isinstance(each, Product) else each)
    return Delta(matrix, first.shape, first.scale, sum(ranks) if ranks else None)
