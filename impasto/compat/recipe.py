"""What another trainer was told, in one form, wherever it stood: arguments with their names, and folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Base = Literal["sd", "sdxl", "sd3", "flux", "other"]
"""The family that a recipe is for. `other`: one that cannot be trained here."""

Program = Literal["sd-scripts", "onetrainer", "ai-toolkit"]
"""Whose words the arguments of a recipe are. kohya_ss is a form for sd-scripts."""

Outcome = Literal["same", "better", "lost", "unknown"]
"""`lost` is not carried over; `unknown` are words that, as far as one can tell, the other trainer does not know."""


@dataclass(frozen=True)
class Given:
    """One value, and how it was called where it stood."""

    name: str
    value: Any
    usual: bool = False
    """Not in the file: what the other program takes when it is not told."""

    told: Any = None
    """How the value was written, where that is not how it counts."""


@dataclass(frozen=True)
class Result:
    """What became of one value."""

    name: str
    value: Any
    outcome: Outcome
    settings: tuple[str, ...] = ()
    """What it is now, as `adapter.rank = 8`."""

    reason: str = ""
    quirks: tuple[str, ...] = ()
    usual: bool = False


@dataclass
class Recipe:
    """A training as it was described elsewhere, by the names of the program that it was for.

    Those of sd-scripts are without the dashes; what a list of `key=value` held has names like `network_args.conv_dim`,
    and what lay in tables like `unet.learning_rate` and `concepts[0].path`.
    """

    source: str
    """The file or command line, as it is named to people."""

    kind: str
    """What was recognised: "a settings file of kohya_ss"."""

    base: Base = "sd"
    program: Program = "sd-scripts"
    args: dict[str, Given] = field(default_factory=dict)
    datasets: Mapping[str, Any] | None = None
    """A dataset file: general, datasets and their subsets."""

    dataset_name: str = ""
    prompts: tuple[Mapping[str, Any], ...] = ()
    alone: bool = False
    """No file or folder that is named in it is looked at: it comes from somebody who may not name them."""

    settled: list[Result] = field(default_factory=list)
    """What needs no translation: the reader knew what becomes of it."""
