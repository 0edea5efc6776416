"""What two runs differ in: all that their folders tell."""

from __future__ import annotations

from collections.abc import Mapping

from impasto.config import differences, load
from impasto.experiments.story import told
from impasto.files import JSON
from impasto.runs.folder import RunFolder

Line = tuple[str, object, object]
"""What, of the first run, of the second."""

_CHAPTERS = {
    "data": ("pictures",),
    "base": ("base",),
    "code and machine": ("impasto", "python", "platform", "libraries", "device", "precision", "threads"),
    "what follows": ("steps", "effective_rates", "text_encoder_until", "seed"),
}
"""Keys of the record, by what they tell of."""


def chapters(first: RunFolder, second: RunFolder) -> list[tuple[str, list[Line]]]:
    """Every chapter with the lines that are not the same in both runs; a chapter without lines is alike in both."""
    settings = list(differences(load(first.config), load(second.config)))
    records = first.record(), second.record()
    found: list[tuple[str, list[Line]]] = [("settings", [each for each in settings if not _is_place(each[0])])]
    for name, keys in _CHAPTERS.items():
        old, new = ({key: record.get(key) for key in keys} for record in records)
        found.append((name, _unlike(old, new)))
    ends = [{"loss": told(run)["loss"], "held out": told(run)["validation"]} for run in (first, second)]
    return [*found, ("how they ended", _unlike(*ends))]


def _is_place(key: str) -> bool:
    """Where a run lies and what it is called: that two runs have two folders is no news."""
    return key in ("name", "output.folder")


def _unlike(old: Mapping[str, JSON], new: Mapping[str, JSON]) -> list[Line]:
    before, after = _leaves(old), _leaves(new)
    return [
        (key, before.get(key), after.get(key))
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    ]


def _leaves(value: JSON, above: str = "") -> dict[str, JSON]:
    if not isinstance(value, Mapping):
        return {above: value}
    found: dict[str, JSON] = {}
    for name, inner in value.items():
        found |= _leaves(inner, f"{above}.{name}" if above else name)
    return found
