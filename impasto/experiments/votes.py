"""Which pictures people prefer when they do not know whose they are: blind pairs, and a strength for each row.

The strengths are those of Bradley and Terry, "Rank analysis of incomplete block designs" (1952), by Hunter's "MM
algorithms for generalized Bradley-Terry models" (2004, eq. 3): row i beats row j with the chance p_i / (p_i + p_j).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from impasto import files
from impasto.errors import ConfigError, Problem
from impasto.schema import Section

PRIOR = 0.5
"""Ties with every other row that each begins with: nobody is infinitely better for having won once."""

_ROUNDS = 10_000
_CLOSE = 1e-12
_NORMAL = 1.959964
"""95 % of a normal distribution lie within as many standard deviations."""


class Vote(Section):
    """One answer to "which is better?"."""

    left: str
    """The row whose picture was at the left."""
    right: str
    """The row at the right."""
    better: Literal["left", "right", "neither"]
    """What was said."""


class Ballot(Section):
    """What the page of a comparison saves."""

    version: Literal[1] = 1
    """Version of this form."""
    votes: tuple[Vote, ...]
    """In the order they were given."""


@dataclass(frozen=True)
class Standing:
    """How a row fares."""

    row: str
    strength: float
    """Natural logarithm of p_i, 0 the mean of all rows."""
    low: float
    """Ends of the 95 % interval of the strength."""
    high: float
    chance: float
    """Of being preferred to a row picked at random among the others."""
    won: float
    """Pairs won; a tie counts half."""
    shown: int


def read(paths: Sequence[Path]) -> list[Vote]:
    """All votes of some files. Raises ConfigError for one that is no such file."""
    found: list[Vote] = []
    for path in paths:
        try:
            found += Ballot.model_validate_json(files.read(path)).votes
        except FileNotFoundError:
            raise ConfigError(Problem("E-CMP-004", "there is no such file", str(path), "check the path")) from None
        except (ValidationError, ValueError):
            fix = "save them with the button of the page that `impasto compare` makes"
            raise ConfigError(Problem("E-CMP-004", "holds no votes", str(path), fix)) from None
    return found


def standings(votes: Sequence[Vote]) -> list[Standing]:
    """Every row that was voted on, the best first."""
    rows = sorted({name for vote in votes for name in (vote.left, vote.right)})
    if len(rows) < 2:
        return []
    wins = _wins(votes, rows)
    with_ties = wins + PRIOR / 2 * (1 - np.eye(len(rows)))
    strength = _strengths(with_ties)
    error = _errors(strength, with_ties + with_ties.T)
    chance = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
    np.fill_diagonal(chance, 0.0)
    shown = (wins + wins.T).sum(axis=1)
    found = [
        Standing(
            row,
            float(strength[at]),
            float(strength[at] - _NORMAL * error[at]),
            float(strength[at] + _NORMAL * error[at]),
            float(chance[at].sum() / (len(rows) - 1)),
            float(wins[at].sum()),
            round(shown[at]),
        )
        for at, row in enumerate(rows)
    ]
    return sorted(found, key=lambda each: -each.strength)


def text(votes: Sequence[Vote]) -> str:
    """The votes as the page saves them."""
    return json.dumps(Ballot(votes=tuple(votes)).model_dump(mode="json"), indent=2)


def _wins(votes: Sequence[Vote], rows: Sequence[str]) -> NDArray[np.float64]:
    """[R, R], how often row i was preferred to row j; a tie counts half for both. A row against itself says nothing."""
    at = {row: index for index, row in enumerate(rows)}
    wins = np.zeros((len(rows), len(rows)))
    for vote in votes:
        left, right = at[vote.left], at[vote.right]
        share = {"left": 1.0, "right": 0.0, "neither": 0.5}[vote.better]
        if left != right:
            wins[left, right] += share
            wins[right, left] += 1 - share
    return wins


def _strengths(wins: NDArray[np.float64]) -> NDArray[np.float64]:
    """[R], log p with mean 0."""
    pairs, won = wins + wins.T, wins.sum(axis=1)
    p = np.ones(len(wins))
    for _ in range(_ROUNDS):
        new = won / (pairs / (p[:, None] + p[None, :])).sum(axis=1)
        new /= np.exp(np.log(new).mean())
        done = np.abs(np.log(new) - np.log(p)).max() < _CLOSE
        p = new
        if done:
            break
    found: NDArray[np.float64] = np.log(p)
    return found


def _errors(strength: NDArray[np.float64], pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """[R], standard errors by the observed information, in the space where the strengths sum to 0."""
    chance = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
    weight = pairs * chance * (1 - chance)
    information = np.diag(weight.sum(axis=1)) - weight
    found: NDArray[np.float64] = np.sqrt(np.clip(np.diag(np.linalg.pinv(information)), 0.0, None))
    return found
