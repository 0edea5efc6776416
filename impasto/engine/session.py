"""One run while it trains: its member, its folder, and everything due between two steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from impasto import events, files
from impasto.adapters.adapter import Adapter
from impasto.config import RunConfig
from impasto.data.batch import Batch
from impasto.data.feed import Feed
from impasto.engine import checkpoint, plots, preview, ranks, validate
from impasto.engine.member import Member
from impasto.engine.prepare import Source
from impasto.engine.proving import Witness
from impasto.engine.told import Teller
from impasto.engine.trainer import Trainer
from impasto.errors import DivergedError, Problem, UserError
from impasto.events import Event, EventLog
from impasto.families.detect import Card
from impasto.runs import control
from impasto.runs.folder import RunFolder
from impasto.weights import file as adapter_file
from impasto.weights import metadata

Show = Callable[[Path, Event], None]
Poll = Callable[[], None]

IN_A_ROW, SHARE, WINDOW = 3, 0.01, 500
"""Steps without finite numbers that end a run: so many in a row, or this share of the last ones."""

IN_A_ROW_FP16 = 30
"""In fp16 a skipped step is how the loss scale is found, so more of them are patience, not failure."""


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
    member: Member = field(init=False)
    source: Source = field(init=False)
    teller: Teller = field(init=False)
    held_out: list[Batch] = field(init=False, default_factory=list)
    ranked_on: list[Batch] = field(init=False, default_factory=list)
    """The pictures that ranks are measured on, where the adapter is to be cut to some."""

    _started: float = field(default_factory=time.time, init=False)
    _clock: float = field(default_factory=time.monotonic, init=False)
    _saved_at: float = field(default_factory=time.monotonic, init=False)
    _skipped: list[bool] = field(default_factory=list, init=False)
    _checkpointed: int = field(default=-1, init=False)

    def tell(self, event: Event) -> None:
        """Write an event, and show it to whoever watches."""
        self.log.write(event)
        if self.show:
            self.show(self.folder.path, event)

    @property
    def done(self) -> bool:
        """Whether every step is trained."""
        return self.member.step >= self.member.total

    @property
    def finished_at(self) -> int:
        """The step at which the run was finished before, or -1."""
        ends = [each.step for each in self.log.read() if isinstance(each, events.Finished)]
        return ends[-1] if ends and self.folder.final.is_file() else -1

    def newest(self) -> checkpoint.Checkpoint | None:
        """The newest whole checkpoint, if there is one."""
        found, refused = checkpoint.latest(self.folder)
        for problem in refused:
            self.tell(events.Warned(code=problem.code, text=str(problem)))
        return found

    def restore(self, found: checkpoint.Checkpoint | None) -> None:
        """Go on from a checkpoint, if there is one."""
        if found is not None:
            self.member.restore(found.step, found.tensors)
            self._checkpointed = found.step
            self.tell(events.Resumed(step=found.step))

    def begin(self) -> None:
        """The run is ready: say so."""
        step = self.member.step
        self.folder.update_record(self.teller.record())
        self.tell(events.Started(run=self.config.name, steps=self.member.total, resumed_from=step or None))
        self.touch_clock()

    # -- between two steps ---------------------------------------------------------------------------------------

    def after_step(self, trainer: Trainer, witness: Witness, poll: Poll) -> None:
        """Report what the step did, then do what is due: preview, validation, save, stop, finish."""
        if self.member.comes_to_rest:
            self.tell(events.Noted(text=f"the text encoder's adapter rests from step {self.member.step} on"))
        asked = control.requests(self.folder)
        if asked or self.done or self._report_due(trainer):
            self.report(trainer)
        if "preview" in asked or self._due(self.config.preview.every_steps, self.config.preview.every_epochs):
            self.draw_previews(trainer, poll)
        if self._validation_due():
            self.validate(trainer, poll)
        if self.done:
            self.finish(trainer, witness, poll)
        elif "save" in asked or "stop" in asked or self._save_due():
            self.report(trainer)
            self.checkpoint()
            self.export(self.folder.adapter(self.member.step), trainer, witness)
            self._prune_adapters()
            if "stop" in asked:
                self.tell(events.Noted(text="stopped on request; start the same command again to go on"))
                raise StopAsked

    def report(self, trainer: Trainer) -> None:
        """Read the steps since the last report off the device, in one go, and write them down.

        Raises DivergedError when too many of them had no finite numbers.
        """
        progress = self.member.progress
        if not progress.losses:
            return
        rows = torch.stack([torch.stack(each).float() for each in (progress.losses, progress.norms, progress.skips)])
        bounds = torch.stack(progress.bounds).tolist() if progress.bounds else None
        elapsed, memory = time.monotonic() - self._clock, trainer.compute.memory()
        for at, (loss, norm, skip) in enumerate(rows.T.tolist()):
            step = progress.first + at + 1
            self._skipped.append(bool(skip))
            if step % self.config.output.log_every == 0 or step == self.member.total:
                rates = {str(part): rate for part, rate in progress.rates[at].items()}
                self.tell(
                    events.Step(
                        step=step, epoch=self.feed.plan.epoch_of(step - 1), loss=_finite(loss), norm=_finite(norm),
                        rates=rates, seconds=elapsed / len(progress.losses), skipped=sum(self._skipped), memory=memory,
                        **_bounded(bounds[at] if bounds else None),
                    )
                )  # fmt: skip
        progress.clear(self.member.step)
        self.touch_clock()
        del self._skipped[:-WINDOW]
        self._stop_if_diverged(scaled=trainer.compute.scaled)

    def _stop_if_diverged(self, *, scaled: bool) -> None:
        patience = IN_A_ROW_FP16 if scaled else IN_A_ROW
        tail = self._skipped[-patience:]
        many = not scaled and len(self._skipped) == WINDOW and sum(self._skipped) > SHARE * WINDOW
        if (len(tail) == patience and all(tail)) or many:
            what = (
                f"the numbers stopped being finite at step {self.member.step}; those steps were thrown away and no "
                "file holds them"
            )
            fix = "lower optim.learning_rate by 3 or 10 and start again; it goes on from the last checkpoint"
            raise DivergedError(Problem("E-NUM-001", what, str(self.folder.path), fix))

    def touch_clock(self) -> None:
        """What was done until now is not part of a step's time."""
        self._clock = time.monotonic()

    def wait_for(self, seconds: float) -> None:
        """Another run of the fleet was busy for so long: that is not part of a step's time either."""
        self._clock += seconds

    # -- what can be due -----------------------------------------------------------------------------------------

    def _report_due(self, trainer: Trainer) -> bool:
        return trainer.compute.device.type == "cpu" or len(self.member.progress.losses) >= 10

    def _due(self, steps: int | None, epochs: int | None) -> bool:
        return self.feed.plan.due(self.member.step, steps, epochs)

    def _save_due(self) -> bool:
        minutes = self.config.save.every_minutes
        by_clock = minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes
        return by_clock or self._due(self.config.save.every_steps, self.config.save.every_epochs)

    def _validation_due(self) -> bool:
        steps = self.config.validation.every_steps
        return bool(self.held_out) and (self.done or self._due(steps, None if steps else 1))

    # -- doing it ------------------------------------------------------------------------------------------------

    def draw_previews(self, trainer: Trainer, poll: Poll) -> None:
        """Draw every prompt. Too little memory for a preview is a warning, never the end of a training."""
        prompts = self.config.preview.prompts
        for number, prompt in enumerate(prompts):
            self.tell(events.Phase(name="preview", done=number, total=len(prompts)))
            try:
                with self.member.averaged():
                    pixels = preview.draw(
                        trainer.family, trainer.compute, prompt, self.card,
                        riders=trainer.riders, adapter=self.member.adapter, process=self.member.objective.process,
                        said=self.source.said, poll=poll,
                    )  # fmt: skip
            except torch.OutOfMemoryError:
                text = f"no memory for preview {number}; make its width and height smaller"
                self.tell(events.Warned(code="W-MEM-002", text=text))
                continue
            path = self.folder.preview(self.member.step, number)
            files.write(path, preview.png(pixels))
            self.tell(events.Preview(step=self.member.step, file=path.name, prompt=number))
        self.touch_clock()

    def validate(self, trainer: Trainer, poll: Poll) -> None:
        """Measure the loss on the validation sets, with the same noise every time."""
        self.tell(events.Phase(name="validation"))
        with self.member.averaged():
            losses = validate.losses(trainer, self.member, self.held_out, self.config.validation, poll)
        self.tell(events.Validated(step=self.member.step, losses={str(t): value for t, value in losses.items()}))
        self.touch_clock()

    def checkpoint(self) -> None:
        """Write all that a resume needs, once for a step."""
        if self._checkpointed == self.member.step:
            return
        step = self.member.step
        state: dict[str, files.JSON] = {"step": step, "total": self.member.total, "seed": self.member.seed}
        keep = self.config.save.keep_checkpoints
        written = checkpoint.save(self.folder, step, self.member.tensors(), state, keep=keep)
        self._checkpointed, self._saved_at = step, time.monotonic()
        self.tell(events.Saved(step=step, checkpoint=written.name))

    def export(self, path: Path, trainer: Trainer, witness: Witness) -> None:
        """Write the adapter as a file to use and, as the settings say, prove that it loads and draws alike."""
        picture = self._thumbnail() if self.config.output.thumbnail else None
        facts = self.teller.facts(self.member.step, started=self._started, written=time.time(), thumbnail=picture)
        with self.member.averaged():
            about = metadata.build(self.config, facts)
            adapter_file.write(path, self.member.adapter.tensors(), about, self.config.save.precision)
        self.tell(events.Saved(step=self.member.step, file=str(path.relative_to(self.folder.path))))
        if self.config.save.proof == "every" or (self.done and self.config.save.proof == "final"):
            self._prove(path, trainer, witness)
        self.touch_clock()

    def _thumbnail(self) -> bytes | None:
        """The newest preview of the first prompt, small; None before there is one of the adapter."""
        drawn = sorted(self.folder.previews.glob("*-0.png"))
        untrained = self.folder.preview(0, 0)
        return plots.thumbnail(drawn[-1]) if drawn and drawn[-1] != untrained else None

    def _prove(self, path: Path, trainer: Trainer, witness: Witness, adapter: Adapter | None = None) -> None:
        self.tell(events.Phase(name="proof"))
        proof = witness.prove(path, self.member, trainer.family, trainer.riders, self.source.said, adapter)
        self.tell(
            events.Proven(
                step=self.member.step, matched=proof.matched, expected=proof.expected,
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

    def export_ranks(self, trainer: Trainer, witness: Witness, poll: Poll) -> None:
        """Write the adapter cut to each rank that is asked for, and measure what each is worth."""
        chosen = ranks.asked(self.config)
        if not chosen:
            return
        most = ranks.whole(self.member.adapter)
        smaller = [rank for rank in chosen if rank < most]
        facts = self.teller.facts(self.member.step, started=self._started, written=time.time())
        about = metadata.build(self.config, facts)
        for rank in smaller:
            path = self.folder.final_of(rank)
            with ranks.mounted(trainer, self.member, rank) as adapter:
                noted = ranks.noted(about, rank, adapter, self.folder.final)
                adapter_file.write(path, adapter.tensors(), noted, self.config.save.precision)
                self.tell(events.Saved(step=self.member.step, file=path.name))
                if self.config.save.proof != "off":
                    self._prove(path, trainer, witness, adapter)
        self.tell(events.Phase(name="ranks"))
        found = ranks.losses(trainer, self.member, self.ranked_on, smaller, poll)
        told = {str(rank): self.folder.final_of(rank).name for rank in smaller} | {str(most): self.folder.final.name}
        event = events.Ranked(
            step=self.member.step,
            pictures="validation" if self.held_out else "training",
            count=sum(len(batch.keys) for batch in self.ranked_on),
            losses={rank: dict(each) for rank, each in found.items()},
            files=told,
        )
        self.tell(event)
        kept = {"pictures", "count", "losses", "files"}
        self.folder.update_record({"ranks": event.model_dump(mode="json", include=kept)})
        files.write(self.folder.ranks, plots.ranks(event.means(), title=self.config.name))

    def finish(self, trainer: Trainer, witness: Witness, poll: Poll) -> None:
        """Everything is trained: the last checkpoint, the file, the curve."""
        self.checkpoint()
        self.export(self.folder.final, trainer, witness)
        self.export_ranks(trainer, witness, poll)
        self.draw_curve()
        seconds = time.time() - self._started
        self.tell(events.Finished(step=self.member.step, seconds=seconds, file=self.folder.final.name))

    def draw_curve(self) -> None:
        """The loss of every step as a picture."""
        told = [each for each in events.history(self.log.read()) if isinstance(each, events.Step)]
        seen = [(each.step, each.loss) for each in told if each.loss is not None]
        if seen:
            files.write(self.folder.curve, plots.loss_curve(*zip(*seen, strict=True), title=self.config.name))

    def interrupt(self, trainer: Trainer) -> None:
        """A signal came: save what a resume needs, and nothing that takes longer."""
        try:
            self.report(trainer)
            if self.member.step:
                self.checkpoint()
        except UserError as error:
            self.fail(error)

    def fail(self, error: UserError) -> None:
        """This run is over; the others of its fleet are not."""
        for problem in error.problems:
            self.tell(events.Failed(code=problem.code, text=str(problem)))


def _bounded(found: list[float] | None) -> dict[str, Any]:
    """What a step says of lengths, where layers are kept from growing longer."""
    if found is None:
        return {}
    count, mean, largest = found
    return {"shortened": int(count), "length": _finite(mean), "longest": _finite(largest)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
