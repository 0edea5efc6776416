"""How far an adapter moves each block."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from impasto import families
from impasto.adapters.config import Lora, Oft
from impasto.errors import ModelFileError
from impasto.families import detect, tiny
from impasto.families.config import Model
from impasto.families.family import Family
from impasto.weights import blocks, file
from impasto.weights.norms import norms, picture
from tests.weights.adapters import deltas, saved
from tests.weights.listings import listing

LORA = Lora(rank=4, alpha=2.0, conv_rank=2, conv_alpha=1.0)


def test_each_block_tells_the_norm_of_its_typical_layer(tmp_path: Path, tiny_family: Family) -> None:
    path = saved(tmp_path / "a.safetensors", LORA, tiny_family.targets())
    found, wanted = norms(path), {name: delta.norm().item() for name, delta in deltas(path).items()}
    assert found.layers == pytest.approx(wanted, rel=1e-6)
    rows = {row.name: row for row in found.rows()}
    inside = [norm for name, norm in wanted.items() if "down_blocks_0_" in name]
    assert rows["unet down block 0"].all == pytest.approx(np.sqrt(np.mean(np.square(inside))))
    crossing = [norm for name, norm in wanted.items() if "down_blocks_0_" in name and "attn2" in name]
    at = blocks.ROLES.index("cross-attention")
    assert rows["unet down block 0"].roles[at] == pytest.approx(np.sqrt(np.mean(np.square(crossing))))
    assert np.isnan(rows["unet mid block"].roles[blocks.ROLES.index("feed-forward")]) == all(
        "_ff_" not in name for name in wanted if "mid_block" in name
    )
    assert rows["all"].largest == max(wanted, key=lambda name: wanted[name])


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("lora.sd15.kohya.conv4", 12 + 9, "text encoder layer 0", "unet up block 3"),
        ("lora.sdxl.kohya", 12 + 32 + 11, "text encoder layer 0", "unet output block 5"),
        ("lora.flux.kohya.te-clip", 12 + 57, "text encoder layer 0", "unet single block 37"),
    ],
)
def test_the_blocks_of_published_files_are_told_apart_in_order(name: str, count: int, first: str, last: str) -> None:
    found = sorted({blocks.block(key.partition(".")[0]) for key in listing(name)})
    assert (str(found[0]), str(found[-1])) == (first, last)
    assert not [each for each in found if each.word == "others"]
    assert len(found) == count


def test_the_picture_is_a_png_that_shows_something(tmp_path: Path, tiny_family: Family) -> None:
    found = norms(saved(tmp_path / "a.safetensors", LORA, tiny_family.targets()))
    with Image.open(io.BytesIO(picture(found))) as drawn:
        assert drawn.format == "PNG"
        assert len(drawn.convert("RGB").getcolors(1 << 20) or ()) > 50


def test_what_has_no_norm_of_its_own_is_said_so(tmp_path: Path, tiny_base: Path, tiny_family: Family) -> None:
    path = saved(tmp_path / "a.safetensors", Oft(), tiny_family.targets())
    with pytest.raises(ModelFileError, match=r"E-MOD-051 .*Diag-OFT"):
        norms(path)
    with pytest.raises(ModelFileError, match=r"E-MOD-050 .*no adapter"):
        norms(tiny_base / "unet" / "diffusion_pytorch_model.safetensors")


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {"lora_unet_a.lora_down.weight": torch.ones(2, 3), "lora_unet_a.lora_up.weight": torch.ones(3, 2)}
    tensors["lora_unet_a.lora_up.weight"][0] = float("nan")
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match=r"E-MOD-010 .*lora_up"):
        norms(tmp_path / "a.safetensors")


def test_measuring_needs_no_torch(tmp_path: Path) -> None:
    tensors = {"lora_unet_a.lora_down.weight": torch.ones(2, 3), "lora_unet_a.lora_up.weight": torch.ones(3, 2)}
    file.write(tmp_path / "a.safetensors", tensors, {}, "fp32")
    code = (
        "import sys; from impasto.__main__ import main;"
        "assert main(['weights', 'norms', 'a.safetensors', '--picture', 'a.png']) == 0;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=tmp_path)


def test_an_adapter_of_xl_is_told_by_its_own_blocks(tmp_path: Path) -> None:
    base = tiny.stable_diffusion_xl(tmp_path / "base")
    targets = families.outline(detect.look(Model(path=str(base))))
    found = norms(saved(tmp_path / "a.safetensors", Lora(rank=2, conv_rank=2), targets))
    names = [row.name for row in found.rows()]
    wanted = ["unet input block 1", "unet middle block 1", "unet output block 0", "text encoder layer 0", "all"]
    assert [name for name in names if name in wanted] == sorted(wanted, key=names.index)
    assert set(wanted) <= set(names)
    assert "text encoder 2 layer 1" in names
    assert len(names) == len(set(names))
    assert picture(found).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["lora.flux.kohya.te-clip-t5", "lora.sd3m.kohya.te-clips-t5"])
def test_what_every_layer_of_a_flow_family_does_is_told(name: str) -> None:
    roles = {blocks.role(key.partition(".")[0]) for key in listing(name)}
    own = {"attention and feed-forward"} if "flux" in name else set()
    assert roles == {"modulation", "self-attention", "feed-forward"} | own


def test_flux_has_a_table_and_a_picture_with_the_roles_it_has(tmp_path: Path) -> None:
    targets = families.outline(detect.look(Model(path=str(tiny.flux(tmp_path / "base")))))
    found = norms(saved(tmp_path / "a.safetensors", Lora(rank=2), targets))
    heads, values = found.table()
    assert heads == ["modulation", "self-attention", "attention and feed-forward", "feed-forward", "all"]
    rows = dict(zip((row.name for row in found.rows()), values, strict=True))
    assert list(rows)[:3] == ["text encoder layer 0", "text encoder layer 1", "text encoder 3 encoder block 0"]
    single = rows["unet single block 1"]
    assert np.isnan(single[1])
    assert single[2] > 0
    assert picture(found).startswith(b"\x89PNG")
