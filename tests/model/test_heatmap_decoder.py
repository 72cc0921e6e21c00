"""The heatmap decoder: recorded outputs, and the equations head by head."""

import pytest
import torch
import torch.nn.functional as F

from ovseg_cli.model.config import HeatmapConfig
from ovseg_cli.model.heatmap_decoder import HeatmapDecoder
from ovseg_cli.model.positions import sine_positions

SMALL = HeatmapConfig(heads=2, layers=1, feedforward=24)


@pytest.mark.parametrize("case", ["main", "square", "zero_mask"])
def test_parity(recording, case):
    cal = recording("cal")
    decoder = HeatmapDecoder(HeatmapConfig(feedforward=128), 64, 100).eval()
    cal.load_into(decoder, "heatmap_decoder.", "")
    streams = []
    decoder.layers[-1].register_forward_hook(lambda module, args, out: streams.append(out))
    memory, masks = cal[f"inputs.{case}.memory"], cal[f"inputs.{case}.proposal_mask"]
    with torch.inference_mode():
        embeddings = decoder(memory, masks)
        heatmaps = decoder.heatmaps(memory, masks)
    expected = cal[f"outputs.{case}.query_embeddings"]
    torch.testing.assert_close(embeddings, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(embeddings, cal[f"outputs.{case}.hs"][1], atol=1e-4, rtol=0)
    # The authors' training also reads the layer before, through a norm that inference lacks.
    norm = cal["weights.decoder.norm.weight"], cal["weights.decoder.norm.bias"]
    first = F.layer_norm(streams[0], (64,), *norm)
    torch.testing.assert_close(first, cal[f"outputs.{case}.hs"][0], atol=1e-4, rtol=0)
    expected = cal[f"outputs.{case}.heatmaps"]
    atol = 1e-4 * float(expected.max())
    torch.testing.assert_close(heatmaps.mean(1), expected, atol=atol, rtol=0)
    pooled = torch.einsum("bhnyx,bhcyx->bnhc", heatmaps, memory.unflatten(1, (8, 8))).flatten(2)
    expected = cal[f"outputs.{case}.pooled_raw"]
    atol = 1e-4 * float(expected.abs().max())
    torch.testing.assert_close(pooled, expected, atol=atol, rtol=0)


def slow_decoder(decoder: HeatmapDecoder, memory, masks):
    """One image through torch's own attention, then query by query and head by head."""
    C, h, w = memory.shape
    queries = decoder.query_embedding.weight
    tokens = memory.flatten(1).T
    keys = tokens + sine_positions(h, w, C).flatten(1).T

    def attend(attention, query, key, value):
        mha = torch.nn.MultiheadAttention(C, attention.heads)
        mha.load_state_dict(attention.state_dict())
        return mha(query, key, value)[0]

    t = torch.zeros_like(queries)
    for layer in decoder.layers:
        t = layer.norm1(t + attend(layer.self_attn, t + queries, t + queries, t))
        t = layer.norm2(t + attend(layer.multihead_attn, t + queries, keys, tokens))
        t = layer.norm3(t + layer.linear2(layer.linear1(t).clamp_min(0)))
    last = decoder.out_layer
    t = last.norm1(t + attend(last.self_attn, t + queries, t + queries, t))
    q = (t + queries) @ last.in_proj_weight[:C].T + last.in_proj_bias[:C]
    k = keys @ last.in_proj_weight[C : 2 * C].T + last.in_proj_bias[C : 2 * C]
    size = C // last.heads
    rows = []
    for n in range(len(queries)):
        slices = []
        for head in range(last.heads):
            part = slice(head * size, head * size + size)
            attention = (k[:, part] @ q[n, part] / size**0.5).softmax(0)
            heatmap = attention * masks[n].flatten()
            slices.append(heatmap @ tokens[:, part])
        row = torch.cat(slices)
        rows.append(row / row.norm())
    return torch.stack(rows)


def test_follows_the_equations():
    decoder = HeatmapDecoder(SMALL, 12, 5)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    memory, masks = F.normalize(torch.randn(2, 12, 3, 4), dim=1), torch.rand(2, 5, 3, 4)
    with torch.inference_mode():
        pairs = zip(memory, masks, strict=True)
        expected = torch.stack([slow_decoder(decoder, *pair) for pair in pairs])
        torch.testing.assert_close(decoder(memory, masks), expected, atol=1e-5, rtol=1e-5)


def test_zero_mask_gives_zero_and_disturbs_no_other():
    decoder = HeatmapDecoder(SMALL, 12, 5)
    memory, masks = F.normalize(torch.randn(1, 12, 3, 4), dim=1), torch.rand(1, 5, 3, 4)
    with_zero = masks.clone()
    with_zero[:, 2] = 0
    features = decoder(memory, with_zero)
    assert torch.equal(features[0, 2], torch.zeros(12))
    others = [0, 1, 3, 4]
    torch.testing.assert_close(features[:, others], decoder(memory, masks)[:, others])
    features.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in decoder.parameters())


def test_faint_mask_still_gives_a_unit_feature():
    """Proposals that are almost nowhere (sigmoid of -20) keep a direction."""
    decoder = HeatmapDecoder(SMALL, 12, 5)
    memory = F.normalize(torch.randn(1, 12, 3, 4), dim=1)
    masks = torch.rand(1, 5, 3, 4)
    with torch.inference_mode():
        faint = decoder(memory, masks * 2e-9)
        torch.testing.assert_close(faint, decoder(memory, masks))


def test_value_rows_have_no_influence():
    decoder = HeatmapDecoder(SMALL, 12, 5)
    memory, masks = F.normalize(torch.randn(1, 12, 3, 4), dim=1), torch.rand(1, 5, 3, 4)
    with torch.no_grad():
        before = decoder(memory, masks)
        decoder.out_layer.in_proj_weight[24:] += 1.0
        decoder.out_layer.in_proj_bias[24:] += 1.0
        assert torch.equal(decoder(memory, masks), before)


def test_half_precision_around_it_stays_outside():
    decoder = HeatmapDecoder(SMALL, 12, 5)
    memory, masks = F.normalize(torch.randn(1, 12, 3, 4), dim=1), torch.rand(1, 5, 3, 4)
    with torch.inference_mode():
        expected = decoder(memory, masks)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(decoder(memory, masks), expected)
