"""Muon against singular value decompositions, and which parameters it takes."""

import pytest
import torch
from torch import nn

from ovseg_cli.training import muon
from ovseg_cli.training.muon import Muon, orthogonalised, split_matrices


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("shape", [(24, 24), (16, 90), (90, 16)])
def test_all_directions_get_about_the_same_length(shape, bfloat16, monkeypatch):
    monkeypatch.setattr(muon, "multiplies_bfloat16", lambda device: bfloat16)
    torch.manual_seed(1)
    left, values, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    matrix = left @ torch.diag(values / values.max() + 0.05) @ right
    found = orthogonalised(matrix).float()
    assert found.shape == matrix.shape
    lengths = torch.linalg.svdvals(found)
    assert lengths.min() > 0.6 and lengths.max() < 1.3
    # The directions stay: U·Vᵀ is the nearest orthogonal matrix.
    along = (found * (left @ right)).sum() / (found.norm() * min(shape) ** 0.5)
    assert along > 0.95


def test_a_step_is_as_long_as_one_of_adam():
    """Its entries have a root mean square of 0.2 times the rate (arXiv 2502.16982, Sec. 2.2)."""
    torch.manual_seed(2)
    for shape in ((32, 200), (200, 32), (48, 12, 3, 3)):
        weight = nn.Parameter(torch.zeros(shape))
        weight.grad = torch.randn(shape) * 1e-3  # whatever the gradient's size
        Muon([weight], lr=0.1).step()
        assert weight.detach().square().mean().sqrt() == pytest.approx(0.02, rel=0.2)
        assert (weight.detach() * weight.grad).sum() < 0


def test_weights_decay_apart_from_the_gradient():
    weight = nn.Parameter(torch.full((4, 6), 3.0))
    weight.grad = torch.zeros(4, 6)
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 6), 3.0 * 0.95))


def test_a_direction_of_small_gradients_is_learnt_as_well():
    """Of y = W·x one input is a hundred times smaller.

    Plain descent, at a rate at which the others just converge, would leave 0.98 of it.
    """
    scales = torch.tensor([1.0, 1.0, 0.01])
    weight = nn.Parameter(torch.zeros(5, 3))
    torch.manual_seed(3)
    wanted = torch.randn(5, 3)
    optimizer = Muon([weight], lr=0.1)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        optimizer.zero_grad()
        (((weight - wanted) * scales).square().sum()).backward()
        optimizer.step()
    missing = (weight.detach() - wanted).norm(dim=0) / wanted.norm(dim=0)
    assert missing[:2].max() < 0.01 and missing[2] < 0.5


def test_it_takes_matrices_and_leaves_the_rest():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pixels = nn.Conv2d(3, 8, 3)
            self.conv = nn.Conv2d(8, 8, 3)
            self.norm = nn.BatchNorm2d(8)
            self.names = nn.Embedding(9, 8)
            self.attn = nn.MultiheadAttention(8, 2)
            self.last = nn.Linear(8, 4)

    net = Net()
    net.last.weight.requires_grad_(False)
    learning = [p for p in net.parameters() if p.requires_grad]
    inside, outside = split_matrices(net, [{"params": learning, "lr_scale": 0.5}])
    names = {id(p): name for name, p in net.named_parameters()}
    assert {names[id(p)] for group in inside for p in group["params"]} == {
        "conv.weight",
        "attn.in_proj_weight",
        "attn.out_proj.weight",
    }
    assert sum(len(group["params"]) for group in inside + outside) == len(learning)
    assert [group["lr_scale"] for group in inside + outside] == [0.5, 0.5]
