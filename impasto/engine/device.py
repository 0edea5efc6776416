"""What computes: the device, its precision, its threads. The only file that asks which hardware this is."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from impasto.engine.config import Device
from impasto.errors import DeviceError, Problem
from impasto.families.config import Precision

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """A device and the precision the base is held and computed in."""

    device: torch.device
    dtype: torch.dtype

    @property
    def precision(self) -> Precision:
        """`fp32`, `bf16` or `fp16`."""
        return next(name for name, dtype in DTYPES.items() if dtype == self.dtype)

    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision: matrix products in `dtype`, norms and losses in fp32. Nothing for fp32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def memory(self) -> int:
        """Bytes in use at the peak: of the device, or of this process where the device is the host."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if sys.platform == "win32":
            return 0
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def choose(config: Device, precision: Precision | Literal["auto"]) -> Compute:
    """The device that `config` names, and the precision: `auto` is bf16 where the device is fast in it."""
    if config.threads:
        torch.set_num_threads(config.threads)
    device = _device(config.name)
    if precision != "auto":
        return Compute(device, DTYPES[precision])
    fast = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8
    return Compute(device, torch.bfloat16 if fast else torch.float32)


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = name.partition(":")
    count = {"cuda": torch.cuda.device_count, "xpu": torch.xpu.device_count, "mps": torch.mps.device_count}
    if kind != "cpu":
        found = count[kind]()
        if int(number or 0) >= found:
            fix = "device.name = auto" if found == 0 else f"device.name = {kind}:0" + (f" to {kind}:{found - 1}")
            what = f"{name} was asked for, and this machine has {found} {kind} devices"
            raise DeviceError(Problem("E-DEV-001", what, "device.name", fix))
    return torch.device(name)
