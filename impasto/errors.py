"""What can go wrong that a user can mend.

    UserError
    ├── ConfigError       2   a setting, a file of settings, the command line
    ├── DataError         3   pictures, captions
    ├── DivergedError     4   numbers that are no longer numbers
    ├── OutOfMemory       5   host or device memory
    ├── DiskError         6   full, read-only, failing disk
    ├── ModelFileError    7   a base model, an adapter or a checkpoint that is not what it should be
    ├── LockedError       8   another run holds the folder, or holds other work
    └── DeviceError       9   no such device, or a lost one
    Stopped         130/143   a signal asked the run to end; it can be resumed

The number is the exit code of the process. 0 is done, 1 is a defect of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Problem:
    """One thing to mend: `E-CFG-012 my.toml:14 optim.learning_rate: "x" is not a number. Fix: …`."""

    code: str
    what: str
    where: str = ""
    fix: str = ""

    def __str__(self) -> str:
        place = f" {self.where}:" if self.where else ""
        fix = f" Fix: {self.fix}" if self.fix else ""
        end = "" if self.what.endswith((".", "?", "!", ":")) else "."
        return f"{self.code}{place} {self.what}{end}{fix}"


class UserError(Exception):
    """Something a user can mend: all problems of one kind at once, each with place and fix."""

    exit_code: ClassVar[int] = 1

    def __init__(self, *problems: Problem) -> None:
        assert problems, "an error without a problem helps nobody"
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


class ConfigError(UserError):
    """A setting, a settings file or a command line that cannot be used."""

    exit_code = 2


class DataError(UserError):
    """Pictures or captions that cannot be used."""

    exit_code = 3


class DivergedError(UserError):
    """A training whose numbers are no longer finite."""

    exit_code = 4


class OutOfMemory(UserError):
    """The host's or the device's memory does not suffice."""

    exit_code = 5


class DiskError(UserError):
    """A disk that is full, read-only or failing."""

    exit_code = 6


class ModelFileError(UserError):
    """A base model, an adapter or a checkpoint that is not what it should be."""

    exit_code = 7


class LockedError(UserError):
    """A run folder that another process holds, or that holds other work."""

    exit_code = 8


class DeviceError(UserError):
    """A device that does not exist or was lost."""

    exit_code = 9


class Stopped(Exception):
    """A signal asked for the end; everything is saved and the run can be resumed."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(f"stopped by signal {exit_code - 128}")
