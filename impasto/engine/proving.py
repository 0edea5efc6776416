"""Is a written file what was trained? Draw one picture through diffusers' own loader and compare."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from impasto import families
from impasto.adapters.adapter import Adapter
from impasto.adapters.riders import Riders
from impasto.engine import preview
from impasto.engine.config import Prompt
from impasto.engine.device import Compute
from impasto.engine.member import Member
from impasto.engine.preview import Said
from impasto.families import parts
from impasto.families.config import Model
from impasto.families.detect import Card
from impasto.families.family import Family
from impasto.families.sd import Modules
from impasto.weights.proof import Proof, Prover

SCENE = Prompt(text="a picture", steps=4, guidance=3.0, seed=1)
"""Few steps: the question is whether two paths agree, not what they draw."""


@dataclass(frozen=True)
class Witness:
    """Draws the same scene as training does, through diffusers, on a second base in the same memory as the one that is
    trained on."""

    card: Card
    model: Model
    compute: Compute

    def prove(
        self, path: Path, member: Member, family: Family, riders: Riders, said: Said, adapter: Adapter | None = None,
        *, averaged: bool = True,
    ) -> Proof:  # fmt: skip
        """Open `path` on a base that nobody rides on; raises ModelFileError when a layer is missing or the picture
        differs.

        With a mounted `adapter`, the file is that one's in place of the member's own; without `averaged`, the file
        holds the member's weights as they are now.
        """
        prover = Prover(
            self.card, device=self.compute.device, dtype=self.compute.dtype, model=self.model,
            fresh=partial(parts.twin, self.card, family.lending),
        )  # fmt: skip
        with member.averaged() if averaged else nullcontext():
            reference = preview.draw(
                family, self.compute, SCENE, self.card, riders=riders, adapter=adapter or member.adapter, said=said
            )
        names = [name for name, _ in member.adapter.items()]
        scene = partial(self._scene, said=said, family=family)
        return prover.prove(path, names=names, scene=scene, reference=reference)

    def _scene(self, modules: Modules, said: Said, family: Family) -> Tensor:
        model = self.model.model_copy(update={"gradient_checkpointing": False, "offload_checkpoints": False})
        fresh = families.assemble(self.card, model, modules, self.compute.device)
        return preview.shown(family, preview.drawn(fresh, self.compute, SCENE, self.card, said=said))
