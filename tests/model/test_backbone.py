"""The ResNet, its blocks held against torchvision's (which comes with open_clip)."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.models import resnet

from ovseg_cli.model.backbone import Backbone, BasicBlock, Bottleneck
from ovseg_cli.model.config import BackboneConfig

SMALL = BackboneConfig(
    stem_channels=(4, 4, 8),
    depths=(1, 2, 1, 3),
    inner_channels=(4, 4, 8, 8),
    out_channels=(16, 16, 32, 32),
)


def copy_block(ours: nn.Module, theirs: nn.Module) -> None:
    """Random weights and statistics for both; torchvision's names are conv1, bn1, downsample."""
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    state = {}
    for name, tensor in theirs.state_dict().items():
        if "running_mean" in name:
            tensor.normal_()
        elif "running_var" in name:
            tensor.uniform_(0.5, 2.0)
        if "num_batches" not in name:
            name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
            state[name.replace("bn1", "conv1.norm").replace("bn2", "conv2.norm")
                  .replace("bn3", "conv3.norm")] = tensor  # fmt: skip
    ours.load_state_dict(state)


def downsample(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 4), (2, 2)])
def test_bottleneck_equals_torchvision(stride, dilation, training):
    ours = Bottleneck(6, 4, 16, stride, dilation)
    theirs = resnet.Bottleneck(6, 4, stride, downsample(6, 16, stride), dilation=dilation)
    copy_block(ours, theirs)
    ours.train(training)
    theirs.train(training)
    x = torch.randn(2, 6, 11, 12)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("stride", [1, 2])
def test_basic_block_equals_torchvision(stride):
    ours = BasicBlock(6, 8, 8, stride, 1).eval()
    theirs = resnet.BasicBlock(6, 8, stride, downsample(6, 8, stride)).eval()
    copy_block(ours, theirs)
    x = torch.randn(2, 6, 11, 12)
    torch.testing.assert_close(ours(x), theirs(x))


def test_block_without_change_of_size_has_a_plain_shortcut():
    ours = Bottleneck(16, 4, 16, 1, 1).eval()
    theirs = resnet.Bottleneck(16, 4).eval()
    copy_block(ours, theirs)
    x = torch.randn(1, 16, 5, 5)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("block", ["bottleneck", "basic"])
def test_features_have_strides_4_to_32(block):
    backbone = Backbone(replace(SMALL, block=block)).eval()
    with torch.inference_mode():
        features = backbone(torch.randn(2, 3, 64, 96))
    assert [tuple(f.shape) for f in features] == [
        (2, 16, 16, 24),
        (2, 16, 8, 12),
        (2, 32, 4, 6),
        (2, 32, 2, 3),
    ]


def test_only_res5_is_dilated_as_the_multi_grid_says():
    backbone = Backbone(replace(SMALL, res5_multi_grid=(1, 2, 4)))
    assert [block.conv2.dilation for block in backbone.res5] == [(1, 1), (2, 2), (4, 4)]
    assert [block.conv2.stride for block in backbone.res5] == [(2, 2), (1, 1), (1, 1)]
    others = [*backbone.res2, *backbone.res3, *backbone.res4]
    assert {block.conv2.dilation for block in others} == {(1, 1)}


def test_stem_equals_its_layers_in_order():
    backbone = Backbone(SMALL).eval()
    x = torch.randn(1, 3, 32, 32)
    expected = x
    for name, stride in (("conv1", 2), ("conv2", 1), ("conv3", 1)):
        weight = getattr(backbone.stem, name).weight
        expected = nn.functional.conv2d(expected, weight, stride=stride, padding=1)
        expected = (expected / (1 + 1e-5) ** 0.5).clamp_min(0)  # fresh batch norm
    expected = nn.functional.max_pool2d(expected, 3, 2, 1)
    torch.testing.assert_close(backbone.stem(x), expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"block": "mobile"}, "bottleneck, basic, not mobile"), ({"res5_multi_grid": (1, 2)}, "3 b")],
)
def test_impossible_config_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Backbone(replace(SMALL, **values))
