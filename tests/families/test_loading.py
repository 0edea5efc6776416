"""A base in one file is the base in its folder, to the bit, and what diffusers makes of the same file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from impasto import families
from impasto.adapters.targets import Target
from impasto.errors import ModelFileError
from impasto.families import detect, parts, tiny
from impasto.families.config import Model
from impasto.families.mapped import Mapped
from impasto.families.sd import Modules

CPU = torch.device("cpu")
MINIATURES: dict[str, Callable[[Path], Path]] = {
    "sd1": tiny.stable_diffusion,
    "sd2": tiny.stable_diffusion_2,
    "sdxl": tiny.stable_diffusion_xl,
}


@pytest.fixture(scope="module", params=MINIATURES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A miniature as a folder and as a file."""
    folder = MINIATURES[request.param](tmp_path_factory.mktemp("base") / request.param)
    return folder, tiny.single_file(folder, folder.parent / "one.safetensors")


def load(path: Path, dtype: torch.dtype = torch.float32, **model: Any) -> Modules:
    return Modules.load(detect.look(Model.model_validate({"path": str(path), **model})), dtype, CPU)


def same(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_file_is_the_folder(base: tuple[Path, Path], dtype: torch.dtype) -> None:
    folder, path = base
    ours, theirs = load(path, dtype, config_path=folder), load(folder, dtype)
    assert same(ours.unet, theirs.unet)
    assert same(ours.vae, theirs.vae)
    assert all(same(a, b) for a, b in zip(ours.encoders, theirs.encoders, strict=True))
    assert not any(tensor.is_meta for part in (ours.unet, *ours.encoders) for tensor in part.buffers())
    assert ours.vae.dtype == torch.float32
    ids = torch.randint(0, 200, (1, 77))
    for a, b in zip(ours.encoders, theirs.encoders, strict=True):
        assert torch.equal(a(ids)[0], b(ids)[0])


def test_diffusers_reads_the_same_from_the_file(base: tuple[Path, Path]) -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    folder, path = base
    ours = load(path, config_path=folder)
    unet = UNet2DConditionModel.from_single_file(str(path), config=str(folder), subfolder="unet", local_files_only=True)
    vae = AutoencoderKL.from_single_file(str(path), config=str(folder), subfolder="vae", local_files_only=True)
    assert same(ours.unet, unet)
    assert same(ours.vae, vae)


def test_another_vae_takes_the_place_of_the_bases_own(base: tuple[Path, Path], tmp_path: Path) -> None:
    folder, path = base
    other = tiny.stable_diffusion(tmp_path / "other", seed=1)
    wanted = load(other).vae
    for vae_path in (other, other / "vae", other / "vae" / "diffusion_pytorch_model.safetensors"):
        assert same(load(folder, vae_path=vae_path).vae, wanted)
        assert same(load(path, config_path=folder, vae_path=vae_path).vae, wanted)
    assert not same(load(folder).vae, wanted)


def test_the_outline_has_the_layers_of_the_base(base: tuple[Path, Path]) -> None:
    folder, _ = base
    card = detect.look(Model(path=str(folder)))

    def told(found: list[Target]) -> list[tuple[object, ...]]:
        return [(each.name, each.path, each.base.weight.shape, each.number, each.encoder) for each in found]

    assert told(families.outline(card)) == told(families.layers(card, load(folder)))


def test_a_file_with_numbers_that_are_not_finite_is_refused(base: tuple[Path, Path], tmp_path: Path) -> None:
    folder, path = base
    held = load_file(path)
    next(reversed(held.values())).view(-1)[0] = float("nan")
    save_file(held, spoiled := tmp_path / "spoiled.safetensors")
    with pytest.raises(ModelFileError, match="E-MOD-010"):
        load(spoiled, config_path=folder)


def test_files_that_are_plainly_read_give_the_same(base: tuple[Path, Path]) -> None:
    folder, one = base
    for where in ({"path": str(folder)}, {"path": str(one), "config_path": str(folder)}):
        models = [Model.model_validate({**where, "reading": how}) for how in ("mapped", "plain")]
        mapped, plain = (parts.load(detect.look(each), each, dtype=torch.float32, device=CPU) for each in models)
        for each, other in zip((mapped.unet, *mapped.encoders), (plain.unet, *plain.encoders), strict=True):
            assert same(each, other)


def test_a_file_that_becomes_shorter_while_it_is_read_is_refused(base: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    save_file({"first": torch.ones(1000), "last": torch.ones(1000)}, path)
    held = Mapped((path,), mapped=False)
    assert torch.equal(held.get_tensor("first"), torch.ones(1000))
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(ModelFileError, match="has become shorter"):
        held.get_tensor("last")
