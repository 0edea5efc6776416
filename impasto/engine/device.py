"""What computes: the device, its precision, its threads. The only file that asks which hardware this is."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from impasto.engine.config import Device
from impasto.engine.place import Place
from impasto.errors import ConfigError, DeviceError, Problem
from impasto.families.config import Model, Precision
from impasto.families.precision import DTYPES, text_dtype
from impasto.optim.config import Optim


@dataclass(frozen=True)
class Compute:
    """A device and the precision the base is held and computed in."""

    device: torch.device
    dtype: torch.dtype
    text: torch.dtype | None = None
    """What the text encoder is held and computed in, where that is another precision."""

    @property
    def precision(self) -> Precision:
        """`fp32`, `bf16` or `fp16`."""
        return next(name for name, dtype in DTYPES.items() if dtype == self.dtype)

    @property
    def text_precision(self) -> Precision:
        """The same of the text encoder."""
        return next(name for name, dtype in DTYPES.items() if dtype == (self.text or self.dtype))

    @property
    def scaled(self) -> bool:
        """Whether losses are scaled: gradients that pass through fp16 are lost where they are small."""
        return torch.float16 in (self.dtype, self.text)

    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision: matrix products in `dtype`, norms and losses in fp32. Nothing for fp32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def moved(self, value: Tensor) -> Tensor:
        """A tensor of the host on the device, from whichever thread."""
        if self.device.type != "cuda":
            return value.to(self.device)
        with torch.cuda.device(self.device):  # a thread of its own would begin with the first GPU, and pin there
            return value.pin_memory().to(self.device, non_blocking=True)

    def memory(self) -> int:
        """Bytes in use at the peak: of the device, or of this process where the device is the host."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resident_peak()


def resident_peak() -> int:
    """Bytes of memory that this process held at most; 0 where the system does not say (Windows).

    Linux is asked by VmHWM: its `ru_maxrss` begins with what the program held that started this one.
    """
    if sys.platform == "win32":
        return 0
    if sys.platform == "linux":
        told = Path("/proc/self/status").read_text("utf-8")
        return 1024 * int(told.partition("VmHWM:")[2].split()[0])
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def choose(config: Device, model: Model, place: Place | None = None) -> Compute:
    """The device that `config` names, and the precisions: `auto` is bf16 where the device is fast in it. With several
    ranks, each takes the GPU of its number on its machine."""
    if config.threads:
        torch.set_num_threads(config.threads)
    device = _device(config.name) if place is None else _own_device(config.name, place)
    dtype = _fast(device) if model.precision == "auto" else DTYPES[model.precision]
    return Compute(device, dtype, text_dtype(model, dtype))


def holds(config: Optim, compute: Compute) -> None:
    """Raise ConfigError where an adapter cannot be held as `config` says, beside a base computed as it is."""
    if config.precision == "bf16" and compute.dtype != torch.bfloat16:
        what = f"an adapter in bf16 needs a base that computes in it, and this one computes in {compute.precision}"
        raise ConfigError(
            Problem("E-CFG-140", what, "optim.precision", 'precision = "fp32", or model.precision = "bf16"')
        )


def _fast(device: torch.device) -> torch.dtype:
    fast = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8
    return torch.bfloat16 if fast else torch.float32


def _own_device(name: str, place: Place) -> torch.device:
    """The device of one rank."""
    if ":" in name:
        what = f"{name} is one GPU, and {place.local_size} ranks want one each"
        fix = "device.name = auto; CUDA_VISIBLE_DEVICES says which GPUs are to be used"
        raise DeviceError(Problem("E-RNK-008", what, "device.name", fix))
    found = _device(name)
    if found.type == "cpu":
        return found
    if found.type != "cuda":
        what = f"several ranks train on CUDA or on the processor, and this would be {found.type}"
        raise DeviceError(Problem("E-RNK-008", what, "device.name", "device.name = cpu, or train without --nproc"))
    count = torch.cuda.device_count()
    if place.local_size > count:
        what = f"{place.local_size} ranks on this machine want a GPU each, and it has {count}"
        raise DeviceError(Problem("E-RNK-008", what, "device.name", f"--nproc {count}, or device.name = cpu"))
    torch.cuda.set_device(place.local_rank)
    return torch.device("cuda", place.local_rank)


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
