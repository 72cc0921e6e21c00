"""The authors' checkpoints: the published names and sizes, and files that are not quite right."""

import json
from dataclasses import replace

import pytest
import torch

from ovseg_cli.errors import CheckpointError, UsageError
from ovseg_cli.model.build import build, skeleton
from ovseg_cli.model.config import (
    LARGEST,
    BackboneConfig,
    ClipVisualConfig,
    DeOPConfig,
    HeatmapConfig,
    InputConfig,
    ProposalConfig,
    TextConfig,
)
from ovseg_cli.model.convert import convert, source_name

SMALL = DeOPConfig(
    joint_width=16,
    input=InputConfig(min_size=None, max_size=640),
    backbone=BackboneConfig(
        stem_channels=(4, 6, 8),
        depths=(1, 2, 1, 2),
        inner_channels=(4, 5, 6, 7),
        out_channels=(8, 12, 16, 20),
        res5_multi_grid=(1, 2),
    ),
    proposal=ProposalConfig(
        pixel_channels=32,
        mask_channels=12,
        queries=9,
        hidden=24,
        heads=2,
        layers=3,
        feedforward=20,
        class_hidden=10,
        class_channels=14,
    ),
    visual=ClipVisualConfig(
        patch_size=8,
        width=24,
        layers=3,
        heads=3,
        mlp_width=40,
        grid=5,
        run_grid=6,
        position_layers=(0, 2),
        severed_layers=(1, 2),
        severance="mps",
    ),
    text=TextConfig(
        width=8, heads=2, layers=2, context=30, prompt_prefix=3, prompt_suffix=2
    ),
    heatmap=HeatmapConfig(heads=4, layers=2, feedforward=18),
)  # fmt: skip
OPTIONS = {
    "visual_heads": 3,
    "text_heads": 2,
    "proposal_heads": 2,
    "cal_heads": 4,
    "severance": "mps",
    "severed_layers": [1, 2],
    "res5_multi_grid": [1, 2],
    "min_size": None,
    "max_size": 640,
}
CLIP = "clip_adapter.clip_model"
PIXELS = "sem_seg_head.pixel_decoder"


def as_published(config: DeOPConfig) -> dict[str, torch.Tensor]:
    """A model as the authors would store it, numbered so that tensors can be told apart."""
    shapes = {source_name(name): t.shape for name, t in skeleton(config).state_dict().items()}
    shapes |= {
        f"{CLIP}.logit_scale": torch.Size([]),
        "clip_adapter.prompt_learner.pad_signal": torch.Size([1, 8]),
        "decoder.norm.weight": torch.Size([16]),
        "decoder.norm.bias": torch.Size([16]),
        "criterion.empty_weight": torch.Size([157]),
    }
    return {
        name: torch.full(shape, float(number))
        for number, (name, shape) in enumerate(shapes.items())
    }


@pytest.fixture
def checkpoint() -> dict[str, torch.Tensor]:
    """The small model's."""
    return as_published(SMALL)


@pytest.fixture
def published(shared_dir) -> dict[str, torch.Tensor]:
    """The published checkpoint without its numbers."""
    listed = json.loads((shared_dir / "parity" / "real_checkpoint_keys.json").read_text())
    return {name: torch.empty(shape, device="meta") for name, (shape, _) in listed.items()}


def test_published_tensors_are_exactly_those_of_the_published_sizes(published):
    config, state = convert(published, {})
    assert config == DeOPConfig()
    expected = {name: t.shape for name, t in skeleton(DeOPConfig()).state_dict().items()}
    assert {name: tensor.shape for name, tensor in state.items()} == expected
    # All but what inference does not read is carried over, each tensor once.
    idle = {
        "criterion.empty_weight",
        "decoder.norm.weight",
        "decoder.norm.bias",
        f"{CLIP}.logit_scale",
        "clip_adapter.prompt_learner.pad_signal",
    }
    assert {source_name(name) for name in state} == set(published) - idle
    assert len(state) == len(published) - len(idle) == 1015


def test_sizes_follow_from_tensors_and_options(checkpoint):
    config, state = convert(checkpoint, OPTIONS)
    assert config == SMALL
    model = build(config)
    model.load_state_dict(state)  # strict
    name = "heatmap_decoder.layers.1.multihead_attn.out_proj.weight"
    source = "decoder.layers.1.multihead_attn_my.out_proj.weight"
    assert torch.equal(model.state_dict()[name], checkpoint[source])


