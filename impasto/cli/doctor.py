"""Is this machine ready? Each line says what was found, and what to do where something is missing."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from impasto import __version__, pocket
from impasto.cli.text import amount
from impasto.store import default_root

LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "peft", "accelerate", "pydantic", "numpy", "pillow")
PATIENCE = 120
"""Seconds for importing torch on a slow disk."""

_ASK_TORCH = """
import json, torch
found = {"version": torch.__version__, "threads": torch.get_num_threads(), "devices": ["cpu"]}
if torch.cuda.is_available():
    found["devices"] = [f"cuda:{i} {torch.cuda.get_device_name(i)}, {torch.cuda.get_device_properties(i).total_memory} "
                        f"bytes, bf16 {torch.cuda.is_bf16_supported()}" for i in range(torch.cuda.device_count())]
elif torch.backends.mps.is_available():
    found["devices"] = ["mps"]
print(json.dumps(found))
"""
"""Asked in a process of its own: a broken driver can end the process that asks."""


def lines() -> Iterator[str]:
    """One line for each thing that matters."""
    yield f"impasto      {__version__}"
    yield f"Python       {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield from _torch()
    for name in LIBRARIES:
        yield f"{name:<12} {_version(name)}"
    yield f"processor    {os.cpu_count() or '?'} threads; {_bf16()}"
    yield f"disk here    {_free(Path.cwd())}"
    yield f"disk, cache  {_free(default_root(os.environ))} at {default_root(os.environ)}"
    complete = (pocket.folder() / "model_index.json").is_file()
    yield f"pocket model {'complete' if complete else 'missing: install impasto again'}"


def _torch() -> Iterator[str]:
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        found = json.loads(asked.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        yield "devices      unknown: torch cannot be imported; install it for your GPU or for the CPU"
        return
    yield f"devices      {'; '.join(found['devices'])} ({found['threads']} CPU threads in torch)"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing: install impasto again, or this package by itself"


def _bf16() -> str:
    """Whether the CPU computes bf16 by itself; if not, fp32 is faster there."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return "flags unknown"
    if flags & {"avx512_bf16", "amx_bf16", "bf16"}:
        return "fast in bf16"
    return "no bf16 of its own: on the CPU, model.precision = fp32 is faster"


def _free(path: Path) -> str:
    existing = next((each for each in (path, *path.parents) if each.exists()), Path("/"))
    try:
        return f"{amount(shutil.disk_usage(existing).free)} free"
    except OSError:
        return "unknown"
