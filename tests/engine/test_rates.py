"""Rates by block, LoRA+, a text encoder that comes to rest, bounded lengths: in fleets and over a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from impasto import adapters
from impasto.adapters.adapter import shorten
from impasto.adapters.config import Bounded, DyLora, Full, Glora, Ia3, Loha, Lokr, Lora, LoraFa
from impasto.config import RunConfig
from impasto.engine.member import trained
from impasto.errors import ConfigError
from impasto.families.family import Family
from impasto.optim.flat import FlatParameters
from impasto.rates import part_rates, text_encoder_until
from tests.engine.fleets import family, farthest, member, train

SETTINGS: dict[str, dict[str, Any]] = {
    "blocks": {"adapter": {"rank": 4, "blocks": {"down_rates": "sine", "mid_rates": 2.0, "up_rates": "linear+0.1"}}},
    "rules": {"adapter": {"rules": [{"role": "mlp", "rank": 2, "rate": 0.5}, {"match": "attn1", "skip": True}]}},
    "rests": {"train": {"steps": 100, "text_encoder_until": 3}, "optim": {"ema": {}}},
    "faster": {"optim": {"lora_plus": 16.0, "text_encoder_lora_plus": 4.0}},
    "bounded": {
        "adapter": {"rank": 4, "alpha": 4.0, "max_norm": 0.05, "dropout": 0.1},
        "optim": {"learning_rate": 0.01},
    },
}


def config(name: str) -> RunConfig:
    return RunConfig.model_validate({"data": {"batch_size": 2}, "train": {"steps": 100}, **SETTINGS[name]})


@pytest.fixture(scope="module")
def base(tiny_base: Path) -> Family:
    return family(tiny_base)


def test_alone_or_in_company_they_end_alike(base: Family) -> None:
    together = train(base, [member(base, config(name)) for name in SETTINGS], 5)
    for name, company in zip(SETTINGS, together, strict=True):
        assert farthest(train(base, [member(base, config(name))], 5)[0], company) < 1e-4, name


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("at", [2, 3, 4])
def test_a_resume_is_exact(base: Family, name: str, at: int) -> None:
    (whole,) = train(base, [member(base, config(name))], 6)
    first, second = member(base, config(name)), member(base, config(name))
    train(base, [first], at)
    second.restore(at, first.tensors())
    (parts,) = train(base, [second], 6 - at)
    assert farthest(whole, parts) == 0.0


def test_from_the_step_on_the_text_encoder_stays_as_it_is_and_the_rest_goes_on(base: Family) -> None:
    own = member(base, config("rests"))
    first = train(base, [own], 3)[0]
    assert own.progress.rates[-1]["text_encoder"] > 0
    moments = {key: value for key, value in own.optimizer.state().items() if key.startswith("text_encoder")}
    own.feed(loader := member(base, config("rests"))._loader)  # type: ignore[arg-type]
    assert loader is not None
    later = train(base, [own], 3)[0]
    words = {key for key in first if key.startswith("lora_te")}
    assert words
    assert all(bool((first[key] == later[key]).all()) for key in words)
    assert farthest({k: first[k] for k in first if k not in words}, {k: later[k] for k in later if k not in words}) > 0
    assert all(bool((value == own.optimizer.state()[key]).all()) for key, value in moments.items())
    assert own.progress.rates[-1]["text_encoder"] == 0
    named = dict(own.adapter.named_parameters())
    assert all(each.grad is None and not each.requires_grad for key, each in named.items() if "lora_te" in key)


def test_what_rests_is_not_in_the_clipping(base: Family) -> None:
    own = member(base, config("rests"))
    train(base, [own], 3)
    with torch.no_grad():
        for part, group in own.flat.groups.items():
            group.grads.fill_(2.0 if part == "text_encoder" else 0.0)
    assert float(own.flat.norm()) == 0.0


def test_a_share_of_the_steps_is_rounded_up() -> None:
    def until(value: object) -> int:
        return text_encoder_until(RunConfig.model_validate({"train": {"steps": 9, "text_encoder_until": value}}), 9)

    assert [until(each) for each in (0.5, 3, 0.01)] == [5, 3, 1]
    assert text_encoder_until(RunConfig(), 9) == 9


def test_each_group_has_its_own_rate(base: Family) -> None:
    rates = member(base, config("faster"))._rates
    assert rates == pytest.approx(
        {"unet": 1e-4, "unet fast": 1.6e-3, "text_encoder": 1e-4, "text_encoder fast": 4e-4}
    )  # fmt: skip
    halves = member(base, config("rules"))._rates
    assert halves == pytest.approx({"unet": 1e-4, "unet x0.5": 5e-5, "text_encoder": 1e-4, "text_encoder x0.5": 5e-5})


def test_rates_for_several_text_encoders_are_counted(base: Family) -> None:
    settings = RunConfig.model_validate({"optim": {"text_encoder_learning_rate": [1e-4, 0.0]}})
    assert part_rates(settings)["text_encoder"] == 1e-4
    with pytest.raises(ConfigError, match="2 rates are given, and the base has 1"):
        trained(settings, base.targets())


def test_a_frozen_group_is_passed_over() -> None:
    moving, still = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    flat = FlatParameters({"a": [moving], "b": [still]})
    flat.groups["b"].freeze()
    (moving.sum() * 2).backward()  # type: ignore[no-untyped-call]
    flat.groups["a"].check()
    flat.groups["b"].check()
    assert float(flat.norm()) == pytest.approx(2 * 3**0.5)
    assert flat.groups["b"].values.grad is None


@pytest.mark.parametrize(
    "kind",
    [Lora(rank=2, conv_rank=2), Loha(rank=2, conv_rank=2), Lokr(rank=1), Lokr(full_matrix=True),
     Lokr(rank=1, factor=4, decompose_both=True), LoraFa(rank=2), DyLora(rank=2), Glora(rank=2), Full(), Ia3(),
     Lora(rank=2, train_norm=True)],
    ids=str,
)  # fmt: skip
def test_layers_are_shortened_to_the_longest_that_is_allowed(base: Family, kind: Bounded) -> None:
    targets = {target.name: target for target in base.targets()}
    adapter = adapters.build(kind, targets.values(), seed=0)
    with torch.no_grad():
        for at, parameter in enumerate(adapter.parameters()):
            parameter.normal_(std=0.02 + 0.1 * (at % 3), generator=torch.Generator().manual_seed(at))
    layers = dict(adapter.items())

    def deltas() -> dict[str, Tensor]:
        """What each layer adds to its weight and its bias, as one vector."""
        found = {}
        for name, layer in layers.items():
            base = targets[name].base
            added = [layer.weight(base) - base.weight]
            if (bias := layer.bias(base)) is not None and base.bias is not None:
                added.append(bias - base.bias)
            found[name] = torch.cat([each.detach().flatten() for each in added])
        return found

    before = deltas()
    longest = sorted(float(delta.norm()) for delta in before.values())[len(before) // 2]
    wanted = {name: delta * min(1.0, longest / float(delta.norm())) for name, delta in before.items()}
    count, mean, largest = shorten(
        [(layer, targets[name].module) for name, layer in layers.items()], longest, torch.zeros(())
    ).tolist()
    for name, delta in deltas().items():
        torch.testing.assert_close(delta, wanted[name], atol=1e-5, rtol=1e-3)
    assert abs(count - sum(float(delta.norm()) > longest for delta in before.values())) <= 1
    assert 0 < count < len(before)
    assert largest == pytest.approx(longest, rel=1e-5)
    assert mean == pytest.approx(sum(float(delta.norm()) for delta in wanted.values()) / len(wanted), rel=1e-3)


def test_a_skipped_step_shortens_nothing(base: Family) -> None:
    adapter = adapters.build(Lora(rank=2), base.targets(), seed=0)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.fill_(1.0)
    shorten([(layer, adapter.seats[name].target.module) for name, layer in adapter.items()], 0.1, torch.ones(()))
    assert all(bool((each == 1.0).all()) for each in adapter.parameters())
