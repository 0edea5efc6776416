"""Settings that lie in tables within tables: every value by its whole name, and what has no place here by a table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast

from impasto.compat.kohya import table
from impasto.compat.recipe import Given, Program, Recipe, Result
from impasto.compat.translating import Desk, Odd, as_number
from impasto.settings.suggest import nearest

Verdict = Literal["read", "same", "better", "lost"]
"""`read`: a chapter takes it up."""

OFF: tuple[Any, ...] = (None, False, "", 0, [], {}, "NONE", "NEVER", "OFF", "none")
TITLES: Mapping[Program, str] = {"onetrainer": "OneTrainer", "ai-toolkit": "ai-toolkit"}


@dataclass(frozen=True)
class Word:
    """A name that the other program has, and what becomes of it where no chapter takes it up."""

    name: str
    """Places in lists are written as `[]`; `*` is anything."""

    verdict: Verdict
    reason: str

    def fits(self, name: str) -> bool:
        """Whether this row is about a name."""
        return re.fullmatch(re.escape(self.name).replace(r"\*", ".*"), name, re.DOTALL) is not None


@cache
def words(program: Program) -> tuple[Word, ...]:
    """The names of a program that are known here."""
    rows = (cells for cells in table("others.tsv") if cells["program"] == program)
    return tuple(Word(cells["name"], cast(Verdict, cells["verdict"]), cells["reason"]) for cells in rows)


def names(values: Mapping[str, Any]) -> Iterator[str]:
    """The whole names of all values."""
    return (name for name, _ in _flat(values, ""))


def lay(recipe: Recipe, values: Mapping[str, Any], above: str = "", older: Mapping[str, str] | None = None) -> None:
    """Every value of tables within tables among the arguments; `older` names go by their newer ones."""
    for shown, value in _flat(values, above):
        name = (older or {}).get(shown, shown)
        if name in recipe.args:
            recipe.settled.append(Result(shown, value, "lost", reason=f"{recipe.args[name].name} says it already"))
        else:
            recipe.args[name] = Given(shown, value)


def _flat(values: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list) and value and all(isinstance(each, dict) and each for each in value):
            for at, each in enumerate(value):
                yield from _flat(each, f"{name}[{at}].")
        else:
            plain = value is None or isinstance(value, bool | int | float | str | list | dict)
            yield name, value if plain else str(value)  # YAML also reads dates


def count(desk: Desk, name: str) -> int:
    """How long a list of tables is, as far as anything of it is left."""
    found = [re.match(rf"{re.escape(name)}\[(\d+)\]\.", each) for each in desk.recipe.args]
    return max((int(each[1]) + 1 for each in found if each), default=0)


def rest(desk: Desk) -> None:
    """What no chapter took up: by the table, or unknown and listed with the nearest name."""
    program = desk.recipe.program
    for name in list(desk.recipe.args):
        word, value = _word(program, name), desk.recipe.args[name].value
        if word is None:
            near = nearest(_general(name), [each.name for each in words(program) if "*" not in each.name])
            why = f"no name of {TITLES[program]} that is known here"
            desk.done(name, "unknown", f"{why}; the nearest one is {near}" if near else why)
        elif word.verdict in ("read", "lost") and value in OFF:
            desk.same(name, "off or empty")
        elif word.verdict == "read":
            desk.lost(name, word.reason or "nothing here answers to it with these settings")
        else:
            desk.done(name, word.verdict, word.reason)


def _word(program: Program, name: str) -> Word | None:
    general = _general(name)
    return next((each for each in words(program) if each.fits(general)), None)


def _general(name: str) -> str:
    return re.sub(r"\[\d+\]", "[]", name)


def folder_and_name(path: str) -> tuple[str, str]:
    """`models/anna.safetensors` as folder and name, with either kind of slash."""
    folder, slash, last = path.replace("\\", "/").rstrip("/").rpartition("/")
    return folder or slash, last.removesuffix(".safetensors").removesuffix(".ckpt")


def sides(value: Any) -> list[Any]:
    """Resolutions: 1024, "512,768", "1024x768" or a list of them; width first, as numbers or pairs."""
    found: list[Any] = []
    for each in value if isinstance(value, list) else str(value).split(","):
        parts = [int(as_number(side)) for side in re.split(r"[x×]", str(each).strip())]
        found.append(parts[0] if len(set(parts)) == 1 else parts)
    if not found:
        raise Odd("there is no size in it")
    return found
