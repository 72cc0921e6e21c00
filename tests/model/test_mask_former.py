"""Pixel decoder, transformer and mask proposals against torch's own layers and plain loops."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ovseg_cli.model.config import ProposalConfig
from ovseg_cli.model.mask_former import MLP, MaskProposals
from ovseg_cli.model.pixel_decoder import PixelDecoder
from ovseg_cli.model.positions import sine_positions
from ovseg_cli.model.transformer import DecoderLayer, TransformerDecoder

CHANNELS = (4, 6, 8, 10)
SMALL = ProposalConfig(
    pixel_channels=8,
    mask_channels=5,
    norm_groups=2,
    queries=7,
    hidden=12,
    heads=3,
    layers=2,
    feedforward=16,
    class_hidden=9,
    class_channels=11,
)


@pytest.fixture
def features() -> list[torch.Tensor]:
    """Levels of a picture of 64×96 (the finest two of odd width, as ceil-divided sizes are)."""
    sizes = ((16, 23), (8, 12), (4, 6), (2, 3))
    return [torch.randn(2, c, *size) for c, size in zip(CHANNELS, sizes, strict=True)]


def test_pixel_decoder_follows_fpn(features):
    decoder = PixelDecoder(CHANNELS, 8, 5, norm_groups=2)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter)

    def norm(x, layer):
        return F.group_norm(x, 2, layer.norm.weight, layer.norm.bias)

    def output(x, layer):
        return norm(F.conv2d(x, layer.weight, padding=1), layer).clamp_min(0)

    with torch.inference_mode():
        y = output(features[3], decoder.layers[3])
        expected = [y]
        for level in (2, 1, 0):
            adapter = decoder.adapters[level]
            lateral = norm(F.conv2d(features[level], adapter.weight), adapter)
            height, width = lateral.shape[-2:]
            rows = torch.arange(height) * y.shape[-2] // height  # nearest
            columns = torch.arange(width) * y.shape[-1] // width
            y = output(lateral + y[:, :, rows][..., columns], decoder.layers[level])
            expected.append(y)
        mask = decoder.mask_features
        expected_mask = F.conv2d(y, mask.weight, mask.bias, padding=1)
        mask_features, levels = decoder(features)
    torch.testing.assert_close(mask_features, expected_mask)
    for ours, slow in zip(levels, expected, strict=True):  # coarse to fine
        torch.testing.assert_close(ours, slow)


def test_decoder_layer_without_positions_equals_torch():
    theirs = nn.TransformerDecoderLayer(12, 3, 16, dropout=0.0, batch_first=True)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = DecoderLayer(12, 3, 16)
    ours.load_state_dict(theirs.state_dict())
    target, memory = torch.randn(2, 5, 12), torch.randn(2, 9, 12)
    result = ours(target, torch.zeros(5, 12), memory, memory)
    torch.testing.assert_close(result, theirs(target, memory))


def test_positions_go_to_queries_and_keys_but_not_values():
    layer = DecoderLayer(12, 3, 16)
    target, queries = torch.randn(1, 5, 12), torch.randn(5, 12)
    memory, keys = torch.randn(1, 9, 12), torch.randn(1, 9, 12)
    own, cross = (nn.MultiheadAttention(12, 3, batch_first=True) for _ in range(2))
    own.load_state_dict(layer.self_attn.state_dict())
    cross.load_state_dict(layer.multihead_attn.state_dict())
    t = layer.norm1(target + own(target + queries, target + queries, target)[0])
    t = layer.norm2(t + cross(t + queries, keys, memory)[0])
    t = layer.norm3(t + layer.linear2(layer.linear1(t).clamp_min(0)))
    torch.testing.assert_close(layer(target, queries, keys, memory), t)


def test_decoder_starts_at_zero_and_norms_what_it_shows_only():
    decoder = TransformerDecoder(12, 3, 2, 16)
    nn.init.normal_(decoder.norm.weight)
    queries, memory, positions = torch.randn(5, 12), torch.randn(2, 9, 12), torch.randn(9, 12)
    first = decoder.layers[0](torch.zeros(2, 5, 12), queries, memory + positions, memory)
    second = decoder.layers[1](first, queries, memory + positions, memory)
    outputs = decoder(queries, memory, positions)
    torch.testing.assert_close(outputs, [decoder.norm(first), decoder.norm(second)])


def test_mask_logits_are_products_of_embeddings_and_pixels(features):
    proposals = MaskProposals(SMALL, CHANNELS).eval()
    with torch.inference_mode():
        result = proposals(features)
        mask_features, _ = proposals.pixel_decoder(features)
        memory = proposals.input_proj(features[3]).flatten(2).transpose(1, 2)
        positions = sine_positions(2, 3, 12).flatten(1).T
        queries = proposals.transformer(proposals.query_embed.weight, memory, positions)[-1]
        embeddings = proposals.mask_embed(queries)
    assert result.mask_logits.shape == (2, 7, 16, 23)
    assert result.class_embeddings is None
    for query in (0, 6):
        for row, column in ((0, 0), (15, 22), (3, 8)):
            expected = embeddings[1, query] @ mask_features[1, :, row, column]
            torch.testing.assert_close(result.mask_logits[1, query, row, column], expected)


def test_where_res5_is_wide_enough_it_may_go_as_it_is(features):
    proposals = MaskProposals(replace(SMALL, input_proj=False), (*CHANNELS[:3], 12)).eval()
    features[3] = torch.randn(2, 12, 2, 3)
    assert not [name for name in proposals.state_dict() if name.startswith("input_proj")]
    with_one = MaskProposals(SMALL, (*CHANNELS[:3], 12)).eval()
    with_one.load_state_dict(proposals.state_dict(), strict=False)
    nn.init.dirac_(with_one.input_proj.weight)
    nn.init.zeros_(with_one.input_proj.bias)
    torch.testing.assert_close(proposals(features).mask_logits, with_one(features).mask_logits)
    with pytest.raises(ValueError, match="10 channels of res5 need a projection to 12"):
        MaskProposals(replace(SMALL, input_proj=False), CHANNELS)


def test_each_layer_ends_with_the_proposals_of_inference(features):
    proposals = MaskProposals(SMALL, CHANNELS)
    layers = proposals.each_layer(features)
    assert len(layers) == 2
    assert all(layer.class_embeddings.shape == (2, 7, 11) for layer in layers)
    torch.testing.assert_close(layers[-1].mask_logits, proposals(features).mask_logits)
    assert not torch.allclose(layers[0].mask_logits, layers[1].mask_logits)


def test_every_parameter_learns(features):
    proposals = MaskProposals(SMALL, CHANNELS)
    loss = sum(
        layer.mask_logits.square().mean() + layer.class_embeddings.square().mean()
        for layer in proposals.each_layer(features)
    )
    loss.backward()
    unmoved = [
        name for name, p in proposals.named_parameters() if p.grad is None or not p.grad.any()
    ]
    # Targets start at zero: at first all values of the first self-attention are equal.
    first = "transformer.layers.0."
    assert set(unmoved) == {
        first + "self_attn.in_proj_weight",
        first + "self_attn.out_proj.weight",
        first + "norm1.weight",
    }


def test_mlp_has_relu_between_its_layers_only():
    mlp = MLP(3, 4, 2)
    x = torch.randn(5, 3)
    first, second = mlp.layers
    torch.testing.assert_close(mlp(x), second(first(x).clamp_min(0)))
    assert mlp(x).min() < 0
