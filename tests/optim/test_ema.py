"""The average of the weights: followed, swapped in and out, resumed."""

import pytest
import torch
from torch.testing import assert_close

from impasto.optim.config import Ema as Settings
from impasto.optim.ema import Ema, decay

KEPT, SKIPPED = torch.tensor(0.0), torch.tensor(1.0)


def follow(flat, ema, steps):
    for step in steps:
        flat.train([step])
        ema.update(step, KEPT)


def test_the_average_follows_the_weights(trainee):
    flat = trainee().flatten()
    ema = Ema(Settings(decay=0.9, warmup=False), flat.flat)
    expected = flat.weights()
    for step in range(5):
        follow(flat, ema, [step])
        expected = {name: 0.9 * old + 0.1 * flat.weights()[name] for name, old in expected.items()}
    with ema.swapped():
        for name, value in expected.items():
            assert_close(flat.weights()[name], value)


def test_a_short_run_has_an_average_too():
    settings = Settings(decay=0.999)
    assert [decay(settings, step) for step in (0, 8, 10**6)] == [0.1, 0.5, 0.999]
    assert decay(Settings(decay=0.999, warmup=False), 0) == 0.999


def test_after_a_swap_the_weights_are_the_same_bits_even_after_an_error(trainee):
    flat = trainee().flatten()
    ema = Ema(Settings(), flat.flat)
    follow(flat, ema, range(3))
    before = flat.weights()
    with ema.swapped():
        assert not torch.equal(flat.weights()["unet.weight"], before["unet.weight"])
    with pytest.raises(InterruptedError), ema.swapped():
        raise InterruptedError
    assert all(torch.equal(flat.weights()[name], value) for name, value in before.items())


def test_a_skipped_step_does_not_move_the_average(trainee):
    flat = trainee().flatten()
    ema = Ema(Settings(), flat.flat)
    flat.train([0])
    before = ema.state()
    ema.update(0, SKIPPED)
    assert all(torch.equal(ema.state()[part], value) for part, value in before.items())


def test_it_resumes_bit_for_bit(trainee):
    whole = trainee().flatten()
    average = Ema(Settings(decay=0.9), whole.flat)
    follow(whole, average, range(3))
    again = trainee(seed=1).flatten()
    again.net.load_state_dict(whole.weights())
    again.optimizer.restore(whole.optimizer.state())
    resumed = Ema(Settings(decay=0.9), again.flat)
    resumed.restore(average.state())
    follow(whole, average, range(3, 6))
    follow(again, resumed, range(3, 6))
    assert all(torch.equal(resumed.state()[part], value) for part, value in average.state().items())


def test_swaps_do_not_nest(trainee):
    ema = Ema(Settings(), trainee().flatten().flat)
    with ema.swapped(), pytest.raises(AssertionError, match="do not nest"), ema.swapped():
        pass
