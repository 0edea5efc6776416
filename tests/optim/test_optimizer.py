"""The flat optimizer is torch's AdamW with clipping, skips what is not finite, and resumes bit for bit."""

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from impasto.optim.config import AdamW, Optim
from impasto.optim.config import Ema as Settings
from impasto.optim.ema import Ema
from impasto.optim.scaler import LossScaler


def test_twenty_steps_are_those_of_torch(trainee, rates):
    plain, flat = trainee(), trainee().flatten()
    theirs = torch.optim.AdamW(
        [{"params": plain.parts[part], "lr": rates[part]} for part in plain.parts], weight_decay=0.1, foreach=False
    )
    clipped = 0
    for step in range(20):
        theirs.zero_grad()
        plain.loss(step).backward()
        norm = torch.nn.utils.clip_grad_norm_(plain.net.parameters(), 0.5)
        clipped += int(norm > 0.5)
        theirs.step()
        report = flat.train([step])
        assert_close(report.norm, norm, rtol=1e-5, atol=1e-7)
    assert clipped > 0
    for name, value in plain.weights().items():
        assert_close(flat.weights()[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clip", [0.0, 1e9])
def test_gradients_that_are_short_enough_are_left_alone(trainee, rates, clip):
    plain, flat = trainee(), trainee().flatten(Optim(clip=clip))
    theirs = torch.optim.AdamW([{"params": plain.parts[part], "lr": rates[part]} for part in plain.parts], fused=True)
    for step in range(3):
        theirs.zero_grad()
        plain.loss(step).backward()
        theirs.step()
    flat.train(range(3))
    for name, value in plain.weights().items():
        assert_close(flat.weights()[name], value, rtol=1e-5, atol=1e-7)


def test_settings_reach_the_rule(trainee, rates):
    usual = trainee().flatten()
    usual.train(range(3))
    for other in (AdamW(beta1=0.5), AdamW(beta2=0.9), AdamW(eps=0.1), AdamW(weight_decay=5.0)):
        changed = trainee().flatten(Optim(optimizer=other, clip=0.5))
        changed.train(range(3))
        assert not torch.equal(changed.weights()["unet.weight"], usual.weights()["unet.weight"])


def test_a_resumed_training_has_the_same_bits_as_an_uninterrupted_one(trainee):
    whole = trainee().flatten()
    whole.train(range(12))
    first = trainee().flatten()
    first.train(range(5))
    second = trainee(seed=1).flatten()
    second.net.load_state_dict(first.weights())
    second.optimizer.restore(first.optimizer.state())
    second.train(range(5, 12))
    for name, value in whole.everything().items():
        assert torch.equal(second.everything()[name], value), name


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_broken_gradient_changes_nothing_at_all(trainee, broken):
    flat, clean = trainee().flatten(), trainee().flatten()
    flat.train(range(3))
    clean.train(range(3))
    before = flat.everything()
    next(iter(flat.net.parameters())).grad[0, 0] = broken
    report = flat.train([3])
    assert report.skipped == 1
    assert not report.norm.isfinite()
    after = flat.everything()
    assert after.pop("skipped") == before.pop("skipped") + 1
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    flat.train([4, 5])  # and afterwards it goes on as if the step had not been
    clean.train([4, 5])
    for name, value in clean.weights().items():
        assert torch.equal(flat.weights()[name], value), name


def test_a_scaled_loss_makes_the_same_step(trainee, rates):
    plain, scaled = trainee().flatten(), trainee().flatten()
    for step in range(5):
        expected = plain.train([step])
        (scaled.loss(step) * 65536).backward()
        report = scaled.optimizer.step(rates, scale=torch.tensor(65536.0))
        scaled.optimizer.zero_grad()
        assert_close(report.norm, expected.norm)
    for name, value in plain.weights().items():
        assert_close(scaled.weights()[name], value, rtol=1e-6, atol=1e-7)


def test_a_part_that_is_left_out_stays_as_it_is(trainee, rates):
    flat = trainee()
    before = flat.weights()
    del flat.parts["text_encoder"]
    flat.net["text_encoder"].requires_grad_(False)
    flat.flatten().train(range(3), {"unet": rates["unet"]})
    assert torch.equal(flat.weights()["text_encoder.weight"], before["text_encoder.weight"])
    assert not torch.equal(flat.weights()["unet.weight"], before["unet.weight"])
    assert all(name.startswith(("unet.", "skipped")) for name in flat.optimizer.state())


def test_a_saved_state_does_not_change_with_the_next_step(trainee):
    flat = trainee().flatten()
    flat.train([0])
    state = flat.optimizer.state()
    kept = {name: value.clone() for name, value in state.items()}
    flat.train([1])
    assert all(torch.equal(state[name], value) for name, value in kept.items())
    assert not torch.equal(flat.optimizer.state()["unet.exp_avg"], state["unet.exp_avg"])


def test_another_adapters_state_is_refused_before_anything_changes(trainee):
    flat = trainee().flatten()
    flat.train([0])
    state, before = flat.optimizer.state(), flat.everything()
    for wrong, message in (
        ({**state, "vae.step": torch.zeros(())}, "unknown"),
        ({**state, "skipped": torch.zeros(())}, "not torch.int64"),
        ({**state, "unet.exp_avg": torch.zeros(3)}, r"the saved unet.exp_avg is torch.float32 \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            flat.optimizer.restore(wrong)
    assert all(torch.equal(flat.everything()[name], value) for name, value in before.items())


class NobodyAsks(TorchDispatchMode):
    """Fails when a number is read from the device: `item`, `bool`, `float` ... of a tensor."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "somebody waits for the device"
        return func(*args, **(kwargs or {}))


def test_a_step_never_waits_for_the_device(trainee, rates):
    flat = trainee().flatten()
    scaler, ema = LossScaler(flat.flat.device), Ema(Settings(), flat.flat)
    flat.loss(0).backward()
    with NobodyAsks():
        report = flat.optimizer.step(rates, scale=scaler.scale)
        scaler.update(report.skipped)
        ema.update(0, report.skipped)
        flat.optimizer.zero_grad()
    with pytest.raises(AssertionError, match="somebody waits"), NobodyAsks():
        float(report.norm)
