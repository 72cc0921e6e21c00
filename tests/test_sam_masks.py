"""A Segment-Anything model of a few thousand random weights, through the library's own pipeline."""

import functools
import sys
from pathlib import Path

import numpy as np
import pytest

from ovseg_cli.errors import CheckpointError, InputError, UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.sam_masks import SamMasks

FEATURES = np.ones((1, 1, 1), np.float32)
PHOTO = Frame(np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8), source="a.jpg")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch, library = pytest.importorskip("torch"), pytest.importorskip("transformers")
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
    folder = tmp_path_factory.mktemp("sam")
    model.save_pretrained(folder)
    resizing = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    library.SamProcessor(library.SamImageProcessor(**resizing)).save_pretrained(folder)
    return folder


def test_masks_are_those_of_the_pipeline(checkpoint):
    source = SamMasks(checkpoint, "cpu")
    anything = {"pred_iou_thresh": -9.0, "stability_score_thresh": -1.0}
    source._generate = functools.partial(source._generate, **anything)
    masks = source(PHOTO, FEATURES, (40, 60))
    assert masks.dtype == bool
    assert masks.shape[1:] == (40, 60)
    assert len(masks) > 0


def test_a_photo_in_which_nothing_is_found(checkpoint):
    source = SamMasks(checkpoint, "cpu")
    source._generate = lambda photo, points_per_batch: {"masks": []}
    with pytest.raises(InputError, match=r"a\.jpg: .* no mask"):
        source(PHOTO, FEATURES, (40, 60))


def test_folders_that_hold_no_such_model(tmp_path):
    with pytest.raises(UsageError, match="nothing is downloaded"):
        SamMasks(tmp_path, "cpu")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        SamMasks(tmp_path, "cpu")


def test_without_the_library_the_error_names_the_extra(checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"pip install 'ovseg-cli\[sam\]'"):
        SamMasks(checkpoint, "cpu")


def test_a_folder_whose_name_is_too_long():
    with pytest.raises(UsageError, match="no folder with a model of transformers"):
        SamMasks(Path("x" * 300), "cpu")
