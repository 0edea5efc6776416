"""Train runs: open their folders, prepare what they need, step until all are done.

This is the way from settings to a trained adapter, from top to bottom; the command line, the queue and the library all
come through `train`.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from itertools import chain
from pathlib import Path

from impasto import adapters, events, families, optim
from impasto.checks import check, check_together
from impasto.config import RunConfig, base_key
from impasto.data.loader import Loader
from impasto.engine import attention, device, loading, opening, pick, prepare, ranks, scored, sharing, validate, warming
from impasto.engine.config import Speed
from impasto.engine.following import follow
from impasto.engine.leading import Lead
from impasto.engine.ledger import Ledger
from impasto.engine.measuring import Gauge, measure
from impasto.engine.member import trained
from impasto.engine.proving import Witness
from impasto.engine.session import Session, Show, StopAsked
from impasto.engine.sharing import Share
from impasto.engine.signals import StopRequest
from impasto.engine.told import Teller
from impasto.engine.trainer import Trainer
from impasto.engine.world import World
from impasto.errors import ConfigError, Problem, Stopped, UserError
from impasto.families import detect, hub
from impasto.families.detect import Card
from impasto.families.names import T5
from impasto.preflight import pace
from impasto.preflight.fits import check_base
from impasto.store import Store, default_root


def train(
    configs: Sequence[RunConfig],
    *,
    allow: frozenset[str] = frozenset(),
    restart: bool = False,
    strict: bool = False,
    show: Show | None = None,
    cache: Path | None = None,
    world: World | None = None,
) -> list[Path]:
    """Train every run, those on the same base together, and return their folders.

    A run whose folder exists goes on from its last checkpoint; one that is finished is left as it is. `allow` names
    settings that may differ from the folder's, `restart` moves an old folder aside first, `strict` refuses runs that
    there is advice on, `show` is called with every event, `cache` is where encoded pictures are kept (default: the
    user's cache folder). With `world` this process is one of several that train together; those that do not lead raise
    Ended when rank 0 has come to its end.

    Raises UserError for what a user can mend, and Stopped when a signal asked for the end. A run that fails leaves the
    others of its fleet to their end; then its error is raised.
    """
    store = Store(cache or default_root(os.environ))
    with world.attending() if world else nullcontext():
        problems = [*chain.from_iterable(check(config) for config in configs), *check_together(configs)]
        if problems:
            raise ConfigError(*dict.fromkeys(problems))
        if world is not None:
            sharing.same_settings(world, configs)
            if not world.leads:
                follow(configs, world, store)
        return _train(configs, allow, store, show, world, restart=restart, strict=strict)


def _train(
    configs: Sequence[RunConfig], allow: frozenset[str], store: Store, show: Show | None, world: World | None, *,
    restart: bool, strict: bool,
) -> list[Path]:  # fmt: skip
    stop, failures = StopRequest(world), list[UserError]()
    asked = [opening.asked(each) for each in configs]
    configs = [opening.pinned(each, restart=restart) for each in configs]
    for config in configs:
        hub.local(config.model)  # hours, perhaps: before there is a run
    if world is not None:
        sharing.give_models(world, configs)
    with stop.listening(), ExitStack() as held:
        sessions = [held.enter_context(opening.opened(each, allow, restart, show)) for each in configs]
        for session, ids in zip(sessions, asked, strict=True):
            if ids and opening.HUB not in session.folder.record():
                session.folder.update_record({opening.HUB: ids})
        for together in fleets(sessions):
            lead = Lead(world, sessions) if world else None
            failures += Fleet(together, store, stop, strict=strict, lead=lead).train()
    if failures:
        raise failures[0]
    return [session.folder.path for session in sessions]


def fleets(sessions: Iterable[Session]) -> list[list[Session]]:
    """Runs that may share a base, together."""
    found: dict[str, list[Session]] = {}
    for session in sessions:
        found.setdefault(base_key(session.config), []).append(session)
    return list(found.values())


Umpire = Callable[[list[Session], Trainer, Callable[[], None]], Iterable[Session]]
"""Looks at the runs of a fleet between two steps, and says which of them leave it now."""


class Fleet:
    """Runs that train at once on one frozen base."""

    def __init__(
        self, sessions: Sequence[Session], store: Store, stop: StopRequest, *,
        strict: bool = False, umpire: Umpire | None = None, rows: int = 0, lead: Lead | None = None,
    ) -> None:  # fmt: skip
        self._sessions = list(sessions)
        self._store = store
        self._stop = stop
        self._strict = strict
        self._umpire = umpire
        self._rows = rows
        self._lead = lead
        self._failures: list[UserError] = []

    def train(self) -> list[UserError]:
        """Train until every run is done; returns what ended a run early. What ends all of them is raised."""
        with ExitStack() as held:
            try:
                card, totals = self._plan()
                if self._sessions:
                    if self._lead is not None:
                        self._lead.plan(self._sessions, totals)
                    trainer, witness = self._load(card, totals, held)
                    with self._stop.training():
                        self._train(trainer, witness)
            except UserError as error:
                for session in self._sessions:
                    session.fail(error)
                raise
            except Stopped as stopped:
                for session in self._sessions:
                    session.tell(events.Halted(text=str(stopped)))
                raise
        if self._lead is not None:
            self._lead.done()
        return self._failures

    def _plan(self) -> tuple[Card, dict[str, int]]:
        """Look at all pictures of all runs before any weight is read, and leave out what is finished."""
        for session in self._sessions:
            optim.check(session.config.optim)
        card = detect.look(self._sessions[0].config.model)
        totals = {}
        for session in list(self._sessions):
            session.card = card
            check_base(session.config, card)
            _has_names(session.config, card)
            for note in card.notes:
                session.tell(events.Warned(code=note.code, text=str(note)))
            session.feed = prepare.look(session.config, card, self._store, session.tell)
            total = session.feed.plan.total_steps(session.config.train)
            totals[str(session.folder.path)] = total
            _can_be_patient(session)
            if (ended := session.was_finished(total)) is not None and session.goes_back_to is None:
                steps = f"all {total} steps" if ended >= total else f"early, after step {ended} of {total}"
                session.tell(events.Noted(text=f"already finished, {steps}: {session.folder.final}"))
                self._sessions.remove(session)
                continue
            opening.advise(session, self._store, strict=self._strict)
        return card, totals

    def _load(self, card: Card, totals: dict[str, int], held: ExitStack) -> tuple[Trainer, Witness]:
        config = self._sessions[0].config
        compute = device.choose(config.device, config.model, self._lead.world.place if self._lead else None)
        for session in self._sessions:
            device.holds(session.config.optim, compute)
            session.tell(events.Phase(name="load"))
        family = loading.base([session.config for session in self._sessions], card, compute)
        for session in self._sessions:  # before any picture is encoded
            scored.ready(session.config)
            session.source = prepare.Source(session.config, session.feed, card, family, compute, self._store)
        if self._lead is None:
            prepare.fill([(session.source, session.tell) for session in self._sessions])
        else:
            self._lead.world.join(compute.device)
            self._lead.filled(self._sessions)
        for session in self._sessions:
            held.enter_context(session.source.live(session.tell))
            session.tell(events.Phase(name="load"))
        held.enter_context(family.lending.denoiser.use())
        world = self._lead.world if self._lead else None
        trainer = Trainer(family, compute, config.device.rows or self._rows, world)
        for session in self._sessions:
            self._admit(session, trainer, totals[str(session.folder.path)], held)
        if self._lead is not None:
            self._lead.admitted(self._sessions)
        loading.rest(config, trainer)
        held.enter_context(attention.chosen(config.speed.attention, compute.device, compute.dtype))
        speed = self._speed(config.speed)
        if speed.compile != "off":
            held.enter_context(warming.keeping(self._store.root / "compiled"))
        self._warming = warming.Warming(trainer, speed)
        return trainer, Witness(card, config.model, compute)

    def _speed(self, asked: Speed) -> Speed:
        """What of it several ranks can do: their blocks are not compiled, and nothing is recorded."""
        if self._lead is None or (asked.compile == "off" and not asked.graphs):
            return asked
        for session in self._sessions:
            text = "several ranks share the steps, so nothing is compiled or recorded"
            session.tell(events.Warned(code="W-CMP-003", text=text))
        return asked.model_copy(update={"compile": "off", "graphs": False})

    def _admit(self, session: Session, trainer: Trainer, total: int, held: ExitStack) -> None:
        """Make a run's member, as it was when it was last saved, and let it ride."""
        config, family, compute = session.config, trainer.family, trainer.compute
        source = session.source
        saved = session.newest() if session.goes_back_to is None else session.saved_at(session.goes_back_to)
        session.member, notes = loading.member(
            config, family, compute, total, saved.tensors["adapter"] if saved else None
        )
        for note in notes:
            session.tell(events.Noted(text=note))
        data, share = config.data, self._share(session)
        make = share.step if share else source.step
        session.member.feed(
            Loader(make, last=total, ahead=data.prefetch, workers=data.workers), share.turn if share else None
        )
        held.callback(session.member.close)
        session.gauge = _gauge(session, source, total)
        if ranks.asked(config):
            session.ranked_on = list(session.gauge.held) or ranks.batches(source, session.feed.plan, total)
        base_hash = prepare.fingerprint(self._store, session.card, "unet", config.model.merged)
        session.teller = Teller(config, session.card, session.feed, compute, base_hash, uuid.uuid4().hex, total)
        levels = config.objective.timesteps
        session.ledger = Ledger(
            chain.from_iterable(session.feed.scan.examples), total=total, low=levels.low, high=levels.high
        )
        session.gauge.curve.on = pick.names(
            [*session.gauge.held, *session.gauge.beside], validate.timesteps(session.member)
        )
        session.restore(saved)
        session.begin(trainer.watch)
        trainer.add(session.member)

    def _share(self, session: Session) -> Share | None:
        """What of each step is this rank's, where there are several."""
        if self._lead is None:
            return None
        return Share(session.source, session.feed, self._lead.world.place, busy=session.config.device.shard_base)

    def _train(self, trainer: Trainer, witness: Witness) -> None:
        poll = self._stop.poll
        self._expect()
        try:
            untrained: dict[str, bytes] = {}
            for session in list(self._sessions):
                self._apart(session, trainer, partial(first, session, trainer, witness, poll, untrained))
                if session.done:
                    self._leave(session, trainer)
            self._measure(trainer)  # the start; or what a kill kept from being measured
            self._judge(trainer, poll)
            while self._sessions:
                poll()
                self._warming.warm(self._sessions, poll)
                if self._lead is not None:
                    self._lead.step(self._sessions)
                for failed, error in trainer.step().items():
                    self._lose(next(each for each in self._sessions if each.member is failed), trainer, error)
                for text in trainer.said:
                    for session in self._sessions:
                        session.tell(events.Warned(code="W-MEM-005", text=text))
                trainer.said.clear()
                self._measure(trainer)
                for session in list(self._sessions):
                    self._after_step(session, trainer, witness)
                self._judge(trainer, poll)
        except (Stopped, UserError) as ended:  # no step is torn: what was trained is kept
            if isinstance(ended, Stopped) or self._lead is not None:  # alone, nobody else can be to blame
                for session in self._sessions:
                    session.interrupt(trainer)
            raise

    def _expect(self) -> None:
        """What a step takes is known from earlier runs of the same kind, as many side by side."""
        size = self._lead.world.size if self._lead else 1
        kinds = [pace.kind(each.config, each.card, pixels=each.forecast.pixels, ranks=size) for each in self._sessions]
        root, name = self._store.root, pace.together(kinds)
        for session in self._sessions:
            session.paces, session.spending.expected = (root, name), pace.known(root, name)

    def _judge(self, trainer: Trainer, poll: Callable[[], None]) -> None:
        """Let the umpire look at all of them between two steps, and take out whom it stops."""
        if self._umpire and self._sessions:
            begun = time.monotonic()
            for session in self._umpire(list(self._sessions), trainer, poll):
                self._leave(session, trainer)
            for session in self._sessions:
                session.wait_for(time.monotonic() - begun)

    def _measure(self, trainer: Trainer) -> None:
        """Measure every run that is due, together: they share the base's forward passes."""
        for session in [each for each in self._sessions if each.gauge.is_due(each.member.step)]:
            self._apart(session, trainer, partial(session.report, trainer))
        due = [each for each in self._sessions if each.gauge.is_due(each.member.step)]
        if due:
            measure(trainer, due, self._sessions, self._stop.poll)

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
            for other in self._sessions:
                other.paces, other.spending.expected = None, None  # a smaller fleet is faster


def _can_be_patient(session: Session) -> None:
    """Raise ConfigError when a run is to end by held-out pictures and has none."""
    if session.config.validation.patience is not None and not session.feed.held_out:
        what = "the run is to end by the loss on held-out pictures, and none are held out of so few"
        fix = "set validation.share, for instance to 0.1, or delete this line"
        raise ConfigError(Problem("E-CFG-026", what, "validation.patience", fix))


def _gauge(session: Session, source: prepare.Source, total: int) -> Gauge:
    """What of a run is measured, and when."""
    held, beside = ([source.batch(micro) for micro in some] for some in (session.feed.held_out, session.feed.beside))
    return Gauge(held, beside, frozenset(session.feed.measured_at(total)))


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


def first(
    session: Session, trainer: Trainer, witness: Witness, poll: Callable[[], None], untrained: dict[str, bytes]
) -> None:
    """Before the first step: what the base draws by itself; and after a kill behind the last step, what it left out.

    `untrained` are pictures that another run has drawn already: before the first step all adapters leave the base as it
    is, but those that begin with a file.
    """
    if session.member.step == 0 and session.config.preview.at_start:
        session.draw_previews(trainer, poll, untrained if session.config.adapter.start is None else None)
    if session.done:
        session.finish(trainer, witness, poll)
