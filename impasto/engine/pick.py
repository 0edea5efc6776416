"""Which state of an adapter to use: the best of what was measured is kept, and a run ends with a shortlist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor

from impasto import events, files
from impasto.data.batch import Batch
from impasto.events import Candidate, Validated
from impasto.files import JSON

NEARLY = 0.05
"""Of what was gained on held-out pictures, what an earlier state may lack to be as good as the best."""

_KEPT = {"step", "losses", "training", "pictures"}


@dataclass
class Curve:
    """What was measured of a member, and its weights where they were best. A part of its checkpoints."""

    on: str = ""
    """Names the pictures and the timesteps: what was measured on others cannot be compared."""

    told: list[Validated] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    """In host memory, as files show them; empty until there is a best."""

    @property
    def best(self) -> Validated | None:
        """The measurement with the lowest loss on held-out pictures, of those after a step; the first of equals."""
        found = [each for each in self.told if each.step and each.loss is not None]
        return min(found, key=lambda each: (each.loss, each.step), default=None)

    @property
    def in_vain(self) -> int:
        """Measurements since the best."""
        best = self.best
        return 0 if best is None else sum(each.step > best.step for each in self.told)

    def add(self, event: Validated, weights: Mapping[str, Tensor]) -> None:
        """One more measurement, of a member with these `weights`."""
        self.told.append(event)
        if self.best is event:
            self.weights = {name: value.detach().to("cpu", copy=True) for name, value in weights.items()}

    def state(self) -> JSON:
        """What a resume needs besides the weights."""
        return {"on": self.on, "told": [each.model_dump(mode="json", include=_KEPT) for each in self.told]}

    def restore(self, state: Any, weights: Mapping[str, Tensor] | None) -> None:
        """Go on from what a checkpoint holds, if that was measured on the same."""
        if not isinstance(state, Mapping) or state.get("on") != self.on:
            return
        self.told = [Validated.model_validate(each) for each in state["told"]]
        self.weights = dict(weights or {})


def names(batches: Sequence[Batch], timesteps: Sequence[int]) -> str:
    """Names what is measured."""
    return sha256(files.canonical([[list(each.keys) for each in batches], list(timesteps)])).hexdigest()[:16]


def shortlist(curve: Curve, *, best: Path | None, last: Path, saved: Mapping[int, Path]) -> list[Candidate]:
    """Up to three states worth a try, the recommended one first. `best` is the file of the lowest loss, `saved` are
    files of single steps; paths are within the run's folder."""
    if not curve.told:
        return []
    end, lowest = curve.told[-1], curve.best
    if lowest is None or best is None:
        reason = "the last one; no pictures are held out, so nothing says whether an earlier one is better"
        return [_candidate(end, last, reason, recommended=True)]
    found = [_candidate(lowest, best, _lowest(curve, lowest), recommended=True)]
    early = _early(curve, lowest, saved)
    if early:
        step, seen = early
        reason = "nearly as good on held-out pictures, and trained less: it bends to other words more easily"
        found.append(_candidate(seen, saved[step], reason, step=step))
    if end.step != lowest.step:
        found.append(_candidate(end, last, f"the last one{_worse(end, lowest)}"))
    return found


# -- what is below serves the above ----------------------------------------------------------------------------------


def _lowest(curve: Curve, lowest: Validated) -> str:
    first, end = curve.told[0], curve.told[-1]
    text = "the lowest loss on held-out pictures"
    if first.step < lowest.step and first.loss is not None and lowest.loss is not None:
        if first.loss <= lowest.loss:
            return text + ", though not lower than at the start: nothing was learnt that holds for other pictures"
        text += f", {1 - lowest.loss / first.loss:.1%} below the start"
    if lowest.gap is not None and end.gap is not None and end.step > lowest.step:
        text += f"; from there to the end the gap to training pictures went from {lowest.gap:+.3g} to {end.gap:+.3g}"
    return text


def _worse(end: Validated, lowest: Validated) -> str:
    if end.loss is None or not lowest.loss:
        return ""
    return f": {end.loss / lowest.loss - 1:.1%} above the lowest loss on held-out pictures"


def _early(curve: Curve, lowest: Validated, saved: Mapping[int, Path]) -> tuple[int, Validated] | None:
    """The earliest saved step that is nearly as good as the best by the measurement before it."""
    first = curve.told[0]
    if first.loss is None or lowest.loss is None or first.loss <= lowest.loss:
        return None
    enough = lowest.loss + NEARLY * (first.loss - lowest.loss)
    for step in sorted(each for each in saved if each < lowest.step):
        seen = [each for each in curve.told if each.step <= step]
        if seen and seen[-1].loss is not None and seen[-1].loss <= enough:
            return step, seen[-1]
    return None


def _candidate(
    seen: Validated, file: Path, reason: str, *, recommended: bool = False, step: int | None = None
) -> Candidate:
    return events.Candidate(
        step=seen.step if step is None else step, file=str(file), reason=reason, recommended=recommended,
        measured_at=seen.step, losses=seen.losses, training=seen.training,
    )  # fmt: skip
