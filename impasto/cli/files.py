"""Using and looking at files: drawing with adapters, what a file holds, the store of encoded pictures."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from pydantic import ValidationError

from impasto.cli.text import amount, columns
from impasto.engine.config import Prompt, Sampler
from impasto.errors import ConfigError, DiskError, Problem
from impasto.families import hub
from impasto.families.config import Emphasis, Merged, Model
from impasto.settings.problems import explain
from impasto.settings.source import Source
from impasto.store import Store, default_root

_USUAL = Prompt(text="")


def sample(
    *,
    prompt: str,
    adapter: Annotated[list[str] | None, Parameter(name="--adapter")] = None,
    model: str = Model().path,
    merged: Annotated[list[str] | None, Parameter(name="--merged")] = None,
    negative: str = _USUAL.negative,
    seed: int = _USUAL.seed,
    steps: int = _USUAL.steps,
    guidance: float | None = _USUAL.guidance,
    embedded_guidance: float = _USUAL.embedded_guidance,
    sampler: Sampler = _USUAL.sampler,
    width: int | None = None,
    height: int | None = None,
    clip_skip: int | None = None,
    max_tokens: Literal[75, 150, 225] | None = None,
    emphasis: Emphasis | None = None,
    token_padding: bool | None = None,
    out: Path = Path("sample.png"),
) -> None:
    """Draw a picture with a base model and adapters.

    Parameters
    ----------
    prompt
        What to draw.
    adapter
        An adapter file, or file:weight as in anna.safetensors:0.8. May be repeated. One on the Hugging Face hub is
        org/name/file.safetensors.
    model
        The base, as model.path of a run: pocket, a checkpoint, a folder in diffusers' layout, or an id on the hub.
    merged
        An adapter file that is part of the base, as model.merged of a run, or file:weight. May be repeated.
    negative
        What not to draw.
    seed
        The noise it starts from.
    steps
        Denoising steps.
    guidance
        How closely the words are followed. If not given: 5, and 1 for FLUX.1.
    embedded_guidance
        The guidance that FLUX.1 dev is told.
    sampler
        How the noise is taken away.
    width
        Pixels; the model's own if not given.
    height
        Pixels; the model's own if not given.
    clip_skip
        Which layer of the text encoder is used, from the end. If not given: as the first adapter was trained.
    max_tokens
        Tokens of the prompt that are used. If not given: as the first adapter was trained.
    emphasis
        What brackets in the prompt mean. If not given: as the first adapter was trained.
    token_padding
        Whether the empty tokens behind the prompt are seen. If not given: as the first adapter was trained.
    out
        The picture's file.
    """
    values = {
        "text": prompt, "negative": negative, "seed": seed, "steps": steps, "guidance": guidance,
        "embedded_guidance": embedded_guidance, "sampler": sampler, "width": width, "height": height,
    }  # fmt: skip
    try:
        asked = Prompt.model_validate(values)
    except ValidationError as error:
        raise ConfigError(*explain(error, values, Prompt, Source("command line"))) from None
    adapters = [_weighted(each, "--adapter") for each in adapter or ()]
    parts = [
        Merged(path=path, weight=weight) for path, weight in (_weighted(each, "--merged") for each in merged or ())
    ]
    given = {"clip_skip": clip_skip, "max_tokens": max_tokens, "emphasis": emphasis, "token_padding": token_padding}
    asked_for = {name: value for name, value in given.items() if value is not None}
    base = _model(model, adapters, {"merged": tuple(parts), **asked_for})
    from impasto.engine.sample import draw

    print(draw(base, asked, adapters=adapters, out=out))


def inspect(file: Path, /) -> None:
    """Tell what an adapter file or a checkpoint folder holds.

    Parameters
    ----------
    file
        A .safetensors file, or the folder of a checkpoint.
    """
    from impasto.weights.inspect import inspect as looked_into

    for line in looked_into(file).lines():
        print(line)


def cache(action: Literal["list", "verify", "gc"], /, *, days: float = 30.0, folder: Path | None = None) -> None:
    """Look after the store of encoded pictures and captions. Whatever is removed is made again when needed.

    Parameters
    ----------
    action
        list: what is kept; verify: read all of it; gc: remove what was not used lately.
    days
        For gc: how many days without use make something old.
    folder
        The store, in place of the usual one.
    """
    if not (math.isfinite(days) and days >= 0):
        raise ConfigError(Problem("E-CLI-001", f"--days {days} is no number of days", "command line", "--days 30"))
    store = Store(folder or default_root(os.environ))
    if action == "list":
        _list(store)
    elif action == "verify":
        _verify(store)
    else:
        swept = store.sweep(older_than_days=days)
        print(f"removed {swept.blobs} entries, {amount(swept.size)}, not used for {days:g} days")


def _list(store: Store) -> None:
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for entry in store.entries():
        counts[entry.kind] += 1
        sizes[entry.kind] += entry.size
    print(store.root)
    if counts:
        rows = [[kind, str(counts[kind]), amount(sizes[kind])] for kind in sorted(counts)]
        print(columns(["kind", "entries", "size"], rows))
    print(f"{counts.total()} entries, {amount(sizes.total())}")


def _verify(store: Store) -> None:
    problems: Sequence[Problem] = store.verify()
    if problems:
        raise DiskError(*problems)
    print(f"all of {store.root} is whole")


def _model(path: str, adapters: Sequence[tuple[Path, float]], given: dict[str, object]) -> Model:
    """The base, reading prompts as was asked for, else as the first adapter's training did."""
    from impasto.weights.words import as_trained

    values = {"path": path, **(as_trained(adapters[0][0]) if adapters else {}), **given}
    try:
        return Model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(*explain(error, values, Model, Source("command line"))) from None


def _weighted(text: str, option: str) -> tuple[Path, float]:
    """`anna.safetensors:0.8` as a file and its weight."""
    path, _, weight = text.rpartition(":")
    try:
        given = (Path(path), float(weight)) if path else (Path(text), 1.0)
    except ValueError:
        given = (Path(text), 1.0)
    if fetched := hub.one_file(str(given[0]), f"command line {option}"):
        given = (fetched, given[1])
    if not given[0].is_file():
        what = f"there is no adapter file {given[0].absolute()}"
        raise ConfigError(Problem("E-CLI-001", what, f"command line {option}", "check the path"))
    if not math.isfinite(given[1]):
        raise ConfigError(Problem("E-CLI-001", f"{text}: no such weight", f"command line {option}", f"{path}:1.0"))
    return given
