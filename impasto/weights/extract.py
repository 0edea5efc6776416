"""A LoRA from the difference between a tuned base and the one it came from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from impasto.errors import ModelFileError, Problem
from impasto.families.config import Precision
from impasto.families.detect import Card, Part
from impasto.weights import bases, stream
from impasto.weights.bases import Base
from impasto.weights.deltas import Delta
from impasto.weights.file import DTYPES
from impasto.weights.header import shown
from impasto.weights.low_rank import Rule
from impasto.weights.report import Report
from impasto.weights.resize import noted, write_layer
from impasto.weights.stream import Reader, Spool


def extract(
    tuned: str, base: str, out: Path, rule: Rule, precision: Precision, *, config_path: Path | None = None
) -> Report:
    """Write a LoRA that makes of `base` about what `tuned` is; layers that do not differ are not in it.

    Each may be a folder or a single file. What differs and is in no layer that a LoRA rides on is told in the report's
    remarks.
    """
    after, before = bases.looked(tuned, config_path), bases.looked(base, config_path)
    report = Report(out)
    with stream.spooled(out, precision) as spool:
        for part in before.slots:
            if part not in after.slots:
                raise _other(after.card.path, f"has no {part}")
            with stream.opened(*after.card.weights(part)) as new, stream.opened(*before.card.weights(part)) as old:
                _compare(part, (after, new), (before, old), spool, rule, precision, report)
        if not report.lines:
            what = f"differs from {before.card.path} in no layer that a LoRA could ride on"
            raise ModelFileError(Problem("E-MOD-055", what, str(after.card.path), "name the tuned model first"))
        told = {"rank": rule.rank, "energy": rule.energy}
        made = {"made": "extract", "from": after.card.name, "base": before.card.name} | told
        spool.commit(noted(_metadata(before.card), report, made))
    return report


def _compare(
    part: Part, new: tuple[Base, Reader], old: tuple[Base, Reader], spool: Spool, rule: Rule, precision: Precision,
    report: Report,
) -> None:  # fmt: skip
    layers, lost = old[0].called(part), []
    for name, slot in old[0].slots[part].items():
        other = new[0].slots[part].get(name)
        if slot.missing(old[1]):
            raise bases.missing(slot, old[1])
        if other is None or other.shape != slot.shape or other.missing(new[1]):
            raise _other(new[1].path, f"has no {shown(name)} of {list(slot.shape)}, as the base has")
        difference = _difference(other.read(new[1]), slot.read(old[1]))
        if difference is None:
            continue
        if slot.kind == "weight" and slot.path in layers and not layers[slot.path].is_norm:
            delta = Delta(difference.flatten(1), tuple(difference.shape), 1.0, None)
            report.lines.append(write_layer(spool, layers[slot.path].name, delta, rule, DTYPES[precision]))
        else:
            lost.append(name)
    if lost:
        report.remarks.append(
            f"{part}: {len(lost)} tensors differ that a LoRA does not hold (norms, biases, embeddings), "
            f"among them {shown(lost[0])}"
        )


def _other(path: Path, what: str) -> ModelFileError:
    fix = "both must be of one family; `impasto inspect` tells"
    return ModelFileError(Problem("E-MOD-054", what, str(path), fix))


@torch.no_grad()
def _difference(new: Tensor, old: Tensor) -> Tensor | None:
    """In fp64; None where there is none."""
    difference = new.double() - old.double()
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
