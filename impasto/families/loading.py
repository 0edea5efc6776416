"""The parts of a base, built without numbers and filled from a file tensor by tensor, straight to where they compute.

Files are mapped into memory, so the most that is held at once is the module and one tensor. Before anything is
read, their heads are compared with what the modules need: every tensor must be there in its shape, and none may be
left over that is not known to be spare.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from impasto.errors import ModelFileError, Problem
from impasto.families import eight_bits, flux_files, flux_names, flux_shape, mmdit, sd3_names, single_file
from impasto.families.card import ENCODERS, Card, Part
from impasto.families.mapped import Mapped
from impasto.families.original import CLIP, CLIP_XL, inside
from impasto.families.sd3_names import PROJECTION, SHARED
from impasto.families.shards import Files
from impasto.families.single_file import KNOWN, UNET, VAE, Place
from impasto.weights import header, recognise

Shapes = Mapping[str, tuple[int, ...]]
Table = dict[str, Place]
"""Where each tensor of a module lies in a file."""

DENOISERS = {each: each for each in ("UNet2DConditionModel", "SD3Transformer2DModel", "FluxTransformer2DModel")}
"""Classes of diffusers that a description may name."""

PICTURES = ("vision_model.", "visual_projection.")
"""The other half of CLIP, which some files of its text encoder hold."""

CALLED: Mapping[Part, str] = {
    "unet": "denoiser", "vae": "VAE", "text_encoder": "text encoder", "text_encoder_2": "second text encoder",
    "text_encoder_3": "third text encoder",
}  # fmt: skip
SHOWN = 3
"""Names that an error tells."""


def build(part: Part, config: Mapping[str, Any]) -> Any:
    """The module of a part, without its numbers (on the meta device)."""
    return shaped(as_made(part, config))


def as_made(part: Part, config: Mapping[str, Any]) -> Any:
    """The same in the shape that its library gives it, which is that of folders in diffusers' layout."""
    from transformers import CLIPTextConfig, T5Config

    kind = kind_of(part, config)
    with torch.device("meta"):
        match part:
            case "unet" | "vae":
                return kind.from_config(dict(config))
            case "text_encoder" | "text_encoder_2":
                return kind(CLIPTextConfig(**config))
            case "text_encoder_3":
                return kind(T5Config(**config))


def kind_of(part: Part, config: Mapping[str, Any]) -> Any:
    """The class of a part with these measures."""
    import diffusers
    import transformers

    match part:
        case "unet":
            return getattr(diffusers, DENOISERS[config.get("_class_name", "UNet2DConditionModel")])
        case "vae":
            return diffusers.AutoencoderKL
        case "text_encoder":
            projects = "CLIPTextModelWithProjection" in config.get("architectures", ())
            return transformers.CLIPTextModelWithProjection if projects else transformers.CLIPTextModel
        case "text_encoder_2":
            return transformers.CLIPTextModelWithProjection
        case "text_encoder_3":
            return transformers.T5EncoderModel


def shaped(module: Any) -> Any:
    """A denoiser in the shape that adapters are published for; any other part as it is."""
    match type(module).__name__:
        case "SD3Transformer2DModel":
            return mmdit.join(module)
        case "FluxTransformer2DModel":
            return flux_shape.join(module)
        case _:
            return module


def parts(card: Card) -> dict[Part, Any]:
    """All parts of a base, without their numbers."""
    return {part: build(part, config) for part, config in card.configs.items()}


def load(card: Card, wanted: Iterable[Part], *, dtype: torch.dtype, device: torch.device) -> dict[Part, Any]:
    """The `wanted` parts of a base, filled; the VAE in fp32 on the host.

    Raises ModelFileError before any tensor is read when a file does not hold exactly what its parts need.
    """
    parts = list(wanted)
    checked(card, parts)
    return {part: filled(card, part, dtype=dtype, device=device) for part in parts}


def checked(card: Card, wanted: Iterable[Part]) -> None:
    """Raise ModelFileError where the files do not hold exactly what these parts need."""
    modules = {part: _as_held(card, part) for part in wanted}
    tables = {part: table(card, part, module) for part, module in modules.items()}
    for files in dict.fromkeys(card.files[part] for part in modules):
        check(card, files, {part: modules[part] for part in modules if card.files[part] == files}, tables)


