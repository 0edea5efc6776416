"""What a base should still do once it wears an adapter: its own answer, learnt in place of the picture's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from impasto.data.batch import Conditioning
from impasto.engine.device import Compute
from impasto.engine.packing import Part
from impasto.families.family import Family


def asked(part: Part) -> tuple[bool, ...]:
    """Which examples of a part are held to the base's answer."""
    return part.batch.prior or (False,) * part.rows


@torch.no_grad()
def with_answers(
    pack: Sequence[Part], family: Family, compute: Compute, x: Tensor, t: Tensor, cond: Conditioning
) -> Sequence[Part]:
    """The pack with the base's own answers as the targets of the examples that ask for them.

    No route may be open: then nobody rides, neither on the denoiser nor on the text encoder.
    """
    rows = [at for at, flag in enumerate(flag for part in pack for flag in asked(part)) if flag]
    if not rows:
        return pack
    at = torch.tensor(rows, device=x.device)
    with compute.autocast():
        answers = family.predict(x[at], t[at], {name: value[at] for name, value in cond.items()}).float()
    targets = torch.cat([part.noised.target for part in pack]).index_copy(0, at, answers)
    own = torch.split(targets, [part.rows for part in pack])
    return [replace(part, noised=replace(part.noised, target=each)) for part, each in zip(pack, own, strict=True)]
