import math

import pytest
import torch

from ovseg_cli.model.positions import sine_positions


def test_each_element_follows_the_formula():
    height, width, channels = 3, 5, 8
    half = channels // 2
    expected = torch.empty(channels, height, width)
    for channel in range(channels):
        for row in range(height):
            for column in range(width):
                if channel < half:
                    at = (row + 1) / (height + 1e-6) * 2 * math.pi
                else:
                    at = (column + 1) / (width + 1e-6) * 2 * math.pi
                i = channel % half
                angle = at / 10000 ** (2 * (i // 2) / half)
                expected[channel, row, column] = math.cos(angle) if i % 2 else math.sin(angle)
    torch.testing.assert_close(sine_positions(height, width, channels), expected)


def test_channels_must_make_pairs_for_two_axes():
    with pytest.raises(ValueError, match="6 channels"):
        sine_positions(2, 2, 6)


@pytest.mark.parametrize("case", ["main", "square", "zero_mask"])
def test_parity(recording, case):
    expected = recording("cal")[f"outputs.{case}.pos_embed"]
    _, channels, height, width = expected.shape
    ours = sine_positions(height, width, channels).expand_as(expected)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)
