"""Numbers for adapters: how well, how cleanly, how variedly they draw what they learned."""

from __future__ import annotations

import json as writing
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from cyclopts import Parameter
from PIL import Image

from impasto.cli.comparing import progress, whole
from impasto.cli.runs import RUNS, found
from impasto.cli.text import columns
from impasto.data import pixels
from impasto.engine.config import Prompt
from impasto.engine.scores import Drawn, Probes, Scores, probes, scores
from impasto.errors import ConfigError, Problem
from impasto.experiments import lineup
from impasto.experiments import scoring as plan
from impasto.files import write
from impasto.measured import share
from impasto.store import Store, default_root

if TYPE_CHECKING:
    from impasto.engine.cells import Cell
    from impasto.engine.features import Encoder, Features


def score(
    *what: str,
    trigger: str | None = None,
    instead: str = "",
    prompt: Annotated[list[str] | None, Parameter(name="--prompt")] = None,
    seeds: str = "1,2,3,4",
    encoder: str | None = None,
    pictures: Path | None = None,
    model: str | None = None,
    device: str = "auto",
    json: Path | None = None,
    runs: Path = RUNS,
) -> None:
    """Score adapters by pictures they draw: likeness, leak without the trigger, variety, copies, fit to the words.

    Parameters
    ----------
    what
        As for `impasto compare`: runs, run@500, run@all, adapter files, strengths.
    trigger
        The word that calls the concept: prompts are drawn without it too, to see what leaks.
    instead
        What stands in its place then, as the class: person, dog. If not given: nothing.
    prompt
        What to draw. May be repeated. If not given: the previews of the first run that has any.
    seeds
        The noises each prompt is drawn from. Variety needs two or more.
    encoder
        What pictures are compared by: a folder or hub id of CLIP, SigLIP or DINO. If not given: form and colour, which
        is always there and coarse.
    pictures
        The training pictures, in place of those of the first run.
    model
        The base. If not given: the one the runs were trained on.
    device
        What computes: auto, cpu, cuda:1 ...
    json
        A file for the numbers.
    runs
        The folder of runs.
    """
    if not what:
        fix = "`impasto score anna@all --trigger anna`"
        raise ConfigError(Problem("E-CLI-001", "nothing to score is named", "command line", fix))
    rows = lineup.rows(what, (), lambda name: found(name, runs))
    prompts = lineup.columns(rows, prompt or (), whole(seeds), lambda each: each)
    asked = probes(prompts, trigger, instead)
    learned = plan.pictures(rows, pictures)
    from impasto.engine import device as devices
    from impasto.engine.cells import Cell, draw
    from impasto.engine.config import Device
    from impasto.engine.features import encoder as opened
    from impasto.engine.scored import fit

    base = lineup.base_of(rows, model)
    by = opened(encoder, devices.choose(Device(name=device), base).device)
    every = (*asked.with_trigger, *asked.without)
    cells = [Cell(each, row.adapter, row.strength) for row in rows for each in every]
    drawn = dict(zip(cells, draw(base, cells, Store(default_root(os.environ)), progress, device), strict=True))
    training = by.pictures([_loaded(path) for path in learned])
    seen = [_features(row, asked, drawn, by, Cell) for row in rows]
    fits = [fit(each, by) for each in seen]
    table = {
        row.label: scores(own, seen[0], training, fit, fits[0])
        for row, own, fit in zip(rows[1:], seen[1:], fits[1:], strict=True)
    }
    print(_shown(table, by.name, len(learned)))
    if json is not None:
        told = {
            "encoder": by.name,
            "pictures": len(learned),
            "scores": {name: asdict(each) for name, each in table.items()},
        }
        write(json, writing.dumps(told, indent=2, ensure_ascii=False).encode())


def _features(row: lineup.Row, asked: Probes, drawn: Mapping[Cell, bytes], by: Encoder, cell: type[Cell]) -> Drawn:
    def of(prompts: Sequence[Prompt]) -> dict[str, Features]:
        found: dict[str, list[Image.Image]] = {}
        for each in prompts:
            found.setdefault(each.text, []).append(_opened(drawn[cell(each, row.adapter, row.strength)]))
        return {text: by.pictures(some) for text, some in found.items()}

    return Drawn(of(asked.with_trigger), of(asked.without))


def _shown(table: Mapping[str, Scores], encoder: str, count: int) -> str:
    rows = [
        [
            name,
            share(each.similarity),
            "" if each.leak is None else share(each.leak),
            "" if each.diversity is None else share(each.diversity),
            share(each.copies),
            "" if each.match is None else f"{each.match:+.3f}",
        ]
        for name, each in table.items()
    ]
    head = ["adapter", "like the pictures", "leaks", "variety", "copies", "fit to words"]
    return f"by {encoder}, against {count} training pictures; the base alone is 0 %\n{columns(head, rows)}"


def _loaded(path: Path) -> Image.Image:
    look = pixels.load(path)
    if isinstance(look, Problem):
        raise ConfigError(look)
    return Image.fromarray(np.asarray(look.rgb))


def _opened(png: bytes) -> Image.Image:
    with Image.open(BytesIO(png)) as picture:
        return picture.convert("RGB")
