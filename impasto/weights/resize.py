"""An adapter file with other ranks: the best approximation of what each layer adds."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from impasto.weights import deltas, peft, stream
from impasto.weights.deltas import Delta
from impasto.weights.file import DTYPES
from impasto.weights.low_rank import Product, Rule, decompose
from impasto.weights.report import Line, Report
from impasto.weights.stream import Spool

NETWORK = ("ss_network_dim", "ss_network_alpha", "ss_network_module", "ss_network_args")
SINCE = ("sshs_", peft.KEY)
"""Begin the keys that hold hashes of the tensors, which are others now, or tell of their alphas."""


def resize(path: Path, out: Path, rule: Rule, *, base: str | None = None) -> Report:
    """Write the adapter at `path` to `out` as a plain LoRA with the ranks that `rule` gives; its scales stay.

    `base` is asked for by kinds whose tensors do not tell the shape of their layer.
    """
    with stream.opened(path) as reader:
        targets = deltas.targets(base)
        found, outline = deltas.opened(reader, targets), deltas.outline(targets)
        precision, report = stream.precision_of(reader.head), Report(out)
        with stream.spooled(out, precision) as spool:
            for name, kinds in found.kinds.items():
                if deltas.is_norm(kinds):
                    for kind, tensor in found.held(name).items():
                        spool.add(f"{name}.{kind}", tensor)
                    continue
                delta = deltas.delta(path, name, found.held(name), outline)
                report.lines.append(write_layer(spool, name, delta, rule, DTYPES[precision]))
                report.remarks += remarks(name, delta)
            if norms := sum(deltas.is_norm(kinds) for kinds in found.kinds.values()):
                report.remarks.append(f"{norms} norms are written as they were: they have no rank")
            told = {"made": "resize", "from": path.name, "rank": rule.rank, "energy": rule.energy}
            spool.commit(noted(reader.head.metadata, report, told))
    return report


@torch.no_grad()
def write_layer(spool: Spool, name: str, delta: Delta, rule: Rule, dtype: torch.dtype) -> Line:
    """Write one layer as a plain LoRA's, its rank by `rule`, its alpha / rank as before; tells what that kept.

    The factors are made for the alpha as `dtype` rounds it.
    """
    spectrum = decompose(delta.matrix)
    rank = rule.keep(spectrum.values)
    alpha = alpha_of(delta.scale, rank, dtype)
    up, down = spectrum.factors(rank, float(alpha) / rank)
    write_factors(spool, name, delta, Product(up, down), alpha)
    kept, energy = spectrum.energy(rank)
    return Line(name, delta.rank, rank, float(alpha), kept, energy)


def write_factors(spool: Spool, name: str, delta: Delta, product: Product, alpha: Tensor) -> None:
    """Write up and down, in the shapes that the layer asks for."""
    out, *inner = delta.shape
    point = [1] * len(inner[1:])
    spool.add(f"{name}.alpha", alpha)
    spool.add(f"{name}.lora_down.weight", product.down.reshape(-1, *inner))
    spool.add(f"{name}.lora_up.weight", product.up.reshape(out, -1, *point))


def alpha_of(scale: float, rank: int, dtype: torch.dtype) -> Tensor:
    """The alpha that keeps the scale at a rank, as `dtype` can hold it; a scale of 0 becomes 1."""
    alpha = torch.tensor((scale or 1.0) * rank).to(dtype)
    return alpha if bool(alpha.isfinite()) and float(alpha) != 0 else torch.tensor(float(rank)).to(dtype)


def remarks(name: str, delta: Delta) -> list[str]:
    """What of a layer no LoRA can hold."""
    if delta.bias is None or not bool(delta.bias.any()):
        return []
    return [f"{name}: the change of its bias is left out, since a LoRA holds none"]


def noted(metadata: Mapping[str, str], report: Report, told: Mapping[str, object]) -> dict[str, str]:
    """The metadata of a file that was made from another: what is no longer so is put right, and what was done told."""
    kept = {key: value for key, value in metadata.items() if key not in NETWORK and not key.startswith(SINCE)}
    made = {key: value for key, value in told.items() if value is not None}
    kept |= {
        "ss_network_module": "networks.lora",
        "ss_network_dim": _one({line.after for line in report.lines}),
        "ss_network_alpha": _one({line.alpha for line in report.lines}),
        "impasto.made": json.dumps(made, sort_keys=True),
    }
    return kept


def _one(values: Collection[float]) -> str:
    """The value that all layers have; the word that other programs know where they differ."""
    return str(next(iter(values))) if len(values) == 1 else "Dynamic"
