"""What a run will do: its settings and pictures, led through the code that trains up to the first weight.

settings -> scan -> plan -> what happens at which step          nothing is counted here that training counts too
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from impasto.adapters.config import Adapter, Ranked
from impasto.config import RunConfig
from impasto.data import recipes, traces
from impasto.data.dealing import enough, most
from impasto.data.examples import Example, Progress, Scan, scan
from impasto.data.feed import MEMO, Feed, planned
from impasto.data.plan import Micro, spread
from impasto.errors import ModelFileError
from impasto.families import detect
from impasto.families.card import Card
from impasto.optim.schedules import warmup_steps
from impasto.preflight import estimate, lint, pace
from impasto.preflight.fits import check_base
from impasto.preflight.report import (
    BucketPlan,
    Cache,
    Disk,
    Forecast,
    Pictures,
    Range,
    Rate,
    Refused,
    SetPlan,
    Steps,
)
from impasto.preflight.words import words
from impasto.rates import part_rates, text_encoder_until
from impasto.store import Store

SMALL = 500_000_000
"""A VAE of so many bytes is read to know its hash; larger ones only where it is known already."""

ENLARGED, LOST = 1.05, 0.1

WITHIN = 0.2
"""How far runs of one kind lie from each other, by other work of the machine."""


def plan(config: RunConfig, store: Store, progress: Progress | None = None, *, ranks: int = 1) -> Forecast:
    """Everything about a run that so many ranks share before it starts. Raises UserError as a run would."""
    card, feed = looked(config, store, progress)
    enough(feed.plan, ranks)
    return forecast(config, card, feed, store, ranks=ranks)


def looked(config: RunConfig, store: Store, progress: Progress | None = None) -> tuple[Card, Feed]:
    """The base, and what the run trains on. Raises UserError as a run would."""
    card = detect.look(config.model, heads=True)
    check_base(config, card)
    found = scan(config.data, memo=store.root / MEMO, progress=progress)
    found.check(config.data)
    return card, planned(config.data, found, config.train, config.validation, side=card.resolution, step=card.step)


def forecast(config: RunConfig, card: Card, feed: Feed, store: Store, *, ranks: int = 1) -> Forecast:
    """The same, of pictures that were looked through already."""
    examples = [each for found in feed.scan.examples for each in found]
    learnt = [each for each in examples if each.role == "train"]
    steps = _steps(config, feed, learnt)
    buckets = _buckets(feed)
    largest = max((each.width * each.height for each in buckets), default=card.resolution**2)
    visits = sum(len(micro.visits) * micro.bucket.area for micro in feed.plan.epoch(0))
    batch = min(max(pool.batch_size for pool in feed.plan.pools), -(-most(feed.plan) // ranks))
    pixels = visits / steps.per_epoch
    numbers, memory, seconds = _takes(config, card, area=largest, batch=batch, pixels=pixels * steps.total / ranks)
    seen = pace.known(store.root, pace.kind(config, card, pixels=pixels, ranks=ranks))
    if seen is not None:
        seconds = Range(seen * steps.total / (1 + WITHIN), seen * steps.total * (1 + WITHIN), "earlier")
    made = Forecast(
        name=config.name,
        base=card.name,
        resolution=card.resolution,
        pictures=_pictures(config, feed, examples, buckets),
        steps=steps,
        rates=_rates(config),
        trained=numbers,
        disk=_disk(config, steps, numbers),
        cache=_cache(config, card, feed, store),
        words=words(config.data, learnt, card, config.model),
        memory=memory,
        seconds=seconds,
        pixels=round(pixels),
        to_fetch=card.to_fetch,
    )
    return replace(made, advice=tuple(lint.advice(lint.Facts(config, card, feed, made))))


def _takes(
    config: RunConfig, card: Card, *, area: int, batch: int, pixels: float
) -> tuple[int | None, Range | None, Range | None]:
    """Numbers, memory and time; none of them where the base's files do not tell their shapes by their heads. Whether
    they can be trained on is for the loader to say, so that is no reason to stop here."""
    try:
        numbers = estimate.trained_numbers(config, card)
        memory = estimate.memory(config, card, area=area, batch=batch, numbers=numbers)
        return numbers, memory, estimate.seconds(config, card, pixels=pixels)
    except (ModelFileError, OSError):
        return None, None, None


def _steps(config: RunConfig, feed: Feed, learnt: Sequence[Example]) -> Steps:
    plan = feed.plan
    total = plan.total_steps(config.train)
    micros = plan.epoch(0)
    trained = [micro for micro in micros if plan.pools[micro.set].role == "train"]
    epochs = (epoch := plan.epoch_of(max(0, total - 1))) + (total - plan.start_of(epoch)) / max(
        1, plan.start_of(epoch + 1) - plan.start_of(epoch)
    )
    visits = sum(len(micro.visits) for micro in trained)
    saves = plan.due_steps(total, config.save.every_steps, config.save.every_epochs)
    saves += spread(total, config.save.files)
    previews = plan.due_steps(total, config.preview.every_steps, config.preview.every_epochs)
    start = [0] if config.preview.at_start and config.preview.prompts else []
    return Steps(
        micro_batches=len(micros),
        partial=sum(len(micro.visits) < plan.pools[micro.set].batch_size for micro in micros),
        per_epoch=plan.steps_per_epoch,
        total=total,
        epochs=epochs,
        per_picture=visits * epochs / max(1, len(learnt)),
        warmup=warmup_steps(config.optim.schedule, total),
        text_encoder_until=text_encoder_until(config, total) if "text_encoder" in part_rates(config) else None,
        saves=tuple(sorted({*saves, total})),
        previews=tuple([*start, *previews] if config.preview.prompts else []),
        validations=feed.measured_at(total),
    )


def _buckets(feed: Feed) -> tuple[BucketPlan, ...]:
    pictures = Counter(entry.placement.bucket for pool in feed.plan.pools for entry in pool.entries)
    batches = Counter(micro.bucket for micro in feed.plan.epoch(0))
    return tuple(BucketPlan(each.width, each.height, pictures[each], batches[each]) for each in sorted(pictures))


def _pictures(config: RunConfig, feed: Feed, examples: Sequence[Example], buckets: tuple[BucketPlan, ...]) -> Pictures:
    found: Scan = feed.scan
    placed = [
        (entry.placement, example.size)
        for pool, some in zip(feed.plan.pools, found.examples, strict=True)
        for entry, example in zip(pool.entries, some, strict=True)
    ]
    grown = [placement.enlarged(size) for placement, size in placed]
    lost = [1 - each.bucket.area / (each.resized[0] * each.resized[1]) for each, _ in placed]
    skipped: dict[str, list[str]] = {}
    for problem in found.of("skip"):
        skipped.setdefault(problem.code, []).append(f"{problem.where}: {problem.what}")
    visits = Counter(micro.set for micro in feed.plan.epoch(0) for _ in micro.visits)
    learnt = list({each.path: each for each in examples if each.role == "train"}.values())
    alike = traces.alike([each.trace for each in learnt])
    return Pictures(
        used=len(examples),
        looked_at=sum(found.looked_at),
        refused=tuple(Refused(code, len(each), each[0]) for code, each in sorted(skipped.items())),
        notes=dict(sorted(Counter(problem.code for problem in found.of("note")).items())),
        sets=tuple(
            SetPlan(str(each.path), each.role, len(found.examples[at]), visits[at])
            for at, each in enumerate(config.data.sets)
        ),
        buckets=buckets,
        upscaled=sum(each > ENLARGED for each in grown),
        largest_upscale=max(grown, default=1.0),
        cropped=sum(each > LOST for each in lost),
        largest_crop=max(lost, default=0.0),
        held_out=tuple(
            str(each.path)
            for at, some in enumerate(found.examples)
            for each in some
            if each.role == "validation" and config.data.sets[at].role != "validation"
        ),
        measured=(_measured(feed.held_out), _measured(feed.beside)),
        copies=tuple(tuple(str(learnt[at].path) for at in group) for group in alike),
    )


def _measured(micros: Sequence[Micro]) -> int:
    return sum(len(micro.visits) for micro in micros)


def _rates(config: RunConfig) -> tuple[Rate, ...]:
    scale = scale_of(config.adapter)
    return tuple(Rate(str(part), rate, scale, rate * scale) for part, rate in part_rates(config).items())


def scale_of(adapter: Adapter) -> float:
    """What an adapter's output is multiplied by, where no block or rule says otherwise."""
    if not isinstance(adapter, Ranked):
        return 1.0
    alpha = adapter.alpha or adapter.rank
    return float(alpha / adapter.rank**0.5 if adapter.rank_stabilized else alpha / adapter.rank)


