"""A base's parts as the settings hold them: each in its precision, large layers in fewer bits."""

from __future__ import annotations

import torch
from torch import nn

from impasto import families
from impasto.adapters.targets import Target
from impasto.errors import DeviceError, Problem
from impasto.families import quantized
from impasto.families.config import Model
from impasto.families.detect import Card
from impasto.families.precision import DTYPES, text_dtype
from impasto.families.sd import Modules

HOST = torch.device("cpu")


def load(card: Card, model: Model, *, dtype: torch.dtype, device: torch.device, plain: bool = False) -> Modules:
    """The parts of `card` on `device`, the denoiser in `dtype`, the others as `model` says.

    With `plain`, layers that would be held in few bits are plain ones with the numbers those stand for: the same base
    for programs that know nothing of it.
    """
    words = text_dtype(model, dtype)
    packed = not plain and {model.quantize, model.quantize_text_encoder} != {"none"}
    if packed and device.type == "mps" and "fp8" in (model.quantize, model.quantize_text_encoder):
        raise DeviceError(Problem("E-DEV-002", "mps devices have no fp8", "model.quantize", 'quantize = "int8"'))
    # layers are packed in host memory: a device need never hold what does not stay
    found = Modules.load(card, dtype, HOST if packed else device, words)
    nn.Module.to(found.vae, DTYPES[model.vae_precision])  # diffusers' own warns of layers it would keep wide
    for target in families.layers(card, found):
        _hold(target, model, device, plain=plain)
    if packed:
        for part in (found.unet, *found.encoders):
            part.to(device)
    return found


def size(module: nn.Module) -> int:
    """Bytes of all that a module holds."""
    return sum(each.nbytes for each in (*module.parameters(), *module.buffers()))


def _hold(target: Target, model: Model, device: torch.device, *, plain: bool) -> None:
    form = model.quantize if target.part == "unet" else model.quantize_text_encoder
    if form == "none" or target.is_norm or (target.part == "unet" and target.block is None):
        return  # what stands around the blocks is small, and hurt most
    if plain:
        quantized.round_to([target.module], form)
    else:
        quantized.quantize([target.module], form, device)
