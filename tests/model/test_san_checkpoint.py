"""The SAN authors' checkpoints: the published names and sizes, and files not quite right."""

import json
from dataclasses import replace

import pytest
import torch
from small_models import SMALL_SAN, san_authors_state

from ovseg_cli.errors import CheckpointError, UsageError
from ovseg_cli.model.build import build, skeleton
from ovseg_cli.model.config import ClipVisualConfig
from ovseg_cli.model.foreign import convert_any
from ovseg_cli.model.san import SAN, SANConfig
from ovseg_cli.model.san_checkpoint import convert_san, san_source_name
from ovseg_cli.model.side_adapter import SideAdapterConfig

OPTIONS = {
    "visual_heads": 2,
    "text_heads": 2,
    "side_heads": 2,
    "clip_scale": 0.5,
    "min_size": 64,
    "max_size": 160,
}
LARGE = SANConfig(
    joint_width=768,
    visual=ClipVisualConfig(
        patch_size=14,
        width=1024,
        layers=24,
        heads=16,
        mlp_width=4096,
        grid=24,
        run_grid=None,
        position_layers=(),
        severed_layers=(23,),
        severance="gps",
    ),
    text=replace(SANConfig().text, width=768, heads=12),
    shallow_layers=18,
    clip_scale=0.7,
    side_adapter=SideAdapterConfig(fused_layers=(0, 6, 12, 18)),
)


@pytest.fixture
def checkpoint():
    """A small model under the authors' names."""
    return san_authors_state()


@pytest.mark.parametrize(
    ("size", "config", "count"),
    [("b_16", SANConfig(), 442), ("l_14_336", LARGE, 586)],
)
def test_published_tensors_are_exactly_those_of_the_published_sizes(
    shared_dir, size, config, count
):
    path = shared_dir / "parity" / f"san_checkpoint_keys_vit_{size}.json"
    listed = json.loads(path.read_text())
    published = {name: torch.empty(shape, device="meta") for name, (shape, _) in listed.items()}
    found, state = convert_any(published, {})
    assert found == config
    expected = {name: t.shape for name, t in skeleton(config).state_dict().items()}
    assert {name: tensor.shape for name, tensor in state.items()} == expected
    # All but what inference does not read is carried over, each tensor once.
    idle = {"criterion.empty_weight", "ov_classifier.attn_mask"}
    assert {san_source_name(name, config) for name in state} == set(published) - idle
    assert len(state) == count - len(idle)


def test_sizes_follow_from_tensors_and_options(checkpoint):
    config, state = convert_san(checkpoint, OPTIONS)
    assert config == SMALL_SAN
    model = build(config)
    assert isinstance(model, SAN)
    model.load_state_dict(state)  # strict
    pairs = {
        "visual.blocks.1.ln_2.bias": "clip_visual_extractor.resblocks.1.ln_2.bias",
        "visual.blocks.3.attn.in_proj_bias": "clip_rec_head.resblocks.0.attn.in_proj_bias",
        "visual.ln_post.weight": "clip_rec_head.ln_post.weight",
        "text.non_object_embedding": "ov_classifier.bg_embed",
        "side_adapter.query": "side_adapter_network.query_embed",
        "side_adapter.query_position": "side_adapter_network.query_pos_embed",
        "side_adapter.blocks.1.attn.in_proj_weight": (
            "side_adapter_network.vit_model.blocks.1.attn.qkv.weight"
        ),
    }
    for ours, theirs in pairs.items():
        assert torch.equal(state[ours], checkpoint[theirs]), ours


@pytest.mark.parametrize(
    "name",
    [
        "clip_visual_extractor.conv1.weight",
        "clip_rec_head.proj",
        "clip_rec_head.resblocks.1.mlp.c_fc.bias",
        "ov_classifier.bg_embed",
        "ov_classifier.logit_scale",
        "ov_classifier.token_embedding.weight",
        "side_adapter_network.query_pos_embed",
        "side_adapter_network.vit_model.blocks.0.attn.qkv.weight",
        "side_adapter_network.fusion_layers.layer_3.input_proj.1.weight",
        "side_adapter_network.mask_decoder.bias_scaling.bias",
        "side_adapter_network.mask_decoder.attn_mlp.layers.2.weight",
    ],
)
def test_missing_and_misshapen_tensors_are_named(checkpoint, name):
    good = checkpoint.pop(name)
    with pytest.raises(CheckpointError, match="missing") as caught:
        convert_san(checkpoint, OPTIONS)
    assert name in str(caught.value)
    bad = good.new_zeros([good.shape[0] + 1, *good.shape[1:]] if good.shape else [2])
    with pytest.raises(CheckpointError) as caught:
        convert_san({**checkpoint, name: bad}, OPTIONS)
    assert f"{name} is {list(bad.shape)}, not {list(good.shape)}" in str(caught.value)


def test_surplus_tensor_is_named(checkpoint):
    checkpoint["clip_rec_head.resblocks.0.ln_3.bias"] = torch.zeros(16)
    with pytest.raises(CheckpointError, match=r"SAN.*surplus: clip_rec_head\..*ln_3\.bias$"):
        convert_san(checkpoint, OPTIONS)


def test_how_small_clip_sees_an_image_may_have_to_be_said(checkpoint):
    checkpoint["clip_visual_extractor.conv1.weight"] = torch.zeros(16, 3, 8, 8)
    options = {key: value for key, value in OPTIONS.items() if key != "clip_scale"}
    with pytest.raises(UsageError, match="patches of 8 pixels: say clip_scale"):
        convert_san(checkpoint, options)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("clip_scale", 0, "clip_scale in the model's configuration is 0"),
        ("clip_scale", True, "clip_scale in the model's configuration is True"),
        ("severance", "gps", "unknown .*: severance"),
        ("side_heads", 3, "16 cannot be split among 3 heads"),
    ],
)
def test_an_option_that_does_not_fit_is_named(checkpoint, key, value, message):
    with pytest.raises(UsageError, match=message):
        convert_san(checkpoint, {**OPTIONS, key: value})


def test_the_last_layer_is_the_severed_one(checkpoint):
    config, _ = convert_san(checkpoint, OPTIONS)
    blocks = build(config).visual.blocks
    assert [block.severance for block in blocks] == [None, None, None, None, "gps"]
