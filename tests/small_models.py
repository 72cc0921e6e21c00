"""Models of toy size, of each kind that there is."""

from dataclasses import replace
from pathlib import Path

import torch

from ovseg_cli.model.build import build
from ovseg_cli.model.config import (
    BackboneConfig,
    ClipVisualConfig,
    DeOPConfig,
    HeatmapConfig,
    InputConfig,
    ProposalConfig,
    PyramidVisualConfig,
    TextConfig,
)
from ovseg_cli.model.convert import source_name
from ovseg_cli.model.san import INPUT, TEXT, SANConfig
from ovseg_cli.model.san_checkpoint import san_source_name
from ovseg_cli.model.side_adapter import SideAdapterConfig

CLIP = DeOPConfig(
    joint_width=16,
    input=InputConfig(min_size=64, max_size=160),
    backbone=BackboneConfig(
        stem_channels=(4, 4, 8),
        depths=(1, 1, 1, 1),
        inner_channels=(4, 4, 4, 4),
        out_channels=(8, 8, 8, 8),
        res5_multi_grid=(1,),
    ),
    proposal=ProposalConfig(
        pixel_channels=32,
        mask_channels=8,
        queries=5,
        hidden=8,
        heads=2,
        layers=1,
        feedforward=16,
        class_hidden=8,
        class_channels=8,
    ),
    visual=ClipVisualConfig(
        width=16,
        layers=2,
        heads=2,
        mlp_width=32,
        grid=3,
        run_grid=4,
        position_layers=(1,),
        severed_layers=(1,),
    ),
    text=TextConfig(width=8, heads=2, layers=1, prompt_prefix=2, prompt_suffix=0),
    heatmap=HeatmapConfig(heads=4, layers=1, feedforward=16),
)
PYRAMID = replace(
    CLIP,
    proposals="grid",
    visual=PyramidVisualConfig(channels=8, norm_groups=4, context_width=8, context_heads=2),
    text=replace(CLIP.text, prompt_prefix=0),
)
PLAIN = replace(
    CLIP,
    proposals="grid",
    input=InputConfig(
        min_size=64,
        max_size=160,
        size_divisibility=16,
        pixel_mean=(122.7709383, 116.7460125, 104.09373615),
        pixel_std=(68.5005327, 66.6321579, 70.32316305),
    ),
    backbone=None,
    proposal=None,
    heatmap=None,
    visual=replace(CLIP.visual, run_grid=None, position_layers=(), severance="gps"),
    text=replace(CLIP.text, prompt_prefix=0, templates=("a photo of a {}.",)),
)
SMALL_SAN = SANConfig(
    joint_width=16,
    input=replace(INPUT, min_size=64, max_size=160),
    visual=ClipVisualConfig(
        width=16,
        layers=5,
        heads=2,
        mlp_width=32,
        grid=3,
        run_grid=None,
        position_layers=(),
        severed_layers=(4,),
        severance="gps",
    ),
    text=replace(TEXT, width=8, heads=2, layers=1),
    shallow_layers=3,
    side_adapter=SideAdapterConfig(
        width=16,
        layers=3,
        heads=2,
        mlp_width=24,
        grid=4,
        queries=6,
        fused_layers=(0, 1, 2, 3),
        decoder_width=12,
        mask_channels=10,
    ),
)


def openai_style_state() -> dict[str, torch.Tensor]:
    """A small CLIP under the names that OpenAI and open_clip use."""
    torch.manual_seed(5)
    state = build(PLAIN).state_dict()
    theirs = {
        source_name(name).removeprefix("clip_adapter.clip_model."): value
        for name, value in state.items()
        if name != "text.non_object_embedding"
    }
    return theirs | {"logit_scale": torch.tensor(4.6), "context_length": torch.tensor(77)}


def san_authors_state(config: SANConfig = SMALL_SAN) -> dict[str, torch.Tensor]:
    """A SAN as its authors would store it."""
    torch.manual_seed(7)
    model = build(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        model.logit_scale.fill_(2.0)
        model.text.non_object_embedding.neg_()  # or it would beat every name
    state = {san_source_name(name, config): t for name, t in model.state_dict().items()}
    return state | {
        "criterion.empty_weight": torch.ones(172),
        "ov_classifier.attn_mask": torch.full((77, 77), -torch.inf).triu(1),
    }


def save_small_sam(folder: Path) -> None:
    """A Segment-Anything model of a few thousand random weights, as transformers keeps it."""
    import transformers as library

    side = {"image_size": 64, "patch_size": 16, "hidden_size": 16}
    vision = library.SamVisionConfig(
        **side, num_hidden_layers=1, num_attention_heads=2, output_channels=16, mlp_dim=16,
        window_size=2, global_attn_indexes=[0], num_pos_feats=8,
    )  # fmt: skip
    prompts = library.SamPromptEncoderConfig(**side)
    decoder = library.SamMaskDecoderConfig(
        hidden_size=16, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2,
        iou_head_hidden_dim=16,
    )  # fmt: skip
    torch.manual_seed(0)
    model = library.SamModel(
        library.SamConfig(
            vision_config=vision.to_dict(),
            prompt_encoder_config=prompts.to_dict(),
            mask_decoder_config=decoder.to_dict(),
        )
    )
    model.save_pretrained(folder)
    resizing = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    library.SamProcessor(library.SamImageProcessor(**resizing)).save_pretrained(folder)
