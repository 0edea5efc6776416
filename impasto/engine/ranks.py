"""A trained DyLoRA as a file for each rank that is asked for, and what each rank is worth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from impasto import events, files
from impasto.adapters.adapter import Adapter
from impasto.adapters.config import DyLora
from impasto.adapters.dylora import DyLoraLayer, cut
from impasto.config import RunConfig
from impasto.data.batch import Batch
from impasto.data.plan import Plan
from impasto.engine import plots, validate
from impasto.engine.member import Member
from impasto.engine.prepare import Source
from impasto.engine.trainer import Trainer
from impasto.weights.file import DTYPES

if TYPE_CHECKING:
    from impasto.engine.proving import Witness
    from impasto.engine.session import Session

PICTURES = 16
"""Training pictures that ranks are measured on where none are held out, at least: whole micro-batches of the start."""


def asked(config: RunConfig) -> tuple[int, ...]:
    """The ranks to cut the adapter to, the smallest first."""
    chosen = config.adapter
    return tuple(sorted(set(chosen.export_ranks))) if isinstance(chosen, DyLora) else ()


def export(session: Session, trainer: Trainer, witness: Witness, poll: Callable[[], None]) -> None:
    """Write a run's adapter cut to each rank that is asked for, and measure what each is worth."""
    config, folder, member = session.config, session.folder, session.member
    chosen = asked(config)
    if not chosen:
        return
    most = whole(member.adapter)
    smaller = [rank for rank in chosen if rank < most]
    about = session.about(member.step)
    for rank in smaller:
        path = folder.final_of(rank)
        with mounted(trainer, member, rank) as adapter:
            session.write(path, adapter, noted(about, rank, adapter, folder.final))
            session.tell(events.Saved(step=member.step, file=path.name))
            if config.save.proof != "off":
                session.prove(path, trainer, witness, adapter)
    session.tell(events.Phase(name="ranks"))
    found = losses(trainer, member, session.ranked_on, smaller, poll)
    told = {str(rank): folder.final_of(rank).name for rank in smaller} | {str(most): folder.final.name}
    event = events.Ranked(
        step=member.step,
        pictures="validation" if session.gauge.held else "training",
        count=sum(len(batch.keys) for batch in session.ranked_on),
        losses={rank: dict(each) for rank, each in found.items()},
        files=told,
    )
    session.tell(event)
    kept = {"pictures", "count", "losses", "files"}
    folder.update_record({"ranks": event.model_dump(mode="json", include=kept)})
    files.write(folder.ranks, plots.ranks(event.means(), title=config.name))


def batches(source: Source, plan: Plan, total: int) -> list[Batch]:
    """Training pictures to measure on: those of the first steps, so the same ones after a resume."""
    found: list[Batch] = []
    for step in range(total):
        if sum(len(batch.keys) for batch in found) >= PICTURES:
            break
        found += [source.batch(micro) for micro in plan.step(step)]
    return found


def whole(adapter: Adapter) -> int:
    """The largest rank that it can be cut to."""
    return max(len(layer.lora_down.weight) for _, layer in adapter.items() if isinstance(layer, DyLoraLayer))


@contextmanager
def mounted(trainer: Trainer, member: Member, rank: int) -> Iterator[Adapter]:
    """A copy of the member's adapter, as files show it, cut to a rank and riding beside it; rank 0 is no adapter."""
    dtype = DTYPES[member.config.save.precision]
    with member.averaged():
        found = Adapter({}, {}) if rank == 0 else cut(member.adapter, rank, dtype)
    trainer.riders.mount(found)
    try:
        yield found
    finally:
        trainer.riders.dismount(found)


def losses(
    trainer: Trainer, member: Member, batches: Sequence[Batch], ranks: Sequence[int], poll: Callable[[], None]
) -> dict[str, dict[str, float]]:
    """For rank 0, each of `ranks` and the whole adapter the mean loss at each noise level that is measured."""
    found = {}
    for rank in (0, *ranks, whole(member.adapter)):
        with mounted(trainer, member, rank) as adapter:
            (by,) = validate.losses(trainer, [validate.Asked(member, batches, adapter)], poll)
        found[str(rank)] = {str(t): loss for t, loss in by.items()}
    return found


def noted(metadata: dict[str, str], rank: int, adapter: Adapter, source: Path) -> dict[str, str]:
    """The metadata of the whole file, for one that is cut."""
    alphas = {float(_alpha(layer)) for _, layer in adapter.items() if "alpha" in dict(layer.named_buffers())}
    made = {"made": "cut", "from": source.name, "rank": rank}
    return metadata | {
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alphas.pop()) if len(alphas) == 1 else "Dynamic",
        "impasto.made": json.dumps(made, sort_keys=True),
    }


def _alpha(layer: object) -> Tensor:
    found = getattr(layer, "alpha", None)
    assert isinstance(found, Tensor)
    return found
