"""The visits of a run as it trains on them: each picture cut, mirrored and coloured, with the caption of that visit.

Nothing is chosen here: the plan, its dice and what is done to pictures and captions are those of the training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from impasto.config import RunConfig
from impasto.data import visiting
from impasto.data.captions import Moment
from impasto.data.examples import Example
from impasto.data.feed import Feed
from impasto.data.findings import shown
from impasto.data.pixels import Bytes
from impasto.data.plan import Visit
from impasto.errors import ConfigError, Problem
from impasto.families import t5_tokens, tokens
from impasto.families.card import Card
from impasto.families.tokens import Count

ENCODERS = ("CLIP-L", "CLIP-G", "T5")


@dataclass(frozen=True)
class Read:
    """A caption as one text encoder reads it."""

    reader: str
    tokens: int
    limit: int
    cut: str
    """What of the caption is beyond the limit."""


@dataclass(frozen=True)
class Drawn:
    """One visit."""

    step: int
    """The optimizer step that it is part of, from 1."""

    epoch: int
    """From 1."""

    visit: Visit
    example: Example
    caption: str
    weight: float
    """How much its loss counts."""

    silent: tuple[str, ...]
    """The text encoders that say nothing."""

    reads: tuple[Read, ...]
    pixels: Bytes
    """[H, W, 3]"""

    counts: Bytes | None
    """[H, W], how much each place counts, 255: all of it; None: every place does."""

    @cached_property
    def about(self) -> dict[str, Any]:
        """What is told of it beside its picture."""
        visit, example = self.visit, self.example
        return {
            "step": self.step,
            "epoch": self.epoch,
            "visit": visit.visit + 1,
            "picture": shown(example.path),
            "role": example.role,
            "size": list(example.size),
            "resized": list(visit.placement.resized),
            "crop": list(visit.placement.crop),
            "bucket": [visit.placement.bucket.width, visit.placement.bucket.height],
            "mirrored": visit.flip,
            "recoloured": visit.color is not None,
            "weight": self.weight,
            "written": example.caption,
            "caption": self.caption,
            "silent": list(self.silent),
            "tokens": {each.reader: {"read": min(each.tokens, each.limit), "cut": each.cut} for each in self.reads},
        }


def epochs(config: RunConfig, feed: Feed) -> int:
    """How many epochs the run begins."""
    return feed.plan.epoch_of(feed.plan.total_steps(config.train) - 1) + 1


def visits(
    config: RunConfig, card: Card, feed: Feed, *, epoch: int, count: int | None = None, only: str = ""
) -> Iterator[Drawn]:
    """The visits of an epoch, counted from 1, in the order of the training: the first `count` of those to pictures
    whose path holds `only`. Raises ConfigError where the run has no such epoch."""
    begun = epochs(config, feed)
    if not 1 <= epoch <= begun:
        what = f"there is no epoch {epoch}: this run has {begun}"
        raise ConfigError(Problem("E-CLI-001", what, "command line", f"--epoch {min(max(1, epoch), begun)}"))
    found = ((step, visit, key) for step, visit, key in _looks(config, feed, epoch - 1)
             if only in str(feed.example(visit).path))  # fmt: skip
    total, seed, chances = feed.plan.total_steps(config.train), config.train.seed, config.data.silence.chances
    for step, visit, key in islice(found, count):
        dataset, example = config.data.sets[visit.set], feed.example(visit)
        rules, masks = config.data.captions_of(dataset), config.data.masks_of(dataset)
        text = visiting.caption(example, rules, seed, key, Moment(step, total, epoch - 1))
        prior = config.objective.prior_weight if dataset.role == "regularization" else 1.0
        behind = config.data.alpha
        counted = visiting.counts(example, visit, behind, by_alpha=masks.alpha) if masks.used else None
        yield Drawn(
            step=step + 1,
            epoch=epoch,
            visit=visit,
            example=example,
            caption=text,
            weight=prior * dataset.weight * example.weight,
            silent=tuple(
                name for name, hushed in zip(ENCODERS, visiting.silent(chances, seed, key), strict=True) if hushed
            ),
            reads=_reads(card, config, text),
            pixels=_bytes((visiting.picture(example, visit, behind).transpose(1, 2, 0) + 1) / 2),
            counts=None if counted is None else _bytes(counted),
        )


def _looks(config: RunConfig, feed: Feed, epoch: int) -> Iterator[tuple[int, Visit, str]]:
    """Each visit of an epoch with its step, both counted from 0, and the key of its dice."""
    plan = feed.plan
    last = min(plan.start_of(epoch + 1), plan.total_steps(config.train))
    for step in range(plan.start_of(epoch), last):
        for micro in plan.step(step):
            for visit, key in zip(micro.visits, micro.keys, strict=True):
                yield step, visit, key


def _reads(card: Card, config: RunConfig, text: str) -> tuple[Read, ...]:
    found = [_read("CLIP", tokens.counts(card, config.model, [text]), config.model.max_tokens)]
    if "text_encoder_3" in card.configs:
        limit = config.model.t5_tokens or card.t5_tokens
        reader = t5_tokens.tokenizer(t5_tokens.folder_of(card))
        found.append(_read("T5", t5_tokens.counts(reader, [text], limit), limit - 1))
    return tuple(found)


def _read(reader: str, counted: Sequence[Count], limit: int) -> Read:
    (count,) = counted
    return Read(reader, count.tokens, limit, count.lost)


def _bytes(values: np.typing.NDArray[np.floating[Any]]) -> Bytes:
    found: Bytes = np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
    return found
