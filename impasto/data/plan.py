"""Which pictures make up each optimizer step of a run: a pure function of pools, seed and step.

    pools, seed, epoch -> micro-batches of the epoch, in order -> the few of step i

The position in a run is one integer, the optimizer step. Every training picture is seen exactly as often as it repeats
in every epoch; regularization pictures take turns until there are as many of them as training pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice, product
from typing import Protocol

from impasto import dice
from impasto.data.buckets import Bucket, Placement
from impasto.data.pools import Pool
from impasto.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class Visit:
    """One look at one picture."""

    set: int
    example: int
    """Its place among the examples of the set."""

    id: str
    visit: int
    """Which look at this picture in this epoch, from 0."""

    placement: Placement
    flip: bool = False
    color: int | None = None
    """Seeds the shift of colours; None: as they are."""

    @property
    def key(self) -> str:
        """Names this visit among all of an epoch."""
        return f"{self.set}:{self.id}:{self.visit}"


@dataclass(frozen=True, slots=True)
class Micro:
    """A micro-batch to be: visits of one set in one bucket."""

    epoch: int
    index: int
    """Its place in the epoch."""

    set: int
    bucket: Bucket
    visits: tuple[Visit, ...]
    measured: bool = False
    """Not to be trained on: the pictures as they are, with their whole captions."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Names each visit among all of the run: what its dice are keyed by."""
        return tuple(f"{visit.key}:{self.epoch}" for visit in self.visits)


@dataclass(frozen=True, slots=True)
class View:
    """A picture as an encoder would see it."""

    set: int
    example: int
    id: str
    placement: Placement
    flip: bool
    color: int | None = None


class Length(Protocol):
    """How long a run lasts: so many optimizer steps, or so many epochs."""

    @property
    def steps(self) -> int | None: ...
    @property
    def epochs(self) -> int | None: ...


def epoch_plan(pools: Sequence[Pool], seed: int, epoch: int) -> list[Micro]:
    """All micro-batches of an epoch, in order."""
    micros: list[Micro] = []
    for at, (pool, drawn) in enumerate(zip(pools, _drawn(pools, seed, epoch), strict=True)):
        for bucket, draws in _by_bucket(pool, drawn):
            dice.generator("visits", seed, epoch, at, bucket.width, bucket.height).shuffle(draws)
            visits = [_visit(pool, at, draw, seed, epoch) for draw in draws]
            micros += _cut(visits, pool.batch_size, epoch, at, bucket)
    dice.generator("order", seed, epoch).shuffle(micros)
    return [replace(micro, index=index) for index, micro in enumerate(micros)]


def measured(pools: Sequence[Pool], chosen: Collection[tuple[int, str]]) -> list[Micro]:
    """The `chosen` pictures (set, id) in micro-batches: each once, never flipped or cut by dice, in one order."""
    micros: list[Micro] = []
    for at, pool in enumerate(pools):
        first = {entry.id: place for place, entry in reversed(list(enumerate(pool.entries)))}
        draws = [(id, 0, place) for id, place in first.items() if (at, id) in chosen]
        for bucket, some in _by_bucket(pool, draws):
            visits = [Visit(at, place, id, visit, pool.entries[place].placement) for id, visit, place in some]
            micros += _cut(visits, pool.batch_size, 0, at, bucket)
    return [replace(micro, index=index, measured=True) for index, micro in enumerate(micros)]


