"""What watches the numbers of a run: steps that are none, losses and gradients that explode, steps that become slow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median

from torch import Tensor

from impasto.engine import config as settings
from impasto.engine.member import Member
from impasto.events import Step, Warned
from impasto.files import JSON

IN_A_ROW, SHARE, WINDOW = 3, 0.01, 500
"""Steps without finite numbers that are too many: so many in a row, or this share of the last ones."""

IN_A_ROW_FP16 = 30
"""In fp16 a skipped step is how the loss scale is found, so more of them are patience, not failure."""

TRIES = 5
"""So often a run is helped on; then it ends."""

SEEN = 100
"""Steps that say what is usual; a fifth of them must be known."""

LONGER, TOO_LONG = 10, 3.0
"""Steps in a row that are slow, each taking so many times the usual."""

QUIET = 200
"""Steps between two warnings of the same."""

_KEPT = "good-"
"""How the files of a state to come back to begin, in a checkpoint."""


@dataclass
class Guard:
    """Watches one run."""

    config: settings.Guard
    skipped: list[bool] = field(default_factory=list)
    """Which of the last steps were thrown away."""

    _usual: dict[str, deque[float]] = field(default_factory=lambda: {name: deque(maxlen=SEEN) for name in _WATCHED})
    _slow: int = 0
    _told: dict[str, int] = field(default_factory=dict)
    _good: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    _good_at: int = 0

    def skip(self, skipped: bool) -> None:
        """One more step, and whether it was thrown away."""
        self.skipped.append(skipped)
        del self.skipped[:-WINDOW]

    def too_many(self, *, scaled: bool) -> bool:
        """Whether so many steps were thrown away that it will not get better by itself."""
        patience = IN_A_ROW_FP16 if scaled else IN_A_ROW
        tail = self.skipped[-patience:]
        many = not scaled and len(self.skipped) == WINDOW and sum(self.skipped) > SHARE * WINDOW
        return (len(tail) == patience and all(tail)) or many

    def remember(self, member: Member) -> None:
        """Keep the member's state, if it is one to come back to."""
        due = not self._good or member.step - self._good_at >= self.config.remember_every
        if self.config.on_nonfinite == "roll_back" and due and not any(self.skipped[-IN_A_ROW:]):
            self._good_at = member.step
            self._good = {
                name: {key: value.detach().to("cpu", copy=True) for key, value in group.items()}
                for name, group in member.tensors().items()
            }

    def state(self) -> JSON:
        """What a resume needs besides the state that is kept: for how long numbers have been missing."""
        return {"skipped": [at for at, skipped in enumerate(reversed(self.skipped)) if skipped],
                "seen": len(self.skipped), "good_at": self._good_at}  # fmt: skip

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The state to come back to, by file; nothing where the settings ask for none."""
        return {_KEPT + name: group for name, group in self._good.items()}

    def restore(self, state: object, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from what a checkpoint holds; one of an earlier version holds nothing of it."""
        if not isinstance(state, Mapping):
            return
        skipped = set(state["skipped"])
        self.skipped = [at in skipped for at in reversed(range(state["seen"]))]
        self._good_at = state["good_at"]
        self._good = {
            name.removeprefix(_KEPT): dict(group) for name, group in tensors.items() if name.startswith(_KEPT)
        }

    def help(self, member: Member) -> str | None:
        """Do what the settings say against numbers that are none; returns what was done, None if nothing is left."""
        policy = self.config.on_nonfinite
        if policy == "stop" or member.halvings >= TRIES:
            return None
        self.skipped.clear()
        member.halvings += 1
        done = f"the rates are {2**member.halvings} times smaller from step {member.step} on"
        if policy == "roll_back" and self._good:
            member.restore(member.step, self._good)
            done += f", and the weights are those of step {self._good_at}"
        return done

    def watch(self, event: Step) -> Iterator[Warned]:
        """What is to be said of a step."""
        for name, (code, words) in _WATCHED.items():
            value, usual = getattr(event, name), self._usual[name]
            if value is None:
                continue
            times = value / middle if len(usual) >= SEEN // 5 and (middle := median(usual)) > 0 else 1.0
            usual.append(value)
            if name == "seconds":
                self._slow = self._slow + 1 if times >= TOO_LONG else 0
                loud = self._slow >= LONGER
            else:
                loud = times >= self.config.explosion
            if loud and event.step - self._told.get(name, -QUIET) >= QUIET:
                self._told[name] = event.step
                yield Warned(code=code, text=f"step {event.step}: {words} {times:.3g} times the usual ({value:.3g})")


_WATCHED: dict[str, tuple[str, str]] = {
    "loss": ("W-NUM-002", "the loss is"),
    "norm": ("W-NUM-003", "the gradient is"),
    "seconds": ("W-SPD-001", f"the last {LONGER} steps were slow, this one took"),
}
"""Of a step's event: the code of a warning, and how it begins."""
