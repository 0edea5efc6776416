"""A LoRA from the difference between a tuned base and the one it came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from impasto import families
from impasto.adapters.targets import Target
from impasto.errors import ModelFileError, Problem
from impasto.families.config import Precision
from impasto.families.detect import Card
from impasto.weights import stream
from impasto.weights.bake import PARTS, by_path, looked, place
from impasto.weights.deltas import Delta
from impasto.weights.file import DTYPES
from impasto.weights.header import shown
from impasto.weights.low_rank import Rule
from impasto.weights.report import Report
from impasto.weights.resize import noted, write_layer
from impasto.weights.stream import Reader, Spool


def extract(tuned: str, base: str, out: Path, rule: Rule, precision: Precision) -> Report:
    """Write a LoRA that makes of `base` about what `tuned` is; layers that do not differ are not in it.

    What differs and is in no layer that a LoRA rides on is told in the report's remarks.
    """
    after, before = looked(tuned), looked(base)
    targets = {target.name: target for target in families.outline(before) if not target.is_norm}
    report = Report(out)
    with stream.spooled(out, precision) as spool:
        for part in PARTS:
            paths = by_path(part, targets)
            with stream.opened(after.weights(part)) as new, stream.opened(before.weights(part)) as old:
                _compare(part, new, old, paths, spool, rule, precision, report)
        if not report.lines:
            what = f"differs from {before.path} in no layer that a LoRA could ride on"
            raise ModelFileError(Problem("E-MOD-055", what, str(after.path), "name the tuned model first"))
        made = {"made": "extract", "from": after.name, "base": before.name, "rank": rule.rank, "energy": rule.energy}
        spool.commit(noted(_metadata(before), report, made))
    return report


def _compare(
    part: str, new: Reader, old: Reader, paths: Mapping[str, Target], spool: Spool, rule: Rule, precision: Precision,
    report: Report,
) -> None:  # fmt: skip
    names = {_flat(name): name for name in new.head.tensors}
    lost = []
    for name, entry in old.head.tensors.items():
        if not entry.dtype.startswith(("F", "BF")):
            continue  # the numbers of positions, which newer files leave out
        if _flat(name) not in names or new.head.tensors[names[_flat(name)]].shape != entry.shape:
            what = f"has no {shown(name)} of {list(entry.shape)}, as the base has"
            fix = "both must be of one family; `impasto inspect` tells"
            raise ModelFileError(Problem("E-MOD-054", what, str(new.path), fix))
        path, kind = place(name)
        difference = _difference(new, names[_flat(name)], old, name)
        if difference is None:
            continue
        if kind == "weight" and path in paths:
            delta = Delta(difference.flatten(1), tuple(difference.shape), 1.0, None)
            report.lines.append(write_layer(spool, paths[path].name, delta, rule, DTYPES[precision]))
        else:
            lost.append(name)
    if lost:
        report.remarks.append(
            f"{part}: {len(lost)} tensors differ that a LoRA does not hold (norms, biases, embeddings), "
            f"among them {shown(lost[0])}"
        )


def _flat(name: str) -> str:
    return name.removeprefix("text_model.")


@torch.no_grad()
def _difference(new: Reader, name: str, old: Reader, other: str) -> Tensor | None:
    """In fp64; None where there is none."""
    difference = new.tensor(name).double() - old.tensor(other).double()
    return difference if bool(difference.any()) else None


def _metadata(card: Card) -> dict[str, str]:
    """What programs ask of a LoRA that was never trained."""
    return {
        "ss_base_model_version": card.called.version,
        "ss_sd_model_name": card.name,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{card.called.architecture}/lora",
        "modelspec.implementation": "diffusers",
    }
