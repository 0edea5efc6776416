"""A base's parts as the settings hold them: each in its precision, large layers in fewer bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from impasto import families
from impasto.adapters.targets import Target
from impasto.errors import DeviceError, Problem
from impasto.families import loading, quantized, swap
from impasto.families.card import Part, numbers
from impasto.families.config import Model
from impasto.families.detect import Card
from impasto.families.lent import Lending, Read, give_back, take_over
from impasto.families.precision import DTYPES, text_dtype
from impasto.families.sd import Modules

HOST = torch.device("cpu")
Finish = Callable[[Sequence[Target]], None]
"""Does what is left to do with the layers of a part that was just read."""


def nothing_more(layers: Sequence[Target]) -> None:
    """A part is what its file says."""


def load(card: Card, model: Model, *, dtype: torch.dtype, device: torch.device, plain: bool = False) -> Modules:
    """The parts of `card` on `device`, the denoiser in `dtype`, the others as `model` says.

    With `plain`, layers that would be held in few bits are plain ones with the numbers those stand for: the same base
    for programs that know nothing of it.
    """
    empty = outline(card)
    read = reader(card, model, empty, dtype=dtype, device=device, plain=plain)
    loading.checked(card, card.configs)
    return Modules.of(card, {part: read(part) for part in card.configs})


def lend(
    card: Card, model: Model, *, dtype: torch.dtype, device: torch.device, finish: Finish = nothing_more,
    on_host: bool = False,
) -> Modules:  # fmt: skip
    """The same, each part in memory only while it is used. `finish` is called with a part's layers when it is read.

    A denoiser of which blocks are to wait in the host's memory is read to there; with `on_host`, any.
    """
    empty = outline(card)
    swap.check(empty["unet"], model.blocks_to_swap)
    loading.checked(card, card.configs)
    waits = on_host or bool(model.blocks_to_swap)
    read = reader(card, model, empty, dtype=dtype, device=device, finish=finish, on_host=waits)
    return Modules.of(card, empty, read)


def twin(card: Card, lending: Lending) -> Modules:
    """The same base a second time in the same memory: modules of their own, without anything that rides on the first,
    around the numbers that are there."""
    made = outline(card)
    held = {"unet": lending.denoiser, "vae": lending.vae, **dict(zip(card.encoders, lending.encoders, strict=True))}
    for part, module in made.items():
        take_over(module, held[part].module)
    if lending.swap:
        lending.swap.serve(made["unet"])
    return Modules.of(card, made)


def outline(card: Card) -> dict[Part, Any]:
    """The parts without their numbers."""
    return {part: loading.build(part, config).eval() for part, config in card.configs.items()}


def reader(
    card: Card,
    model: Model,
    empty: Mapping[Part, Any],
    *,
    dtype: torch.dtype,
    device: torch.device,
    plain: bool = False,
    finish: Finish = nothing_more,
    on_host: bool = False,
) -> Read:
    """What reads a part as the settings hold it, frozen, on `device`, or the denoiser `on_host`."""
    packed = not plain and {model.quantize, model.quantize_text_encoder} != {"none"}
    if packed and device.type == "mps" and "fp8" in (model.quantize, model.quantize_text_encoder):
        raise DeviceError(Problem("E-DEV-002", "mps devices have no fp8", "model.quantize", 'quantize = "int8"'))
    found = Modules(empty["unet"], tuple(empty[part] for part in card.encoders), None, (), numbers(card.encoders))
    homes = {id(inner): part for part, module in empty.items() for inner in module.modules()}
    layers: dict[Part, list[Target]] = {part: [] for part in empty}
    for target in families.layers(card, found):
        layers[homes[id(target.module)]].append(target)

    def read(part: Part) -> nn.Module:
        held = {"unet": dtype, "vae": DTYPES[model.vae_precision]}.get(part, text_dtype(model, dtype))
        form = "none" if plain or part == "vae" else model.quantize if part == "unet" else model.quantize_text_encoder
        home = HOST if part == "unet" and on_host else device
        place = HOST if form != "none" else home  # packed in host memory: a device need never hold what does not stay
        module: nn.Module = loading.filled(card, part, dtype=held, device=place, mapped=model.reading == "mapped")
        nn.Module.to(module, place, held)  # diffusers' own warns of layers it would keep wide, of which these have none
        own = [replace(each, module=module.get_submodule(each.path)) for each in layers[part]]
        for target in own:
            _hold(target, model, home, plain=plain)
        if form != "none":
            give_back()  # what the numbers took while they were wide
        finish(own)
        return module.to(home).requires_grad_(False)

    return read


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
