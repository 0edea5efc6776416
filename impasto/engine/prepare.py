"""Before the first step: look at every picture, plan every epoch, encode what was never encoded.

settings -> scan -> plan          no weights, no torch: every problem with the data is known here
base     -> encode                what the store lacks, one at a time, so that an encoding never depends on company
plan     -> Source                micro-batches to batches, while training
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from hashlib import sha256
from itertools import groupby
from threading import Lock

import torch
from torch import Tensor

from impasto import dice, events
from impasto.config import RunConfig
from impasto.data import captions as words
from impasto.data import encode as encodings
from impasto.data import recipes, visiting
from impasto.data.batch import Batch, Conditioning, stacked
from impasto.data.config import Captions
from impasto.data.examples import scan
from impasto.data.feed import MEMO, Feed, planned
from impasto.data.plan import Micro, View, Visit
from impasto.engine.device import Compute
from impasto.engine.portions import of_one_size, portions
from impasto.engine.preview import texts_of
from impasto.engine.proving import SCENE
from impasto.engine.scores import drawn
from impasto.errors import DataError, Problem
from impasto.events import Event
from impasto.families.config import Merged
from impasto.families.detect import Card, Part
from impasto.families.family import Family, ImageEncoder
from impasto.files import canonical
from impasto.rates import part_rates
from impasto.store import Store

Tell = Callable[[Event], None]
MEASURED = 20_221
"""The dice of pictures that are measured. They are not the run's, so that runs of different seeds can be compared."""
KNOWN = 20_000
"""Captions whose recipe is remembered, so that they are cut into tokens once: 3 KB each."""
VARIANTS = 16
"""Captions with more variants than this are encoded at each visit: keeping them all would not pay."""


def look(config: RunConfig, card: Card, store: Store, tell: Tell) -> Feed:
    """Look at every picture and plan the run. Raises DataError with all that is wrong with the data."""
    tell(events.Phase(name="scan"))
    found = scan(config.data, memo=store.root / MEMO, progress=partial(_progress, tell, "scan"))
    for problem in (*grouped(found.of("skip")), *grouped(found.of("note"))):
        tell(events.Warned(code=problem.code, text=str(problem)))
    found.check(config.data)
    return planned(config.data, found, config.train, config.validation, side=card.resolution, step=card.step)


def grouped(problems: Sequence[Problem], most: int = 5) -> Iterator[Problem]:
    """The first few of each kind, and how many more there are: a thousand remarks help nobody."""
    for code, alike in groupby(sorted(problems, key=lambda each: each.code), key=lambda each: each.code):
        found = list(alike)
        yield from found[:most]
        if len(found) > most:
            yield Problem(code, f"and {len(found) - most} more of this kind")


def fingerprint(store: Store, card: Card, part: Part, merged: Sequence[Merged]) -> str:
    """Of a part of the base as it is trained on: of its files, and of the adapters that are merged into it."""
    own = store.fingerprint(*card.weights(part))
    if not merged:
        return own
    return sha256(canonical([own, [[store.fingerprint(each.path), each.weight] for each in merged]])).hexdigest()


