"""What every event has, and the events of what was measured: losses with fixed noise, and what is chosen by them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from impasto.schema import Section

VERSION: Final = 1


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _writable(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_writable)]
"""Words or a file name. Bytes of a name that are no text are told as escapes."""

Number = Annotated[float | None, BeforeValidator(_finite)]
"""A measured number. One that is not finite is told as none at all."""


class Told(Section):
    """What every event has."""

    version: Literal[1] = VERSION
    """Version of this line's form."""

    time: float = 0.0
    """Seconds since 1970; the log fills it in. For people: no decision rests on it."""


class Validated(Told):
    """The loss was measured with fixed noise, on held-out pictures and on as many training pictures."""

    kind: Literal["validated"] = "validated"
    step: int
    """Steps done."""
    losses: dict[str, Number]
    """Mean loss of the held-out pictures at each timestep; empty where none are held out."""
    training: dict[str, Number] = Field(default_factory=dict)
    """The same of as many training pictures."""
    pictures: int = 0
    """Held-out pictures that were measured."""

    @property
    def loss(self) -> float | None:
        """The mean over the timesteps for the held-out pictures; None where there are none, or no numbers."""
        return _mean(self.losses)

    @property
    def training_loss(self) -> float | None:
        """The mean over the timesteps for the training pictures."""
        return _mean(self.training)

    @property
    def gap(self) -> float | None:
        """How much worse held-out pictures are: where it opens, pictures are learnt by heart."""
        held, trained = self.loss, self.training_loss
        return None if held is None or trained is None else held - trained

    @property
    def score(self) -> float | None:
        """What runs on the same pictures, or moments of one, are compared by: the loss of held-out pictures; where
        none are held out, of training pictures."""
        return self.training_loss if self.loss is None else self.loss


class Candidate(Section):
    """A state of the adapter worth a try."""

    step: int
    """Steps done."""
    file: Text
    """Its file, within the run's folder."""
    reason: Text
    """Why it is among the few."""
    recommended: bool = False
    """Whether it is the one to try first."""
    measured_at: int
    """The step of the measurement that follows; an earlier one where this step was not measured itself."""
    losses: dict[str, Number]
    """Mean loss of the held-out pictures at each timestep."""
    training: dict[str, Number]
    """The same of as many training pictures."""
    scores: dict[str, Number] = Field(default_factory=dict)
    """How it draws, where `scores.trigger` asks for it: `similarity`, `leak`, `diversity`, `copies`, `match`."""


class Picked(Told):
    """The run is over: which states of the adapter are worth a try, and why."""

    kind: Literal["picked"] = "picked"
    step: int
    """Steps done."""
    candidates: Annotated[tuple[Candidate, ...], Field(strict=False)]
    """Up to three, the recommended one first."""


class Ranked(Told):
    """What the adapter is worth at each rank it was cut to: the loss with the same noise on the same pictures."""

    kind: Literal["ranked"] = "ranked"
    step: int
    """Steps done."""
    pictures: Text
    """Which ones: `validation`, or some of the `training` where none are held out."""
    count: int
    """How many."""
    losses: dict[str, dict[str, Number]]
    """For each rank the mean loss at each noise level; rank 0 is the base alone, the last one the whole adapter."""
    files: dict[str, Text]
    """The file of each rank, within the run's folder."""

    def means(self) -> dict[int, float]:
        """The mean over the noise levels, by rank; those that are not finite are left out."""
        found = {int(rank): [each for each in by.values() if each is not None] for rank, by in self.losses.items()}
        return {rank: sum(values) / len(values) for rank, values in found.items() if values}


class Spent(Told):
    """What the time since the last such telling went into."""

    kind: Literal["spent"] = "spent"
    step: int
    """Steps done."""
    steps: int = 0
    """Steps in this time; none in that before the first one."""
    seconds: float
    """All of the time."""
    parts: dict[str, float]
    """Seconds of each: scan, encode, load; data, forward, backward, update; validation, preview, save, proof; others
    (of the fleet), other."""
    pace: Number = None
    """Seconds of a step."""
    expected: Number = None
    """Seconds of a step in earlier runs of the same kind on this machine."""


def scored(scores: Mapping[str, float | None]) -> str:
    """What a file draws, each score by itself."""
    words = {"similarity": "like the pictures", "leak": "leaks", "diversity": "variety", "copies": "copies"}
    parts = [f"{text} {share(value)}" for name, text in words.items() if (value := scores.get(name)) is not None]
    match = scores.get("match")
    return ", ".join([*parts, *([] if match is None else [f"fit to words {match:+.3f}"])])


def share(value: float) -> str:
    """In hundredths; what rounds to nothing has no sign."""
    return f"{round(value, 2) + 0.0:.0%}"


def _mean(losses: Mapping[str, float | None]) -> float | None:
    found = [each for each in losses.values() if each is not None]
    return sum(found) / len(found) if found and len(found) == len(losses) else None
