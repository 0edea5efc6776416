"""Where the curves and previews of a run are sent besides its folder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from impasto.schema import FilePath, Name, Section

Where = Literal["tensorboard", "wandb"]
Option = bool | int | float | str | Annotated[tuple[str, ...], Field(strict=False)]

OPTIONS = ("entity", "group", "job_type", "mode", "notes", "tags")
"""What `wandb.init` takes that is for the user to say."""


class Track(Section):
    """Where curves and previews are sent while a run trains, besides its folder, which always has them."""

    to: Annotated[tuple[Where, ...], Field(strict=False)] = ()
    """`tensorboard`: files for TensorBoard, which needs nothing installed here; `wandb`: Weights & Biases, which needs
    the package wandb and a login with it. Where one fails, the training goes on without it."""

    folder: FilePath | None = None
    """For TensorBoard: the folder of logs, in which the run gets one of its name. A relative path starts at the
    folder of the settings file. Unset: `tensorboard` in the run's own folder."""

    project: Name = "impasto"
    """For Weights & Biases: the project."""

    name: Name | None = None
    """What the run is called there. Unset: as the run is."""

    options: dict[str, Option] = Field(default={})
    """For Weights & Biases: whose project (entity), group, job_type, notes, tags, and the mode, as {entity = "studio",
    tags = ["anna"], mode = "offline"}. Never the key to it: `wandb login` keeps that."""

    @field_validator("to")
    @classmethod
    def _each_once(cls, value: tuple[Where, ...]) -> tuple[Where, ...]:
        return tuple(dict.fromkeys(value))

    @field_validator("options")
    @classmethod
    def _known(cls, value: dict[str, Option]) -> dict[str, Option]:
        if unknown := sorted(value.keys() - set(OPTIONS)):
            raise ValueError(f"{', '.join(map(repr, unknown))}: what can be said to it is {', '.join(OPTIONS)}")
        return value
