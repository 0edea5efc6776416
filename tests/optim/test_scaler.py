"""The loss scale follows torch's, and resumes."""

import torch

from impasto.optim import scaler
from impasto.optim.scaler import LossScaler

CPU = torch.device("cpu")
CLEAN, BROKEN = torch.tensor(0.0), torch.tensor(1.0)


def test_the_scale_goes_as_torchs_does(monkeypatch):
    monkeypatch.setattr(scaler, "INTERVAL", 3)
    ours = LossScaler(CPU)
    parameter = torch.nn.Parameter(torch.ones(2))
    rule = torch.optim.SGD([parameter], lr=0.1)
    theirs = torch.amp.GradScaler("cpu", init_scale=65536.0, growth_interval=3)
    theirs.scale(CLEAN)  # makes its state
    for broken in [0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0]:
        parameter.grad = torch.full((2,), float("inf") if broken else 1.0)
        theirs.step(rule)
        theirs.update()
        ours.update(BROKEN if broken else CLEAN)
        assert ours.scale.item() == theirs.get_scale()


def test_it_grows_after_two_thousand_clean_steps():
    ours = LossScaler(CPU)
    for _ in range(1999):
        ours.update(CLEAN)
    assert ours.scale == 65536
    ours.update(CLEAN)
    assert ours.scale == 131072


def test_it_never_grows_to_infinity(monkeypatch):
    monkeypatch.setattr(scaler, "INTERVAL", 1)
    ours = LossScaler(CPU)
    for _ in range(200):
        ours.update(CLEAN)
    assert ours.scale.isfinite()


def test_it_resumes_where_it_was():
    first, second = LossScaler(CPU), LossScaler(CPU)
    kept = second.scale
    for _ in range(1500):
        first.update(CLEAN)
    first.update(BROKEN)
    for _ in range(1999):
        first.update(CLEAN)
    second.restore(first.state())
    second.update(CLEAN)
    assert second.scale == 65536
    assert kept is second.scale
