"""The seven rules of a fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from impasto.adapters.lora import LoraLayer
from impasto.adapters.riders import Route
from impasto.engine.device import Compute
from impasto.engine.trainer import Trainer, draw
from impasto.errors import OutOfMemory
from tests.engine import fleets
from tests.engine.fleets import FOUR, config, family, farthest, member, poisoned, train

ALIKE = tuple(
    config(rate=rate, seed=seed, batch=1, adapter={"rank": 4, "alpha": alpha})
    for seed, (rate, alpha) in enumerate(((1e-3, 4.0), (5e-4, 2.0), (2e-3, 4.0), (1e-3, 1.0)))
)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_1_alone_or_in_company_the_gradients_of_one_step_are_the_same(tiny_base: Path, checkpointing: bool) -> None:
    def gradients(together: bool) -> list[dict[str, torch.Tensor]]:
        base = family(tiny_base, checkpointing=checkpointing)
        found = []
        for company in [FOUR] if together else [[each] for each in FOUR]:
            trainer = Trainer(base, Compute(fleets.CPU, torch.float32))
            members = [member(base, each) for each in company]
            for each in members:
                trainer.add(each)
            trainer._forward_backward([part for each in members for part in draw(each)])
            for each in members:
                trainer.remove(each)
                found.append({name: value.grad.clone() for name, value in each.adapter.named_parameters()})
        return found

    for alone, together in zip(gradients(False), gradients(True), strict=True):
        assert farthest(alone, together) < 1e-6
        assert any(value.abs().max() > 1e-4 for value in alone.values())


def test_1_alone_or_in_company_four_members_end_alike(tiny_base: Path) -> None:
    base = family(tiny_base)
    alone = [train(base, [member(base, each)], 8)[0] for each in FOUR]
    together = train(base, [member(base, each) for each in FOUR], 8)
    for a, b in zip(alone, together, strict=True):
        assert farthest(a, b) < 1e-4  # Adam magnifies rounding where a gradient is near zero


def test_1_alone_or_in_company_like_members_end_alike_though_they_lie_in_one_memory(tiny_base: Path) -> None:
    base = family(tiny_base)
    alone = [train(base, [member(base, each, count=2)], 6)[0] for each in ALIKE]
    members = [member(base, each, count=2) for each in ALIKE]
    together = train(base, members, 6)
    groups = [group for each in members for group in each.flat.groups.values()]
    assert len({group.values.untyped_storage().data_ptr() for group in groups}) == 2  # U-Net and text encoder
    for a, b in zip(alone, together, strict=True):
        assert farthest(a, b) < 1e-4


def test_1_alone_or_in_company_adapters_with_frozen_factors_end_alike(tiny_base: Path) -> None:
    base = family(tiny_base)
    frozen = [config(seed=seed, adapter={"kind": "lora-fa", "rank": 4}) for seed in range(3)]
    alone = [train(base, [member(base, each)], 3)[0] for each in frozen]
    for a, b in zip(alone, train(base, [member(base, each) for each in frozen], 3), strict=True):
        assert farthest(a, b) < 1e-4


@pytest.mark.parametrize("resting", [(), (1, 3), (0, 1, 2, 3)])
def test_3_a_member_that_leaves_or_rests_changes_no_other(tiny_base: Path, resting: tuple[int, ...]) -> None:
    base = family(tiny_base)
    early = [each.train.model_copy(update={"text_encoder_until": 3}) for each in ALIKE]
    company = [
        each.model_copy(update={"train": early[at]} if at in resting else {}) for at, each in enumerate(ALIKE)
    ]  # fmt: skip
    whole = train(base, [member(base, each) for each in company], 6)
    trainer, members = Trainer(base, Compute(fleets.CPU, torch.float32)), [member(base, each) for each in company]
    for each in members:
        trainer.add(each)
    for _ in range(4):
        trainer.step()
    trainer.remove(members[1])
    left = {name: value.clone() for name, value in members[1].adapter.tensors().items()}
    for _ in range(2):
        trainer.step()
    assert farthest(left, members[1].adapter.tensors()) == 0.0
    for at in (0, 2, 3):
        trainer.remove(members[at])
        assert farthest(whole[at], members[at].adapter.tensors()) < 1e-5


@pytest.mark.parametrize("settled", [False, True])
def test_1_like_members_in_one_product_learn_as_if_they_took_turns(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, settled: bool
) -> None:
    alike = [
        config(seed=seed, adapter={"rank": rank, "alpha": alpha})
        for seed, (rank, alpha) in enumerate(((4, 1.0), (4, 8.0)) if settled else ((2, 1.0), (8, 8.0), (4, 2.0)))
    ]
    stacked, took = LoraLayer.stacked, []

    def counting(*args: Any) -> Any:
        took.append(found := stacked(*args))
        return found

    def gradients() -> list[dict[str, torch.Tensor]]:
        base = family(tiny_base)
        trainer, members = Trainer(base, Compute(fleets.CPU, torch.float32)), [member(base, each) for each in alike]
        for each in members:
            trainer.add(each)
            with torch.no_grad():  # as after some steps: at the start `up` is zero and `down` learns nothing
                for name, value in each.adapter.named_parameters():
                    if "lora_up" in name:
                        value.copy_(torch.linspace(-0.1, 0.1, value.numel()).view(value.shape))
        if settled:
            trainer._settle()
        trainer._forward_backward([part for each in members for part in draw(each)])
        return [{name: value.grad.clone() for name, value in each.adapter.named_parameters()} for each in members]

    monkeypatch.setattr(LoraLayer, "stacked", counting)
    together = gradients()
    assert sum(each is not None for each in took) > 20
    monkeypatch.setattr(LoraLayer, "stacked", lambda *_: None)
    for a, b in zip(gradients(), together, strict=True):
        assert farthest(a, b) < 1e-6
        assert any(value.abs().max() > 1e-4 for value in a.values())


UNEVEN: dict[str, Any] = {"count": 3, "sides": (8, 12, 8)}


@pytest.fixture(scope="module")
def unpacked(tiny_base: Path) -> list[dict[str, torch.Tensor]]:
    """What four members end with, each alone and a row at a time."""
    base = family(tiny_base)
    return [train(base, [member(base, each, **UNEVEN)], 4, rows=1)[0] for each in FOUR]


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_2_packing_changes_speed_not_results(
    tiny_base: Path, unpacked: list[dict[str, torch.Tensor]], rows: int
) -> None:
    base = family(tiny_base)
    packed = train(base, [member(base, each, **UNEVEN) for each in FOUR], 4, rows=rows)
    for a, b in zip(unpacked, packed, strict=True):
        if rows == 1:
            assert farthest(a, b) == 0.0
        else:
            assert farthest(a, b) < 1e-4


def test_2_out_of_memory_falls_back_to_fewer_rows_without_losing_a_step(tiny_base: Path) -> None:
    base = family(tiny_base)
    want = train(base, [member(base, each) for each in FOUR[:2]], 3, rows=1)
    predict, refused = base.predict, []

    def small_device(x, t, cond):  # type: ignore[no-untyped-def]
        if len(x) > 3:
            refused.append(len(x))
            raise torch.OutOfMemoryError("out of memory")
        return predict(x, t, cond)

    base.predict = small_device  # type: ignore[method-assign]
    got = train(base, [member(base, each) for each in FOUR[:2]], 3)
    assert refused == [5]
    assert all(farthest(a, b) == 0.0 for a, b in zip(want, got, strict=True))


def test_2_what_does_not_fit_at_all_is_computed_twice_with_the_same_numbers(tiny_base: Path) -> None:
    base = family(tiny_base)
    want = train(base, [member(base, FOUR[0])], 3)
    predict, denoiser = base.predict, cast(Any, base.lending.denoiser.module)

    def small_device(x, t, cond):  # type: ignore[no-untyped-def]
        if torch.is_grad_enabled() and not denoiser.is_gradient_checkpointing:
            raise torch.OutOfMemoryError("out of memory")
        return predict(x, t, cond)

    base.predict = small_device  # type: ignore[method-assign]
    trainer = Trainer(base, Compute(fleets.CPU, torch.float32))
    trainer.add(own := member(base, FOUR[0]))
    for _ in range(3):
        assert trainer.step() == {}
    assert len(trainer.said) == 1
    assert farthest(want[0], own.adapter.tensors()) == 0.0


def test_2_what_fits_in_no_way_ends_the_run_and_says_what_to_lower(tiny_base: Path) -> None:
    base = family(tiny_base)

    def no_device(x, t, cond):  # type: ignore[no-untyped-def]
        raise torch.OutOfMemoryError("out of memory")

    base.predict = no_device  # type: ignore[method-assign]
    trainer = Trainer(base, Compute(fleets.CPU, torch.float32))
    trainer.add(member(base, FOUR[0]))
    with pytest.raises(OutOfMemory, match=r"E-MEM-001 .*lower data\.batch_size or data\.resolution$"):
        trainer.step()


def test_3_a_members_failure_is_its_own(tiny_base: Path) -> None:
    base = family(tiny_base)
    clean = train(base, [member(base, each) for each in FOUR], 5)
    bad = poisoned(base, FOUR[1], at=2)
    mixed = train(base, [member(base, FOUR[0]), bad, *(member(base, each) for each in FOUR[2:])], 5)
    assert [farthest(clean[at], mixed[at]) for at in (0, 2, 3)] == [0.0, 0.0, 0.0]
    assert all(value.isfinite().all() for value in mixed[1].values())
    assert [float(each) for each in bad.progress.skips] == [0, 0, 1, 1, 1]


def test_4_dice_are_a_function_so_siblings_of_one_seed_see_the_same_noise(tiny_base: Path) -> None:
    base = family(tiny_base)
    one, other = (member(base, config(rank=rank, seed=7)) for rank in (2, 8))
    for _ in range(2):
        (a,), (b,) = draw(one), draw(other)
        assert torch.equal(a.noised.x, b.noised.x)
        assert torch.equal(a.noised.t, b.noised.t)
        one.step, other.step = one.step + 1, other.step + 1


def test_4_nothing_global_is_rolled(tiny_base: Path) -> None:
    base = family(tiny_base)
    torch.manual_seed(1)
    a = train(base, [member(base, FOUR[0])], 3)
    torch.manual_seed(2)
    b = train(base, [member(base, FOUR[0])], 3)
    assert farthest(a[0], b[0]) == 0.0


def test_5_checkpointed_blocks_roll_the_same_dice_again(tiny_base: Path) -> None:
    plain, twice = family(tiny_base), family(tiny_base, checkpointing=True)
    a = train(plain, [member(plain, FOUR[0])], 3)
    b = train(twice, [member(twice, FOUR[0])], 3)
    assert farthest(a[0], b[0]) < 1e-6


def test_6_a_route_left_before_backward_is_noticed(tiny_base: Path) -> None:
    base = family(tiny_base, checkpointing=True)
    trainer, one = Trainer(base, Compute(fleets.CPU, torch.float32)), member(base, FOUR[0])
    trainer.add(one)
    (part,) = draw(one)
    with trainer.riders.routed([Route(one.adapter, 0, part.rows)]):
        loss = base.predict(part.noised.x, part.noised.t, part.batch.cond).square().mean()
    with pytest.raises(torch.utils.checkpoint.CheckpointError):
        loss.backward()


def test_7_dim_0_that_is_not_the_example_is_noticed(tiny_base: Path) -> None:
    base = family(tiny_base)
    trainer, one = Trainer(base, Compute(fleets.CPU, torch.float32)), member(base, FOUR[0])
    trainer.add(one)
    (part,) = draw(one)
    with trainer.riders.routed([Route(one.adapter, 0, 3)]), pytest.raises(AssertionError, match="not the example"):
        base.predict(part.noised.x, part.noised.t, part.batch.cond)


def test_accumulated_micro_batches_are_one_larger_batch(tiny_base: Path) -> None:
    base = family(tiny_base)
    settings = config(adapter={"rank": 4})
    once = member(base, settings, count=2)
    whole = member(base, settings)
    two = fleets.batches(base, settings, 0, count=2)
    joined = fleets.Batch(
        two[0].keys + two[1].keys,
        torch.cat([each.latents for each in two]),
        {"ids": torch.cat([each.cond["ids"] for each in two])},
        torch.ones(4),
    )
    whole.feed(fleets.Loader(lambda step: [joined], last=1, ahead=0))
    a, b = train(base, [once], 1), train(base, [whole], 1)
    assert farthest(a[0], b[0]) < 1e-5


KINDS: dict[str, dict[str, object]] = {
    "lora": {"rank": 2},
    "dora": {"rank": 2, "decompose": True, "dropout": 0.1},
    "lora-fa": {"kind": "lora-fa", "rank": 2, "conv_rank": 2},
    "dylora": {"kind": "dylora", "rank": 4, "unit": 2},
    "loha": {"kind": "loha", "rank": 2, "rank_dropout": 0.1},
    "lokr": {"kind": "lokr", "rank": 2, "conv_rank": 2, "decompose": True, "module_dropout": 0.1},
    "glora": {"kind": "glora", "rank": 2},
    "ia3": {"kind": "ia3"},
    "full": {"kind": "full", "targets": {"text_encoder": False}},
    "oft": {"kind": "oft", "conv": True},
    "boft": {"kind": "boft", "rescaled": True},
    "norms": {"rank": 2, "train_norm": True},
}


def test_1_members_of_all_kinds_are_the_same_alone_and_in_company(tiny_base: Path) -> None:
    base = family(tiny_base, checkpointing=True)
    mixed = [config(seed=seed, adapter=adapter) for seed, adapter in enumerate(KINDS.values())]
    alone = [train(base, [member(base, each)], 1)[0] for each in mixed]
    together = train(base, [member(base, each) for each in mixed], 1, rows=8)
    fresh = [member(base, each).adapter.tensors() for each in mixed]
    for a, b, start in zip(alone, together, fresh, strict=True):
        assert farthest(a, start) > 1e-5
        assert farthest(a, b) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_of_any_kind_learns(tiny_base: Path, kind: str) -> None:
    base = family(tiny_base)
    one = member(base, config(rate=1e-3, adapter=KINDS[kind]))
    batch = fleets.batches(base, one.config, 0)
    one.feed(fleets.Loader(lambda step: batch, last=100, ahead=0))
    before = {target.name: target.base.weight.clone() for target in base.targets()}
    ended = train(base, [one], 6)[0]
    losses = [float(each) for each in one.progress.losses]
    assert all(value.isfinite().all() for value in ended.values())
    assert losses[-1] < losses[0] or kind == "ia3"
    assert all(torch.equal(target.base.weight, before[target.name]) for target in base.targets())