def fill(sources: Sequence[tuple[Source, Tell]], share: slice | None = None) -> None:
    """Encode whatever visits can ask for and the store lacks, or a share of it: first all pictures, then all captions,
    so that never two kinds of encoders are in memory."""
    for source, tell in sources:
        source.fill_pictures(tell, share)
    for source, tell in sources:
        source.fill_captions(tell, share)


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
        self._keeps_base = config.objective.prior_target == "base"
        self._learns_words = "text_encoder" in part_rates(config)
        self._vae: ImageEncoder | None = None
        self._one_at_a_time = Lock()
        self._known: dict[str, recipes.Recipe] = {}
        self._vae_print = store.fingerprint(*card.weights("vae"))
        self._text_print = "+".join(
            dict.fromkeys(fingerprint(store, card, part, config.model.merged) for part in card.encoders)
        )

    @property
    def _text_form(self) -> str:
        """In which precision captions are encoded."""
        packed = self._config.model.quantize_text_encoder
        return self._compute.text_precision + ("" if packed == "none" else f"+{packed}")

    @property
    def _vae_form(self) -> str:
        """Which picture encoder it is, and how it encodes."""
        model = self._config.model
        return recipes.picture_encoder(self._vae_print, model.vae_precision, model.vae_tile)

    def fill_pictures(self, tell: Tell, share: slice | None = None) -> None:
        """Encode the pictures that a visit can ask for and the store lacks. Nothing to do on the second run."""
        if self._store is None:
            return
        views = [(view, self._recipe(view)) for view in self._feed.views()[share or slice(None)]]
        lacking = [view for view, recipe in views if self._store.missing([recipe])]
        visits = [Visit(each.set, each.example, each.id, 0, each.placement, each.flip, each.color) for each in lacking]
        with self._encoder() if visits else nullcontext():
            for done, together in of_one_size(visits, self._config.data.vae_batch_size):
                _progress(tell, "encode pictures", done, len(visits))
                for visit, found in zip(together, self._encode(together), strict=True):
                    encodings.kept(self._store, self._recipe(visit), partial(dict, found))
            self._say_rescued(tell)

    def fill_captions(self, tell: Tell, share: slice | None = None) -> None:
        """The same for captions, and for what previews and proofs say."""
        if self._store is None or self._learns_words:
            return
        texts = sorted({*self._kept_captions, *self._prompts()})[share or slice(None)]
        unknown = [text for text in texts if self._store.missing([self._text_recipe(self._family.tokenize([text]))])]
        with self._family.lending.words() if unknown else nullcontext():
            for done, together in portions(unknown, self._config.data.text_encoder_batch_size):
                _progress(tell, "encode captions", done, len(unknown))
                self._keep_states(together)
        if many := sum(self._is_many(*each) for each in self._captioned()):
            text = (
                f"{many} captions can be more than {VARIANTS} texts each, by shuffling, dropping or choosing; they are "
                "encoded at each visit"
            )
            tell(events.Noted(text=text))

    @contextmanager
    def live(self, tell: Tell) -> Iterator[None]:
        """Keep the encoders at hand that are asked at each visit: where some pictures or captions are new each time, or
        words are learnt."""
        pictures = self._store is None or any(pool.live for pool in self._feed.plan.pools)
        encoders = self._family.lending.words() if self._encodes_words else nullcontext()
        with self._encoder() if pictures else nullcontext(), encoders:
            yield
            self._say_rescued(tell)

    def said(self, texts: Sequence[str]) -> Conditioning:
        """What the base is told by texts that are no captions: from the store, where the text encoder learns nothing.

        Each is encoded by itself, so that a picture does not depend on what else is drawn.
        """
        learnt = self._learns_words
        found = self._family.tokenize(list(texts)) if learnt else stacked([self._states(text) for text in texts])
        return {name: self._moved(value) for name, value in found.items()}

    @property
    def _encodes_words(self) -> bool:
        """Whether captions are encoded while training."""
        return self._store is None or self._learns_words or any(self._is_many(*each) for each in self._captioned())

    def _prompts(self) -> Iterator[str]:
        """What previews and proofs say."""
        for prompt in (*drawn(self._config), *([SCENE] if self._config.save.proof != "off" else [])):
            yield from texts_of(prompt, self._card)

    def _say_rescued(self, tell: Tell) -> None:
        if self._vae is not None and (count := self._vae.rescued):
            precision = self._config.model.vae_precision
            text = f"the picture encoder gave no numbers in {precision} for {count} encodings; they were done in fp32"
            tell(events.Warned(code="W-NUM-001", text=text))

    def step(self, step: int) -> list[Batch]:
        """The micro-batches of an optimizer step."""
        return [self.batch(micro, step) for micro in self._feed.plan.step(step)]

    def batch(self, micro: Micro, step: int = 0) -> Batch:
        """A micro-batch of an optimizer step, on the device."""
        named = list(zip(micro.visits, micro.keys, strict=True))
        latents = [self._latents(visit, key, measured=micro.measured) for visit, key in named]
        moment = None if micro.measured else words.Moment(step, self._steps, micro.epoch)
        texts = [self._caption(visit, key, moment) for visit, key in named]
        weights = [self._weight(visit) for visit in micro.visits]
        size = (latents[0].shape[-2], latents[0].shape[-1])
        masked = self._config.data.masks_of(self._config.data.sets[micro.set]).used
        mask = self._moved(torch.stack([self._mask(visit, size) for visit in micro.visits])) if masked else None
        cond = {**self._cond(texts), **self._choices(micro)}
        return Batch(
            keys=micro.keys,
            latents=self._moved(torch.stack(latents)),
            cond={name: self._moved(value) for name, value in cond.items()},
            weight=self._moved(torch.tensor(weights)),
            mask=mask,
            prior=tuple(self._regularizes(visit) for visit in micro.visits) if self._keeps_base else (),
        )

    def _choices(self, micro: Micro) -> Conditioning:
        """What else a denoiser is told of each visit: the geometry of its picture, and what fell by dice."""
        seed, places, chances = (
            self._config.train.seed,
            self._config.objective.places,
            self._config.data.silence.chances,
        )
        sizes = torch.tensor([self._sizes(visit) for visit in micro.visits])
        where = None if places.usual else (places.anywhere, places.scaled)
        return {"sizes": sizes, **encodings.choices(micro, seed, chances=chances, places=where)}

    # -- pictures ------------------------------------------------------------------------------------------------

    def _latents(self, visit: Visit, key: str, *, measured: bool) -> Tensor:
        found = self._distribution(visit, keep=measured or not self._feed.plan.pools[visit.set].live)
        seed = MEASURED if measured else self._config.train.seed  # runs of other seeds measure the same
        return encodings.draw_latents(found["mean"], found["std"], dice.seed("posterior", seed, key))

    def _distribution(self, visit: Visit, *, keep: bool) -> dict[str, Tensor]:
        """Mean and standard deviation of an encoded picture, each [C, h, w]; kept where it can be asked for again."""
        return encodings.kept(
            self._store if keep else None,
            self._recipe(visit),
            lambda: self._encode([visit])[0],
        )

    def _recipe(self, seen: Visit | View) -> recipes.Recipe:
        return recipes.latents_recipe(
            seen.id, seen.placement,
            flip=seen.flip, alpha=self._config.data.alpha, encoder=self._vae_form, color=seen.color,
        )  # fmt: skip

    def _encode(self, visits: Sequence[Visit]) -> list[dict[str, Tensor]]:
        """Pictures of one size, encoded together."""
        drawn = [visiting.picture(self._feed.example(each), each, self._config.data.alpha) for each in visits]
        shown = torch.stack([torch.from_numpy(each) for each in drawn])
        with self._one_at_a_time, self._encoder():  # threads decode side by side, and encode in turn
            assert self._vae is not None
            mean, std = self._vae.encode(shown)
        for at, visit in enumerate(visits):
            if not bool(mean[at].isfinite().all() and std[at].isfinite().all()):
                where = str(self._feed.example(visit).path)
                fix = "check the VAE of the base; it gives no numbers for this"
                raise DataError(Problem("E-IMG-040", "the picture encoder's answer is not finite", where, fix))
        return [{"mean": mean[at], "std": std[at]} for at in range(len(visits))]

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

    def _mask(self, visit: Visit, size: tuple[int, int]) -> Tensor:
        """What of a picture counts, [1, h, w] at the size of its latents."""
        example = self._feed.example(visit)
        by_alpha = self._config.data.masks_of(self._config.data.sets[visit.set]).alpha
        if example.mask is None and not by_alpha:
            return torch.ones(1, *size)
        recipe = recipes.mask_recipe(
            example.mask.id if example.mask else None, example.id if by_alpha else None, visit.placement,
            flip=visit.flip, size=size,
        )  # fmt: skip
        new_each_time = self._feed.plan.pools[visit.set].live
        store = None if new_each_time else self._store
        return encodings.kept(store, recipe, lambda: self._render_mask(visit, size, by_alpha=by_alpha))["mask"]

    def _render_mask(self, visit: Visit, size: tuple[int, int], *, by_alpha: bool) -> dict[str, Tensor]:
        whole = visiting.counts(self._feed.example(visit), visit, self._config.data.alpha, by_alpha=by_alpha)
        return {"mask": encodings.shrunk(torch.from_numpy(whole), size)}

    def _sizes(self, visit: Visit) -> tuple[float, ...]:
        return encodings.sizes(self._feed.example(visit).size, visit.placement, flip=visit.flip)

    # -- captions ------------------------------------------------------------------------------------------------

    def _caption(self, visit: Visit, key: str, moment: words.Moment | None) -> str:
        """The caption of a visit; at no moment of the training, the whole one."""
        rules = self._config.data.captions_of(self._config.data.sets[visit.set])
        return visiting.caption(self._feed.example(visit), rules, self._config.train.seed, key, moment)

    @cached_property
    def _steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self._feed.plan.total_steps(self._config.train)

    def _captioned(self) -> Iterator[tuple[str, Captions]]:
        """Every caption that is changed by visits, with its rules."""
        for dataset, examples in zip(self._config.data.sets, self._feed.scan.examples, strict=True):
            rules = self._config.data.captions_of(dataset)
            yield from ((each.caption, rules) for each in examples if each.role != "validation")

    def _is_many(self, caption: str, rules: Captions) -> bool:
        return words.variants(caption, rules, limit=VARIANTS) is None

    def _captions(self) -> Iterator[str]:
        """Every caption that is worth keeping encoded."""
        for caption, rules in self._captioned():
            found = words.variants(caption, rules, limit=VARIANTS)
            yield from (words.WITHOUT_WORDS,) if found is None else found
        for micro in (*self._feed.held_out, *self._feed.beside):
            rules = self._config.data.captions_of(self._config.data.sets[micro.set])
            yield from (words.complete(self._feed.example(visit).caption, rules) for visit in micro.visits)

    def _cond(self, texts: list[str]) -> Conditioning:
        if self._learns_words or any(self._changes(text) for text in texts):
            return self._family.tokenize(texts)
        return stacked([self._states(text) for text in texts])

    def _changes(self, text: str) -> bool:
        return self._store is None or text not in self._kept_captions

    @cached_property
    def _kept_captions(self) -> frozenset[str]:
        return frozenset(self._captions())

    def _states(self, caption: str) -> dict[str, Tensor]:
        """An encoded caption, without the batch's dimension."""
        recipe = self._known.get(caption) or self._text_recipe(self._family.tokenize([caption]))
        if len(self._known) < KNOWN:
            self._known[caption] = recipe
        found = encodings.kept(self._store, recipe, lambda: self._encode_text(self._family.tokenize([caption])))
        return {name: value[0] for name, value in found.items()}

    def _keep_states(self, captions: Sequence[str]) -> None:
        """Encode captions together and keep each; those without padding have lengths of their own, and go alone."""
        conds = [self._family.tokenize([caption]) for caption in captions]
        if len(captions) == 1 or "mask" in conds[0]:
            for caption in captions:
                self._states(caption)
            return
        joined = {name: torch.cat([each[name] for each in conds]) for name in conds[0]}
        found = self._encode_text(joined)
        for at, cond in enumerate(conds):
            own = {name: value[at : at + 1] for name, value in found.items()}
            encodings.kept(self._store, self._text_recipe(cond), partial(dict, own))

    def _text_recipe(self, cond: Conditioning) -> recipes.Recipe:
        return encodings.text_recipe(
            cond,
            encoder=self._text_print,
            clip_skip=self._config.model.clip_skip,
            precision=self._text_form,
            emphasis=self._config.model.emphasis,
        )

    def _encode_text(self, cond: Conditioning) -> Conditioning:
        with torch.no_grad(), self._compute.autocast():
            return self._family.encode({name: value.to(self._compute.device) for name, value in cond.items()})

    # -- the rest ------------------------------------------------------------------------------------------------

    def _weight(self, visit: Visit) -> float:
        dataset = self._config.data.sets[visit.set]
        prior = self._config.objective.prior_weight if self._regularizes(visit) else 1.0
        return prior * dataset.weight * self._feed.example(visit).weight

    def _regularizes(self, visit: Visit) -> bool:
        return self._feed.plan.pools[visit.set].role == "regularization"

    def _moved(self, value: Tensor) -> Tensor:
        return self._compute.moved(value)


def _progress(tell: Tell, name: str, done: int, total: int) -> None:
    """Tell of it a hundred times at most."""
    if done % max(1, total // 100) == 0:
        tell(events.Phase(name=name, done=done, total=total))