def test_every_tensor_arrives_where_its_name_says(checkpoint):
    _, state = convert(checkpoint, OPTIONS)
    pairs = {
        "backbone.res3.1.conv2.norm.running_var": "backbone.res3.1.conv2.norm.running_var",
        "proposals.pixel_decoder.adapters.0.weight": f"{PIXELS}.adapter_1.weight",
        "proposals.pixel_decoder.layers.3.norm.bias": f"{PIXELS}.layer_4.norm.bias",
        "proposals.transformer.layers.2.norm3.weight": (
            "sem_seg_head.predictor.transformer.decoder.layers.2.norm3.weight"
        ),
        "proposals.query_embed.weight": "sem_seg_head.predictor.query_embed.weight",
        "visual.learned_position": f"{CLIP}.visual.learned_position",
        "visual.layer_positions.2": f"{CLIP}.visual.transformer.resblocks.2.learned_position",
        "visual.blocks.1.attn.in_proj_weight": (
            f"{CLIP}.visual.transformer.resblocks.1.attn.in_proj_weight"
        ),
        "text.tower.blocks.0.ln_1.bias": f"{CLIP}.transformer.resblocks.0.ln_1.bias",
        "text.prompt.suffix": "clip_adapter.prompt_learner.suffix_prompt",
        "text.prompt.dot": "clip_adapter.prompt_learner.dot_signal",
        "text.non_object_embedding": "clip_adapter.non_object_embedding",
        "heatmap_decoder.query_embedding.weight": "query_embedding.weight",
        "heatmap_decoder.out_layer.in_proj_bias": "decoder.outlayer.multihead_attn_my.in_proj_bias",
        "heatmap_decoder.out_layer.norm1.weight": "decoder.outlayer.norm1.weight",
    }
    for ours, theirs in pairs.items():
        assert state[ours] is checkpoint[theirs], ours


def test_model_without_learned_prompt_takes_templates(checkpoint):
    plain = {name: t for name, t in checkpoint.items() if "prompt_learner" not in name}
    config, state = convert(plain, OPTIONS)
    assert (config.text.prompt_prefix, config.text.prompt_suffix) == (0, 0)
    assert not [name for name in state if "prompt" in name]


def test_model_without_learned_positions(checkpoint):
    plain = {name: t for name, t in checkpoint.items() if "learned_position" not in name}
    config, _ = convert(plain, OPTIONS)
    assert config.visual.run_grid is None
    assert config.visual.position_layers == ()


def test_basic_blocks_are_recognised():
    basic = replace(SMALL, backbone=replace(SMALL.backbone, block="basic"))
    config, _ = convert(as_published(basic), OPTIONS)
    assert config == basic


@pytest.mark.parametrize(
    "name",
    [
        "query_embedding.weight",
        "backbone.res2.0.conv1.weight",
        "backbone.stem.conv3.norm.running_mean",
        f"{CLIP}.visual.proj",
        f"{CLIP}.visual.conv1.weight",
        f"{CLIP}.token_embedding.weight",
        "clip_adapter.non_object_embedding",
        "sem_seg_head.predictor.mask_embed.layers.0.bias",
        "decoder.layers.0.linear1.weight",
    ],
)
def test_missing_and_misshapen_tensors_are_named(checkpoint, name):
    good = checkpoint.pop(name)
    with pytest.raises(CheckpointError) as caught:
        convert(checkpoint, OPTIONS)
    assert name in str(caught.value)
    assert "missing" in str(caught.value)
    bad = good.new_zeros([good.shape[0] + 1, *good.shape[1:]] if good.shape else [2])
    with pytest.raises(CheckpointError) as caught:
        convert({**checkpoint, name: bad}, OPTIONS)
    assert f"misshapen: {name} is {list(bad.shape)}, not {list(good.shape)}" in str(caught.value)


def test_surplus_tensor_is_named(checkpoint):
    checkpoint["decoder.layers.0.norm4.weight"] = torch.zeros(16)
    with pytest.raises(CheckpointError, match=r"surplus: decoder\.layers\.0\.norm4\.weight$"):
        convert(checkpoint, OPTIONS)


def test_many_faults_are_counted(checkpoint):
    faulty = {k: v for k, v in checkpoint.items() if not k.startswith("backbone.res3.1")}
    faulty |= {f"optimizer.{i}": torch.zeros(1) for i in range(7)}
    with pytest.raises(CheckpointError) as caught:
        convert(faulty, OPTIONS)
    assert "optimizer.4 and 2 more" in str(caught.value)


def test_harmless_entries_of_released_files_are_passed_over(checkpoint):
    _, expected = convert(checkpoint, OPTIONS)
    extra = {
        "pixel_mean": torch.zeros(3, 1, 1),
        "pixel_std": torch.ones(3, 1, 1),
        "backbone.stem.conv1.norm.num_batches_tracked": torch.tensor(7),
        f"{CLIP}.attn_mask": torch.zeros(30, 30),
        "criterion.empty_weight": torch.ones(3),
    }
    _, state = convert(checkpoint | extra, OPTIONS)
    assert state.keys() == expected.keys()


