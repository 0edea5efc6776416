"""Settings to start from, each value with its reason: what is trained, on which base, on how large a card.

A preset is put together of three small files, and the later one has the last word on a value:

    goals/character.toml + bases/sdxl.toml + cards/sdxl-12.toml -> character-sdxl-12gb

The comment above a value is its reason; the first lines of a file are what it is called and for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from impasto.config import RunConfig
from impasto.settings import form, sparse, toml
from impasto.settings.writer import comment


def _named_in(folder: str) -> tuple[str, ...]:
    found = (each.name for each in resources.files("impasto.presets").joinpath(folder).iterdir())
    return tuple(sorted(each.removesuffix(".toml") for each in found if each.endswith(".toml")))


GOALS: Final = _named_in("goals")
BASES: Final = _named_in("bases")
CARDS: Final = (8, 12, 24)
"""Gigabytes."""


@dataclass(frozen=True)
class Preset:
    """Settings to start from."""

    name: str
    title: str
    why: str
    goal: str
    family: str
    memory: int
    """Gigabytes of the card."""
    values: dict[str, Any]
    """By dotted name."""
    reasons: dict[str, str]
    """Why each is what it is."""

    @property
    def toml(self) -> str:
        """As a file of settings, with the reasons above the values."""
        keyed = {form.key_of(name): reason for name, reason in self.reasons.items()}
        head = [*comment(f"{self.title}. {self.why}"), "# `impasto explain` tells about every setting.", "", ""]
        return "\n".join(head) + sparse.document(form.nested(self.values), RunConfig, keyed)


@cache
def every() -> tuple[Preset, ...]:
    """All presets."""
    return tuple(_put_together(goal, base, card) for goal in GOALS for base in BASES for card in CARDS)


def named(name: str) -> Preset | None:
    """The preset of this name."""
    return next((each for each in every() if each.name == name), None)


def _put_together(goal: str, base: str, card: int) -> Preset:
    values: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for path in (f"goals/{goal}.toml", f"bases/{base}.toml", f"cards/{base}-{card}.toml"):
        text = _text(path)
        said = form.flat(toml.parse(text, path).values, RunConfig)
        why = {form.name_of(key): reason for key, reason in form.remarks(text).items()}
        values |= said
        reasons |= {name: why[name] for name in said}
    if values.get("adapter.targets.text_encoder") is False:
        values.pop("optim.text_encoder_learning_rate", None)
    reasons = {name: reasons[name] for name in values}
    (what, about), (model, home) = _head(f"goals/{goal}.toml"), _head(f"bases/{base}.toml")
    return Preset(
        f"{goal}-{base}-{card}gb", f"{what} on {model}, {card} GB", f"{about} {home}", goal, base, card, values, reasons
    )


def _head(path: str) -> tuple[str, str]:
    """What a file is called, and what it is for."""
    first, second, *_ = _comments(_text(path))
    return first, second


def _comments(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if not line.startswith("#"):
            return
        yield line.lstrip("# ").strip()


@cache
def _text(path: str) -> str:
    return resources.files("impasto.presets").joinpath(path).read_text("utf-8")


__all__ = ["BASES", "CARDS", "GOALS", "Preset", "every", "named"]
