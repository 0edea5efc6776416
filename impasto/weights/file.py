"""Adapter files: safetensors, the same bytes for the same tensors and metadata, never half written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors.torch import load_file
from torch import Tensor

from impasto import files
from impasto.errors import ModelFileError, Problem
from impasto.families.config import Precision
from impasto.weights import header
from impasto.weights.header import shown

Named: TypeAlias = Sequence[tuple[str, Tensor]]

DTYPES: Mapping[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
WORDS = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}

EXACT = (".dora_scale", ".rescale", ".lora_magnitude_vector.weight")
"""Tensors that whole rows of the base are multiplied by: rounding them would move every number of it."""

LEGACY = slice(0x100000, 0x110000)
"""The bytes of a file that the oldest hash looks at."""


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], precision: Precision) -> None:
    """Write an adapter file in one stroke, with its tensors in `precision` and the hashes other programs look for.

    Raises ModelFileError, and writes nothing, when a number is not finite or does not fit.
    """
    named = in_order(_cast(path, tensors, precision))
    payload = b"".join(raw(tensor) for _, tensor in named)
    model_hash = hashlib.sha256(payload).hexdigest()
    files.write(path, head(named, hashed(named, model_hash, payload[: LEGACY.stop], metadata)), payload)


def hashed(named: Named, model_hash: str, begin: bytes, metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata with the hashes of a file whose tensors' bytes `begin` so, as far as the oldest hash looks."""
    return {**metadata, "sshs_model_hash": model_hash, "sshs_legacy_hash": _legacy_hash(named, begin, metadata)}


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of an adapter file. Raises ModelFileError when it is not whole or not finite."""
    found = header.read(path)
    tensors = load_file(path)
    for name, tensor in tensors.items():
        check_finite(path, name, tensor)
    return tensors, dict(found.metadata)


def check_finite(path: Path, name: str, tensor: Tensor) -> None:
    """Raise ModelFileError when a tensor that was read holds a number that is not finite."""
    if tensor.is_floating_point() and not tensor.float().isfinite().all():
        what = f"holds numbers that are not finite, first in {shown(name)}"
        raise ModelFileError(Problem("E-MOD-010", what, str(path), "use an earlier file of the same training"))


def cast(path: Path, name: str, tensor: Tensor, precision: Precision) -> Tensor:
    """A tensor as the file holds it. Raises ModelFileError when a number is not finite or does not fit."""
    exact = name.endswith(EXACT)
    found = tensor.detach().to("cpu", torch.float32 if exact else DTYPES[precision]).contiguous()
    if not found.isfinite().all():
        raise _not_finite(path, name, tensor, precision)
    return found


def _cast(path: Path, tensors: Mapping[str, Tensor], precision: Precision) -> dict[str, Tensor]:
    assert tensors, "an adapter without layers is no file"
    return {name: cast(path, name, tensor, precision) for name, tensor in tensors.items()}


def _not_finite(path: Path, name: str, tensor: Tensor, precision: Precision) -> ModelFileError:
    if tensor.isfinite().all():
        what = f"cannot be written: a number in {name} is too large for {precision}"
        return ModelFileError(Problem("E-MOD-011", what, str(path), "set save.precision to bf16 or fp32"))
    fix = "lower optim.learning_rate and train again from the last checkpoint"
    return ModelFileError(Problem("E-MOD-010", f"cannot be written: {name} is not finite", str(path), fix))


def in_order(tensors: Mapping[str, Tensor]) -> Named:
    """Wide types first, then by name: as the library writes them, so that equal tensors have equal hashes."""
    return sorted(tensors.items(), key=lambda each: (-each[1].element_size(), each[0]))


def head(named: Named, metadata: Mapping[str, str]) -> bytes:
    """Length and JSON, padded so that the tensors start at a multiple of 8 bytes."""
    described: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name, tensor in named:
        start, end = end, end + tensor.nbytes
        described[name] = {
            "dtype": WORDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end],
        }  # fmt: skip
    text = json.dumps(described, ensure_ascii=False, separators=(",", ":"))
    packed = text.encode("utf-8", "replace")  # a file name may hold what is no text
    packed += b" " * (-len(packed) % 8)
    assert len(packed) <= header.LONGEST, "more metadata than a file may hold"
    return len(packed).to_bytes(8, "little") + packed


def raw(tensor: Tensor) -> bytes:
    """A tensor's bytes as they stand in a file."""
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def _legacy_hash(named: Named, payload: bytes, metadata: Mapping[str, str]) -> str:
    """As sd-scripts: over a stretch of the file as it would be with the `ss_` metadata alone."""
    start = head(named, {key: value for key, value in metadata.items() if key.startswith("ss_")})
    return hashlib.sha256((start + payload[: LEGACY.stop])[LEGACY]).hexdigest()[:8]
