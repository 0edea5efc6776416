"""Before the first step: look at every picture, plan every epoch, encode what was never encoded.

settings -> scan -> plan          no weights, no torch: every problem with the data is known here
base     -> encode                what the store lacks, one at a time, so that an encoding never depends on company
plan     -> Source                micro-batches to batches, while training
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby

import torch
from torch import Tensor

from impasto import dice, events
from impasto.config import RunConfig
from impasto.data import captions as words
from impasto.data import encode as encodings
from impasto.data import pixels
from impasto.data.batch import Batch, Conditioning
from impasto.data.buckets import Placement
from impasto.data.examples import Example, Scan, scan
from impasto.data.plan import Micro, Plan, Visit, held_out
from impasto.data.pools import pools
from impasto.engine.device import Compute
from impasto.engine.member import part_rates
from impasto.errors import DataError, Problem
from impasto.events import Event
from impasto.families.detect import Card
from impasto.families.family import Family, ImageEncoder
from impasto.store import Store

Tell = Callable[[Event], None]
VARIANTS = 16
"""Captions with more variants than this are encoded at each visit: keeping them all would not pay."""


@dataclass(frozen=True)
class Feed:
    """What a run trains on: its pictures and its plan."""

    scan: Scan
    plan: Plan

    @cached_property
    def held_out(self) -> list[Micro]:
        """The validation pictures."""
        return held_out(self.plan.pools)

    def example(self, visit: Visit) -> Example:
        """The picture of a visit."""
        return self.scan.examples[visit.set][visit.example]


def look(config: RunConfig, card: Card, store: Store, tell: Tell) -> Feed:
    """Look at every picture and plan the run. Raises DataError with all that is wrong with the data."""
    tell(events.Phase(name="scan"))
    found = scan(
        config.data,
        memo=store.root / "pictures.json",
        progress=partial(_progress, tell, "scan"),
    )
    for problem in (*grouped(found.of("skip")), *grouped(found.of("note"))):
        tell(events.Warned(code=problem.code, text=str(problem)))
    found.check(config.data)
    placed = pools(config.data, found.examples, resolution=(card.resolution, card.resolution), step=card.step)
    return Feed(found, Plan(placed, config.train.seed, config.train.accumulate))


def grouped(problems: Sequence[Problem], most: int = 5) -> Iterator[Problem]:
    """The first few of each kind, and how many more there are: a thousand remarks help nobody."""
    for code, alike in groupby(sorted(problems, key=lambda each: each.code), key=lambda each: each.code):
        found = list(alike)
        yield from found[:most]
        if len(found) > most:
            yield Problem(code, f"and {len(found) - most} more of this kind")


class Source:
    """Turns micro-batches into batches: encoded pictures and captions, from the store or made on the spot."""

    def __init__(
        self, config: RunConfig, feed: Feed, card: Card, family: Family, compute: Compute, store: Store
    ) -> None:
        self._config = config
        self._feed = feed
        self._card = card
        self._family = family
        self._compute = compute
        self._store = store if config.data.cache else None
        self._learns_words = "text_encoder" in part_rates(config)
        self._vae: ImageEncoder | None = None
        self._vae_print = store.fingerprint(card.weights("vae"))
        self._text_print = "+".join(dict.fromkeys(store.fingerprint(card.weights(part)) for part in card.encoders))

    def fill(self, tell: Tell) -> None:
        """Encode whatever a visit can ask for and the store lacks. Nothing to do on the second run."""
        if self._store is None:
            return
        views = [(view, self._recipe(view.id, view.placement, view.flip)) for view in self._feed.plan.views()]
        lacking = [view for view, recipe in views if self._store.missing([recipe])]
        with self._encoder() if lacking else _nothing():
            for done, view in enumerate(lacking):
                _progress(tell, "encode pictures", done, len(lacking))
                self._distribution(Visit(view.set, view.example, view.id, 0, view.placement, view.flip))
        captions = [] if self._learns_words else sorted(self._kept_captions)
        unknown = [text for text in captions if self._store.missing([self._text_recipe(self._family.tokenize([text]))])]
        for done, caption in enumerate(unknown):
            _progress(tell, "encode captions", done, len(unknown))
            self._states(caption)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep the picture encoder at hand, if some pictures are new at each visit."""
        live = self._store is None or any(pool.live for pool in self._feed.plan.pools)
        with self._encoder() if live else _nothing():
            yield

    def step(self, step: int) -> list[Batch]:
        """The micro-batches of an optimizer step."""
        return [self.batch(micro) for micro in self._feed.plan.step(step)]

    def batch(self, micro: Micro) -> Batch:
        """A micro-batch, on the device."""
        latents = [self._latents(visit, key) for visit, key in zip(micro.visits, micro.keys, strict=True)]
        texts = [self._caption(visit, key) for visit, key in zip(micro.visits, micro.keys, strict=True)]
        weights = [self._weight(visit) for visit in micro.visits]
        sizes = torch.tensor([self._sizes(visit) for visit in micro.visits])
        return Batch(
            keys=micro.keys,
            latents=self._moved(torch.stack(latents)),
            cond={name: self._moved(value) for name, value in {**self._cond(texts), "sizes": sizes}.items()},
            weight=self._moved(torch.tensor(weights)),
        )

    # -- pictures ------------------------------------------------------------------------------------------------

    def _latents(self, visit: Visit, key: str) -> Tensor:
        found = self._distribution(visit)
        return encodings.draw_latents(found["mean"], found["std"], dice.seed("posterior", self._config.train.seed, key))

    def _distribution(self, visit: Visit) -> dict[str, Tensor]:
        """Mean and standard deviation of an encoded picture, each [C, h, w]."""
        new_each_time = self._feed.plan.pools[visit.set].live
        return encodings.kept(
            None if new_each_time else self._store,
            self._recipe(visit.id, visit.placement, visit.flip),
            lambda: self._encode(visit),
        )

    def _recipe(self, picture: str, placement: Placement, flip: bool) -> encodings.Recipe:
        return encodings.latents_recipe(
            picture, placement, flip=flip, alpha=self._config.data.alpha, encoder=self._vae_print
        )

    def _encode(self, visit: Visit) -> dict[str, Tensor]:
        example = self._feed.example(visit)
        loaded = pixels.load(example.path, background=self._config.data.alpha, placement=visit.placement, id=example.id)
        if isinstance(loaded, Problem):
            raise DataError(loaded)
        shown = pixels.render(loaded, visit.placement, flip=visit.flip, color=visit.color)
        with self._encoder():
            assert self._vae is not None
            mean, std = self._vae.encode(torch.from_numpy(shown)[None])
        if not bool(mean.isfinite().all() and std.isfinite().all()):
            fix = "check the VAE of the base model; it gives no numbers for this picture"
            raise DataError(Problem("E-IMG-040", "the picture encoder's answer is not finite", str(example.path), fix))
        return {"mean": mean[0], "std": std[0]}

    @contextmanager
    def _encoder(self) -> Iterator[None]:
        """The picture encoder on the device; one that is at hand already is used as it is."""
        if self._vae is not None:
            yield
            return
        with self._family.vae() as vae:
            self._vae = vae
            try:
                yield
            finally:
                self._vae = None

    def _sizes(self, visit: Visit) -> tuple[float, ...]:
        return encodings.sizes(self._feed.example(visit).size, visit.placement, flip=visit.flip)

    # -- captions ------------------------------------------------------------------------------------------------

    def _caption(self, visit: Visit, key: str) -> str:
        rules = self._config.data.captions_of(self._config.data.sets[visit.set])
        return words.visited(
            self._feed.example(visit).caption, rules, dice.generator("caption", self._config.train.seed, key)
        )

    def _captions(self) -> Iterable[str]:
        """Every caption that is worth keeping encoded."""
        for dataset, examples in zip(self._config.data.sets, self._feed.scan.examples, strict=True):
            rules = self._config.data.captions_of(dataset)
            for example in examples:
                yield from words.variants(example.caption, rules, limit=VARIANTS) or ()

    def _cond(self, texts: list[str]) -> Conditioning:
        if self._learns_words or any(self._changes(text) for text in texts):
            return self._family.tokenize(texts)
        states = [self._states(text) for text in texts]
        return {name: torch.stack([each[name] for each in states]) for name in states[0]}

    def _changes(self, text: str) -> bool:
        return self._store is None or text not in self._kept_captions

    @cached_property
    def _kept_captions(self) -> frozenset[str]:
        return frozenset(self._captions())

    def _states(self, caption: str) -> dict[str, Tensor]:
        """An encoded caption, without the batch's dimension."""
        cond = self._family.tokenize([caption])
        found = encodings.kept(self._store, self._text_recipe(cond), lambda: self._encode_text(cond))
        return {name: value[0] for name, value in found.items()}

    def _text_recipe(self, cond: Conditioning) -> encodings.Recipe:
        return encodings.text_recipe(
            cond["ids"],
            encoder=self._text_print,
            clip_skip=self._config.model.clip_skip,
            precision=self._compute.precision,
        )

    def _encode_text(self, cond: Conditioning) -> Conditioning:
        with torch.no_grad(), self._compute.autocast():
            return self._family.encode({name: value.to(self._compute.device) for name, value in cond.items()})

    # -- the rest ------------------------------------------------------------------------------------------------

    def _weight(self, visit: Visit) -> float:
        regularizes = self._feed.plan.pools[visit.set].role == "regularization"
        return self._config.objective.prior_weight if regularizes else 1.0

    def _moved(self, value: Tensor) -> Tensor:
        if self._compute.device.type == "cuda":
            return value.pin_memory().to(self._compute.device, non_blocking=True)
        return value.to(self._compute.device)


def _progress(tell: Tell, name: str, done: int, total: int) -> None:
    """Tell of it a hundred times at most."""
    if done % max(1, total // 100) == 0:
        tell(events.Phase(name=name, done=done, total=total))


@contextmanager
def _nothing() -> Iterator[None]:
    yield
