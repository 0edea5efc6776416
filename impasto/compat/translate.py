"""From a recipe to settings: one chapter after the other, and then whatever does not stand is taken off and told of."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from impasto.compat import aitoolkit, nested, onetrainer
from impasto.compat.recipe import Program, Recipe, Result
from impasto.compat.to_adapter import adapter
from impasto.compat.to_data import data
from impasto.compat.to_model import model
from impasto.compat.to_objective import objective
from impasto.compat.to_optim import optim
from impasto.compat.to_run import length, previews, saving
from impasto.compat.to_track import track
from impasto.compat.translating import Desk, Odd
from impasto.config import RunConfig
from impasto.errors import ConfigError, Problem
from impasto.settings.places import Key
from impasto.settings.secrets import is_secret, names_secret

CHAPTERS: Mapping[Program, tuple[Callable[[Desk], None], ...]] = {
    "sd-scripts": (model, length, data, adapter, objective, optim, saving, previews, track, Desk.rest),
    "onetrainer": (*onetrainer.CHAPTERS, nested.rest),
    "ai-toolkit": (*aitoolkit.CHAPTERS, nested.rest),
}
"""How a recipe is read, by whose words it is in; last, whatever is left."""


@dataclass(frozen=True)
class Translation:
    """Settings, and what became of every value they come from."""

    recipe: Recipe
    config: RunConfig
    values: dict[str, Any]
    """What is to be written: all else is as by default."""

    comments: dict[Key, str]
    results: tuple[Result, ...]

    def of(self, *outcomes: str) -> list[Result]:
        """The results with one of these outcomes."""
        return [each for each in self.results if each.outcome in outcomes]


def translate(recipe: Recipe, *, exact: bool = False) -> Translation:
    """Settings for the same training. `exact`: as sd-scripts does where impasto can do both."""
    desk = Desk(recipe, exact)
    desk.results += recipe.settled
    _without_secrets(desk)
    for chapter in CHAPTERS[recipe.program]:
        _carefully(desk, chapter)
    config = _standing(desk)
    results = tuple(dict.fromkeys(_hashable(each) for each in desk.results))
    return Translation(recipe, config, desk.values, desk.comments, results)


def _without_secrets(desk: Desk) -> None:
    for name in list(desk.recipe.args):
        given = desk.recipe.args[name]
        if is_secret(given.value) or (names_secret(name.rpartition(".")[2]) and given.value):
            desk.recipe.args.pop(name)
            why = "keys to services are never written into settings"
            desk.results.append(Result(given.name, "…", "lost", reason=why))


def _carefully(desk: Desk, chapter: Callable[[Desk], None]) -> None:
    """A value of the wrong kind is told of, and the chapter is read again without it."""
    while True:
        before = copy.deepcopy((desk.recipe.args, desk.values, desk.comments, desk.results))
        try:
            return chapter(desk)
        except Odd as odd:
            desk.recipe.args, desk.values, desk.comments, desk.results = before
            name = odd.name or desk.looked_at
            if name not in desk.recipe.args:
                raise ConfigError(Problem("E-IMP-004", str(odd), desk.recipe.source, "mend the value")) from None
            desk.lost(name, str(odd))


def _standing(desk: Desk) -> RunConfig:
    """Check the whole; what is refused is taken off, and its arguments told of."""
    for _ in range(100):
        try:
            return RunConfig.model_validate(desk.values)
        except ValidationError as error:
            places: dict[Key, str] = {}
            for found in error.errors():
                why = found["msg"].removeprefix("Value error, ")
                places.setdefault(_place(desk.values, found["loc"]), why)
            for place, why in places.items():
                _take_off(desk, place, why)
    raise AssertionError("every turn takes something off")


def _place(values: Any, location: tuple[int | str, ...]) -> Key:
    """Where in the values a problem is. Its location also names kinds, and goes on beyond what is there."""
    found: list[int | str] = []
    for part in location:
        inside = part in values if isinstance(values, dict) else isinstance(values, list) and isinstance(part, int)
        if inside:
            values = values[part]
            found.append(part)
    return tuple(found)


def _take_off(desk: Desk, place: Key, why: str) -> None:
    """Take a setting off, or all of a section; a section of defaults stands."""
    names = [part for part in place if isinstance(part, str)]
    if any(isinstance(part, int) for part in place):
        names = names[: next(at for at, part in enumerate(place) if isinstance(part, int))]
    assert names, f"{place}: {why}"
    dotted = ".".join(names)
    if desk.get(dotted) is None:
        return
    desk.drop(dotted)
    told = False
    for at, result in enumerate(desk.results):
        if any(f"{each} ".startswith((f"{dotted} ", f"{dotted}.")) for each in result.settings):
            why_not = f"{dotted}: {why}"
            desk.results[at] = replace(result, outcome="lost", settings=(), reason=why_not)
            told = True
    if not told:
        desk.difference(dotted, "lost", why)


def _hashable(result: Result) -> Result:
    value = repr(result.value) if isinstance(result.value, list | dict) else result.value
    return replace(result, value=value)
