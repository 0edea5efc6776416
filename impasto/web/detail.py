"""All about one run, put together from its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

from impasto import config as settings
from impasto.config import RunConfig
from impasto.errors import UserError
from impasto.measured import scored
from impasto.runs import ledger
from impasto.runs.folder import RunFolder
from impasto.web.digest import mean
from impasto.web.facts import inner, record
from impasto.web.lines import number, text, whole
from impasto.web.shelf import Entry
from impasto.web.tape import Tape
from impasto.web.views import Asking, Checkpoint, Detail, Drawn, Kin, Learnt, Measured, Prompt, Setting, Summary

_CONFIG_LIMIT = 1 << 20
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
Verdict = Literal["", "never_learned", "dominates", "stopped_teaching"]


def detail(entry: Entry, tape: Tape, all_runs: Sequence[Entry]) -> Detail:
    """All about a run but its curves."""
    assert entry.shown is not None
    run = entry.run
    written = _written(run)
    config, problems = _config(run, written)
    return Detail(
        **entry.shown.model_dump(),
        config_toml=written,
        settings=list(_settings(config)) if config else [],
        checkpoints=list(_checkpoints(run, tape)),
        previews=[
            Drawn(step=step, prompt=prompt, picture=name) for (step, prompt), name in sorted(tape.previews.items())
        ],
        prompts=[
            Prompt(text=each.text, negative=each.negative, seed=each.seed, width=each.width, height=each.height)
            for each in (config.preview.prompts if config else ())
        ],
        pictures=[path.name for path in (run.curve, run.ranks) if inner(run, path)],
        measured=[_measured(step, event) for step, event in sorted(tape.measured.items())],
        ledger=_ledger(run),
        tree=_tree(entry, all_runs),
        machine=_machine(run),
        similarity=_similarity(run),
        spent=dict(sorted(entry.digest.spent.items(), key=lambda each: -each[1])),
        expected=entry.digest.expected,
        problems=problems,
        events=tape.mark.lines,
        can=can(entry.shown),
    )


def can(run: Summary) -> list[Asking]:
    """What may be asked of a run in its state."""
    if run.silent:
        return ["end"]
    known: tuple[Asking, ...] = get_args(Asking)
    match run.state:
        case "training" | "preparing":
            return [each for each in known if each not in ("resume", "end")]
        case "queued":
            return ["pause", "stop"]
        case "finishing" | "done" | "draft":
            return []
        case _:
            return ["resume"]


def batch(run: RunFolder) -> int | None:
    """Pictures of a step."""
    config, _ = _config(run, _written(run))
    return config.data.batch_size * config.train.accumulate if config else None


def _written(run: RunFolder) -> str:
    path = inner(run, run.config)
    try:
        return path.read_bytes()[:_CONFIG_LIMIT].decode("utf-8", "backslashreplace") if path else ""
    except OSError:
        return ""


def _config(run: RunFolder, written: str) -> tuple[RunConfig | None, list[str]]:
    if not written:
        return None, ["its settings cannot be read"]
    try:
        return settings.load(run.config), []
    except UserError as error:
        return None, [text(str(each)) for each in error.problems[:20]]


def _settings(config: RunConfig) -> Iterator[Setting]:
    usual = settings.leaves(RunConfig())
    for key, value in settings.leaves(config).items():
        default = usual.get(key)
        yield Setting(
            key=text(key), value=_told(value), usual=_told(default), source="default" if value == default else "set"
        )


def _told(value: object) -> Any:
    match value:
        case None | bool() | int():
            return value
        case float():
            return number(value)
        case list() | tuple():
            return [_told(each) for each in value]
        case dict():
            return {text(str(key)): _told(each) for key, each in value.items()}
        case _:
            return text(str(value))


def _checkpoints(run: RunFolder, tape: Tape) -> Iterator[Checkpoint]:
    resumable = _steps(run)
    picked = {whole(each.get("step")): each for each in tape.picked}
    kept = {step: name for step, names in tape.saved.items() for name in sorted(names) if _size(run, name) is not None}
    for step in sorted(resumable | kept.keys() | picked.keys()):
        found, proof, measure = picked.get(step), tape.proven.get(step), tape.measured.get(step)
        file = kept.get(step) or (text(found.get("file")) if found else "") or None
        yield Checkpoint(
            step=step,
            file=file,
            bytes=_size(run, file) if file else None,
            resumable=step in resumable,
            loss=(mean(measure.get("losses")) or mean(measure.get("training"))) if measure else None,
            proven=None if proof is None else whole(proof.get("matched")) == whole(proof.get("expected")),
            difference=number(proof.get("difference")) if proof else None,
            matched=whole(proof.get("matched")) if proof else None,
            expected=whole(proof.get("expected")) if proof else None,
            picked=found is not None,
            recommended=bool(found and found.get("recommended")),
            reasons=list(_reasons(found)) if found else [],
        )


def _reasons(picked: Mapping[str, Any]) -> Iterator[str]:
    """What speaks for a file, and what it draws where that was scored."""
    yield text(picked.get("reason"))
    told = picked.get("scores")
    scores = {name: number(value) for name, value in told.items()} if isinstance(told, dict) else {}
    if scores and (words := scored(scores)):
        yield f"drawn: {words}"


def _steps(run: RunFolder) -> set[int]:
    try:
        return {
            int(each.name) for each in run.checkpoints.iterdir() if each.name.isascii() and each.name.isdecimal()
        }  # fmt: skip
    except OSError:
        return set()


def _size(run: RunFolder, name: str) -> int | None:
    path = inner(run, run.path / name) if "\0" not in name and len(name) < 1000 else None
    return path.stat().st_size if path else None


def _measured(step: int, event: Mapping[str, Any]) -> Measured:
    return Measured(step=step, losses=_losses(event.get("losses")), training=_losses(event.get("training")))


def _losses(found: object) -> dict[str, float | None]:
    return {text(key): number(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _ledger(run: RunFolder) -> list[Learnt]:
    path = inner(run, run.ledger)
    try:
        rows = ledger.read(path) if path else []
        lists = ledger.listed(rows)
        return [
            Learnt(
                name=text(row.name), looks=row.count, early=_finite(row.early), late=_finite(row.late),
                trend=_finite(row.trend), verdict=_verdict(row, lists),
            )
            for row in rows
        ]  # fmt: skip
    except (ArithmeticError, IndexError, ValueError):  # a file that was written by hand
        return []


def _verdict(row: ledger.Row, lists: Mapping[str, Sequence[ledger.Row]]) -> Verdict:
    words: tuple[Verdict, ...] = ("never_learned", "dominates", "stopped_teaching")
    return next((word for word in words if row in lists[word]), "")


def _finite(value: float | None) -> float | None:
    return number(value)


def _tree(entry: Entry, all_runs: Sequence[Entry]) -> list[Kin]:
    """The run, those it comes from, and those that come from any of these; parents before children."""
    by_session = {each.facts.session: each for each in all_runs if each.facts.session}
    top, seen = entry, {entry.id}
    while (above := by_session.get(top.facts.parent_session)) is not None and above.id not in seen:
        top = above
        seen.add(top.id)
    found, missing = [], top.facts.parent
    if missing:
        found.append(Kin(id=None, name=missing, parent=None, step=None, state=None))
    waiting, done = [top], set[str]()
    while waiting:
        each = waiting.pop(0)
        if each.id in done or each.shown is None:
            continue
        done.add(each.id)
        parent = by_session.get(each.facts.parent_session)
        above_id = parent.id if parent else each.facts.parent or None
        found.append(
            Kin(
                id=each.id,
                name=each.shown.name,
                parent=above_id,
                step=each.facts.parent_step,
                state=each.shown.state,
            )
        )
        session = each.facts.session
        waiting += [other for other in all_runs if session and other.facts.parent_session == session]
    return found if len(found) > 1 else []


def _machine(run: RunFolder) -> dict[str, str]:
    found = record(run)
    libraries = found.get("libraries")
    named = [
        (key, found.get(key)) for key in ("impasto", "python", "platform", "device", "precision", "threads", "seed")
    ]
    more = libraries.items() if isinstance(libraries, dict) else ()
    return {text(str(key)): text(str(value)) for key, value in chain(named, more) if value is not None}


def _similarity(run: RunFolder) -> dict[str, float]:
    found = record(run).get("similarity")
    if not isinstance(found, dict):
        return {}
    return {text(key): value for key, each in found.items() if (value := number(each)) is not None}


def picture(run: RunFolder, name: str) -> Path | None:
    """A picture of a run by its name: a preview, or one beside its files."""
    if not name.lower().endswith(_PICTURES) or "/" in name or "\\" in name or "\0" in name or len(name) > 255:
        return None
    return inner(run, run.previews / name) or inner(run, run.path / name)
