"""Names and shapes on Stable Diffusion 1.5 are those of published files, kind by kind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from impasto import adapters
from impasto.adapters.boft import butterfly
from impasto.adapters.config import Adapter as Config
from impasto.adapters.config import Boft, DyLora, Full, Glora, Ia3, Loha, Lokr, Lora, LoraFa, Oft
from impasto.adapters.lokr import factorization
from impasto.adapters.targets import Target
from impasto.families.targets import sd_targets
from tests.weights.listings import listing

BEYOND = ("lora_unet_conv_in", "lora_unet_conv_out", "lora_unet_time_embedding_linear_")
"""LyCORIS adapts these too; we leave them alone, as sd-scripts does."""

FILES: list[tuple[str, Config]] = [
    ("lora.sd15.lora-fa.conv4", LoraFa(rank=4, conv_rank=4)),
    ("lora.sd15.dylora.conv4", DyLora(rank=4, conv_rank=4)),
    ("lyco.sd15.locon.dora", Lora(rank=4, conv_rank=4, decompose=True)),
    ("lyco.sd15.loha", Loha(rank=4, conv_rank=4)),
    ("lyco.sd15.loha.dora", Loha(rank=4, conv_rank=4, decompose=True)),
    ("lyco.sd15.lokr", Lokr(rank=4, conv_rank=4)),
    ("lyco.sd15.lokr.factor8", Lokr(rank=4, conv_rank=4, factor=8)),
    ("lyco.sd15.lokr.decompose-both", Lokr(rank=4, conv_rank=4, decompose_both=True)),
    ("lyco.sd15.lokr.full-matrix", Lokr(rank=4, conv_rank=4, full_matrix=True)),
    ("lyco.sd15.lokr.dora", Lokr(rank=4, conv_rank=4, decompose=True)),
    ("lyco.sd15.glora", Glora(rank=4, conv_rank=4)),
    ("lyco.sd15.ia3.constructed", Ia3()),
    ("lyco.sd15.full", Full(conv=True)),
    ("lyco.sd15.locon.train-norm", Lora(rank=4, conv_rank=4, train_norm=True)),
    ("lyco.sd15.diag-oft", Oft(block_size=4, conv=True)),
    ("lyco.sd15.diag-oft.rescaled", Oft(block_size=4, conv=True, rescaled=True)),
    ("lyco.sd15.boft.dim16", Boft(block_size=16, conv=True)),
]


@pytest.fixture(scope="module")
def targets() -> list[Target]:
    """Every layer of Stable Diffusion 1.5 in full size, without its numbers."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        parts: tuple[nn.Module, nn.Module] = (
            UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
            CLIPTextModel(text),
        )
    return sd_targets(*parts)


@pytest.mark.parametrize(("name", "config"), FILES, ids=[name for name, _ in FILES])
def test_every_name_and_shape_is_that_of_published_files(targets: list[Target], name: str, config: Config) -> None:
    few = one_of_each(targets)
    wanted = {key: shape for key, shape in listing(name).items() if not key.startswith(BEYOND)}
    made = {key: tuple(value.shape) for key, value in adapters.build(config, few, seed=0).tensors().items()}
    names = {target.name for target in few}
    assert made == {key: shape for key, shape in wanted.items() if key.partition(".")[0] in names}
    layers = {key.partition(".")[0] for key in wanted}
    assert {seat.target.name for seat in adapters.seats(config, targets)} == layers


def one_of_each(targets: list[Target]) -> list[Target]:
    """One target of each shape and role: making all of them takes long."""
    found = {}
    for target in targets:
        base = target.base
        found.setdefault((target.path.rpartition(".")[2], base.weight.shape, base.bias is None), target)
    return list(found.values())


GOLDEN: list[tuple[int, list[tuple[int, int]]]] = [
    (320, [(16, 20), (4, 80), (8, 40), (16, 20)]),
    (640, [(20, 32), (4, 160), (8, 80), (16, 40)]),
    (768, [(24, 32), (4, 192), (8, 96), (16, 48)]),
    (1280, [(32, 40), (4, 320), (8, 160), (16, 80)]),
    (2560, [(40, 64), (4, 640), (8, 320), (16, 160)]),
    (3072, [(48, 64)]),
    (5120, [(64, 80)]),
    (10240, [(80, 128)]),
    (12288, [(96, 128)]),
    (127, [(1, 127)]),
]


@pytest.mark.parametrize(("count", "pairs"), GOLDEN)
def test_a_number_is_factored_as_published_files_are(count: int, pairs: list[tuple[int, int]]) -> None:
    assert [factorization(count, factor) for factor in (None, 4, 8, 16)[: len(pairs)]] == pairs


def test_250_by_4_takes_the_next_smaller_side() -> None:
    assert factorization(250, 4) == (2, 125)


def test_a_width_without_a_small_butterfly_takes_the_smallest_it_has() -> None:
    assert butterfly(320, 16) == butterfly(320, 8) == (10, 32)
    assert butterfly(768, 16) == (12, 64)