def test_other_file_is_refused_with_a_reason():
    with pytest.raises(CheckpointError, match="not a DeOP checkpoint: .* missing"):
        convert({"layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}, {})


def test_entry_that_is_no_tensor_is_named(checkpoint):
    with pytest.raises(CheckpointError, match="iteration"):
        convert({**checkpoint, "iteration": 60000}, OPTIONS)


def test_unknown_options_are_named(checkpoint):
    with pytest.raises(UsageError, match="unknown .*: colour, visual_head;"):
        convert(checkpoint, {**OPTIONS, "visual_head": 3, "colour": "red"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("visual_heads", 0),
        ("text_heads", "2"),
        ("cal_heads", True),
        ("severance", "none"),
        ("severance", ["gps"]),
        ("severed_layers", 2),
        ("severed_layers", [-1]),
        ("res5_multi_grid", [1, 2.5]),
        ("max_size", None),
        ("min_size", -5),
        ("pixel_mean", [1.0, 2.0]),
        ("pixel_std", [1.0, 2.0, 0]),
        ("pixel_std", [1.0, 2.0, 1e-300]),
        ("size_divisibility", -2),
        ("size_divisibility", False),
    ],
)
def test_option_of_the_wrong_kind_is_named(checkpoint, key, value):
    with pytest.raises(UsageError, match=f"{key} in the model's configuration is"):
        convert(checkpoint, {**OPTIONS, key: value})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("visual_heads", 5, "24 cannot be split among 5 heads"),
        ("severed_layers", [3], r"severed_layers \(3,\)"),
        ("res5_multi_grid", [1, 2, 4], "res5 has 2 blocks"),
    ],
)
def test_option_that_does_not_fit_the_tensors_is_explained(checkpoint, key, value, message):
    with pytest.raises(UsageError, match=message):
        convert(checkpoint, {**OPTIONS, key: value})


def test_options_reach_the_configuration(checkpoint):
    options = {
        **OPTIONS,
        "size_divisibility": 64,
        "pixel_mean": [1, 2, 3],
        "pixel_std": [4.0, 5.0, 6.0],
    }
    config, _ = convert(checkpoint, options)
    assert config.input == InputConfig(None, 640, 64, (1, 2, 3), (4.0, 5.0, 6.0))
    del options["severance"], options["severed_layers"], options["min_size"]
    config, _ = convert(checkpoint, options)
    assert config.visual.severance == "gps_mask"
    assert config.visual.severed_layers == (2,)  # the last
    assert config.input.min_size == 512


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("min_size", 10**8),
        ("size_divisibility", 10**8),
        ("pixel_mean", [1.0, float("inf"), 1.0]),
        ("pixel_mean", [1.0, 1.0, float("nan")]),
        ("pixel_std", [1.0, 10**400, 1.0]),
        ("res5_multi_grid", [1, 10**8]),
    ],
)
def test_an_option_that_no_model_file_may_have_is_named(checkpoint, key, value):
    with pytest.raises(UsageError, match=f"no model can have .*: {key} of the"):
        convert(checkpoint, {**OPTIONS, "max_size": 10**8, key: value})


def test_a_heatmap_decoder_of_its_output_layer_alone():
    small = replace(SMALL, heatmap=replace(SMALL.heatmap, layers=0))
    tensors = as_published(small)
    assert not any(name.startswith("decoder.layers.") for name in tensors)
    config, state = convert(tensors, OPTIONS)
    assert config.heatmap.layers == 0
    build(config).load_state_dict(state)


def test_what_only_distillation_has_is_no_part(checkpoint):
    config, _ = convert(checkpoint | {"kd_proj.weight": torch.ones(3, 4)}, OPTIONS)
    assert config == convert(checkpoint, OPTIONS)[0]


def test_a_shorter_side_above_the_longer_one_is_refused(checkpoint):
    with pytest.raises(UsageError, match="min_size 500 .* above max_size 100"):
        convert(checkpoint, {**OPTIONS, "min_size": 500, "max_size": 100})
    config, _ = convert(checkpoint, {**OPTIONS, "min_size": 100, "max_size": 100})
    assert (config.input.min_size, config.input.max_size) == (100, 100)


def test_options_as_detectron2_says_them(checkpoint):
    for given, meant in ((0, 1), (-1, 1), (7, 7)):
        config, _ = convert(checkpoint, {**OPTIONS, "size_divisibility": given})
        assert config.input.size_divisibility == meant
    config, _ = convert(checkpoint, {**OPTIONS, "max_size": 10**8, "pixel_mean": [-1.0, 0, 1]})
    assert config.input.max_size == LARGEST  # no limit
    assert config.input.pixel_mean == (-1.0, 0, 1)


