"""The image tower: recorded outputs, and slow references written from the paper's equations."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ovseg_cli.model.attention import Attention
from ovseg_cli.model.clip import (
    MLP,
    ResidualBlock,
    VisualTower,
    local_attention,
    resize_positions,
    severed_attention,
    token_masks,
)
from ovseg_cli.model.config import LOCAL, SEVERANCES, ClipVisualConfig

RECORDED = ClipVisualConfig(
    width=64, layers=4, heads=4, mlp_width=256, grid=4, run_grid=6, position_layers=(1, 2)
)
SEVERED = {"last": (3,), "mid": (1,)}
CASES = [
    *((variant, "last", case) for variant in SEVERANCES for case in
      ("rect", "square_run", "square_native", "odd")),
    *((variant, "mid", "rect") for variant in SEVERANCES),
]  # fmt: skip


@pytest.mark.parametrize(("variant", "where", "case"), CASES)
def test_parity(recording, variant, where, case):
    gps = recording("gps")
    severed = SEVERED[where]
    tower = VisualTower(replace(RECORDED, severance=variant, severed_layers=severed), 32).eval()
    gps.load_into(tower, "visual.", "clip_adapter.clip_model.visual.")
    streams = []  # after 0..4 blocks
    for layer in (tower.ln_pre, *tower.blocks):
        layer.register_forward_hook(lambda module, args, output: streams.append(output))
    with torch.inference_mode():
        features = tower(gps[f"inputs.{case}.image"], gps[f"inputs.{case}.mask_logits"])
        class_token = tower.ln_post(streams[-1][:, 0]) @ tower.proj
    expected = f"outputs.{variant}.{where}.{case}."
    torch.testing.assert_close(features, gps[expected + "features"], atol=1e-4, rtol=0)
    torch.testing.assert_close(class_token, gps[expected + "cls"], atol=1e-4, rtol=0)
    for after in range(severed[0], 5):
        stream = gps[f"{expected}tokens_after_{after}"]
        atol = 1e-4 * float(stream.abs().max())
        torch.testing.assert_close(streams[after], stream, atol=atol, rtol=0)


def slow_severed_attention(attn: Attention, x, masks, severance):
    """The equations of the paper, one token, head and mask at a time."""
    B, L, D = x.shape
    size = D // attn.heads
    out = torch.zeros_like(x)
    for b in range(B):
        value = x[b] @ attn.in_proj_weight[2 * D :].T + attn.in_proj_bias[2 * D :]  # (L, D)
        for head in range(attn.heads):
            part = slice(head * size, head * size + size)
            for token in range(L):
                if severance == "gps":
                    out[b, token, part] = value[token, part]
                elif severance == "gps_mask":
                    for mask in masks[b]:
                        out[b, token, part] += mask[token] * value[token, part]
                else:
                    scores = torch.stack(
                        [sum(m[token] * m[other] for m in masks[b]) for other in range(L)]
                    )
                    for other, weight in enumerate(scores.softmax(0)):
                        out[b, token, part] += weight * value[other, part]
    return attn.out_proj(out)


@pytest.mark.parametrize("severance", SEVERANCES)
def test_severed_attention_follows_the_equations(severance):
    attn = Attention(8, 2)
    torch.nn.init.normal_(attn.in_proj_bias)
    x, masks = torch.randn(2, 5, 8), torch.rand(2, 3, 5)
    with torch.no_grad():
        expected = slow_severed_attention(attn, x, masks, severance)
        torch.testing.assert_close(severed_attention(attn, x, masks, severance), expected)


def slow_local_attention(attn: Attention, x, kind, grid_hw):
    """The table of the training-free works, one image, head and pair of tokens at a time."""
    B, L, D = x.shape
    others = L - grid_hw[0] * grid_hw[1]  # the class token, if there is one
    size = D // attn.heads
    width = grid_hw[1]
    out = torch.zeros_like(x)
    for b in range(B):
        packed = x[b] @ attn.in_proj_weight.T + attn.in_proj_bias
        for head in range(attn.heads):
            q, k, v = (packed[:, i * D + head * size : i * D + (head + 1) * size] for i in range(3))
            for i in range(L):
                for left in {"csa": (q, k), "self": (q,), "neighbour": (k,)}[kind]:
                    logits = []
                    for j in range(L):
                        logit = float(left[i] @ left[j]) / math.sqrt(size)
                        if kind == "neighbour" and i >= others and j >= others:
                            y, x_i = divmod(i - others, width)
                            z, x_j = divmod(j - others, width)
                            logit += math.exp(-((y - z) ** 2 + (x_i - x_j) ** 2) / (2 * 5**2))
                        logits.append(logit)
                    weights = torch.tensor(logits).softmax(0)
                    out[b, i, head * size : (head + 1) * size] += weights @ v
    return attn.out_proj(out)


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("kind", LOCAL)
def test_local_attention_follows_the_equations(kind, others):
    attn = Attention(8, 2)
    torch.nn.init.normal_(attn.in_proj_bias)
    x = 2 * torch.randn(2, others + 2 * 4, 8)
    with torch.no_grad():
        expected = slow_local_attention(attn, x, kind, (2, 4))
        torch.testing.assert_close(local_attention(attn, x, kind, (2, 4)), expected)


@pytest.mark.parametrize("kind", ["gps", *LOCAL])
def test_a_reduced_layer_gives_its_attention_alone(kind):
    x = torch.randn(1, 7, 8)
    whole = ResidualBlock(8, 2, 16, kind)
    reduced = ResidualBlock(8, 2, 16, kind, reduced=True)
    reduced.load_state_dict(whole.state_dict())
    with torch.no_grad():
        part = reduced(x, grid_hw=(2, 3))
        with_residual = x + part
        expected = with_residual + whole.mlp(whole.ln_2(with_residual))
        torch.testing.assert_close(whole(x, grid_hw=(2, 3)), expected)


def test_the_exact_gelu_is_another_one():
    x = torch.linspace(-3, 3, 50)
    quick, exact = (MLP(4, 8, gelu).gelu(x) for gelu in ("quick", "exact"))
    torch.testing.assert_close(exact, 0.5 * x * (1 + torch.erf(x / math.sqrt(2))))
    torch.testing.assert_close(quick, x / (1 + torch.exp(-1.702 * x)))
    with pytest.raises(ValueError, match="quick or exact, not slow"):
        MLP(4, 8, "slow")


@pytest.mark.parametrize("severance", ["gps_mask", "gps"])
def test_severed_block_mixes_no_tokens(severance):
    block = ResidualBlock(8, 2, 16, severance)
    x, masks = torch.randn(1, 5, 8), torch.rand(1, 3, 5)
    changed = x.clone()
    changed[:, 2] += 1.0
    with torch.no_grad():
        before, after = block(x, masks), block(changed, masks)
    others = [0, 1, 3, 4]
    assert torch.equal(before[:, others], after[:, others])
    assert not torch.allclose(before[:, 2], after[:, 2])


def test_ordinary_block_follows_the_equations():
    block = ResidualBlock(8, 2, 16)
    x = torch.randn(1, 5, 8)
    mha = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    mha.load_state_dict(block.attn.state_dict())
    with torch.no_grad():
        y = F.layer_norm(x, (8,))
        middle = x + mha(y, y, y)[0]
        z = block.mlp.c_fc(F.layer_norm(middle, (8,)))
        expected = middle + block.mlp.c_proj(z / (1 + (-1.702 * z).exp()))
        torch.testing.assert_close(block(x), expected)


def test_masks_are_resized_before_the_sigmoid():
    logits = torch.randn(1, 2, 8, 8) * 5
    masks = token_masks(logits, (2, 2))
    assert masks.shape == (1, 2, 5)
    assert torch.equal(masks[..., 0], torch.ones(1, 2))  # the class token lies in every mask
    # Bilinear reduction by 4 takes the mean of the four pixels around each patch's centre.
    for row in range(2):
        for column in range(2):
            centre = logits[0, :, 4 * row + 1 : 4 * row + 3, 4 * column + 1 : 4 * column + 3]
            expected = centre.mean((1, 2)).sigmoid()
            torch.testing.assert_close(masks[0, :, 1 + 2 * row + column], expected)


def test_own_grid_takes_the_table_as_it_is():
    table = torch.randn(10, 4)
    assert resize_positions(table, (3, 3)) is table


def test_other_grid_of_as_many_patches_is_resized():
    """A 4×4 table that tells the row only must tell the row on 2×8 patches, too."""
    rows = torch.arange(4.0).repeat_interleave(4)
    table = torch.cat([torch.tensor([-7.0]), rows])[:, None]
    resized = resize_positions(table, (2, 8))
    assert resized.shape == (17, 1)
    assert resized[0] == -7.0
    grid = resized[1:].view(2, 8)
    torch.testing.assert_close(grid, grid[:, :1].expand(2, 8))  # equal along a row
    assert grid[1, 0] > grid[0, 0]


def test_tower_without_learned_positions_has_none():
    config = replace(RECORDED, run_grid=None, severance="gps", severed_layers=(3,))
    tower = VisualTower(config, 32).eval()
    assert not [name for name in tower.state_dict() if "learned" in name or "layer_pos" in name]
    with torch.inference_mode():
        assert tower(torch.randn(1, 3, 32, 48)).shape == (1, 2, 3, 32)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"severance": "mask"}, "severance is one of .*, not mask"),
        ({"severed_layers": (4,)}, "severed_layers"),
        ({"position_layers": (7,)}, "position_layers"),
    ],
)
def test_impossible_config_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        VisualTower(replace(RECORDED, **{"severed_layers": (3,), **values}), 32)


@pytest.mark.parametrize("severance", ["gps_mask", "mps"])
def test_without_masks_a_patch_keeps_its_own_value(severance):
    attn = Attention(8, 2)
    x = torch.randn(1, 5, 8)
    own = severed_attention(attn, x, None, "gps")
    torch.testing.assert_close(severed_attention(attn, x, None, severance), own)
