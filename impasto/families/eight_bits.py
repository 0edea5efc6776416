"""Weights of 8 bits in single files: plain, or with a scale beside them; and packings that are not read. No torch.

Plain is `float8_e4m3fn` (or e5m2) as other numbers are. Scaled, a file holds beside `x.weight` a `x.scale_weight` (or
`x.weight_scale`), by which the numbers are multiplied, and marks that say so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from impasto.errors import ModelFileError, Problem
from impasto.weights import header
from impasto.weights.header import Entry

if TYPE_CHECKING:
    from torch import Tensor

    from impasto.families.mapped import Mapped

NARROW = ("F8_E4M3", "F8_E5M2")
SCALES = ("scale_weight", "weight_scale")
MARKS = re.compile(r"(^|\.)(scaled_fp8|scale_input|input_scale|comfy_quant)$")
"""What stands beside scaled weights and is not needed to read them."""

PACKED: Mapping[str, str] = {
    r"\.quant_state\.bitsandbytes__nf4$": "nf4 (bitsandbytes)",
    r"\.quant_state\.bitsandbytes__fp4$": "fp4 (bitsandbytes)",
    r"\.SCB$": "int8 (bitsandbytes)",
    r"\.weight_scale_2$": "nvfp4",
    r"\.qweight$|\.wscales$": "4 bits (SVDQuant, GPTQ or AWQ)",
}
"""Packings by what they put beside a weight."""

INSTEAD = "use the file in bf16, fp16 or fp8; model.quantize packs the base when it is loaded"


def scale_of(name: str, held: Mapping[str, Entry]) -> str | None:
    """The scale that stands beside a weight of 8 bits; None where it has none."""
    if name not in held or held[name].dtype not in NARROW or not name.endswith("weight"):
        return None
    return next((at for scale in SCALES if (at := name.removesuffix("weight") + scale) in held), None)


def spare(held: Mapping[str, Entry]) -> set[str]:
    """What a file holds beside scaled weights of 8 bits."""
    return {at for name in held if (at := scale_of(name, held))} | {name for name in held if MARKS.search(name)}


def check(path: Path, held: Mapping[str, Entry], used: set[str]) -> None:
    """Raise ModelFileError where `used` weights of a file are packed in a way that is not read, naming it."""
    everything = "\n".join(held)
    for mark, packing in PACKED.items():
        if re.search(mark, everything, re.MULTILINE):
            raise _packed(path, f"its weights are packed in {packing}")
    for name in sorted(used):
        entry = held.get(name)
        if entry is not None and not entry.dtype.startswith(("F", "BF")):
            raise _packed(path, f"{header.shown(name)} is held in {entry.dtype}, which are no weights")
        scale = held.get(scale_of(name, held) or "")
        if entry is not None and scale is not None and scale.count not in (1, entry.shape[0]):
            raise _packed(path, f"the scale of {header.shown(name)} is {list(scale.shape)}, one for several weights")


def read(files: Mapped, name: str) -> Tensor:
    """One tensor of the files of a part, with its scale in it."""
    if files.entry(name).dtype not in NARROW:
        return files.get_tensor(name)
    wide = files.get_tensor(name).float()  # torch has few operations on 8 bits
    scale = next((at for each in SCALES if (at := name.removesuffix("weight") + each) in files), None)
    if scale is None or not name.endswith("weight"):
        return wide
    by = files.get_tensor(scale).float()
    return wide * (by.reshape(()) if by.numel() == 1 else by.reshape(-1, *[1] * (wide.ndim - 1)))


def _packed(path: Path, what: str) -> ModelFileError:
    return ModelFileError(Problem("E-MOD-119", what, str(path), INSTEAD))
