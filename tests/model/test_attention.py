import pytest
import torch
from torch import nn

from ovseg_cli.model.attention import Attention, merge_heads, split_heads


@pytest.fixture
def pair() -> tuple[Attention, nn.MultiheadAttention]:
    """Ours and torch's with the same weights, biases included."""
    theirs = nn.MultiheadAttention(24, 4, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    nn.init.normal_(theirs.out_proj.bias)
    ours = Attention(24, 4)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def test_cross_attention_equals_torch(pair):
    ours, theirs = pair
    query, key, value = torch.randn(2, 5, 24), torch.randn(2, 7, 24), torch.randn(2, 7, 24)
    expected, _ = theirs(query, key, value)
    torch.testing.assert_close(ours(query, key, value), expected)


@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_equals_torch(pair, causal):
    ours, theirs = pair
    x = torch.randn(2, 6, 24)
    mask = torch.ones(6, 6, dtype=torch.bool).triu(1) if causal else None
    expected, _ = theirs(x, x, x, attn_mask=mask)
    torch.testing.assert_close(ours(x, x, x, causal), expected)


def test_heads_are_slices_of_the_channels():
    x = torch.randn(2, 3, 12)
    heads = split_heads(x, 4)
    for head in range(4):
        assert torch.equal(heads[:, head], x[..., 3 * head : 3 * head + 3])
    assert torch.equal(merge_heads(heads), x)


def test_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="width of 10 .* 4 heads"):
        Attention(10, 4)