def filled(card: Card, part: Part, *, dtype: torch.dtype, device: torch.device, mapped: bool = True) -> Any:
    """One part of a base that was checked, filled, from files that are mapped or plainly read; the VAE in fp32 on the
    host."""
    module = _as_held(card, part)
    held, place = (torch.float32, torch.device("cpu")) if part == "vae" else (dtype, device)
    fill(module, Mapped(card.files[part], mapped=mapped), table(card, part, module), dtype=held, device=place)
    return module if card.original else shaped(module)


def _as_held(card: Card, part: Part) -> Any:
    """A part without its numbers, in the shape that the card's files have it in."""
    return (build if card.original else as_made)(part, card.configs[part])


def table(card: Card, part: Part, module: nn.Module) -> Table:
    """Where each tensor of a part lies in the card's files."""
    held = header.tensors(card.files[part])
    if part == "vae":
        names = tensor_names(module)
        return vae_table(names, len(card.configs["vae"]["block_out_channels"]), held)
    if not card.original:
        return stored(card, part, module)
    if card.family in ("sd3", "flux") and part != "unet":
        return sd3_names.encoder_places(ENCODERS.index(part) + 1, tensor_names(module), held)
    if card.family == "flux" and part == "unet":
        places = flux_names.published(tensor_names(module), flux_files.prefix(held) or "")
        return {name: Place(old) for name, old in places.items()}
    if part != "unet" and card.files[part] != (card.path,):
        return beside_table(part, tensor_names(module), held)
    found = original_table(card, part, module)
    bare = {name: Place(place.name.replace(".text_model.", ".")) for name, place in found.items()}
    return found if any(place.name in held for place in found.values()) else bare


def stored(card: Card, part: Part, module: nn.Module) -> Table:
    """Where each tensor of a part lies in the base's own files, in whichever layout that is."""
    if card.original:
        return table(card, part, module)
    held = header.tensors(card.weights(part))
    return spelled(tensor_names(module), held)


def spelled(names: list[str], held: Mapping[str, object]) -> Table:
    """A module's tensors in files that its library wrote, of today or of before."""
    found = {}
    for name in names:
        nested = (name, f"text_model.{name}", name.removeprefix("text_model."))
        spellings = SHARED if name == SHARED[0] else nested
        found[name] = Place(next((each for each in spellings if each in held), name))
    return found


def original_table(card: Card, part: Part, module: nn.Module) -> Table:
    """Where each tensor of a part lies in a file in the original layout, as it was published."""
    names = tensor_names(module)
    if card.family in ("sd3", "flux") and part != "vae":
        if part == "unet":
            denoiser = sd3_names.joined if card.family == "sd3" else flux_names.published
            return {name: Place(old) for name, old in denoiser(names, UNET).items()}
        number = ENCODERS.index(part) + 1
        return sd3_names.encoder_places(number, names, {sd3_names.ENCODERS[number] + sd3_names.PROJECTION})
    match part:
        case "unet":
            found = single_file.unet(names, int(card.configs["unet"]["layers_per_block"]))
            return {name: Place(UNET + old) for name, old in found.items()}
        case "vae":
            old = single_file.vae(names, len(card.configs["vae"]["block_out_channels"]))
            start = flux_files.VAE if card.family == "flux" else VAE
            return {name: Place(start + path) for name, path in old.items()}
        case "text_encoder":
            prefix = CLIP_XL[0] if card.family == "sdxl" else CLIP[card.family]
            return text_table(names, prefix)
        case "text_encoder_2":
            return text_table(names, CLIP_XL[1])
        case "text_encoder_3":
            raise AssertionError("only Stable Diffusion 3 and FLUX.1 have it")


def tensor_names(module: nn.Module) -> list[str]:
    """The tensors of a module that a file must hold, each once."""
    return [name for name in module.state_dict() if name != SHARED[1]]


