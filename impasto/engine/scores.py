"""What drawn pictures are worth, as numbers of several kinds that are never made into one.

Everything is told by cosines of image features, so all of it depends on the encoder; a score of one encoder compares
with scores of the same encoder only. Pure arithmetic: features in, numbers out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from impasto.config import RunConfig
from impasto.engine.config import Prompt, word
from impasto.errors import ConfigError, Problem

Features = NDArray[np.float64]
"""[N, F], each row of length 1."""

NEAREST = 3
"""Training pictures a drawn one is compared with: those it is most like."""

CLOSE = 0.95
"""A drawn picture is a copy if it is closer to a training picture than this share of them is to its own neighbour."""


@dataclass(frozen=True)
class Probes:
    """What is drawn to score an adapter: prompts with the trigger, and the same without it."""

    with_trigger: tuple[Prompt, ...]
    without: tuple[Prompt, ...]


def probes(prompts: Sequence[Prompt], trigger: str | None, instead: str) -> Probes:
    """The prompts that name the trigger, and their twins with `instead` in its place; without a trigger no twins.

    Raises ConfigError if no prompt names it.
    """
    if trigger is None:
        return Probes(tuple(prompts), ())
    calls = word(trigger)
    found = [each for each in prompts if calls.search(each.text)]
    if not found:
        fix = f'--prompt "a picture of {trigger}"'
        raise ConfigError(Problem("E-SCO-002", f"no prompt has the word {trigger}", "command line --trigger", fix))
    twins = (each.model_copy(update={"text": _tidy(calls.sub(instead, each.text))}) for each in found)
    return Probes(tuple(found), tuple(dict.fromkeys(twins)))


def probes_of(config: RunConfig) -> Probes:
    """What a run's files are scored by; nothing where it names no trigger."""
    asked = config.scores
    if asked.trigger is None:
        return Probes((), ())
    shown = [each.text for each in config.preview.prompts]
    texts = asked.prompts or tuple(dict.fromkeys(text for text in shown if asked.called_by(text)))
    drawn = [
        Prompt(text=text, seed=seed, steps=asked.steps) for text in texts or (asked.trigger,) for seed in asked.seeds
    ]
    return probes(drawn, asked.trigger, asked.instead)


def drawn(config: RunConfig) -> tuple[Prompt, ...]:
    """All that a run draws: its previews, and what its files are scored by."""
    asked = probes_of(config)
    return (*config.preview.prompts, *asked.with_trigger, *asked.without)


@dataclass(frozen=True)
class Drawn:
    """Features of what one adapter drew, or the base alone."""

    with_trigger: Mapping[str, Features]
    """By prompt, a row for each seed."""

    without: Mapping[str, Features]
    """The same prompts without the trigger; empty if none was named."""


@dataclass(frozen=True)
class Scores:
    """Of one adapter. None: it cannot be told from what was drawn."""

    similarity: float
    """How like the training pictures it draws: 0 as the base, 1 as these pictures are like each other."""

    leak: float | None
    """The same for prompts without the trigger: 0 is clean, 1 means the concept is everywhere."""

    diversity: float | None
    """How different pictures of one prompt are over the seeds, against the base's own: 1 is as varied as the base."""

    copies: float
    """Share of the drawn pictures that are closer to a training picture than training pictures are to each other."""

    match: float | None = None
    """How well pictures fit their words, less the base's own fit: below 0 it has unlearned to listen. Only with an
    encoder that reads words."""


def scores(
    drawn: Drawn, base: Drawn, training: Features, match: float | None = None, base_match: float | None = None
) -> Scores:
    """The scores of one adapter against the base alone; `training` are features of the pictures it learned from."""
    own, plain = _all(drawn.with_trigger), _all(base.with_trigger)
    return Scores(
        similarity=_share(own, plain, training),
        leak=_share(_all(drawn.without), _all(base.without), training) if drawn.without else None,
        diversity=_ratio(_spread(drawn.with_trigger), _spread(base.with_trigger)),
        copies=copies(own, training),
        match=None if match is None or base_match is None else match - base_match,
    )


def likeness(pictures: Features, references: Features, *, themselves: bool = False) -> float:
    """The mean cosine of pictures to the references each is most like; with `themselves`, not counting itself."""
    cosines = pictures @ references.T
    if themselves:
        np.fill_diagonal(cosines, -np.inf)
    count = min(NEAREST, len(references) - themselves)
    best = np.sort(cosines, axis=1)[:, -count:]
    return float(best.mean())


def copies(pictures: Features, training: Features) -> float:
    """The share of pictures that lie closer to a training picture than nearly all of these do to each other."""
    if len(training) < 2:
        return 0.0
    among = training @ training.T
    np.fill_diagonal(among, -np.inf)
    limit = np.quantile(among.max(axis=1), CLOSE)
    return float(((pictures @ training.T).max(axis=1) > limit).mean())


def agreement(pictures: Mapping[str, Features], words: Mapping[str, Features]) -> float:
    """The mean cosine of pictures to the words they were drawn from."""
    return float(np.mean([float((rows @ words[text].T).mean()) for text, rows in pictures.items()]))


def _share(own: Features, base: Features, training: Features) -> float:
    """0 where the base is, 1 where the training pictures are among themselves."""
    if len(training) < 2:
        return 0.0
    low, high = likeness(base, training), likeness(training, training, themselves=True)
    return (likeness(own, training) - low) / max(high - low, 1e-6)


def _spread(by_prompt: Mapping[str, Features]) -> float | None:
    """The mean of 1 - cosine over the pairs of one prompt; None with one seed."""
    apart: list[float] = []
    for rows in by_prompt.values():
        at = np.triu_indices(len(rows), 1)
        apart += (1 - (rows @ rows.T)[at]).tolist()
    return float(np.mean(apart)) if apart else None


def _ratio(own: float | None, base: float | None) -> float | None:
    return None if own is None or base is None or base < 1e-9 else own / base


def _all(by_prompt: Mapping[str, Features]) -> Features:
    rows: Sequence[Features] = list(by_prompt.values())
    return np.concatenate(rows)


def _tidy(text: str) -> str:
    """Without the gaps that a word leaves."""
    return re.sub(r"\s+([,.])", r"\1", re.sub(r"\s{2,}", " ", text)).strip(" ,")
