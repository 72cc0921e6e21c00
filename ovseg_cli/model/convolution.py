"""Convolution, norm and ReLU as one layer, named as in the authors' checkpoints."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-5  # added to variances
MOMENTUM = 0.1  # share of a batch in the statistics that are tracked


class BatchNorm2d(nn.Module):
    """Batch norm that holds four tensors and no counter, as frozen batch norm is stored.

    Training mode normalises with the batch's statistics and tracks them; in evaluation mode it is
    a fixed affine map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.running_mean: Tensor
        self.running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training,
            momentum=MOMENTUM,
            eps=EPS,
        )

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift (C,) float64 of the map that it is in evaluation mode."""
        scale = self.weight.double() / (self.running_var.double() + EPS).sqrt()
        return scale, self.bias.double() - self.running_mean.double() * scale


class NormedConv2d(nn.Conv2d):
    """A convolution without bias that keeps its size at stride 1, `norm`, and ReLU if asked."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        norm: nn.Module,
        *,
        stride: int = 1,
        dilation: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            bias=False,
        )
        self.norm = norm
        self.relu = relu
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride), rounded up."""
        x = self.norm(super().forward(x))
        return F.relu(x, inplace=True) if self.relu else x

    @torch.no_grad()
    def fold(self) -> None:
        """Take a batch norm into weights and bias: the same in evaluation mode, and less to do.

        Not where the convolution dilates: on small maps torch would add its bias slowly.
        """
        if isinstance(self.norm, BatchNorm2d) and self.dilation == (1, 1):
            scale, shift = self.norm.affine()
            weight = self.weight * scale[:, None, None, None]
            self.weight = nn.Parameter(weight.to(self.weight), requires_grad=False)
            self.bias = nn.Parameter(shift.to(self.weight), requires_grad=False)
            self.norm = nn.Identity()


def fold_batch_norms(network: nn.Module) -> None:
    """Fold all batch norms of a network that will not be trained any more, nor saved."""
    for module in network.modules():
        if isinstance(module, NormedConv2d):
            module.fold()
