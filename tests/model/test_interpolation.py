"""Resizing by matrices of weights against torch's own, and its parts against the whole."""

import pytest
import torch
import torch.nn.functional as F

from ovseg_cli.model.interpolation import centres, interpolation, support


@pytest.mark.parametrize(("length", "source"), [(7, 7), (30, 7), (3, 8), (1, 5), (5, 1)])
def test_interpolation_without_padding_is_torch_s(length, source):
    values = torch.randn(1, 1, source)
    expected = F.interpolate(values, length, mode="linear", align_corners=False)
    actual = interpolation(length, source, source) @ values[0, 0]
    torch.testing.assert_close(actual, expected[0, 0])


def test_padding_is_left_out():
    # 8 numbers of which the photo covers 6: stretching them over 12 pixels halves the step.
    values = torch.arange(8.0)
    expected = (torch.arange(12) + 0.5) * 0.5 - 0.5
    actual = interpolation(12, 8, 6.0) @ values
    torch.testing.assert_close(actual, expected.clamp(min=0))


def test_a_part_of_the_pixels_needs_only_the_numbers_around_it():
    weights = interpolation(30, 10, 10)
    values = torch.randn(10)
    for first, last in ((0, 30), (0, 1), (13, 17), (29, 30)):
        start, end, own = support(weights[first:last])
        torch.testing.assert_close(own @ values[start:end], (weights @ values)[first:last])
        # A pixel is a third of a number, and each lies between two.
        assert end - start <= (last - first) / 3 + 2


def test_centres_of_a_part_are_those_of_the_whole():
    # Four pixels a number: the first one's centre lies 3/8 of a number before the first number's.
    expected = torch.tensor([-3, -1, 1, 3, 5, 7], dtype=torch.float64) / 8
    assert torch.equal(centres(0, 6, 0.25), expected)
    assert torch.equal(centres(2, 5, 0.25), expected[2:5])
