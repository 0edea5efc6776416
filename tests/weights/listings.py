"""True names and shapes of published kinds of files, under tests/golden/keys."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "golden" / "keys"


def listing(name: str) -> dict[str, tuple[int, ...]]:
    """Tensor names and shapes."""
    found = json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))
    return {key: tuple(shape) for key, shape in found.items()}
