"""Every tensor of a published Stable Diffusion 3 finds its place, and none is left over."""

from __future__ import annotations

import gzip
import json
from functools import cache
from typing import Any

import pytest
import torch

from impasto.families import sd3_names
from impasto.families.single_file import UNET, VAE, fuse, held, unfuse
from tests.weights.listings import FOLDER, listing

VERSIONS = {"sd3-medium": "sd3-medium", "sd3.5-medium": "sd35-medium", "sd3.5-large": "sd35-large"}
"""What a version is called, and what its listings are."""


@cache
def denoiser(version: str) -> Any:
    """A published denoiser without its numbers."""
    from diffusers import SD3Transformer2DModel

    config = sd3_names.measures(listing(f"{VERSIONS[version]}.original"), UNET).config()
    with torch.device("meta"):
        return SD3Transformer2DModel.from_config(config)


def mapping(version: str) -> list[list[Any]]:
    """[layer in diffusers, layer in the file, its name for sd-scripts, which of its rows, whether adapted], ..."""
    found: dict[str, list[list[Any]]] = json.loads(gzip.decompress((FOLDER / "mapping-sd3.json.gz").read_bytes()))
    return found[VERSIONS[version]]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_shapes_of_a_file_tell_the_published_measures(version: str) -> None:
    measures = sd3_names.measures(listing(f"{VERSIONS[version]}.original"), UNET)
    assert measures.version == version
    found = {name: tuple(value.shape) for name, value in denoiser(version).state_dict().items()}
    assert found == listing(f"{VERSIONS[version]}.diffusers.transformer")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_tensor_has_its_place_and_none_is_left_over(version: str) -> None:
    shapes = {name: tuple(value.shape) for name, value in denoiser(version).state_dict().items()}
    table = sd3_names.places(shapes, len(denoiser(version).transformer_blocks), UNET)
    file = listing(f"{VERSIONS[version]}.original")
    assert {place.name for place in table.values()} == {name for name in file if not name.startswith(VAE)}
    assert {table[name].name: held(table[name], shape) for name, shape in shapes.items()} == {
        name: shape for name, shape in file.items() if name.startswith(UNET)
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_rows_lie_where_the_published_weights_have_them(version: str) -> None:
    blocks = len(denoiser(version).transformer_blocks)
    rows_in_all = len(mapping(version))
    told = 0
    for path, old, _, rows, _ in mapping(version):
        place = sd3_names.places([path], blocks)[path]
        assert place.name == old
        width = denoiser(version).get_submodule(path).weight.shape[0]
        numbers = torch.arange(held(place, (width,))[0])
        match rows:
            case None:
                wanted = numbers
            case [[first, end], [again, last]]:
                wanted = torch.cat([numbers[first:end], numbers[again:last]])
            case [first, end]:
                wanted = numbers[first:end]
        assert torch.equal(unfuse(place, numbers, (width,)), wanted)
        told += 1
    assert told == rows_in_all > 300


def test_the_way_back_puts_every_row_where_it_was() -> None:
    names = ["transformer_blocks.1.attn.to_q.weight", "transformer_blocks.1.attn.to_k.weight",
             "transformer_blocks.1.attn.to_v.weight", "norm_out.linear.weight"]  # fmt: skip
    table = sd3_names.places(names, 2)
    file = {"joint_blocks.1.x_block.attn.qkv.weight": torch.randn(6, 2), "final_layer.adaLN_modulation.1.weight":
            torch.randn(4, 2)}  # fmt: skip
    shapes = dict.fromkeys(names[:3], (2, 2)) | {names[3]: (4, 2)}
    own = {name: unfuse(table[name], file[table[name].name], shapes[name]) for name in names}
    assert not torch.equal(own["norm_out.linear.weight"], file["final_layer.adaLN_modulation.1.weight"])
    back = fuse(table, own)
    assert back.keys() == file.keys()
    assert all(torch.equal(back[name], value) for name, value in file.items())


def test_no_other_layer_is_taken_for_one_of_it() -> None:
    with pytest.raises(KeyError):
        sd3_names.places(["transformer_blocks.0.attn3.to_q"], 1)


# -- text encoders and VAE ----------------------------------------------------------------------------------------


def names_of(number: int) -> list[str]:
    """The tensors of a text encoder as transformers calls them."""
    from tests.families.test_mmdit import encoders

    return [name for name, _ in encoders()[number].named_parameters()]


@pytest.mark.parametrize(
    ("number", "file"),
    [
        (1, "clip_l.original"), (1, "clip-l.hf.with-projection"), (1, "sd3-medium.original.incl-clips"),
        (2, "clip_g.original"), (2, "sd3-medium.original.incl-clips-t5"),
        (3, "t5xxl.original"), (3, "t5xxl.original.shared-only"), (3, "t5xxl.hf"),
        (3, "sd3-medium.original.incl-clips-t5"),
    ],
)  # fmt: skip
def test_every_tensor_of_a_text_encoder_has_its_place(number: int, file: str) -> None:
    held_there = listing(file)
    names = names_of(number)
    table = sd3_names.encoder_places(number, names, held_there)
    missing = set(names) - table.keys()
    assert missing == ({"text_projection.weight"} if number == 1 and "with-projection" not in file else set())
    assert {place.name for place in table.values()} <= held_there.keys()
    prefix = sd3_names.ENCODERS[number] if "sd3" in file else ""
    own = {name for name in held_there if name.startswith(prefix)}
    left = {name.removeprefix(prefix) for name in own - {place.name for place in table.values()}}
    assert left <= {"encoder.embed_tokens.weight"}


@pytest.mark.parametrize("file", ["sd3-vae.original", "sd3-medium.original", "flux-sd3-vae.diffusers"])
def test_every_tensor_of_the_vae_has_its_place(file: str) -> None:
    from diffusers import AutoencoderKL

    from impasto.families import loading

    config = {
        "latent_channels": 16, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2,
        "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
        "use_quant_conv": False, "use_post_quant_conv": False,
    }  # fmt: skip
    with torch.device("meta"):
        names = [name for name, _ in AutoencoderKL(**config).named_parameters()]
    table = loading.vae_table(names, 4, listing(file))
    own = {name for name in listing(file) if not name.startswith(UNET)}
    assert {place.name for place in table.values()} == own
    assert len(table) == 244