def vae_table(names: list[str], blocks: int, held: Iterable[str]) -> Table:
    """A VAE's tensors, under the original names with or without a prefix, or diffusers' own, of today or of before."""
    there = frozenset(held)
    for start in (VAE, flux_files.VAE, ""):
        if f"{start}decoder.mid.block_1.conv1.weight" in there:
            return {name: Place(start + old) for name, old in single_file.vae(names, blocks).items()}
    if any(".query." in name for name in there):
        return {name: Place(old) for name, old in single_file.legacy_vae(names).items()}
    return {name: Place(name) for name in names}


def beside_table(part: Part, names: list[str], held: Mapping[str, object]) -> Table:
    """A text encoder's tensors in a file beside the base: as in a checkpoint of Stable Diffusion 1.x or XL, or of
    OpenCLIP, else as transformers writes them."""
    starts = (CLIP_XL[0], CLIP["sd1"]) if part == "text_encoder" else (CLIP_XL[1], "")
    for start in starts:
        found = text_table(names, start)
        if any(place.name in held for place in found.values()):
            return found
    return spelled(names, held)


def text_table(names: list[str], prefix: str) -> Table:
    """A text encoder's tensors: OpenCLIP's, or CLIP's."""
    if prefix.endswith(".transformer."):
        return single_file.clip(names, f"{prefix}text_model.")
    return single_file.open_clip(names, prefix)


def fill(module: nn.Module, held: Mapped, places: Table, *, dtype: torch.dtype, device: torch.device) -> None:
    """Give every tensor of `module` its numbers."""
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found: dict[str, Tensor] = {}
    for name, place in places.items():
        tensor = single_file.unfuse(place, eight_bits.read(held, place.name), shapes[name])
        found[name] = torch.empty(shapes[name], dtype=dtype, device=device).copy_(tensor)  # no longer the file's
        if not bool(found[name].isfinite().all()):
            what = f"holds numbers that are not finite, first in {header.shown(place.name)}"
            fix = "fetch the file again, or name another base"
            raise ModelFileError(Problem("E-MOD-010", what, str(held.path(place.name)), fix))
    if SHARED[1] in shapes and SHARED[0] in found:
        found[SHARED[1]] = found[SHARED[0]]  # T5 has it under two names
    if PROJECTION in shapes and PROJECTION not in found:
        found[PROJECTION] = torch.eye(*shapes[PROJECTION], dtype=dtype, device=device)  # what files leave out
    module.load_state_dict(found, strict=True, assign=True)
    for inner in module.modules():
        for name, buffer in inner.named_buffers(recurse=False):
            if buffer.is_meta:
                assert name == "position_ids", f"nobody fills the buffer {name}"
                inner.register_buffer(name, torch.arange(buffer.shape[-1], device=device)[None], persistent=False)
    module.eval()


def check(card: Card, files: Files, modules: Mapping[Part, nn.Module], tables: Mapping[Part, Table]) -> None:
    """Raise ModelFileError unless the files hold what the modules need, in their shapes, and nothing unknown."""
    path, tensors = files[0], header.tensors(files)
    held = {name: entry.shape for name, entry in tensors.items()}
    known = partial(spare, card, path) if card.original else partial(_spare_in_folder, card, *modules)
    used = {tables[part][name].name for part in modules for name in tables[part]}
    eight_bits.check(path, tensors, used)
    beside = eight_bits.spare(tensors)
    if card.family in ("sd1", "sdxl") and card.original and not modules.keys() & {"unet", "vae"}:
        known = partial(_spare_beside, [place.name for part in modules for place in tables[part].values()])
    lacking, odd = [], []
    for part, module in modules.items():
        shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        for name, place in tables[part].items():
            if place.name not in held:
                lacking.append(place.name)
            elif not fits(single_file.held(place, shapes[name]), held[place.name]):
                odd.append(f"{place.name} is {held[place.name]}, not {shapes[name]}")
    if lacking and len(lacking) == sum(len(tables[part]) for part in modules):
        raise _something_else(path, held, modules)
    unknown = [name for name in held if name not in used | beside and not known(name)]
    problems = []
    for code, names, what, fix in (
        ("E-MOD-108", lacking, "tensors that it should have are missing", "the file is not complete; get another"),
        ("E-MOD-109", odd, "tensors have other shapes than the published model's", "set model.config_path"),
        ("E-MOD-111", unknown, "tensors are not known to any part of it", "report this kind of file; it is not read"),
    ):
        if names:
            some = ", ".join(header.shown(name) for name in names[:SHOWN])
            problems.append(Problem(code, f"{len(names)} {what}, among them {some}", str(path), fix))
    if problems:
        raise ModelFileError(*problems)


