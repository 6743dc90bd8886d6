"""The learning rate as a function of the number of updates done."""

import sys
from math import cos, pi

import pytest

from distbp.mathematics.schedules import Schedule


def schedule(name, **settings):
    defaults = {"base": 0.4, "warmup": 0, "total": 100, "every": 10, "factor": 0.5, "minimum": 0.0}
    return Schedule(name, **{**defaults, **settings})


@pytest.mark.parametrize("name", ["constant", "step", "cosine"])
def test_warm_up_rises_by_equal_steps_to_the_base(name):
    rate = schedule(name, warmup=4)
    assert [rate(step) for step in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rate(4) == pytest.approx(0.4)  # the first update after it, whatever follows


def test_constant():
    rate = schedule("constant")
    assert {rate(step) for step in (0, 1, 99, 100, 10**9)} == {0.4}


@pytest.mark.parametrize("warmup", [0, 7])
def test_step_multiplies_by_the_factor_every_so_many_updates(warmup):
    rate = schedule("step", warmup=warmup, every=3, factor=0.1)
    rates = [rate(warmup + step) for step in range(8)]
    assert rates == pytest.approx([0.4, 0.4, 0.4, 0.04, 0.04, 0.04, 0.004, 0.004])


def test_a_factor_above_1_that_is_taken_too_often():
    """The largest number there is; training finds that the parameters would not be finite."""
    assert schedule("step", every=1, factor=1e200)(2) == sys.float_info.max


@pytest.mark.parametrize("warmup", [0, 20])
def test_cosine_falls_from_base_to_minimum(warmup):
    rate = schedule("cosine", warmup=warmup, total=100 + warmup, minimum=0.02)
    rates = [rate(warmup + step) for step in range(101)]
    assert rates[0] == pytest.approx(0.4)
    assert rates[25] == pytest.approx(0.02 + 0.38 * (1.0 + cos(pi / 4.0)) / 2.0)
    assert rates[50] == pytest.approx(0.21)
    assert rates[100] == pytest.approx(0.02)
    assert rates == sorted(rates, reverse=True)
    assert rate(warmup + 150) == pytest.approx(0.02)  # it does not rise again


@pytest.mark.heavy
def test_cosine_equals_pytorch():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    torch_rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30, eta_min=0.02)
    rate = schedule("cosine", total=30, minimum=0.02)
    for step in range(31):
        assert rate(step) == pytest.approx(torch_rate.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        torch_rate.step()


@pytest.mark.parametrize("total", [0, 1, 5])
def test_warm_up_that_fills_the_whole_run(total):
    rate = schedule("cosine", warmup=5, total=total)
    assert rate(4) == pytest.approx(0.4)
    assert 0.0 <= rate(5) <= 0.4
    assert rate(6) == pytest.approx(0.0)