def batches(pools: Sequence[Pool], seed: int, epoch: int) -> int:
    """How many micro-batches an epoch has. It differs between epochs only where regularization pictures take turns."""
    return sum(
        -(-len(draws) // pool.batch_size)
        for pool, drawn in zip(pools, _drawn(pools, seed, epoch), strict=True)
        for _, draws in _by_bucket(pool, drawn)
    )


def steps_per_epoch(batches: int, accumulate: int) -> int:
    """Optimizer steps of an epoch; its last may have fewer micro-batches than the others."""
    return -(-batches // accumulate)


def spread(total: int, count: int | None) -> frozenset[int]:
    """The steps of a run of `total` at which each of `count` equal parts of it ends."""
    return frozenset(-(-total * part // count) for part in range(1, count + 1)) if count else frozenset()


@dataclass(frozen=True)
class Plan:
    """The plan of a whole run. It remembers the epochs at hand; what it answers depends on its three fields alone."""

    pools: tuple[Pool, ...]
    seed: int
    accumulate: int = 1
    _epochs: dict[int, tuple[Micro, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _starts: dict[int, int] = field(default_factory=lambda: {0: 0}, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert any(pool.role == "train" and pool.entries for pool in self.pools), "a scan that passed has something"

    def step(self, step: int) -> tuple[Micro, ...]:
        """The micro-batches of optimizer step `step`, counted from 0."""
        epoch = self.epoch_of(step)
        first = (step - self.start_of(epoch)) * self.accumulate
        return self.epoch(epoch)[first : first + self.accumulate]

    def epoch(self, epoch: int) -> tuple[Micro, ...]:
        """The micro-batches of an epoch, counted from 0."""
        found = self._epochs.get(epoch)
        if found is None:  # threads may come here at once: they find the same
            found = tuple(epoch_plan(self.pools, self.seed, epoch))
            for old in [each for each in tuple(self._epochs) if abs(each - epoch) > 1]:
                self._epochs.pop(old, None)
            self._epochs[epoch] = found
        return found

    def epoch_of(self, step: int) -> int:
        """The epoch that step `step` belongs to."""
        if not self._takes_turns:
            return step // self.steps_per_epoch
        epoch = step // self.steps_per_epoch
        while self.start_of(epoch) > step:
            epoch -= 1
        while self.start_of(epoch + 1) <= step:
            epoch += 1
        return epoch

    def start_of(self, epoch: int) -> int:
        """The first step of an epoch: as many steps as the epochs before it have."""
        if not self._takes_turns:
            return epoch * self.steps_per_epoch
        known = max(each for each in tuple(self._starts) if each <= epoch)
        while known < epoch:
            steps = steps_per_epoch(batches(self.pools, self.seed, known), self.accumulate)
            self._starts[known + 1] = self._starts[known] + steps
            known += 1
        return self._starts[epoch]

    def epochs_done(self, step: int) -> int | None:
        """After `step` optimizer steps: how many epochs are complete, if that is where one ends, else None."""
        epoch = self.epoch_of(step)
        return epoch if step and self.start_of(epoch) == step else None

    def due(self, step: int, every_steps: int | None, every_epochs: int | None) -> bool:
        """Whether something is to be done after `step` optimizer steps that is done every so many steps or epochs."""
        over = self.epochs_done(step) if every_epochs else None
        by_epoch = every_epochs is not None and over is not None and over % every_epochs == 0
        return by_epoch or (every_steps is not None and step % every_steps == 0)

    def due_steps(self, total: int, every_steps: int | None, every_epochs: int | None) -> list[int]:
        """All steps of a run of `total` after which it is due."""
        found = set(range(every_steps, total + 1, every_steps)) if every_steps else set()
        epoch = every_epochs or 0
        while every_epochs and self.start_of(epoch) <= total:
            found.add(self.start_of(epoch))
            epoch += every_epochs
        return sorted(found)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of the first epoch, and of all where no regularization pictures take turns."""
        if 1 not in self._starts:
            self._starts[1] = steps_per_epoch(batches(self.pools, self.seed, 0), self.accumulate)
        return self._starts[1]

    def total_steps(self, length: Length) -> int:
        """Optimizer steps of a run of this length."""
        if length.steps is not None:
            return length.steps
        if length.epochs is None:
            fix = "for instance train.steps = 1600, or train.epochs = 10"
            raise ConfigError(Problem("E-CFG-071", "neither steps nor epochs are given", "train", fix))
        return self.start_of(length.epochs)

    def views(self) -> tuple[View, ...]:
        """Every picture as an encoder can ever see it, for encoding ahead, validation included; sets whose pictures are
        new at each visit are left out."""
        found: dict[tuple[str, Placement, bool, int | None], View] = {}
        for at, pool in enumerate(self.pools):
            for place, entry in enumerate(pool.entries):
                flips = (False, True) if pool.flip and not entry.held_out else (False,)
                for look, flip in product(pool.looks(entry), flips):
                    view = View(at, place, entry.id, look.placement, flip, look.color)
                    found.setdefault((entry.id, look.placement, flip, look.color), view)
        return tuple(sorted(found.values(), key=lambda view: (view.set, view.example, view.id, view.flip)))

    @property
    def _takes_turns(self) -> bool:
        return any(pool.role == "regularization" for pool in self.pools)


# what is below serves the above

_Draw = tuple[str, int, int]
"""Which picture, which look at it, and its place in its set. Sorted, they stand in an order that no folder decides."""


def _drawn(pools: Sequence[Pool], seed: int, epoch: int) -> list[list[_Draw]]:
    """The draws of an epoch, set by set."""
    drawn = [_each(pool) if pool.role == "train" else [] for pool in pools]
    wanted = sum(map(len, drawn))
    seen: Counter[tuple[int, str]] = Counter()
    turns = _turns(pools, seed, first=epoch * wanted)
    for at, id, place in islice(turns, wanted):
        drawn[at].append((id, seen[at, id], place))
        seen[at, id] += 1
    return drawn


def _each(pool: Pool) -> list[_Draw]:
    """Every picture as often as it repeats. Looks at the same picture, twice in the folder, are counted through."""
    seen: Counter[str] = Counter()
    draws = []
    for id, place in sorted((entry.id, place) for place, entry in enumerate(pool.entries) if not entry.held_out):
        for _ in range(pool.entries[place].repeats):
            draws.append((id, seen[id], place))
            seen[id] += 1
    return draws


def _turns(pools: Sequence[Pool], seed: int, *, first: int) -> Iterator[tuple[int, str, int]]:
    """Regularization pictures (set, id, place) for ever, from turn `first` on: all of them before any comes again,
    each time in another order; one that repeats `n` times is in `n` rounds of a lap."""
    rounds = _rounds(pools)
    lap = sum(map(len, rounds))
    if not lap:
        return
    skip = first % lap
    for number in count(first // lap):
        for index, members in enumerate(rounds):
            if skip < len(members):
                shuffled = list(members)
                dice.generator("regularization", seed, number, index).shuffle(shuffled)
                yield from shuffled[skip:]
            skip = max(0, skip - len(members))


def _rounds(pools: Sequence[Pool]) -> list[list[tuple[int, str, int]]]:
    """Round `n` of a lap has the regularization pictures that repeat more than `n` times."""
    everyone = sorted(
        (at, entry.id, place, entry.repeats)
        for at, pool in enumerate(pools)
        if pool.role == "regularization"
        for place, entry in enumerate(pool.entries)
    )
    most = max((repeats for *_, repeats in everyone), default=0)
    return [[(at, id, place) for at, id, place, repeats in everyone if repeats > n] for n in range(most)]


def _by_bucket(pool: Pool, draws: Iterable[_Draw]) -> list[tuple[Bucket, list[_Draw]]]:
    found: dict[Bucket, list[_Draw]] = {}
    for draw in sorted(draws):
        found.setdefault(pool.entries[draw[2]].placement.bucket, []).append(draw)
    return sorted(found.items())


def _cut(visits: Sequence[Visit], size: int, epoch: int, at: int, bucket: Bucket) -> Iterator[Micro]:
    """Micro-batches of `size`; the last may be smaller."""
    for start in range(0, len(visits), size):
        yield Micro(epoch, 0, at, bucket, tuple(visits[start : start + size]))


def _visit(pool: Pool, at: int, draw: _Draw, seed: int, epoch: int) -> Visit:
    id, number, place = draw
    entry = pool.entries[place]
    plain = Visit(at, place, id, number, entry.placement)
    if pool.variants is None:
        look = pool.look(entry, seed, epoch, plain.key)
    else:
        look = pool.variant(entry, dice.generator("variant", seed, epoch, plain.key).randrange(pool.variants))
    flip = pool.flip and dice.generator("flip", seed, epoch, plain.key).random() < 0.5
    return replace(plain, placement=look.placement, flip=flip, color=look.color)