def _something_else(path: Path, held: Shapes, parts: Iterable[Part]) -> ModelFileError:
    """Of a file that holds nothing of its parts: what it is in their place."""
    kind = "an adapter" if recognise.adapter(held) else recognise.model(held)[0]
    what = f"holds nothing of the {' and the '.join(CALLED[part] for part in parts)} that should be there, but {kind}"
    return ModelFileError(Problem("E-MOD-113", what, str(path), "put the right file there, or name another base"))


def fits(wanted: tuple[int, ...], found: tuple[int, ...]) -> bool:
    """Equal shapes; a linear layer may be kept as a convolution of 1x1, and the other way round."""
    return found == wanted or (*found, 1, 1) == wanted or found == (*wanted, 1, 1)


def spare(card: Card, path: Path, name: str) -> bool:
    """Whether a tensor that no part needs is known to be in such files."""
    if KNOWN.match(name) or (path == card.path and not inside(name)):
        return True
    if path == card.path and not card.own_vae and name.startswith((VAE, flux_files.VAE)):
        return True
    if path == card.path and card.family in ("sd1", "sdxl") and name.startswith(_read_elsewhere(card)):
        return True
    if path in card.files["vae"] and path != card.path:
        return not name.startswith(("encoder.", "decoder.", VAE))  # a VAE may come inside anything
    if card.family in ("sd3", "flux"):
        known = name.endswith((*SHARED, "position_ids", "logit_scale", PROJECTION, PROJECTION.removesuffix(".weight")))
        return known or name.startswith(PICTURES) or not _of_a_part(card, name)
    return bool(_behind_the_last(card).match(name))


def _read_elsewhere(card: Card) -> tuple[str, ...]:
    """How the text encoders of a checkpoint begin in whose place other files are read."""
    starts = CLIP_XL if card.family == "sdxl" else (CLIP[card.family],)
    return tuple(start for part, start in zip(ENCODERS, starts, strict=False) if card.path not in card.files[part])


def _spare_beside(places: list[str], name: str) -> bool:
    """The same of a file beside the base that a text encoder is read from: it may hold anything else."""
    start = os.path.commonprefix(places)  # noqa: RUF071  names, letter by letter
    return not start or not name.startswith(start) or name.endswith(("position_ids", "logit_scale", "attn_mask"))


def _spare_in_folder(card: Card, part: Part, name: str) -> bool:
    """The same in a part's own folder. A VAE may come inside anything; a text encoder with its other half, or with
    layers behind the last that is read."""
    if part == "unet":
        return KNOWN.match(name) is not None
    inside = name.removeprefix(VAE).removeprefix("text_model.")
    if part == "vae":
        return not inside.startswith(("encoder.", "decoder."))
    if name.endswith("position_ids") or not inside.startswith(("embeddings.", "encoder.", "final_layer_norm.")):
        return True
    found = re.match(r"encoder\.(?:layers|block)\.(\d+)\.", inside)
    layers = card.configs[part].get("num_hidden_layers", card.configs[part].get("num_layers"))
    return found is not None and int(found[1]) >= int(layers or 0)


def _of_a_part(card: Card, name: str) -> bool:
    """Whether a tensor in a checkpoint belongs to a part that is read from elsewhere or not at all."""
    elsewhere = [
        sd3_names.ENCODERS[at] for at, part in enumerate(ENCODERS, 1) if card.path not in card.files.get(part, ())
    ]
    return not name.startswith(tuple(elsewhere))


def _behind_the_last(card: Card) -> re.Pattern[str]:
    """Stable Diffusion 2.x was made with the layer before the last; its files hold the last one all the same."""
    prefix = re.escape(CLIP_XL[1] if card.family == "sdxl" else CLIP[card.family])
    layers = card.configs["text_encoder_2" if card.family == "sdxl" else "text_encoder"]["num_hidden_layers"]
    return re.compile(rf"^{prefix}transformer\.resblocks\.{layers}\.")
