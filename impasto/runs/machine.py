"""What a new run's record says of the machine."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

from impasto.files import JSON

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "safetensors", "numpy", "pillow")


def record() -> dict[str, JSON]:
    """What a new run's record says of this machine."""
    versions: dict[str, JSON] = {name: metadata.version(name) for name in LIBRARIES}
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "libraries": versions,
    }
