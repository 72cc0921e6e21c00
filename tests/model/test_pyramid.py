"""The small visual encoder."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ovseg_cli.model.config import PyramidVisualConfig
from ovseg_cli.model.pyramid import PyramidVisual

CONFIG = PyramidVisualConfig(channels=12, norm_groups=3, context_width=8, context_heads=2)
CHANNELS = (6, 7, 8, 9)


@pytest.mark.parametrize("joint_width", [5, 40])  # less and more than a patch has before it
@torch.no_grad()
def test_cosines_are_those_of_the_patch_features(joint_width):
    visual = PyramidVisual(CONFIG, CHANNELS, joint_width).eval()
    for parameter in visual.parameters():
        nn.init.normal_(parameter, std=0.5)
    features = [torch.randn(2, c, 16 >> i, 24 >> i) for i, c in enumerate(CHANNELS)]
    directions = torch.randn(4, joint_width)
    unit = F.normalize(visual(features).double(), dim=-1)
    torch.testing.assert_close(
        visual.cosines(features, directions).double(),
        unit @ directions.double().T,
        atol=2e-5,
        rtol=1e-4,
    )
