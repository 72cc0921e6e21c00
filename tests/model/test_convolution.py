import pytest
import torch
from torch import nn

from ovseg_cli.model.convolution import BatchNorm2d, NormedConv2d, fold_batch_norms


@pytest.fixture
def pair() -> tuple[BatchNorm2d, nn.BatchNorm2d]:
    """Ours and torch's with the same tensors, but for the counter that ours lacks."""
    theirs = nn.BatchNorm2d(6)
    nn.init.normal_(theirs.weight)
    nn.init.normal_(theirs.bias)
    theirs.running_mean.normal_()
    theirs.running_var.uniform_(0.5, 2.0)
    ours = BatchNorm2d(6)
    state = {k: v for k, v in theirs.state_dict().items() if k != "num_batches_tracked"}
    ours.load_state_dict(state)
    return ours, theirs


def test_training_normalises_and_tracks_as_torch(pair):
    ours, theirs = pair
    for _ in range(3):
        x = torch.randn(4, 6, 5, 5) * 2 + 1
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_evaluation_is_a_fixed_affine_map(pair):
    ours, theirs = pair
    ours.eval()
    x = torch.randn(2, 6, 5, 5)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    torch.testing.assert_close(ours(x), theirs.eval()(x))
    torch.testing.assert_close(ours(x[:1]), ours(x)[:1])  # no influence of the batch
    assert all(torch.equal(before[name], tensor) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(1, 1, 1), (3, 1, 4), (3, 2, 2)])
def test_size_is_kept_up_to_the_stride(kernel, stride, dilation):
    conv = NormedConv2d(3, 4, kernel, BatchNorm2d(4), stride=stride, dilation=dilation)
    assert conv(torch.randn(2, 3, 9, 12)).shape == (2, 4, -(-9 // stride), -(-12 // stride))


def test_relu_comes_last_and_only_if_asked():
    x = torch.randn(2, 3, 6, 6)
    assert NormedConv2d(3, 4, 3, BatchNorm2d(4))(x).min() == 0
    assert NormedConv2d(3, 4, 3, BatchNorm2d(4), relu=False)(x).min() < 0


@pytest.mark.parametrize("dilation", [1, 2])
def test_a_folded_batch_norm_is_the_same_map(pair, dilation):
    norm, _ = pair
    conv = NormedConv2d(3, 6, 3, norm, dilation=dilation).eval()
    x = torch.randn(2, 3, 9, 8)
    expected = conv(x)
    fold_batch_norms(nn.Sequential(conv))
    assert isinstance(conv.norm, nn.Identity) == (dilation == 1)
    torch.testing.assert_close(conv(x), expected)


def test_other_norms_are_not_folded():
    norm = nn.GroupNorm(2, 6)
    conv = NormedConv2d(3, 6, 3, norm)
    fold_batch_norms(conv)
    assert conv.norm is norm and conv.bias is None
