"""ResNet with the deeplab stem (He et al., 2016; ResNet-101c of arXiv 1706.05587)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.model.config import BackboneConfig
from ovseg_cli.model.convolution import BatchNorm2d, NormedConv2d


def _conv(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    relu: bool = True,
) -> NormedConv2d:
    norm = BatchNorm2d(out_channels)
    return NormedConv2d(
        in_channels, out_channels, kernel, norm, stride=stride, dilation=dilation, relu=relu
    )


class Stem(nn.Module):
    """Three 3×3 convolutions and a max-pool: stride 4."""

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        first, second, third = channels
        self.conv1 = _conv(3, first, 3, stride=2)
        self.conv2 = _conv(first, second, 3)
        self.conv3 = _conv(second, third, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, channels, H / 4, W / 4), rounded up."""
        x = self.conv3(self.conv2(self.conv1(x)))
        return F.max_pool2d(x, 3, stride=2, padding=1)


class Bottleneck(nn.Module):
    """1×1, 3×3 (which strides and dilates), 1×1, around a shortcut."""

    def __init__(
        self, in_channels: int, inner: int, out_channels: int, stride: int, dilation: int
    ) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, inner, 1)
        self.conv2 = _conv(inner, inner, 3, stride=stride, dilation=dilation)
        self.conv3 = _conv(inner, out_channels, 1, relu=False)
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride), rounded up."""
        return F.relu(self.conv3(self.conv2(self.conv1(x))) + self.shortcut(x))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, the first of which strides, around a shortcut."""

    def __init__(
        self, in_channels: int, inner: int, out_channels: int, stride: int, dilation: int
    ) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, inner, 3, stride=stride, dilation=dilation)
        self.conv2 = _conv(inner, out_channels, 3, dilation=dilation, relu=False)
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride), rounded up."""
        return F.relu(self.conv2(self.conv1(x)) + self.shortcut(x))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    return _conv(in_channels, out_channels, 1, stride=stride, relu=False)


BLOCKS: dict[str, type[Bottleneck] | type[BasicBlock]] = {
    "bottleneck": Bottleneck,
    "basic": BasicBlock,
}


class Backbone(nn.Module):
    """An image -> features of four strides."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        if config.block not in BLOCKS:
            raise ValueError(f"a block is one of {', '.join(BLOCKS)}, not {config.block}")
        if len(config.res5_multi_grid) != config.depths[-1]:
            raise ValueError(
                f"res5 has {config.depths[-1]} blocks, res5_multi_grid {config.res5_multi_grid}"
            )
        self.stem = Stem(config.stem_channels)
        dilations = [(1,) * depth for depth in config.depths[:-1]]
        dilations.append(tuple(config.res5_multi_grid))
        channels = config.stem_channels[-1]
        stages = []
        for stage, stage_dilations in enumerate(dilations):
            blocks = []
            for index, dilation in enumerate(stage_dilations):
                stride = 2 if index == 0 and stage > 0 else 1
                inner, out = config.inner_channels[stage], config.out_channels[stage]
                blocks.append(BLOCKS[config.block](channels, inner, out, stride, dilation))
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.res2, self.res3, self.res4, self.res5 = stages

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W), normalised -> res2..res5 at strides 4, 8, 16, 32 (rounded up)."""
        features = []
        x = self.stem(x)
        for stage in (self.res2, self.res3, self.res4, self.res5):
            x = stage(x)
            features.append(x)
        return features
