"""Settings that ask of a base what only another has."""

from __future__ import annotations

from impasto.config import RunConfig
from impasto.errors import ConfigError, Problem
from impasto.families.card import Card


def check_base(config: RunConfig, card: Card) -> None:
    """Raise ConfigError for what is asked of a base that it does not have."""
    found = []
    if any(config.data.silence.chances) and not card.hears_apart:
        what = f"single text encoders of {card.title} cannot be silent; those of Stable Diffusion 3 can"
        fix = "data.captions.dropout leaves whole captions out"
        found.append(Problem("E-CFG-176", what, "data.silence", fix))
    if not config.objective.places.usual and not card.has_places:
        what = f"{card.title} has no table of places; Stable Diffusion 3 has"
        found.append(Problem("E-CFG-177", what, "objective.places", "delete these lines"))
    if found:
        raise ConfigError(*found)
