"""Compiled blocks: what is learnt through them is what is learnt without, and what cannot be compiled is told."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import impasto
from impasto import events
from impasto.adapters.lora import LoraLayer
from impasto.adapters.targets import Size
from impasto.config import RunConfig, base_key
from impasto.data.batch import Batch
from impasto.data.loader import Loader
from impasto.data.plan import Plan
from impasto.engine import warming
from impasto.engine.config import Speed
from impasto.engine.device import Compute
from impasto.engine.member import Member
from impasto.engine.packing import packs
from impasto.engine.regions import Regions, make_of
from impasto.engine.trainer import Trainer, draw, shape_of
from impasto.families import tiny
from impasto.families.blocks import repeated
from impasto.families.family import Family
from tests.data.test_plan import pool
from tests.engine import fleets, forks


@pytest.fixture(autouse=True)
def _torch_does_not_tell_of_all_it_traces(caplog: pytest.LogCaptureFixture) -> None:
    """It would, tensor by tensor, to whoever listens to its logs, as pytest does."""
    caplog.set_level(logging.CRITICAL, "torch.__trace")


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.flux(tmp_path_factory.mktemp("flux") / "base")


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.stable_diffusion_3(tmp_path_factory.mktemp("sd3") / "base", t5=False)


def rider(family: Family, seed: int, *, channels: int = 16, **adapter: object) -> Member:
    """A member on a miniature, on a few layers."""
    few = {"targets": {"text_encoder": False, "layers": "attention"}, **adapter}
    settings = fleets.config(batch=1, seed=seed, adapter=few)
    made = fleets.member(family, settings)

    def batches(step: int) -> list[Batch]:
        dice = torch.Generator().manual_seed(100 * seed + step)
        with torch.no_grad():
            cond = family.encode(family.tokenize([f"picture {step}"]))
        return [Batch((f"{step}",), torch.randn(1, channels, 4, 4, generator=dice), cond, torch.ones(1))]

    made.feed(Loader(batches, last=100, ahead=0))
    return made


def trained(
    family: Family, adapters: Sequence[Mapping[str, object]], blocks: slice | None = None, *, channels: int = 16
) -> tuple[list[Tensor], Trainer]:
    """Two steps of a fleet, with these blocks compiled: its parameters, and what it was trained by. Both passes are
    captured as whole graphs, and computed by torch's usual kernels."""
    trainer = Trainer(family, Compute(fleets.CPU, torch.float32))
    members = [rider(family, seed, channels=channels, **each) for seed, each in enumerate(adapters)]
    for each in members:
        trainer.add(each)
    if blocks is not None:
        some = repeated(family.lending.denoiser.module)[blocks]
        trainer.regions = Regions(some, family.targets(), trainer.riders, warming.compiler(Speed(backend="aot_eager")))
        parts = [part for each in members for part in draw(each)]
        trainer.look(parts)
        for pack in packs(parts, trainer.rows):
            trainer.rehearse(pack)
    for _ in range(2):
        trainer.step()
    found = [each.flat.groups["unet"].values.detach().clone() for each in members]
    for each in members:
        trainer.remove(each)
        each.close()
    return found, trainer