@pytest.mark.parametrize("key", ["visual_heads", "text_heads"])
def test_heads_of_a_narrow_tower_have_to_be_said(checkpoint, key):
    options = {name: value for name, value in OPTIONS.items() if name != key}
    with pytest.raises(UsageError, match=f"width .* say {key} in"):
        convert(checkpoint, options)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_numbers_of_any_precision_become_float32(checkpoint, kind):
    _, state = convert({name: value.to(kind) for name, value in checkpoint.items()}, OPTIONS)
    assert {value.dtype for value in state.values()} == {torch.float32}


@pytest.mark.parametrize("kind", [torch.int32, torch.bool, torch.complex64])
def test_numbers_that_are_no_weights_are_named(checkpoint, kind):
    checkpoint["query_embedding.weight"] = checkpoint["query_embedding.weight"].to(kind)
    with pytest.raises(CheckpointError, match=rf"floating.*: query_embedding\.weight \({kind}\)$"):
        convert(checkpoint, OPTIONS)


@pytest.mark.parametrize(
    "name",
    [
        "decoder.norm.weight",
        f"{CLIP}.logit_scale",
        "clip_adapter.prompt_learner.pad_signal",
        "criterion.empty_weight",
    ],
)
def test_what_has_no_influence_may_be_absent_or_of_another_shape(checkpoint, name):
    _, expected = convert(checkpoint, OPTIONS)
    del checkpoint[name]
    for given in (checkpoint, {**checkpoint, name: torch.zeros(3, 3)}):
        _, state = convert(given, OPTIONS)
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"weight": (157, 24), "bias": (157,)},
        {
            **{"layers.0.weight": (10, 24), "layers.0.bias": (10,)},
            **{"layers.1.weight": (10, 10), "layers.1.bias": (10,)},
            **{"layers.2.weight": (14, 10), "layers.2.bias": (14,)},
        },
        {"layers.0.weight": (10, 24), "layers.1.weight": (14, 10), "layers.1.bias": (14,)},
        {
            **{"layers.0.weight": (10, 25), "layers.0.bias": (10,)},
            **{"layers.1.weight": (14, 10), "layers.1.bias": (14,)},
        },
    ],
)
def test_an_unknown_class_head_gives_way_to_a_new_one(checkpoint, head):
    place = "sem_seg_head.predictor.class_embed"
    given = {name: value for name, value in checkpoint.items() if not name.startswith(place)}
    given |= {f"{place}.{name}": torch.zeros(shape) for name, shape in head.items()}
    before = torch.get_rng_state()
    (config, state), (_, again) = convert(given, OPTIONS), convert(given, OPTIONS)
    assert torch.equal(torch.get_rng_state(), before)
    build(config).load_state_dict(state)  # strict
    new = [name for name in state if name.startswith("proposals.class_embed.")]
    assert len(new) == 4 and all(torch.equal(state[name], again[name]) for name in new)
    assert all(state[name].any() for name in new)  # it can learn
    kept = {source_name(name) for name in state} - {source_name(name) for name in new}
    assert kept <= set(given)


def test_signals_that_are_not_stored_are_rows_of_the_token_table(checkpoint):
    table = torch.arange(49408.0)[:, None].expand(-1, 8).contiguous()
    given = {name: value for name, value in checkpoint.items() if not name.endswith("_signal")}
    given[f"{CLIP}.token_embedding.weight"] = table
    _, state = convert(given, OPTIONS)
    rows = {name: int(state[f"text.prompt.{name}"][0, 0]) for name in ("start", "dot", "end")}
    assert rows == {"start": 49406, "dot": 269, "end": 49407}  # OpenAI's table
    bad = torch.zeros(2, 8)
    with pytest.raises(CheckpointError, match=r"misshapen: .*end_signal is \[2, 8\]"):
        convert({**given, "clip_adapter.prompt_learner.end_signal": bad}, OPTIONS)


def test_proposals_without_a_projection_of_res5(checkpoint):
    wide = replace(SMALL.backbone, out_channels=(8, 12, 16, 24))
    config = replace(SMALL, backbone=wide, proposal=replace(SMALL.proposal, input_proj=False))
    found, state = convert(as_published(config), OPTIONS)
    assert found == config
    build(config).load_state_dict(state)  # strict
    enforced = replace(config, proposal=SMALL.proposal)  # MaskFormer's ENFORCE_INPUT_PROJ
    assert convert(as_published(enforced), OPTIONS)[0] == enforced
    needed = {name: t for name, t in checkpoint.items() if "input_proj" not in name}
    with pytest.raises(CheckpointError, match=r"missing: .*input_proj\.bias, .*input_proj\.weight"):
        convert(needed, OPTIONS)
