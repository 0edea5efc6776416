"""Members with optimizers of all sorts: together, resumed, and with the rates they were moved by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from impasto.engine.changes import rule
from impasto.rates import part_rates
from tests.engine.fleets import config, family, farthest, member, train

OPTIMS: dict[str, dict[str, Any]] = {
    "prodigy": {"learning_rate": 1.0, "optimizer": {"kind": "prodigy", "d0": 1e-4}},
    "schedule-free": {"learning_rate": 1e-3, "optimizer": {"kind": "schedule-free"}},
    "adafactor": {"learning_rate": 1.0, "optimizer": {"kind": "adafactor", "relative_step": True}},
    "muon": {"learning_rate": 1e-3, "optimizer": {"kind": "muon"}},
}


def test_members_of_all_optimizers_end_alike_alone_and_in_company_and_resume_to_the_bit(tiny_base: Path) -> None:
    base = family(tiny_base)
    mixed = [config(seed=seed, optim=each) for seed, each in enumerate(OPTIMS.values())]
    members = [member(base, each) for each in mixed]
    together = train(base, members, 4)
    for settings, whole, there in zip(mixed, members, together, strict=True):
        first, second = member(base, settings), member(base, settings)
        train(base, [first], 2)
        second.restore(2, first.tensors())
        third = member(base, settings)
        alone = train(base, [third], 4)[0]
        resumed = train(base, [second], 2)[0]
        assert all(torch.equal(alone[name], value) for name, value in resumed.items())
        assert farthest(alone, there) < 1e-3
        assert third.progress.rates[2:] == second.progress.rates
        with whole.averaged():
            shown = whole.adapter.tensors()
            moved = any(not torch.equal(there[name], value) for name, value in shown.items())
        assert moved == (settings.optim.optimizer.kind == "schedule-free")
        assert all(torch.equal(there[name], value) for name, value in whole.adapter.tensors().items())
    assert members[0].progress.rates[0]["unet"] >= 1e-4  # what was found, not the factor 1.0
    assert members[0].progress.rates[-1]["unet"] < 1.0
    assert members[2].progress.rates[3]["unet"] == pytest.approx(0.01)


@pytest.mark.parametrize(("scale", "factor"), [("none", 1.0), ("linear", 12.0), ("sqrt", 12**0.5)])
def test_rates_are_scaled_by_the_pictures_of_a_step(scale: str, factor: float) -> None:
    optim = {"learning_rate": 1e-4, "text_encoder_learning_rate": 1e-5, "learning_rate_scale": scale}
    settings = config(batch=4, optim=optim, train={"steps": 10, "accumulate": 3})
    assert part_rates(settings) == pytest.approx({"unet": 1e-4 * factor, "text_encoder": 1e-5 * factor})


@pytest.mark.parametrize("key", ["kind", "rule", "name", "options.betas", "momentum", "d0"])
def test_what_an_optimizer_remembers_forbids_another_at_a_resume(key: str) -> None:
    assert rule(f"optim.optimizer.{key}")[0] == "refused"
    assert rule("optim.optimizer.weight_decay")[0] == "applied"
