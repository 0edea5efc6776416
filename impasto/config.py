"""A run's settings, whole: the sections composed; read from TOML and overrides, checked once, written out again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ValidationError

from impasto.adapters.config import Adapter, Lora
from impasto.data.config import Data
from impasto.engine.config import Device, Guard, Output, Preview, Save, Scores, Speed, Train, Validation
from impasto.errors import ConfigError
from impasto.families.config import Model
from impasto.objectives.config import Objective
from impasto.optim.config import Optim
from impasto.schema import Name, Section
from impasto.settings import foreign, overrides, paths, problems, refused, toml, writer
from impasto.settings.source import Source
from impasto.track.config import Track

SCHEMA: Final = 1

MODEL_NAMES = frozenset({"pocket"})
"""Base models that are known by name; any other `model.path` is a path."""


class RunConfig(Section):
    """All that decides a run."""

    version: Literal[1] = SCHEMA
    """Version of this file's form."""

    name: Name = "lora"
    """Name of the run: its folder and its adapter file are called so."""

    model: Model = Model()
    """The frozen base model."""

    data: Data = Data()
    """The pictures."""

    adapter: Adapter = Lora()
    """What is trained."""

    objective: Objective = Objective()
    """What the training tries to do."""

    optim: Optim = Optim()
    """How the adapter's numbers are moved."""

    train: Train = Train()
    """How long, and with which dice."""

    save: Save = Save()
    """What is written, and from where a run can go on."""

    preview: Preview = Preview()
    """Pictures drawn while training."""

    validation: Validation = Validation()
    """The loss on held-out pictures."""

    scores: Scores = Scores()
    """Files scored by what they draw."""

    guard: Guard = Guard()
    """What happens when numbers go wrong."""

    track: Track = Track()
    """Where curves and previews are sent besides the run's folder."""

    output: Output = Output()
    """Where the run lives."""

    device: Device = Device()
    """What computes."""

    speed: Speed = Speed()
    """The same in less time."""


def load(path: str | os.PathLike[str] | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a TOML file (or none), lay `section.setting=value` over it and check the whole once.

    Raises ConfigError with everything that is wrong with it.
    """
    return read(path, overrides)[0]


def read(path: str | os.PathLike[str] | None, laid_over: Sequence[str] = ()) -> tuple[RunConfig, Source]:
    """As `load`; also where each setting was given, for problems that only show later."""
    if path is None:
        return build({}, laid_over, Source(), Path.cwd())
    name = os.fspath(path)
    text = toml.read_text(Path(name))
    try:
        document = toml.parse(text, name)
    except ConfigError:
        if problem := foreign.in_text(text, name):
            raise ConfigError(problem) from None
        raise
    return build(document.values, laid_over, Source(name, document.lines), Path(name).absolute().parent)


def build(
    values: Mapping[str, Any], laid_over: Sequence[str], source: Source, folder: Path
) -> tuple[RunConfig, Source]:
    """Values from wherever they come, checked; `folder` is where their relative paths start."""
    stranger = foreign.in_values(values, frozenset(RunConfig.model_fields), source.file)
    if problem := stranger or refused.newer(values, SCHEMA, source) or refused.several(values, source):
        raise ConfigError(problem)
    merged, given, found = overrides.lay(values, laid_over, RunConfig)
    source = Source(source.file, source.lines, given)
    found += refused.take_secrets(merged, source)
    found += paths.make_whole(merged, RunConfig, source, folder, MODEL_NAMES)
    try:
        config = RunConfig.model_validate(merged)
    except ValidationError as error:
        found += problems.explain(error, merged, RunConfig, source)
    if found:
        raise ConfigError(*dict.fromkeys(found))
    return config, source


def dump(config: RunConfig) -> str:
    """The settings as TOML with every value written out and explained: `load` gives the same config back.

    Relative paths would be read from the folder of the file; `load` has made them absolute.
    """
    return writer.write(config)


def fingerprint(config: RunConfig) -> str:
    """Equal for equal settings, in whatever way they were given."""
    return _hash(config.model_dump(mode="json"))


def base_key(config: RunConfig) -> str:
    """Equal for runs that can share one base: the same model, held in the same way on the same device."""
    return _hash(config.model_dump(mode="json", include={"model", "device", "speed"}))


def differences(old: RunConfig, new: RunConfig) -> list[tuple[str, object, object]]:
    """The settings that are not the same: dotted key, old value, new value. None stands for unset."""
    before, after = leaves(old), leaves(new)
    keys = dict.fromkeys((*before, *after))
    return [(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]


def leaves(config: RunConfig) -> dict[str, object]:
    """Every setting by its dotted key."""
    return _leaves(config.model_dump())


def json_schema(root: type[RunConfig] = RunConfig) -> dict[str, Any]:
    """The schema by which editors complete and check a file of settings."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root.model_json_schema()}


def _hash(values: object) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _leaves(values: object, above: str = "") -> dict[str, object]:
    if isinstance(values, dict):
        items = values.items()
    elif isinstance(values, tuple) and values and isinstance(values[0], dict):
        items = dict(enumerate(values)).items()
    else:
        return {above: values}
    found: dict[str, object] = {}
    for name, value in items:
        found |= _leaves(value, f"{above}.{name}" if above else str(name))
    return found
