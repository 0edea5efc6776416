"""The files on a run's shortlist, scored by what they draw; of those that draw as well, the cleaner one goes first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from impasto import events
from impasto.config import RunConfig
from impasto.data import pixels
from impasto.engine import features, preview
from impasto.engine.config import Prompt
from impasto.engine.features import Encoder, Features
from impasto.engine.scores import Drawn, Probes, agreement, probes_of, scores
from impasto.errors import Problem
from impasto.events import Candidate
from impasto.weights import file

if TYPE_CHECKING:
    from impasto.engine.session import Session
    from impasto.engine.trainer import Trainer

ALIKE = 0.05
"""A file that is less like the training pictures by up to so much draws as well."""

CLEANER = 0.1
"""So much less copied or leaked is worth another choice."""

WAY = 2
"""Files saved on the way that are scored beside the last one."""

Weights = Mapping[str, Tensor] | None
"""Of a file, as the adapter names them; None: those that the member shows."""


def ready(config: RunConfig) -> None:
    """Raise ModelFileError where what pictures are to be compared by cannot be opened: before the training."""
    if config.scores.encoder is not None:
        features.encoder(config.scores.encoder, torch.device("cpu"))


def states(session: Session, listed: Sequence[Candidate]) -> list[tuple[Candidate, Weights]]:
    """The candidates with their weights; where no pictures are held out, some of the files saved on the way too."""
    folder, curve, step = session.folder, session.gauge.curve, session.member.step
    listed = listed or [Candidate(step=step, file=folder.final.name, reason="the last one", recommended=True,
                                  measured_at=step, losses={}, training={})]  # fmt: skip
    found: list[tuple[Candidate, Weights]] = []
    for each in listed:
        if each.file == folder.final.name:
            found.append((each, None))
        else:
            best = each.file == folder.best.name
            found.append((each, curve.weights if best else _filed(session, folder.path / each.file)))
    if curve.best is None:
        last, saved = listed[-1], [each for each in folder.adapters() if folder.step_of(each) < step]
        for path in saved[:: -(-len(saved) // WAY)][:WAY] if saved else ():
            name = str(path.relative_to(folder.path))
            made = last.model_copy(update={"file": name, "step": folder.step_of(path), "recommended": False,
                                           "reason": "saved on the way"})  # fmt: skip
            found.append((made, _filed(session, path)))
    return found


def score(
    session: Session, trainer: Trainer, states: Sequence[tuple[Candidate, Weights]], poll: Callable[[], None]
) -> list[Candidate]:
    """The candidates with their scores, the recommended one first."""
    learnt = _learnt(session)
    if not learnt:
        return [each for each, _ in states]
    by = features.encoder(session.config.scores.encoder, trainer.compute.device)
    training = by.pictures(learnt)
    total = (len(states) + 1) * sum(1 for _ in _all(probes_of(session.config)))
    done = 0

    def draw(prompt: Prompt, *, alone: bool) -> Image.Image:
        nonlocal done
        session.tell(events.Phase(name="scores", done=done, total=total))
        poll()
        member = session.member
        shown = preview.draw(
            trainer.family, trainer.compute, prompt, session.card, riders=trainer.riders,
            adapter=None if alone else member.adapter, process=member.objective.process, said=session.source.said,
            poll=poll,
        )  # fmt: skip
        done += 1
        return preview.picture(shown)

    try:
        base = _drawn(session, by, lambda prompt: draw(prompt, alone=True))
        found = []
        for candidate, weights in states:
            if weights == {}:
                found.append(candidate)
                continue
            with _showing(session, weights):
                own = _drawn(session, by, lambda prompt: draw(prompt, alone=False))
            told = scores(own, base, training, fit(own, by), fit(base, by))
            found.append(candidate.model_copy(update={"scores": asdict(told)}))
    except torch.OutOfMemoryError:
        text = "no memory to draw what files are scored by; make data.resolution smaller, or leave scores.trigger out"
        session.tell(events.Warned(code="W-MEM-004", text=text))
        return [each for each, _ in states]
    return weighed(found)


def weighed(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The recommended one first: another one in place of the first where it draws as well, and copies or leaks less."""
    first, *others = candidates
    cleaner = [each for each in others if _is_cleaner(each, first)]
    if not cleaner:
        return list(candidates)
    chosen = min(cleaner, key=lambda each: (_of(each, "copies") + _of(each, "leak"), -_of(each, "similarity")))
    less = [f"{words} {_of(chosen, name):.0%} in place of {_of(first, name):.0%}" for name, words in _UNWANTED.items()
            if _of(first, name) - _of(chosen, name) >= CLEANER]  # fmt: skip
    reason = f"{chosen.reason}; it draws as well as {first.file}, and {' and '.join(less)}"
    rest = [each.model_copy(update={"recommended": False}) for each in candidates if each is not chosen]
    return [chosen.model_copy(update={"recommended": True, "reason": reason}), *rest]


def fit(drawn: Drawn, by: Encoder) -> float | None:
    """How well pictures fit their words, where the encoder reads words."""
    if by.words is None:
        return None
    texts = list(drawn.with_trigger)
    read = by.words(texts)
    return agreement(drawn.with_trigger, {text: read[at : at + 1] for at, text in enumerate(texts)})


# -- what is below serves the above ----------------------------------------------------------------------------------

_UNWANTED = {"copies": "copies", "leak": "leaks"}


def _is_cleaner(other: Candidate, first: Candidate) -> bool:
    if not other.scores or not first.scores:
        return False
    gained = [_of(first, name) - _of(other, name) for name in _UNWANTED]
    alike = _of(first, "similarity") - _of(other, "similarity") <= ALIKE
    return alike and max(gained) >= CLEANER and min(gained) > -ALIKE


def _of(candidate: Candidate, name: str) -> float:
    return candidate.scores.get(name) or 0.0


def _all(asked: Probes) -> Iterator[Prompt]:
    yield from asked.with_trigger
    yield from asked.without


def _drawn(session: Session, by: Encoder, draw: Callable[[Prompt], Image.Image]) -> Drawn:
    def of(prompts: Sequence[Prompt]) -> dict[str, Features]:
        found: dict[str, list[Image.Image]] = {}
        for each in prompts:
            found.setdefault(each.text, []).append(draw(each))
        return {text: by.pictures(some) for text, some in found.items()}

    asked = probes_of(session.config)
    return Drawn(of(asked.with_trigger), of(asked.without))


@contextmanager
def _showing(session: Session, weights: Weights) -> Iterator[None]:
    with session.member.averaged() if weights is None else session.member.showing(weights):
        yield


def _filed(session: Session, path: Path) -> Weights:
    """The weights in a file of the run, by the adapter's names; those of diffusers are folded and have others."""
    return file.load(path)[0] if session.config.save.layout == "kohya" else {}


def _learnt(session: Session) -> list[Image.Image]:
    """Some of the training pictures; what can no longer be read is left out."""
    examples = {each.id: each for some in session.feed.scan.examples for each in some if each.role == "train"}
    chosen = [examples[name] for name in sorted(examples)][: session.config.scores.pictures]
    looks = [pixels.load(each.path) for each in chosen]
    return [Image.fromarray(np.asarray(look.rgb)) for look in looks if not isinstance(look, Problem)]
