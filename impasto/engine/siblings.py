"""The runs of a sweep that share a base: which of them train side by side, when they are compared, who goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from impasto import events
from impasto.config import RunConfig
from impasto.engine import checkpoint, device, opening, prepare, validate
from impasto.engine.run import Fleet
from impasto.engine.session import Session, Show
from impasto.engine.signals import StopRequest
from impasto.engine.trainer import Trainer
from impasto.errors import ConfigError, OutOfMemory, Problem, UserError
from impasto.events import EventLog
from impasto.families import detect
from impasto.families.detect import Card
from impasto.runs.folder import RunFolder
from impasto.store import Store
from impasto.sweeps import fleets, halving
from impasto.sweeps.config import Sweep
from impasto.sweeps.expand import Run
from impasto.sweeps.folder import Decided, SweepFolder

CHECKPOINTS = 10
"""A run of a sweep is saved so often, at least: what a kill costs."""

FREE = 0.8
"""The share of free memory that a sweep takes into account."""


class Group:
    """The runs of one base."""

    def __init__(
        self, folder: SweepFolder, number: int, runs: Sequence[Run], sweep: Sweep, store: Store, stop: StopRequest,
        show: Show | None, *, strict: bool, kept: Callable[[], None],
    ) -> None:  # fmt: skip
        self._folder = folder
        self._number = number
        self._runs = {each.name: each for each in runs}
        self._sweep = sweep
        self._store = store
        self._stop = stop
        self._show = show
        self._strict = strict
        self.kept = kept
        """Called whenever all that a resume needs is on disk."""

        self._failures: list[UserError] = []
        self._totals: dict[str, int] = {}

    def train(self) -> list[UserError]:
        """Train rung by rung. Returns what ended runs early."""
        self._look()
        for rung in [*self._rungs(), None]:
            self._tell_dropped()
            for names in self._fleets(rung):
                self._fleet(names, rung)
                self.kept()
        self._tell_dropped()
        return self._failures

    def _look(self) -> None:
        """How long each run is, without a look into any picture more than once."""
        self._card = detect.look(next(iter(self._runs.values())).config.model)
        for name, run in self._runs.items():
            feed = prepare.look(run.config, self._card, self._store, lambda event: None)
            self._totals[name] = feed.plan.total_steps(run.config.train)
            compares = "halving" if self._sweep.halving else self._sweep.method
            if compares in ("halving", "optuna") and not (feed.held_out or feed.beside):
                fix = 'hold pictures out: validation.share = 0.2, or a set with role = "validation"'
                what = f"{compares} compares runs, and there is nothing to compare by"
                raise ConfigError(Problem("E-SWP-006", what, name, fix))

    def _rungs(self) -> list[int]:
        rules = self._sweep.halving
        variants = len({each.variant for each in self._runs.values()})
        return halving.rungs(rules, variants, max(self._totals.values())) if rules else []

    def _alive(self, state: Decided) -> list[str]:
        gone = state.dropped()
        return [name for name in self._runs if name not in gone]

    # -- who trains side by side -----------------------------------------------------------------------------------

    def _fleets(self, rung: int | None) -> tuple[tuple[str, ...], ...]:
        """Decided once for each rung: a resume must pack the same pictures together."""
        state, key = self._folder.decided(self._number), self._key(rung)
        if key not in state.fleets:
            alive = self._alive(state)
            packing = self._packed(alive)
            named = tuple(tuple(alive[at] for at in fleet) for fleet in packing.fleets)
            state = state.model_copy(
                update={"fleets": {**state.fleets, key: named}, "rows": {**state.rows, key: packing.rows}}
            )
            self._folder.decide(self._number, state)
        return state.fleets[key]

    def _packed(self, names: Sequence[str]) -> fleets.Packing:
        configs = [self._runs[name].config for name in names]
        needs = fleets.needs(configs, self._card, area=max(_area(each, self._card) for each in configs))
        limits = [each for each in (self._sweep.side_by_side, self._folder.decided(self._number).side_by_side) if each]
        return fleets.pack(needs, free_memory(configs[0]), most=min(limits, default=0))

    # -- training --------------------------------------------------------------------------------------------------

    def _fleet(self, names: Sequence[str], rung: int | None) -> None:
        """Train some runs side by side up to a rung, or to their ends."""
        state = self._folder.decided(self._number)
        if rung is not None and state.rung(self._number, rung).dropped is not None:
            return
        there = {} if rung is None else self._come(rung)
        alive = [name for name in names if name in self._alive(state) and name not in there]
        begins = self._begins(alive)
        if not begins:
            if rung is not None:
                self._settle(rung, {name: self.last_loss(name) for name in alive})
            return
        watch = _Watch(self, rung, alive)
        if not self._trained(begins, watch, rows=state.rows.get(self._key(rung), 0)):
            halves = self._halved(watch)
            if watch.rung == rung:  # a later one has its turn
                for half in halves:
                    self._fleet(half, rung)
            return
        if rung is not None and watch.rung == rung and any(name not in self._come(rung) for name in alive):
            self._settle(rung, {name: self.last_loss(name) for name in alive})  # all came to their end before it

    def _trained(self, begins: dict[str, int | None], watch: _Watch, *, rows: int) -> bool:
        """Train runs side by side; False if the device has no memory for so many."""
        with ExitStack() as held:
            sessions = []
            for name, step in begins.items():
                config = self._runs[name].config
                session = held.enter_context(opening.opened(config, frozenset(), False, self._show))
                session.goes_back_to = step
                sessions.append(session)
            fleet = Fleet(sessions, self._store, self._stop, strict=self._strict, umpire=watch, rows=rows)
            try:
                self._failures += fleet.train()
            except (torch.OutOfMemoryError, OutOfMemory):
                if len(sessions) == 1:
                    raise
                return False
        return True

    def _halved(self, watch: _Watch) -> list[tuple[str, ...]]:
        """A fleet that did not fit as two, one after the other; no later one is larger."""
        half = math.ceil(len(watch.names) / 2)
        parts = [tuple(watch.names[:half]), tuple(watch.names[half:])]
        state, key = self._folder.decided(self._number), self._key(watch.rung)
        others = [each for each in state.fleets[key] if not set(each) & set(watch.names)]
        fleets = {**state.fleets, key: (*parts, *others)}
        self._folder.decide(self._number, state.model_copy(update={"fleets": fleets, "side_by_side": half}))
        return parts

    def _come(self, rung: int) -> dict[str, float | None]:
        return self._folder.decided(self._number).rung(self._number, rung).losses

    def _begins(self, names: Sequence[str]) -> dict[str, int | None]:
        """Who takes part and from which step: one for all, so that the same pictures meet again. Finished and failed
        runs take part again where the others go back to before their end."""
        ends = {name: self._end(name) for name in names}
        saved = {name: _saved(self._folder.run(name)) for name in names}
        open_ones = [name for name in names if ends[name] is None]
        if not open_ones:
            return {}
        common = set.intersection(*(set(saved[name]) for name in open_ones))
        step = max(common)
        if step < min(saved[name][0] for name in open_ones) and step == 0:
            return {name: None for name in open_ones}  # no common step was kept: each from where it is
        again = [name for name in names if (end := ends[name]) is not None and end > step and step in saved[name]]
        return {name: step for name in names if name in open_ones or name in again}

    def _end(self, name: str) -> int | None:
        """The step at which a run came to its end, well or not; None if it has not."""
        run = self._folder.run(name)
        told = events.history(events.read(run.events)) if run.events.is_file() else []
        steps = [each.step for each in told if isinstance(each, events.Step)]
        life = [
            each for each in told if isinstance(each, events.Finished | events.Failed | events.Resumed | events.Started)
        ]
        match life[-1] if life else None:
            case events.Finished(step=step, patience=early) if run.final.is_file() and (
                early is not None or step >= self._totals[name]
            ):
                return step
            case events.Failed(code=code) if code.startswith("E-NUM"):
                return max(steps, default=0)
            case _:
                return None

    # -- deciding --------------------------------------------------------------------------------------------------

    def settled(self, rung: int, losses: dict[str, float | None]) -> dict[str, str] | None:
        """Write what a rung measured. Returns who stops and why, or None if others have still to come."""
        self._settle(rung, losses)
        return self._folder.decided(self._number).rung(self._number, rung).dropped

    def stays(self, rung: int) -> tuple[tuple[str, ...], int | None] | None:
        """Who goes on after a rung and to which next one, where all of them can do so on the base that is loaded."""
        ahead = [*(each for each in self._rungs() if each > rung), None]
        now, then = self._fleets(rung), self._fleets(ahead[0])
        state = self._folder.decided(self._number)
        rows = {state.rows[self._key(each)] for each in (rung, ahead[0])}
        return (then[0], ahead[0]) if len(now) == len(then) == len(rows) == 1 else None

    def _key(self, rung: int | None) -> str:
        return f"{self._number}:{rung or 'end'}"

    def _settle(self, rung: int, losses: dict[str, float | None]) -> None:
        state = self._folder.decided(self._number)
        known = state.rung(self._number, rung)
        merged = {**known.losses, **losses}
        dropped = None
        if all(name in merged for name in self._alive(state)):
            dropped = self._decided(merged, rung)
        self._folder.decide(
            self._number, state.with_rung(known.model_copy(update={"losses": merged, "dropped": dropped}))
        )

    def _decided(self, losses: dict[str, float | None], rung: int) -> dict[str, str]:
        assert self._sweep.halving
        by: dict[int, list[float | None]] = {}
        for name, loss in losses.items():
            by.setdefault(self._runs[name].variant, []).append(loss)
        verdict = halving.decide(self._sweep.halving, dict(sorted(by.items())), rung)
        return {
            name: verdict.dropped[run.variant] for name, run in self._runs.items()
            if name in losses and run.variant in verdict.dropped
        }  # fmt: skip

    def last_loss(self, name: str) -> float | None:
        """Of a run that is at its end, or that has failed."""
        run = self._folder.run(name)
        told = events.history(events.read(run.events)) if run.events.is_file() else []
        if any(isinstance(each, events.Failed) for each in told[-1:]):
            return None
        measured = events.measured(told)
        return measured[max(measured)].score if measured else None

    def _tell_dropped(self) -> None:
        """A run that was stopped knows it: also if the program was killed between deciding and telling."""
        for name, why in self._folder.decided(self._number).dropped().items():
            if name in self._runs:
                run = self._folder.run(name)
                told = events.history(events.read(run.events)) if run.events.is_file() else []
                if not any(isinstance(each, events.Dropped) for each in told):
                    step = max((each.step for each in told if isinstance(each, events.Step)), default=0)
                    with EventLog(run.events) as log:
                        log.write(events.Dropped(step=step, text=why))

    def due(self, step: int) -> bool:
        """Whether a common checkpoint is due."""
        every = max(1, math.ceil(max(self._totals.values()) / CHECKPOINTS))
        return step > 0 and step % every == 0


class _Watch:
    """Looks at a fleet between two steps: saves all at once, and at a rung compares."""

    def __init__(self, group: Group, rung: int | None, names: Sequence[str]) -> None:
        self._group = group
        self.names = list(names)
        """The runs that are trained."""

        self.rung = rung
        """The next rung; None once there is none for this fleet."""

    def __call__(self, sessions: list[Session], trainer: Trainer, poll: Callable[[], None]) -> Iterable[Session]:
        step = max(session.member.step for session in sessions)
        at_rung = self.rung is not None and step >= self.rung
        if at_rung or self._group.due(step):
            for session in sessions:
                session.report(trainer)
                session.checkpoint()
        leaving = self._compared(sessions, trainer, poll) if at_rung else []
        if at_rung or self._group.due(step):
            self._group.kept()
        return leaving

    def _compared(self, sessions: list[Session], trainer: Trainer, poll: Callable[[], None]) -> list[Session]:
        """Measure all, and let those go that stop. Where others have still to come to this rung, all go: the next rung
        decides anew who trains side by side."""
        assert self.rung is not None
        measured = _scores(sessions, trainer, poll)
        losses = {name: measured.get(name, self._group.last_loss(name)) for name in self.names}
        dropped = self._group.settled(self.rung, losses)
        after = None if dropped is None else self._group.stays(self.rung)
        if dropped is None or after is None:
            return sessions
        leaving = [session for session in sessions if session.folder.path.name in dropped]
        for session in leaving:
            session.tell(events.Dropped(step=session.member.step, text=dropped[session.folder.path.name]))
        self.names = list(after[0])
        self.rung = after[1]
        return leaving


def _scores(sessions: Sequence[Session], trainer: Trainer, poll: Callable[[], None]) -> dict[str, float | None]:
    """The loss with fixed noise of each run, now. What is measured for the sweep's sake alone is told, and is nothing
    to the run itself: its best file and its patience are those it would have alone."""
    step = sessions[0].member.step
    found = {session: each for session in sessions for each in session.gauge.curve.told if each.step == step}
    lacking = [session for session in sessions if session not in found]
    pictures = [(session, each) for session in lacking for each in (session.gauge.held, session.gauge.beside)]
    asked = [validate.Asked(session.member, batches) for session, batches in pictures]
    losses: list[dict[str, float | None]] = [
        {str(t): loss for t, loss in each.items()} for each in validate.losses(trainer, asked, poll)
    ]
    for session, held, beside in zip(lacking, losses[::2], losses[1::2], strict=True):
        found[session] = events.Validated(step=step, losses=held, training=beside, pictures=session.gauge.pictures)
        session.tell(found[session])
    return {session.folder.path.name: found[session].score for session in sessions}


def _saved(run: RunFolder) -> list[int]:
    return [*checkpoint.steps(run), 0] if run.path.is_dir() else [0]


def _area(config: RunConfig, card: Card) -> int:
    native = (card.resolution, card.resolution)
    return max(math.prod(config.data.resolution_of(each, native)) for each in config.data.sets)


def free_memory(config: RunConfig) -> float | None:
    """Bytes that a sweep may take on the device it will use; None where the system does not tell."""
    compute = device.choose(config.device, config.model)
    if compute.device.type == "cuda":
        free: int = torch.cuda.mem_get_info(compute.device)[0]
        return FREE * free
    try:
        told = Path("/proc/meminfo").read_text("utf-8")
        return FREE * 1024 * int(told.partition("MemAvailable:")[2].split()[0])
    except (OSError, ValueError, IndexError):
        return None
