"""One run while it trains: its member, its folder, and everything due between two steps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from impasto import events, files
from impasto.adapters.adapter import Adapter
from impasto.config import RunConfig
from impasto.data.batch import Batch
from impasto.data.feed import Feed
from impasto.data.plan import spread
from impasto.engine import checkpoint, pick, plots, preview, ranks, reading, scored
from impasto.engine.guard import Guard
from impasto.engine.ledger import Ledger
from impasto.engine.measuring import Gauge
from impasto.engine.member import Member
from impasto.engine.prepare import Source
from impasto.engine.proving import Witness
from impasto.engine.spent import Spending, Stopwatch, during
from impasto.engine.told import Teller
from impasto.engine.tracked import Trackers
from impasto.engine.trainer import Trainer
from impasto.errors import DivergedError, Problem, UserError
from impasto.events import Event, EventLog
from impasto.families.detect import Card
from impasto.preflight import pace
from impasto.preflight.report import Forecast
from impasto.runs import control
from impasto.runs.folder import RunFolder
from impasto.weights import diffusers_layout, metadata
from impasto.weights import file as adapter_file

Show = Callable[[Path, Event], None]
Poll = Callable[[], None]


class StopAsked(Exception):
    """Somebody asked this run, and only this run, to stop; it is saved."""


@dataclass(eq=False)
class Session:
    """A run that trains in a fleet."""

    config: RunConfig
    folder: RunFolder
    log: EventLog
    show: Show | None = None
    card: Card = field(init=False)
    feed: Feed = field(init=False)
    forecast: Forecast = field(init=False)
    member: Member = field(init=False)
    source: Source = field(init=False)
    teller: Teller = field(init=False)
    ledger: Ledger = field(init=False)
    guard: Guard = field(init=False)
    gauge: Gauge = field(init=False, default_factory=Gauge)
    trackers: Trackers = field(init=False)
    ranked_on: list[Batch] = field(init=False, default_factory=list)
    """The pictures that ranks are measured on, where the adapter is to be cut to some."""

    goes_back_to: int | None = field(init=False, default=None)
    """The step from which it goes on, where that is not its newest checkpoint: all of a sweep's fleet begin at one."""

    spending: Spending = field(init=False, default_factory=Spending)
    paces: tuple[Path, str] | None = field(init=False, default=None)
    """Where it is kept how long a step takes, and the name of its kind of runs; None once that says nothing."""

    _started: float = field(default_factory=time.time, init=False)
    _clock: float = field(default_factory=time.monotonic, init=False)
    _saved_at: float = field(default_factory=time.monotonic, init=False)
    _checkpointed: int = field(default=-1, init=False)

    def __post_init__(self) -> None:
        self.guard = Guard(self.config.guard)
        self.trackers = Trackers(self.config, self.folder, self.tell)

    def tell(self, event: Event) -> None:
        """Write an event, and show it to whoever watches."""
        if isinstance(event, events.Phase) and self.spending.starting:
            self.spending.turn(event.name)
        self.log.write(event)
        if self.show:
            self.show(self.folder.path, event)

    @property
    def done(self) -> bool:
        """Whether every step is trained, or the rest is not worth it."""
        return self.member.step >= self.member.total or self._in_vain

    @property
    def _in_vain(self) -> bool:
        """Whether measurements of held-out pictures have brought nothing better for long enough."""
        patience = self.config.validation.patience
        return patience is not None and self.gauge.curve.in_vain >= patience

    def was_finished(self, total: int) -> int | None:
        """The step at which a run of `total` steps was finished before; None if there is something left to do."""
        ends = [each for each in self.log.read() if isinstance(each, events.Finished)]
        if not ends or not self.folder.final.is_file():
            return None
        patience, before = self.config.validation.patience, ends[-1].patience
        early = patience is not None and before is not None and patience <= before
        return ends[-1].step if early or ends[-1].step >= total else None

    def newest(self) -> checkpoint.Checkpoint | None:
        """The newest whole checkpoint, if there is one."""
        found, refused = checkpoint.latest(self.folder)
        for problem in refused:
            self.tell(events.Warned(code=problem.code, text=str(problem)))
        return found

    def saved_at(self, step: int) -> checkpoint.Checkpoint | None:
        """The checkpoint of a step; None for step 0."""
        return checkpoint.load(self.folder.checkpoint(step)) if step else None

    def restore(self, found: checkpoint.Checkpoint | None) -> None:
        """Go on from a checkpoint, if there is one."""
        if found is not None:
            self.member.restore(found.step, found.tensors)
            halvings = found.state.get("halvings", 0)
            self.member.halvings = halvings if isinstance(halvings, int) else 0
            self.guard.restore(found.state.get("guard"), found.tensors)
            self.ledger.restore(found.tensors.get("ledger"))
            self.gauge.curve.restore(found.state.get("measured"), found.tensors.get("best"))
            self._checkpointed = found.step
            self.tell(events.Resumed(step=found.step))

    def begin(self, watch: Stopwatch) -> None:
        """The run is ready: say so, and what that took."""
        step = self.member.step
        self.folder.update_record(self.teller.record())
        self.tell(events.Started(run=self.config.name, steps=self.member.total, resumed_from=step or None))
        self.tell(self.spending.told(step, watch))
        self.spending.begin(step, watch)
        self.trackers.begin(step)
        self.touch_clock()

    # -- between two steps ---------------------------------------------------------------------------------------

    def after_step(self, trainer: Trainer, witness: Witness, poll: Poll) -> None:
        """Report what the step did, then do what is due: preview, save, stop, finish."""
        if self.member.comes_to_rest:
            self.tell(events.Noted(text=f"the text encoder's adapter rests from step {self.member.step} on"))
        self.trackers.look()
        asked = control.requests(self.folder)
        if asked or self.done or self._report_due(trainer):
            self.report(trainer)
        if "preview" in asked or self._due(self.config.preview.every_steps, self.config.preview.every_epochs):
            self.draw_previews(trainer, poll)
        if self.done:
            self.finish(trainer, witness, poll)
        elif "save" in asked or "stop" in asked or self._save_due():
            self.report(trainer)
            self.checkpoint()
            self.export(self.folder.adapter(self.member.step), trainer, witness)
            self._prune_adapters()
            if "stop" in asked:
                self.tell(events.Halted(text="stopped on request; start the same command again to go on"))
                raise StopAsked

    def report(self, trainer: Trainer) -> None:
        """Read the steps since the last report off the device, in one go, and write them down.

        Raises DivergedError when too many of them had no finite numbers.
        """
        found = reading.read(self.member.progress)
        if not found.steps:
            return
        elapsed, memory = time.monotonic() - self._clock, trainer.memory
        for look in found.looks:
            self.ledger.add(look.step, look.key, look.t, look.loss)
        for done in found.steps:
            if slow := self.spending.step(elapsed / len(found.steps)):
                self.tell(events.Warned(code="W-SPD-002", text=slow))
            self.guard.skip(done.skipped)
            if done.step % self.config.output.log_every == 0 or done.step == self.member.total:
                event = events.Step(
                    step=done.step, epoch=self.feed.plan.epoch_of(done.step - 1), loss=done.loss, norm=done.norm,
                    rates=done.rates, seconds=elapsed / len(found.steps), skipped=sum(self.guard.skipped),
                    memory=memory, shortened=done.shortened, length=done.length, longest=done.longest,
                )  # fmt: skip
                self.tell(event)
                for warning in self.guard.watch(event):
                    self.tell(warning)
        self.member.progress.clear(self.member.step)
        if self.spending.due:
            self.tell(self.spending.told(self.member.step, trainer.watch))
        self.touch_clock()
        self._stop_if_diverged(scaled=trainer.compute.scaled)

    def _stop_if_diverged(self, *, scaled: bool) -> None:
        if not self.guard.too_many(scaled=scaled):
            return self.guard.remember(self.member)
        what = f"the numbers stopped being finite at step {self.member.step}; those steps were thrown away and no "
        if (done := self.guard.help(self.member)) is None:
            fix = "lower optim.learning_rate by 3 or 10 and start again; it goes on from the last checkpoint"
            raise DivergedError(Problem("E-NUM-001", what + "file holds them", str(self.folder.path), fix))
        return self.tell(events.Warned(code="W-NUM-004", text=f"{what}file holds them; {done}"))

    def touch_clock(self) -> None:
        """What was done until now is not part of a step's time."""
        self._clock = time.monotonic()

    def wait_for(self, seconds: float, part: str = "others") -> None:
        """Something else than steps went on for so long: that is not part of a step's time either."""
        self._clock += seconds
        self.spending.lend(seconds, part)

    # -- what can be due -----------------------------------------------------------------------------------------

    def _report_due(self, trainer: Trainer) -> bool:
        return trainer.compute.device.type == "cpu" or len(self.member.progress.losses) >= 10

    def _due(self, steps: int | None, epochs: int | None) -> bool:
        return self.feed.plan.due(self.member.step, steps, epochs)

    def _save_due(self) -> bool:
        save = self.config.save
        by_clock = save.every_minutes is not None and time.monotonic() - self._saved_at >= 60 * save.every_minutes
        by_part = self.member.step in spread(self.member.total, save.files)
        return by_clock or by_part or self._due(save.every_steps, save.every_epochs)

    # -- doing it ------------------------------------------------------------------------------------------------

    @during("preview")
    def draw_previews(self, trainer: Trainer, poll: Poll, shared: dict[str, bytes] | None = None) -> None:
        """Draw every prompt. Too little memory for a preview is a warning, never the end of a training.

        `shared` are pictures of the base, by what decides them: it draws alike for all of a fleet.
        """
        prompts, shared = self.config.preview.prompts, {} if shared is None else shared
        for number, prompt in enumerate(prompts):
            self.tell(events.Phase(name="preview", done=number, total=len(prompts)))
            known = f"{prompt!r} {self.config.objective!r}"
            try:
                drawn = shared.get(known) or preview.of_member(
                    self.member, prompt, trainer, self.card, self.source.said, poll
                )
            except torch.OutOfMemoryError:
                text = f"no memory for preview {number}; make its width and height smaller"
                self.tell(events.Warned(code="W-MEM-002", text=text))
                continue
            path = self.folder.preview(self.member.step, number)
            files.write(path, drawn)
            shared[known] = drawn
            self.tell(events.Preview(step=self.member.step, file=path.name, prompt=number))
        self.touch_clock()

    @during("save")
    def checkpoint(self) -> None:
        """Write all that a resume needs, once for a step."""
        if self._checkpointed == self.member.step:
            return
        step = self.member.step
        state: dict[str, files.JSON] = {"step": step, "total": self.member.total, "seed": self.member.seed}
        keep, tensors, curve = self.config.save.keep_checkpoints, self.member.tensors(), self.gauge.curve
        if self.member.halvings:
            state["halvings"] = self.member.halvings
        if self.ledger.pictures:
            tensors["ledger"] = self.ledger.tensors()
        if curve.told:
            state["measured"] = curve.state()
        if curve.weights:
            tensors["best"] = curve.weights
        state["guard"] = self.guard.state()
        tensors |= self.guard.tensors()
        written = checkpoint.save(self.folder, step, tensors, state, keep=keep)
        self._checkpointed, self._saved_at = step, time.monotonic()
        self.tell(events.Saved(step=step, checkpoint=written.name))
        files.write(self.folder.ledger, json.dumps(self.ledger.page(step), indent=1).encode())

    @during("save")
    def export(self, path: Path, trainer: Trainer, witness: Witness) -> None:
        """Write the adapter as a file to use and, as the settings say, prove that it loads and draws alike."""
        picture = self._thumbnail() if self.config.output.thumbnail else None
        with self.member.averaged():
            self.write(path, self.member.adapter, self.about(self.member.step, picture))
        self.tell(events.Saved(step=self.member.step, file=str(path.relative_to(self.folder.path))))
        if self.config.save.proof == "every" or (self.done and self.config.save.proof == "final"):
            self.prove(path, trainer, witness)
        self.touch_clock()

    def about(self, step: int, thumbnail: bytes | None = None) -> dict[str, str]:
        """What a file of the adapter after `step` steps says of itself."""
        facts = self.teller.facts(step, started=self._started, written=time.time(), thumbnail=thumbnail)
        return metadata.build(self.config, facts)

    def write(self, path: Path, adapter: Adapter, about: Mapping[str, str]) -> None:
        """Write an adapter in the layout that the settings say."""
        tensors, more = adapter.tensors(), dict[str, str]()
        if self.config.save.layout == "diffusers":
            layers = [(adapter.seats[name].target, layer.held()) for name, layer in adapter.items()]
            tensors, more = diffusers_layout.written(layers, self.card.denoiser, fold=True)
        adapter_file.write(path, tensors, {**about, **more}, self.config.save.precision)

    def _thumbnail(self) -> bytes | None:
        """The newest preview of the first prompt, small; None before there is one of the adapter."""
        drawn = sorted(self.folder.previews.glob("*-0.png"))
        untrained = self.folder.preview(0, 0)
        return plots.thumbnail(drawn[-1]) if drawn and drawn[-1] != untrained else None

    @during("proof")
    def prove(
        self, path: Path, trainer: Trainer, witness: Witness, adapter: Adapter | None = None,
        *, of_step: int | None = None,
    ) -> None:  # fmt: skip
        """Load a file again on a fresh base and compare; `of_step`: the member shows its weights of that step."""
        self.tell(events.Phase(name="proof"))
        proof = witness.prove(
            path, self.member, trainer.family, trainer.riders, self.source.said, adapter, averaged=of_step is None
        )
        self.tell(
            events.Proven(
                step=self.member.step if of_step is None else of_step, matched=proof.matched, expected=proof.expected,
                difference=proof.difference, reader=proof.reader,
            )
        )  # fmt: skip
        if proof.reader != "diffusers":
            text = "diffusers does not read this kind of adapter: the proof used impasto's own reader"
            self.tell(events.Noted(text=text))

    def _prune_adapters(self) -> None:
        if self.config.save.keep is not None:
            for old in self.folder.adapters()[: -self.config.save.keep]:
                files.unlink(old)

    def finish(self, trainer: Trainer, witness: Witness, poll: Poll) -> None:
        """Everything is trained: the last checkpoint, the file, the curve."""
        self.checkpoint()
        self.export(self.folder.final, trainer, witness)
        with self.spending.at("ranks"):
            ranks.export(self, trainer, witness, poll)
        self.pick(trainer, witness, poll)
        self.draw_curve()
        self.tell(self.spending.told(self.member.step, trainer.watch))
        if self.paces:
            pace.add(*self.paces, self.spending.taken)
        early = self.config.validation.patience if self.member.step < self.member.total else None
        self.tell(
            events.Finished(
                step=self.member.step, seconds=time.time() - self._started, file=self.folder.final.name, patience=early
            )
        )

    def pick(self, trainer: Trainer, witness: Witness, poll: Poll) -> None:
        """Write the adapter where held-out pictures had the lowest loss, and say which files are worth a try."""
        curve, run = self.gauge.curve, self.folder
        best = curve.best
        if best is not None and curve.weights:
            with self.member.showing(curve.weights):
                self.write(run.best, self.member.adapter, self.about(best.step))
                self.tell(events.Saved(step=best.step, file=run.best.name))
                if self.config.save.proof != "off" and best.step != self.member.step:
                    self.prove(run.best, trainer, witness, of_step=best.step)
        saved = {run.step_of(each): each.relative_to(run.path) for each in run.adapters()}
        name = Path(run.best.name) if curve.weights else None
        found = pick.shortlist(curve, best=name, last=Path(run.final.name), saved=saved)
        if self.config.scores.trigger is not None:
            with self.spending.at("scores"):
                found = scored.score(self, trainer, scored.states(self, found), poll)
        if found:
            event = events.Picked(step=self.member.step, candidates=tuple(found))
            self.tell(event)
            run.update_record({"picked": event.model_dump(mode="json", include={"candidates"})["candidates"]})

    @during("save")
    def draw_curve(self) -> None:
        """The loss of every step as a picture, and what was measured."""
        told = events.history(self.log.read())
        seen = [(each.step, each.loss) for each in told if isinstance(each, events.Step) and each.loss is not None]
        measured = list(events.measured(told).values())
        if seen:
            drawn = plots.loss_curve(*zip(*seen, strict=True), title=self.config.name, measured=measured)
            files.write(self.folder.curve, drawn)

    def interrupt(self, trainer: Trainer) -> None:
        """A signal came: save what a resume needs, and nothing that takes longer."""
        try:
            self.report(trainer)
            if self.member.step:
                self.checkpoint()
            self.tell(self.spending.told(self.member.step, trainer.watch))
        except UserError as error:
            self.fail(error)

    def fail(self, error: UserError) -> None:
        """This run is over; the others of its fleet are not."""
        for problem in error.problems:
            self.tell(events.Failed(code=problem.code, text=str(problem)))
