"""Which layers of a base model an adapter may ride on, and what each of them does there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from torch import nn

from impasto.adapters.targets import Layer, Norm, Part, Role, Target
from impasto.families import flux_names, pieces, sd3_names, single_file
from impasto.families.blocks import Number, flux_blocks, joint_blocks, unet_blocks
from impasto.families.names import kohya_name

USUAL = frozenset({
    "Transformer2DModel", "CLIPAttention", "CLIPMLP", "JointTransformerBlock", "T5Attention", "T5DenseGatedActDense",
})  # fmt: skip
"""Classes whose layers are adapted without being asked for."""

CONVOLVING = frozenset({"ResnetBlock2D", "Downsample2D", "Upsample2D"})
"""Classes whose layers are adapted only with `conv_rank`."""

ROLES: Mapping[str, Role] = {
    "proj_in": "projection",
    "proj_out": "projection",
    "ff": "mlp",
    "ff_context": "mlp",
    "mlp": "mlp",
    "DenseReluDense": "mlp",
    "norm1": "modulation",
    "norm1_context": "modulation",
    "norm_out": "modulation",
    "time_emb_proj": "time",
    "conv1": "resnet",
    "conv2": "resnet",
    "conv_shortcut": "resnet",
    "conv": "conv",
    "norm": "modulation",
    "linear2": "projection",
    "x_embedder": "embedding",
    "pos_embed": "embedding",
    "time_text_embed": "embedding",
    "context_embedder": "embedding",
}
"""What a layer does, by a step of its path; every other one is part of an attention."""


def sd_targets(unet: nn.Module, text_encoder: nn.Module | None) -> list[Target]:
    """Every layer of Stable Diffusion 1.x or 2.x that an adapter may ride on, in the order of the model."""
    found = list(select("unet", unet, blocks=unet_blocks(unet)))
    return found if text_encoder is None else [*found, *select("text_encoder", text_encoder)]


def sdxl_targets(unet: nn.Module, text_encoders: Sequence[nn.Module]) -> list[Target]:
    """Every layer of Stable Diffusion XL that an adapter may ride on: the U-Net's have their original names."""
    original = single_file.unet((path for path, _ in unet.named_modules()), _layers_per_block(unet))
    found = list(select("unet", unet, blocks=unet_blocks(unet, xl=True), called=original.__getitem__))
    for number, encoder in enumerate(text_encoders, start=1):
        found += select("text_encoder", encoder, encoder=number)
    return found


def sd3_targets(transformer: nn.Module, encoders: Mapping[int, nn.Module]) -> list[Target]:
    """Every layer of Stable Diffusion 3 that an adapter may ride on: those of the blocks, and with the preset `full`
    the ones around them. The denoiser is in the published shape (`impasto/families/mmdit.py`); `encoders` are the text
    encoders there are, by their number: CLIP-L is 1, CLIP-G 2, T5 3."""
    return [*_around(transformer, sd3_names.joined, joint_blocks(transformer)), *_numbered(encoders)]


def flux_targets(transformer: nn.Module, encoders: Mapping[int, nn.Module]) -> list[Target]:
    """Every layer of FLUX.1 that an adapter may ride on: those of the blocks, and with the preset `full` those around
    them. The denoiser is in the published shape (`impasto/families/flux_shape.py`); `encoders` are the text encoders
    by the number in their names: CLIP-L is 1, T5 3."""
    return [*_around(transformer, flux_names.published, flux_blocks(transformer)), *_numbered(encoders)]


def _around(
    transformer: nn.Module, names: Callable[[Iterable[str]], Mapping[str, str]], blocks: Number
) -> Iterator[Target]:
    """The layers of a transformer, those of its blocks without being asked for; `names` tells what files call them."""
    layers = {path: module for path, module in transformer.named_modules() if isinstance(module, Layer)}
    called = names(layers)
    for path, module in layers.items():
        yield Target(
            name=kohya_name("unet", called[path]),
            path=path,
            part="unet",
            role="projection" if path == "proj_out" else _role(path),
            module=module,
            default=blocks(path) is not None,
            block=blocks(path),
            published=called[path],
            cut=pieces.cut(transformer, path),
        )


def _numbered(encoders: Mapping[int, nn.Module]) -> Iterator[Target]:
    for number, encoder in sorted(encoders.items()):
        yield from select("text_encoder", encoder, encoder=number)


def _layers_per_block(unet: nn.Module) -> int:
    return sum(re.fullmatch(r"down_blocks\.0\.resnets\.\d+", path) is not None for path, _ in unet.named_modules())


def _as_it_is(path: str) -> str:
    return path


def select(
    part: Part,
    model: nn.Module,
    *,
    encoder: int | None = None,
    blocks: Number = lambda path: None,
    called: Callable[[str], str] = _as_it_is,
) -> Iterator[Target]:
    """The linear and convolution layers and the norms inside the adapted classes of `model`; embeddings, `conv_in`,
    `conv_out` and a text encoder's norms are in none of them. `encoder` numbers the text encoder where a family has
    several, `blocks` tells which block a path is in, `called` what files call the layer there."""
    owners = {path: type(module).__name__ for path, module in model.named_modules()}
    for path, module in model.named_modules():
        norm = isinstance(module, Norm) and module.weight is not None
        if not (norm or isinstance(module, Layer)):
            continue
        above = {owners[each] for each in _above(path)}
        if above & (USUAL | CONVOLVING):
            yield Target(
                name=kohya_name(part, called(path), encoder=encoder),
                path=path,
                part=part,
                role="norm" if norm else _role(path),
                module=module,
                default=bool(above & USUAL),
                block=blocks(path),
                encoder=encoder,
                published=called(path) if called(path) != path else "",
            )


def _above(path: str) -> Iterator[str]:
    """`a.b.c` -> the paths of what holds it: `a`, `a.b`."""
    steps = path.split(".")
    return (".".join(steps[:end]) for end in range(1, len(steps)))


def _role(path: str) -> Role:
    return next((ROLES[step] for step in reversed(path.split(".")) if step in ROLES), "attention")
