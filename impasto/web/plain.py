"""Values as JSON can hold them: whatever comes in, what goes out can be written."""

from __future__ import annotations

import math
from datetime import date, time
from pathlib import Path
from typing import Any


def plain(value: object) -> Any:
    """The value in JSON's words: numbers that are not finite and other things become text, halves of letters too."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {plain(str(name)): plain(each) for name, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(each) for each in value]
        case date() | time():
            return value.isoformat()
        case Path():
            return plain(str(value))
        case _:
            return plain(str(value))
