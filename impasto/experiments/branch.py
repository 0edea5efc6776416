"""A run that goes on from a step of another one with other settings; and a run made once more."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

from impasto import config as settings
from impasto import events, files
from impasto.checks import run_folder
from impasto.config import RunConfig, differences, load
from impasto.engine import changes
from impasto.errors import ConfigError, Problem
from impasto.events import Noted, Step, Validated
from impasto.files import JSON
from impasto.runs.folder import RunFolder
from impasto.settings.toml import literal
from impasto.weights import header

_OWN = ("name", "output.folder")


def fork(parent: RunFolder, at: int | None, laid_over: Sequence[str], record: Mapping[str, JSON]) -> RunConfig:
    """Make the folder of a run that begins where `parent` stood after step `at` (the newest checkpoint, if None).

    Nothing of the parent is touched. Until the settings differ in effect, both train the same to the bit. Raises
    ConfigError if there is no checkpoint of that step, LockedError (exit code 8) for a setting that cannot change in
    the middle of a training.
    """
    step = _step(parent, at)
    config = load(parent.config, [*_place(parent, f"{parent.name}-at-{step}", laid_over), *laid_over])
    changed = [each for each in differences(load(parent.config), config) if not each[0].startswith(_OWN)]
    changes.check(changed, [key for key, _, _ in changed], str(parent.path))
    told = [each for each in events.history(events.read(parent.events)) if isinstance(each, Step | Validated)]
    past = b"".join(each.model_dump_json().encode() + b"\n" for each in told if each.step <= step)
    origin: dict[str, JSON] = {
        "run": parent.name,
        "session": parent.record().get("session"),
        "step": step,
        "changed": [key for key, _, _ in changed],
    }
    RunFolder.create(
        run_folder(config), settings.dump(config), {**record, "parent": origin}, begin=(parent.checkpoint(step), past)
    )
    return config


def again(run: RunFolder) -> tuple[RunConfig, list[str]]:
    """The settings that train a run once more, in a folder of its own; and why it may not come out the same.

    Raises ConfigError for a run that was forked: its beginning is its parent's.
    """
    record = run.record()
    parent = record.get("parent")
    if isinstance(parent, Mapping):
        what = f"it was forked from {parent.get('run')} at step {parent.get('step')}, so it has no beginning of its own"
        fix = f"`impasto rerun {parent.get('run')}`, then fork that"
        raise ConfigError(Problem("E-RUN-020", what, str(run.path), fix))
    config = load(run.config, _place(run, f"{run.name}-again"))
    told = events.read(run.events)
    notes = [each.text for each in told if isinstance(each, Noted) and each.text.startswith("changed: ")]
    return config, [f"on its way a setting was {note}" for note in notes]


def unlike(first: Mapping[str, JSON], second: Mapping[str, JSON]) -> list[str]:
    """What a rerun's record has otherwise, of the things that decide the numbers."""
    keys = ("impasto", "libraries", "python", "platform", "device", "precision", "threads", "base", "pictures", "steps")
    return [
        f"{key} was {json.dumps(first.get(key))} and is {json.dumps(second.get(key))}"
        for key in keys
        if first.get(key) != second.get(key)
    ]


def same_tensors(first: Path, second: Path) -> bool:
    """Whether two adapter files hold the same tensors to the bit, whatever their metadata say."""
    heads = [header.read(path) for path in (first, second)]
    if heads[0].tensors != heads[1].tensors:
        return False
    held = [files.read(path) for path in (first, second)]
    return held[0][8 + _length(held[0]) :] == held[1][8 + _length(held[1]) :]


def _length(held: bytes) -> int:
    """Bytes of the head of a safetensors file."""
    return int.from_bytes(held[:8], "little")


def _step(parent: RunFolder, at: int | None) -> int:
    there = sorted(int(each.name) for each in parent.checkpoints.glob("*") if each.name.isdecimal())
    if at in there:
        return at
    if at is None and there:
        return there[-1]
    names = ", ".join(str(each) for each in there) or "none"
    what = f"{parent.name} has no checkpoint of step {at}" if at is not None else f"{parent.name} has no checkpoint"
    fix = f"there are: {names}; save.every_steps and save.keep_checkpoints make and keep more"
    raise ConfigError(Problem("E-RUN-021", what, str(parent.path), fix))


def _place(run: RunFolder, name: str, given: Sequence[str] = ()) -> list[str]:
    """A free folder beside the run, as far as it is not `given` by the user."""
    beside = run.path.absolute().parent
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    free = next(each for each in names if not (beside / each).exists())
    usual = {"name": free, "output.folder": str(beside)}
    named = {each.partition("=")[0] for each in given}
    return [f"{key}={literal(value)}" for key, value in usual.items() if key not in named]
