"""What is particular to one kind."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from impasto import adapters
from impasto.adapters.adapter import Adapter
from impasto.adapters.config import Adapter as Config
from impasto.adapters.config import Boft, DyLora, Full, Glora, Loha, Lokr, Lora, LoraFa, Oft
from impasto.adapters.dylora import DyLoraLayer, cut
from impasto.adapters.layers import Change
from impasto.adapters.loha import hadamard
from impasto.adapters.reading import from_file
from impasto.adapters.riders import Riders, Route
from impasto.adapters.targets import Target
from impasto.dice import seed


def ridden(config: Config, count: int = 1) -> tuple[nn.Sequential, Adapter, Riders]:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(12, 12) for _ in range(count))).requires_grad_(False)
    targets = [
        Target(f"lora_unet_{at}", f"{at}", "unet", "attention", each, default=True) for at, each in enumerate(model)
    ]
    adapter = adapters.build(config, targets, seed=1)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * 0.3)
    riders = Riders(targets)
    riders.mount(adapter)
    return model, adapter, riders


def visit(model: nn.Module, adapter: Adapter, riders: Riders, dice: int | None) -> Tensor:
    x = torch.ones(1, 12)
    with riders.routed([Route(adapter, 0, 1, dice)]):
        y: Tensor = model(x)
    return y


def test_a_dylora_visit_trains_the_first_rows_alone() -> None:
    model, adapter, riders = ridden(DyLora(rank=6, unit=2))
    seen = set()
    for dice in range(30):
        adapter.zero_grad()
        visit(model, adapter, riders, dice).square().sum().backward()
        down = adapter.get_parameter("layers.lora_unet_0.lora_down.weight")
        assert down.grad is not None
        trained = (down.grad.abs().sum(1) > 0).tolist()
        assert trained == sorted(trained, reverse=True)
        seen.add(sum(trained))
    assert seen == {2, 4, 6}


def test_all_layers_of_a_dylora_visit_have_the_same_rank() -> None:
    model, adapter, riders = ridden(DyLora(rank=6), count=4)
    for dice in range(5):
        adapter.zero_grad()
        visit(model, adapter, riders, dice).square().sum().backward()
        grads = [parameter.grad for name, parameter in adapter.named_parameters() if "lora_down" in name]
        assert len({int((grad.abs().sum(1) > 0).sum()) for grad in grads if grad is not None}) == 1


def test_a_cut_dylora_does_what_a_visit_of_that_rank_did() -> None:
    model, adapter, _ = ridden(DyLora(rank=6, alpha=3.0))
    ((_, layer),) = adapter.items()
    assert isinstance(layer, DyLoraLayer)
    riders_dice = next(dice for dice in range(99) if layer.kept(dice) == 4)
    x = torch.ones(1, 12)
    seen = layer(x, model[0](x), model[0], riders_dice)
    cut = {"lora_down.weight": layer.lora_down.weight[:4], "lora_up.weight": layer.lora_up.weight[:, :4]}
    alpha = torch.tensor(3.0 * (4 / 6) ** 0.5)
    read = from_file(model[0], {**cut, "alpha": alpha})
    torch.testing.assert_close(read(x, model[0](x), model[0]), seen)


def test_a_cut_of_every_rank_does_what_the_visits_of_that_rank_did() -> None:
    config = DyLora(rank=6, unit=2, alpha=3.0, rules=({"match": "_1$", "rank": 4}, {"match": "_2$", "rank": 12}))  # type: ignore[arg-type]
    model, adapter, riders = ridden(config, count=3)
    layers = [layer for _, layer in adapter.items() if isinstance(layer, DyLoraLayer)]
    visits: dict[int, tuple[list[int], int]] = {}  # a visit that keeps so many rows of the largest layer
    for roll in range(400):
        kept = [layer.kept(seed("layer", roll, "")) for layer in layers]
        visits[kept[2]] = max(visits.get(kept[2], ([0], 0)), (kept, roll))
    assert sorted(visits) == [2, 4, 6, 8, 10, 12]
    for rank, (kept, roll) in visits.items():
        seen = visit(model, adapter, riders, roll)
        found = cut(adapter, rank)
        held = [found.get_parameter(f"layers.lora_unet_{at}.lora_down.weight") for at in range(3)]
        assert [len(each) for each in held] == kept
        riders.mount(found)
        torch.testing.assert_close(visit(model, found, riders, None), seen)
        riders.dismount(found)
    whole = cut(adapter, 12)
    assert all(torch.equal(value, adapter.tensors()[name]) for name, value in whole.tensors().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_cut_has_an_alpha_that_the_file_can_hold_and_is_scaled_alike(dtype: torch.dtype) -> None:
    _, adapter, _ = ridden(DyLora(rank=6, alpha=3.0))
    exact, told = (cut(adapter, 4, each).tensors() for each in (torch.float32, dtype))
    alpha = told["lora_unet_0.alpha"]
    assert float(alpha) == float(alpha.to(dtype)) != float(exact["lora_unet_0.alpha"])
    up = "lora_unet_0.lora_up.weight"
    torch.testing.assert_close(told[up] * alpha, exact[up] * exact["lora_unet_0.alpha"])


@pytest.mark.parametrize(
    ("ranks", "said"), [([3], "multiples of unit"), ([8], "no layer has more than rank 6"), ([0], "greater than")]
)
def test_ranks_that_cannot_be_cut_are_refused(ranks: list[int], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DyLora(rank=6, unit=2, export_ranks=ranks)  # type: ignore[arg-type]


def test_a_dylora_rank_is_made_of_whole_units() -> None:
    with pytest.raises(ValidationError, match="multiple of unit"):
        DyLora(rank=6, unit=4)


def test_only_half_of_lora_fa_is_trained_and_all_of_it_saved() -> None:
    _, adapter, _ = ridden(LoraFa(rank=2))
    assert [name for name, _ in adapter.named_parameters()] == ["layers.lora_unet_0.lora_up.weight"]
    assert {name.partition(".")[2] for name in adapter.tensors()} == {"lora_down.weight", "lora_up.weight", "alpha"}


def test_a_rank_stabilized_scale_falls_with_the_root_of_the_rank() -> None:
    scales = []
    for rank in (4, 16):
        ((_, layer),) = ridden(Lora(rank=rank, alpha=2.0, rank_stabilized=True))[1].items()
        assert float(layer.get_buffer("alpha")) / rank == pytest.approx(2.0 / rank**0.5)
        scales.append(float(layer.get_buffer("alpha")) / rank)
    assert scales[0] / scales[1] == pytest.approx(2.0)


def test_the_hadamard_product_has_the_gradient_of_its_formula() -> None:
    torch.manual_seed(0)
    factors = [torch.randn(*shape, dtype=torch.float64).requires_grad_() for shape in ((5, 2), (2, 7)) * 2]
    assert torch.autograd.gradcheck(hadamard, factors)


def test_two_whole_kronecker_factors_have_scale_one_and_tell_an_alpha_that_fits_16_bits() -> None:
    _, adapter, _ = ridden(Lokr(rank=100_000, alpha=100_000.0))
    assert float(adapter.tensors()["lora_unet_0.alpha"]) == 1.0


@pytest.mark.parametrize("config", [Oft(block_size=4), Boft(block_size=6)])
def test_a_rotation_keeps_the_length_of_every_input(config: Config) -> None:
    model, adapter, _ = ridden(config)
    ((_, layer),) = adapter.items()
    base = model[0].weight
    turned = layer.weight(model[0])  # type: ignore[operator]
    torch.testing.assert_close(turned.norm(dim=0), base.norm(dim=0))
    assert (turned - base).abs().max() > 0.01


@pytest.mark.parametrize("config", [Oft(block_size=4, constraint=0.001), Boft(block_size=6, constraint=0.001)])
def test_a_limited_rotation_stays_near(config: Config) -> None:
    model, adapter, _ = ridden(config)
    ((_, layer),) = adapter.items()
    assert (layer.weight(model[0]) - model[0].weight).norm() < 0.1  # type: ignore[operator]


SMALL: list[tuple[Config, str]] = [
    (Loha(rank=2), "hada_w2_a"), (Lokr(rank=1), "lokr_w2_b"), (Glora(rank=2), "b2.weight"), (Full(), "diff"),
    (Oft(), "oft_blocks"), (Boft(block_size=6), "oft_blocks"), (Loha(rank=2, decompose=True), "hada_w2_a"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "late"), SMALL, ids=[f"{config.kind}, {late}" for config, late in SMALL])
def test_small_changes_act_on_a_base_in_16_bits(config: Config, late: str) -> None:
    """Taking the base away again from the merged weight would lose them: they are far below its last digit."""
    torch.manual_seed(0)
    base = nn.Linear(12, 12).bfloat16().requires_grad_(False)
    target = Target("lora_unet_0", "0", "unet", "attention", base, default=True)
    ((_, layer),) = adapters.build(config, [target], seed=1).items()
    assert isinstance(layer, Change)
    parameter = layer.get_parameter(late)
    with torch.no_grad():
        parameter.copy_(torch.randn(parameter.shape) * 1e-5)
    x = torch.randn(64, 12).bfloat16()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        change = layer.change(x, base(x), base).float()
    wanted = x.float() @ (layer.weight(base) - base.weight.float()).T
    assert (change - wanted).norm() < 0.03 * wanted.norm()


def test_a_file_of_no_known_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no kind"):
        from_file(nn.Linear(2, 2), {"w_norm": torch.zeros(2)})
    held = {"lora_down.weight": torch.zeros(1, 2), "lora_up.weight": torch.zeros(2, 1)}
    with pytest.raises(ValueError, match=r"lora_mid\.weight is not read here"):
        from_file(nn.Linear(2, 2), {**held, "lora_mid.weight": torch.zeros(1, 1)})
