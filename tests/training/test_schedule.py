"""The learning rate's course, and the values that are refused."""

import math

import pytest

from ovseg_cli.training.schedule import Schedule


def test_the_rate_rises_in_equal_steps_to_one():
    plan = Schedule(steps=100, learning_rate=1.0, warmup=10)
    rates = [plan.rate(step) for step in range(10)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


def test_cosine_is_half_at_half_time_and_ends_near_zero():
    plan = Schedule(steps=110, learning_rate=1.0, warmup=10)
    assert plan.rate(10) == pytest.approx(1.0)
    assert plan.rate(60) == pytest.approx(0.5)
    assert plan.rate(35) == pytest.approx((1 + math.sqrt(0.5)) / 2)  # an eighth of the circle
    assert 0 < plan.rate(109) < 0.001
    falling = [plan.rate(step) for step in range(10, 110)]
    assert falling == sorted(falling, reverse=True)


def test_poly_is_the_power_of_what_is_left():
    plan = Schedule(steps=60_000, learning_rate=1e-4, warmup=0, decay="poly")
    assert plan.rate(0) == 1
    assert plan.rate(30_000) == pytest.approx(0.5**0.9)
    assert plan.rate(59_400) == pytest.approx(0.01**0.9)


@pytest.mark.parametrize(
    ("name", "value"), [("optimizer", "adam"), ("decay", "linear"), ("precision", "fp16")]
)
def test_unknown_values_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is '{value}', not one of"):
        Schedule(steps=1, learning_rate=1.0, **{name: value})


def test_a_run_has_steps():
    with pytest.raises(ValueError, match="steps is 0"):
        Schedule(steps=0, learning_rate=1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"learning_rate": float("nan")}, {"learning_rate": -1.0}, {"learning_rate": 0.0}),
        *({"learning_rate": float("inf")}, {"clip": 0.0}, {"clip": -1.0}, {"ema": 1.0}),
        *({"ema": -0.1}, {"warmup": -3}, {"weight_decay": -1.0}, {"steps": 0}),
    ],
)
def test_values_that_nothing_can_be_learnt_with(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Schedule(**{"steps": 10, "learning_rate": 1e-3, **wrong})