def _disk(config: RunConfig, steps: Steps, numbers: int | None) -> Disk:
    width = 4 if config.save.precision == "fp32" else 2
    kept = len(steps.saves) - 1  # the last is the final file itself
    files = (kept if config.save.keep is None else min(kept, config.save.keep)) + 1
    checkpoints = min(len(steps.saves), config.save.keep_checkpoints)
    one = None if numbers is None else numbers * width
    whole = None if numbers is None else numbers * 4 * (4 if config.optim.ema else 3)
    total = None if one is None or whole is None else one * files + whole * checkpoints
    return Disk(one, files, whole, checkpoints, len(steps.previews) * len(config.preview.prompts), total)


def _cache(config: RunConfig, card: Card, feed: Feed, store: Store) -> Cache:
    if not config.data.cache:
        return Cache(0, 0, 0)
    views = feed.views()
    channels = int(card.configs["vae"].get("latent_channels", 4))
    size = sum(each.placement.bucket.area // card.factor**2 * channels * 8 for each in views)
    paths = card.weights("vae")
    if not card.whole or (sum(path.stat().st_size for path in paths) > SMALL and not store.knows(*paths)):
        return Cache(len(views), None, size)
    encoder = recipes.picture_encoder(store.fingerprint(*paths), config.model.vae_precision, config.model.vae_tile)
    wanted = [
        recipes.latents_recipe(
            each.id, each.placement, flip=each.flip, alpha=config.data.alpha, encoder=encoder, color=each.color
        )
        for each in views
    ]
    return Cache(len(views), len(wanted) - len(store.missing(wanted)), size)
