"""From a recipe to settings: one chapter after the other, and then whatever does not stand is taken off and told of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from impasto.compat.recipe import Recipe, Result
from impasto.compat.to_adapter import adapter
from impasto.compat.to_data import data
from impasto.compat.to_model import model
from impasto.compat.to_objective import objective
from impasto.compat.to_optim import optim
from impasto.compat.to_run import length, previews, saving
from impasto.compat.translating import Desk, Odd
from impasto.config import RunConfig
from impasto.errors import ConfigError, Problem
from impasto.settings import problems
from impasto.settings.places import Key
from impasto.settings.secrets import is_secret, names_secret
from impasto.settings.source import Source

CHAPTERS: tuple[Callable[[Desk], None], ...] = (model, length, data, adapter, objective, optim, saving, previews)


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
    for chapter in CHAPTERS:
        _carefully(desk, chapter)
    desk.rest()
    config = _standing(desk)
    results = tuple(dict.fromkeys(_hashable(each) for each in desk.results))
    return Translation(recipe, config, desk.values, desk.comments, results)


def _without_secrets(desk: Desk) -> None:
    for name in list(desk.recipe.args):
        given = desk.recipe.args[name]
        if is_secret(given.value) or (names_secret(name) and given.value):
            desk.recipe.args.pop(name)
            why = "keys to services are never written into settings"
            desk.results.append(Result(given.name, "…", "lost", reason=why))


def _carefully(desk: Desk, chapter: Callable[[Desk], None]) -> None:
    """A value of the wrong kind is told of, and the chapter is read again without it."""
    while True:
        before = copy.deepcopy((desk.recipe.args, desk.values, desk.comments, desk.results, desk.origins))
        try:
            return chapter(desk)
        except Odd as odd:
            desk.recipe.args, desk.values, desk.comments, desk.results, desk.origins = before
            name = odd.name or desk.looked_at
            if name not in desk.recipe.args:
                raise ConfigError(Problem("E-IMP-004", str(odd), desk.recipe.source, "mend the value")) from None
            desk.lost(name, str(odd))


def _standing(desk: Desk) -> RunConfig:
    """Check the whole; a setting that is refused is taken off, and its argument told of."""
    for _ in range(50):
        try:
            return RunConfig.model_validate(desk.values)
        except ValidationError as error:
            keys = [_key(found["loc"]) for found in error.errors()]
            guilty = [each for each in desk.origins if any(_is_within(each, key) for key in keys)]
            told = {each: found["msg"].removeprefix("Value error, ") for each, found in _told(desk, error, guilty)}
            if not guilty:
                found = problems.explain(error, desk.values, RunConfig, Source(desk.recipe.source))
                raise ConfigError(*found) from None
            for each in guilty:
                desk.drop(".".join(map(str, each)))
                name = desk.origins.pop(each)
                refused = [_refused(result, each, told[each]) for result in desk.results]
                if refused == desk.results:
                    desk.difference(name, "lost", f"{'.'.join(map(str, each))}: {told[each]}")
                desk.results = refused
    raise AssertionError("every turn takes a setting off")


def _told(desk: Desk, error: ValidationError, guilty: list[Key]) -> list[tuple[Key, Any]]:
    return [(each, next(found for found in error.errors() if _is_within(each, _key(found["loc"])))) for each in guilty]


def _refused(result: Result, key: Key, why: str) -> Result:
    """A result that spoke of a setting that does not stand."""
    dotted = ".".join(map(str, key))
    if not any(each.startswith(f"{dotted} = ") for each in result.settings):
        return result
    return Result(result.name, result.value, "lost", (), f"{dotted}: {why}", result.quirks, result.usual)


def _key(place: tuple[int | str, ...]) -> Key:
    return tuple(place)


def _is_within(setting: Key, place: Key) -> bool:
    """Whether a place in an error is this setting: it names kinds besides, and goes on into lists."""
    rest = iter(place)
    return all(part in rest for part in setting)


def _hashable(result: Result) -> Result:
    value = result.value
    if isinstance(value, list | dict):
        value = repr(value)
    return Result(result.name, value, result.outcome, result.settings, result.reason, result.quirks, result.usual)
