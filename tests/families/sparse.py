"""Files of full size that hold names and shapes and take no room: their numbers are a hole in the disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path

from impasto.weights.header import BYTES


def write(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    metadata: Mapping[str, str] | None = None,
    dtypes: Mapping[str, str] | None = None,
) -> Path:
    """A safetensors file of zeros with these tensors, of 16 bits where `dtypes` does not say otherwise."""
    head: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        dtype = (dtypes or {}).get(name, "F16")
        size = prod(shape) * BYTES[dtype]
        head[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end := end + size]}
    raw = json.dumps(head).encode()
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + end)
    return path