def alike(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether two fleets learnt the same, and something."""
    pairs = zip(one, other, strict=True)
    return all(bool((a - b).abs().max() < 1e-5 and a.abs().max() > 1e-4) for a, b in pairs)


def test_what_is_learnt_through_compiled_blocks_is_what_is_learnt_without_with_dropouts_and_checkpointed(
    tiny_base: Path,
) -> None:
    family = fleets.family(tiny_base, checkpointing=True)
    rolling = [{"rank": 2, "dropout": 0.2, "rank_dropout": 0.2}]
    plain, _ = trained(family, rolling, channels=4)
    names = [type(each).__name__ for each in repeated(family.lending.denoiser.module)]
    two = slice(at := names.index("BasicTransformerBlock", 5), at + 2)  # of one level on the way up
    got, trainer = trained(family, rolling, two, channels=4)
    assert trainer.regions is not None
    assert (trainer.regions.blocks, trainer.regions.graphs, trainer.regions.failure) == (2, 1, None)
    assert alike(plain, got)


@pytest.mark.parametrize(
    "adapters", [[{"rank": 2}, {"rank": 4}], [{"rank": 2}, {"kind": "ia3"}]], ids=["in one product", "in turns"]
)
def test_a_fleet_learns_through_compiled_blocks_what_it_learns_without(
    flux: Path, adapters: list[dict[str, object]]
) -> None:
    family = fleets.family(flux)
    plain, _ = trained(family, adapters)
    got, trainer = trained(family, adapters, slice(3, 4))
    assert trainer.regions is not None
    assert (trainer.regions.blocks, trainer.regions.graphs, trainer.regions.failure) == (1, 1, None)
    assert alike(plain, got)


def test_dice_that_decide_what_is_computed_leave_blocks_uncompiled(flux: Path) -> None:
    family, dylora = fleets.family(flux), [{"kind": "dylora", "rank": 4, "unit": 2}]
    plain, _ = trained(family, dylora)
    got, trainer = trained(family, dylora, slice(None))
    assert trainer.regions is not None
    assert (trainer.regions.graphs, trainer.regions.failure) == (0, None)
    assert torch.equal(plain[0], got[0])


def test_the_packs_that_come_most_often_are_chosen_and_no_more_than_asked_for() -> None:
    plan = Plan((pool(20, batch=4, wide=5),), seed=3)  # 15 square: three times 4 and a 3; 5 wide: a 4 and a 1
    (spot,) = warming.frequent([warming.Course(plan, 100)], rows=0, most=1)
    micro = plan.step(spot[0])[spot[1]]
    assert (len(micro.visits), micro.bucket.width) == (4, 64)
    every = warming.frequent([warming.Course(plan, 100)], rows=0, most=100)
    assert len(every) == 4
    assert every[0] == spot

    other = Plan((pool(20, batch=2),), seed=4)  # square ones only
    both = warming.frequent([warming.Course(plan, 100), warming.Course(other, 2)], rows=0, most=100)
    assert {at for _, at in both} == {0, 1}  # wide ones of the first ride apart from the second's
    assert max(step for step, _ in both) < plan.steps_per_epoch * 2


def test_the_compiler_is_told_what_the_settings_say() -> None:
    told = warming.compiler(Speed(autotune=True)).keywords  # type: ignore[attr-defined]
    assert (told["mode"], told["fullgraph"], told["dynamic"]) == ("max-autotune-no-cudagraphs", True, False)
    assert "mode" not in warming.compiler(Speed(backend="eager", autotune=True)).keywords  # type: ignore[attr-defined]


def without_a_compiler() -> AbstractContextManager[None]:
    """As on a machine that has none, and never had."""
    from torch._inductor import config

    found: AbstractContextManager[None] = config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True})
    return found


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_what_cannot_be_compiled_is_told_and_runs_as_it_is(flux: Path) -> None:
    family = fleets.family(flux)
    plain, _ = trained(family, [{"rank": 2}])
    trainer = Trainer(family, Compute(fleets.CPU, torch.float32))
    one = rider(family, 0, rank=2)
    trainer.add(one)
    trainer.regions = warming.prepared(trainer, Speed(compile="blocks"))
    trainer.step()
    trainer.compiled.add(shape_of(draw(one)))  # the second step is to be compiled
    with without_a_compiler():
        trainer.step()
    assert trainer.regions is not None
    assert trainer.regions.failure
    assert torch.equal(one.flat.groups["unet"].values, plain[0])
    assert "forward" not in vars(repeated(family.lending.denoiser.module)[0])


def test_blocks_that_compute_alike_share_what_is_compiled_and_others_do_not() -> None:
    def layer(alpha: float, rank: int = 2) -> LoraLayer:
        return LoraLayer(nn.Linear(4, 4), Size(rank, alpha), torch.Generator())

    assert make_of(layer(1.0)) == make_of(layer(1.0))
    assert make_of(layer(1.0)) != make_of(layer(2.0))  # the scale is a number of the graph
    assert make_of(layer(1.0)) != make_of(layer(1.0, rank=1))
    assert make_of(layer(1.0)) != make_of(layer(1.0).requires_grad_(False))
    assert make_of(nn.GroupNorm(2, 4)) != make_of(nn.GroupNorm(4, 4))
    assert hash(make_of(layer(1.0))) == hash(make_of(layer(1.0)))


def test_every_base_has_blocks_to_compile(tiny_base: Path, sd3: Path, flux: Path) -> None:
    counts = [len(repeated(fleets.family(base).lending.denoiser.module)) for base in (tiny_base, sd3, flux)]
    assert counts == [12, 3, 4]


def run(base: Path, work: Path, **speed: object) -> list[events.Event]:
    """What a short run tells."""
    config = RunConfig.model_validate(
        {
            "model": {"path": str(base)},
            "data": {"batch_size": 2, "sets": [{"path": str(forks.pictures(work / "pictures"))}]},
            "adapter": {"rank": 2, "targets": {"text_encoder": False, "layers": "attention"}},
            "train": {"steps": 4},
            "save": {"proof": "off"},
            "output": {"folder": str(work / "runs")},
            "device": {"threads": 1},
            "speed": {"compile": "blocks", **speed},
        }
    )
    (folder,) = impasto.train(config, cache=work / "cache")
    return list(impasto.history(folder))


def test_a_run_that_cannot_compile_says_so_once_and_trains(flux: Path, tmp_path: Path) -> None:
    with without_a_compiler():
        told = run(flux, tmp_path)
    (said,) = [each.text for each in told if isinstance(each, events.Warned) and each.code == "W-CMP-001"]
    assert said.startswith("the blocks cannot be compiled, so they run uncompiled: ")
    assert isinstance(told[-1], events.Finished)


def test_a_run_compiles_for_the_shapes_that_come_most_often_before_its_first_step(sd3: Path, tmp_path: Path) -> None:
    told = run(sd3, tmp_path, backend="eager", shapes=1)
    kinds = [each.kind for each in told]
    compiling = [at for at, each in enumerate(told) if isinstance(each, events.Phase) and each.name == "compile"]
    assert kinds.index("started") < min(compiling) < kinds.index("step")
    (said,) = [each.text for each in told if isinstance(each, events.Noted) and "compiled" in each.text]
    assert said.startswith("compiled 3 blocks for 1 shapes of micro-batches: 3 graphs in ")
    assert not [each for each in told if isinstance(each, events.Warned) and each.code == "W-CMP-001"]


def test_what_is_compiled_is_kept_in_the_cache_unless_the_environment_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    monkeypatch.delenv(warming.KEPT, raising=False)
    with warming.keeping(tmp_path / "ours"):
        assert cache_dir() == str(tmp_path / "ours")
    assert warming.KEPT not in os.environ
    monkeypatch.setenv(warming.KEPT, str(tmp_path / "theirs"))
    with warming.keeping(tmp_path / "ours"):
        assert cache_dir() == str(tmp_path / "theirs")


def test_runs_that_are_compiled_differently_do_not_share_a_base(tmp_path: Path) -> None:
    assert base_key(RunConfig(speed=Speed(compile="blocks"))) != base_key(RunConfig())
