"""Is a written file what was trained? Draw one picture through diffusers' own loader and compare."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from impasto import families
from impasto.adapters.adapter import Adapter
from impasto.adapters.riders import Riders
from impasto.engine import preview
from impasto.engine.config import Prompt
from impasto.engine.device import Compute
from impasto.engine.member import Member
from impasto.families.config import Model
from impasto.families.detect import Card
from impasto.families.family import Family
from impasto.families.sd import Modules
from impasto.weights.proof import Proof, Prover

SCENE = Prompt(text="a picture", steps=4, guidance=3.0, seed=1)
"""Few steps: the question is whether two paths agree, not what they draw."""


@dataclass
class Witness:
    """Draws the same scene as training does, through diffusers, on a fresh copy of the base."""

    card: Card
    model: Model
    compute: Compute
    _prover: Prover | None = field(default=None, init=False)

    def prove(
        self, path: Path, member: Member, family: Family, riders: Riders, adapter: Adapter | None = None
    ) -> Proof:
        """Open `path` on a fresh base; raises ModelFileError when a layer is missing or the picture differs.

        With a mounted `adapter`, the file is that one's in place of the member's own.
        """
        if self._prover is None:
            self._prover = Prover(self.card, device=self.compute.device, dtype=self.compute.dtype, model=self.model)
        with member.averaged():
            reference = preview.draw(
                family, self.compute, SCENE, self.card, riders=riders, adapter=adapter or member.adapter
            )
        names = [name for name, _ in member.adapter.items()]
        return self._prover.prove(path, names=names, scene=self._scene, reference=reference)

    @torch.no_grad()
    def _scene(self, modules: Modules) -> Tensor:
        model = self.model.model_copy(update={"gradient_checkpointing": False})
        fresh = families.assemble(self.card, model, modules, self.compute.device)
        return preview.draw(fresh, self.compute, SCENE, self.card)
