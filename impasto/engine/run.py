"""Train runs: open their folders, prepare what they need, step until all are done.

This is the way from settings to a trained adapter, from top to bottom; the command line, the queue and the library all
come through `train`.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path

from torch import Tensor

from impasto import adapters, events, families, objectives, optim
from impasto.checks import check, check_together
from impasto.config import RunConfig, base_key
from impasto.data.loader import Loader
from impasto.engine import device, opening, prepare, ranks
from impasto.engine.device import Compute
from impasto.engine.member import Member, trained
from impasto.engine.proving import Witness
from impasto.engine.session import Session, Show, StopAsked
from impasto.engine.signals import StopRequest
from impasto.engine.told import Teller
from impasto.engine.trainer import Trainer
from impasto.errors import ConfigError, Problem, Stopped, UserError
from impasto.families import detect
from impasto.families.detect import Card
from impasto.families.family import Family
from impasto.families.names import T5
from impasto.store import Store, default_root
from impasto.weights import layouts, starting
from impasto.weights.merge import by_layer, merge_all


def train(
    configs: Sequence[RunConfig],
    *,
    allow: frozenset[str] = frozenset(),
    restart: bool = False,
    strict: bool = False,
    show: Show | None = None,
    cache: Path | None = None,
) -> list[Path]:
    """Train every run, those on the same base together, and return their folders.

    A run whose folder exists goes on from its last checkpoint; one that is finished is left as it is. `allow` names
    settings that may differ from the folder's, `restart` moves an old folder aside first, `strict` refuses runs that
    there is advice on, `show` is called with every event, `cache` is where encoded pictures are kept (default: the
    user's cache folder).

    Raises UserError for what a user can mend, and Stopped when a signal asked for the end. A run that fails leaves the
    others of its fleet to their end; then its error is raised.
    """
    problems = [*chain.from_iterable(check(config) for config in configs), *check_together(configs)]
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    stop, store = StopRequest(), Store(cache or default_root(os.environ))
    failures: list[UserError] = []
    with stop.listening(), ExitStack() as held:
        sessions = [held.enter_context(opening.opened(each, allow, restart, show)) for each in configs]
        for together in fleets(sessions):
            failures += Fleet(together, store, stop, strict=strict).train()
    if failures:
        raise failures[0]
    return [session.folder.path for session in sessions]


def fleets(sessions: Iterable[Session]) -> list[list[Session]]:
    """Runs that may share a base, together."""
    found: dict[str, list[Session]] = {}
    for session in sessions:
        found.setdefault(base_key(session.config), []).append(session)
    return list(found.values())


class Fleet:
    """Runs that train at once on one frozen base."""

    def __init__(self, sessions: Sequence[Session], store: Store, stop: StopRequest, *, strict: bool = False) -> None:
        self._sessions = list(sessions)
        self._store = store
        self._stop = stop
        self._strict = strict
        self._failures: list[UserError] = []

    def train(self) -> list[UserError]:
        """Train until every run is done; returns what ended a run early. What ends all of them is raised."""
        with ExitStack() as held:
            try:
                card, totals = self._plan()
                if self._sessions:
                    trainer, witness = self._load(card, totals, held)
                    with self._stop.training():
                        self._train(trainer, witness)
            except UserError as error:
                for session in self._sessions:
                    session.fail(error)
                raise
        return self._failures

    def _plan(self) -> tuple[Card, dict[str, int]]:
        """Look at all pictures of all runs before any weight is read, and leave out what is finished."""
        for session in self._sessions:
            optim.check(session.config.optim)
        card = detect.look(self._sessions[0].config.model)
        totals = {}
        for session in list(self._sessions):
            session.card = card
            _has_names(session.config, card)
            for note in card.notes:
                session.tell(events.Warned(code=note.code, text=str(note)))
            session.feed = prepare.look(session.config, card, self._store, session.tell)
            total = session.feed.plan.total_steps(session.config.train)
            totals[str(session.folder.path)] = total
            if session.finished_at >= total:
                session.tell(events.Noted(text=f"already finished, all {total} steps: {session.folder.final}"))
                self._sessions.remove(session)
                continue
            opening.advise(session, self._store, strict=self._strict)
        return card, totals

    def _load(self, card: Card, totals: dict[str, int], held: ExitStack) -> tuple[Trainer, Witness]:
        config = self._sessions[0].config
        compute = device.choose(config.device, config.model)
        for session in self._sessions:
            device.holds(session.config.optim, compute)
            session.tell(events.Phase(name="load"))
        family = families.load(card, config.model, device=compute.device, dtype=compute.dtype)
        merge_all(family.targets(), config.model.merged)
        for session in self._sessions:  # before any picture is encoded: what does not go with this base is refused
            objectives.build(session.config.objective, family.process, session.config.train.seed)
            _has_layers(session.config, family)
        trainer = Trainer(family, compute, config.device.rows)
        for session in self._sessions:
            self._admit(session, trainer, totals[str(session.folder.path)], held)
        return trainer, Witness(card, config.model, compute)

    def _admit(self, session: Session, trainer: Trainer, total: int, held: ExitStack) -> None:
        """Make a run's member, as it was when it was last saved, and let it ride."""
        config, family, compute = session.config, trainer.family, trainer.compute
        source = prepare.Source(config, session.feed, session.card, family, compute, self._store)
        source.fill(session.tell)
        held.enter_context(source.live(session.tell))
        saved = session.newest()
        session.member, notes = member(config, family, compute, total, saved.tensors["adapter"] if saved else None)
        for note in notes:
            session.tell(events.Noted(text=note))
        session.member.feed(Loader(source.step, last=total, ahead=config.data.prefetch, workers=config.data.workers))
        held.callback(session.member.close)
        session.held_out = [source.batch(micro) for micro in session.feed.held_out]
        if ranks.asked(config):
            session.ranked_on = session.held_out or ranks.batches(source, session.feed.plan, total)
        base_hash = prepare.fingerprint(self._store, session.card, "unet", config.model.merged)
        session.teller = Teller(config, session.card, session.feed, compute, base_hash, uuid.uuid4().hex, total)
        session.restore(saved)
        session.begin()
        trainer.add(session.member)

    def _train(self, trainer: Trainer, witness: Witness) -> None:
        poll = self._stop.poll
        try:
            for session in list(self._sessions):
                self._apart(session, trainer, partial(first, session, trainer, witness, poll))
                if session.done:
                    self._leave(session, trainer)
            while self._sessions:
                poll()
                for failed, error in trainer.step().items():
                    self._lose(next(each for each in self._sessions if each.member is failed), trainer, error)
                for session in list(self._sessions):
                    self._after_step(session, trainer, witness)
        except Stopped:
            for session in self._sessions:
                session.interrupt(trainer)
            raise

    def _after_step(self, session: Session, trainer: Trainer, witness: Witness) -> None:
        begun = time.monotonic()
        self._apart(session, trainer, partial(session.after_step, trainer, witness, self._stop.poll))
        if session.done:
            self._leave(session, trainer)
        for other in self._sessions:
            if other is not session:
                other.wait_for(time.monotonic() - begun)

    def _apart(self, session: Session, trainer: Trainer, act: Callable[[], None]) -> None:
        """Whatever happens to one run in `act` is no other run's business."""
        try:
            act()
        except StopAsked:
            self._leave(session, trainer)
        except UserError as error:
            self._lose(session, trainer, error)

    def _lose(self, session: Session, trainer: Trainer, error: UserError) -> None:
        session.fail(error)
        self._failures.append(error)
        self._leave(session, trainer)

    def _leave(self, session: Session, trainer: Trainer) -> None:
        if session in self._sessions:
            self._sessions.remove(session)
            trainer.remove(session.member)
            session.member.close()


def _has_names(config: RunConfig, card: Card) -> None:
    """Raise ConfigError when a layer to train has no name in the layout of the files."""
    if config.save.layout != "diffusers" or "text_encoder_3" not in card.configs:
        return
    if any(
        seat.target.encoder == T5 for seat in adapters.seats(config.adapter, trained(config, families.outline(card)))
    ):
        what = "T5 is trained, and diffusers loads no adapters of it, so its layout has no names for them"
        fix = 'adapter.rules = [{ match = "^lora_te3_", skip = true }], or save.layout = "kohya"'
        raise ConfigError(Problem("E-CFG-171", what, "save.layout", fix))


def _has_layers(config: RunConfig, family: Family) -> None:
    """Raise ConfigError when blocks or rules do not fit this base, or leave no layer to train."""
    if not adapters.seats(config.adapter, trained(config, family.targets())):
        what, fix = "no layer gets an adapter: nothing would be trained", "see `impasto layers` and open some"
        raise ConfigError(Problem("E-CFG-134", what, "adapter", fix))


def member(
    config: RunConfig, family: Family, compute: Compute, total: int, saved: Mapping[str, Tensor] | None = None
) -> tuple[Member, list[str]]:
    """A run's member before its first step, and what there is to tell of its start.

    Parts whose learning rate is 0 have no adapter at all. `saved` is the adapter in the run's checkpoint, if it has
    one: it decides the sizes where a file did, which may be gone.
    """
    start, sizes, begun = config.adapter.start, None, None
    if start is not None:
        begun = layouts.load(start.path, family.targets()) if saved is None else by_layer(saved)
        sizes = starting.sizes(start.path, begun) if start.sizes == "file" else None
    adapter = adapters.build(config.adapter, trained(config, family.targets()), config.train.seed, sizes)
    notes = list(starting.take_over(adapter, start.path, begun)) if start and begun and saved is None else []
    objective = objectives.build(config.objective, family.process, config.train.seed)
    adapter = adapter.to(compute.device)
    return Member(config, adapter, objective, total, scaled=compute.scaled), notes


def first(session: Session, trainer: Trainer, witness: Witness, poll: Callable[[], None]) -> None:
    """Before the first step: what the base draws by itself; and after a kill behind the last step, what it left out."""
    if session.member.step == 0 and session.config.preview.at_start:
        session.draw_previews(trainer, poll)
    if session.done:
        session.finish(trainer, witness, poll)
