"""The ground all settings stand on: strict, frozen, closed sections whose docstrings are the help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A group of settings. The string under a field is its help on the command line, in the form and in the docs."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


def default_kind(kind: str) -> BeforeValidator:
    """Let a table that names no `kind` mean the usual one, so that `adapter.rank = 8` is enough."""

    def fill(value: Any) -> Any:
        return {"kind": kind, **value} if isinstance(value, dict) else value

    return BeforeValidator(fill)


FilePath = Annotated[Path, Field(strict=False)]
"""A path, given as text in files and on the command line."""

PositiveInt = Annotated[int, Field(gt=0, le=10**9)]
NaturalInt = Annotated[int, Field(ge=0, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0, le=1e9)]
NaturalFloat = Annotated[float, Field(ge=0.0, le=1e9)]
Name = Annotated[str, Field(pattern=r"^[^/\\\x00-\x1f<>:\"|?*]{1,100}$")]
"""What a file or a folder can be called everywhere."""
