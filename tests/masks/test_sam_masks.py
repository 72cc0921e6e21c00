"""A Segment-Anything model of a few thousand random weights, through the library's own pipeline."""

import functools
import io
import json
import pickle
import shutil
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_models import save_small_sam

from ovseg_cli.errors import CheckpointError, InputError, UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.masks.sam_masks import TYPES, SamMasks

FEATURES = np.ones((1, 1, 1), np.float32)
PHOTO = Frame(np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8), source="a.jpg")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("sam")
    save_small_sam(folder)
    return folder


def save_high_quality(library, folder):
    side = {"image_size": 64, "patch_size": 16, "hidden_size": 16}
    vision = library.SamHQVisionConfig(
        **side, num_hidden_layers=1, num_attention_heads=2, output_channels=16, mlp_dim=16,
        window_size=2, global_attn_indexes=[0], num_pos_feats=8,
    )  # fmt: skip
    decoder = library.SamHQMaskDecoderConfig(
        hidden_size=16, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2,
        iou_head_hidden_dim=16, vit_dim=16,
    )  # fmt: skip
    config = library.SamHQConfig(
        vision_config=vision.to_dict(),
        prompt_encoder_config=library.SamHQPromptEncoderConfig(**side).to_dict(),
        mask_decoder_config=decoder.to_dict(),
    )
    library.SamHQModel(config).save_pretrained(folder)
    resizing = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    library.SamImageProcessor(**resizing).save_pretrained(folder)


def save_second(library, folder, video):
    """SAM 2, as a model of its own or within one of videos, as it is published."""
    backbone = library.Sam2HieraDetConfig(
        hidden_size=8, num_attention_heads=1, image_size=[128, 128], blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64], num_attention_heads_per_stage=[1, 1, 1, 1],
        global_attention_blocks=[3], window_size_per_stage=[8, 8, 8, 8],
        window_positional_embedding_background_size=[4, 4],
    )  # fmt: skip
    parts = {
        "vision_config": library.Sam2VisionConfig(
            backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8],
            backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]], fpn_hidden_size=32,
        ),
        "prompt_encoder_config": library.Sam2PromptEncoderConfig(
            hidden_size=32, image_size=128, patch_size=16
        ),
        "mask_decoder_config": library.Sam2MaskDecoderConfig(
            hidden_size=32, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2,
            iou_head_hidden_dim=16,
        ),
    }  # fmt: skip
    if video:
        memory = dict.fromkeys(
            (
                *("memory_attention_hidden_size", "memory_encoder_hidden_size"),
                *("mask_downsampler_embed_dim", "memory_fuser_embed_dim"),
                *("memory_attention_feed_forward_hidden_size", "memory_fuser_intermediate_dim"),
            ),
            32,
        )
        config = library.Sam2VideoConfig(
            **parts, **memory, image_size=128, memory_attention_rope_feat_sizes=[8, 8],
            memory_encoder_output_channels=16, memory_attention_num_layers=1,
        )  # fmt: skip
        library.Sam2VideoModel(config).save_pretrained(folder)
    else:
        library.Sam2Model(library.Sam2Config(**parts)).save_pretrained(folder)
    processor = library.Sam2ImageProcessor(size={"height": 128, "width": 128})
    processor.save_pretrained(folder)


@pytest.mark.parametrize("kind", TYPES)
def test_a_whole_model_of_every_type_is_read(checkpoint, tmp_path, kind):
    """What its tensors share, and what only videos need, is not missed."""
    library = pytest.importorskip("transformers")
    if kind.startswith("sam2") and not hasattr(library, "Sam2VideoModel"):
        pytest.skip("this release of transformers has no SAM 2")
    if kind == "sam_hq":
        save_high_quality(library, tmp_path)
    elif kind.startswith("sam2"):
        save_second(library, tmp_path, kind == "sam2_video")
    folder = checkpoint if kind == "sam" else tmp_path
    assert json.loads((folder / "config.json").read_text())["model_type"] == kind
    source = SamMasks(folder, "cpu")
    anything = {"pred_iou_thresh": -9.0, "stability_score_thresh": -1.0}
    source._generate = functools.partial(source._generate, **anything)
    assert len(source(PHOTO, FEATURES, (40, 60))) > 0


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
    with pytest.raises(CheckpointError, match="not that of a Segment-Anything model"):
        SamMasks(tmp_path, "cpu")


def test_without_the_library_the_error_names_the_extra(checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"pip install 'ovseg-cli\[sam\]'"):
        SamMasks(checkpoint, "cpu")


def test_a_folder_whose_name_is_too_long():
    with pytest.raises(UsageError, match="no folder with a model of transformers"):
        SamMasks(Path("x" * 300), "cpu")


@pytest.fixture
def copy(checkpoint, tmp_path):
    return Path(shutil.copytree(checkpoint, tmp_path / "sam"))


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def change_processor(folder, **values):
    """In the one file, or the other, of different releases of the library."""
    file = folder / "processor_config.json"
    within = json.loads(file.read_text()).get("image_processor", {}) if file.exists() else {}
    if within:
        return change(file, image_processor=within | values)
    change(folder / "preprocessor_config.json", **values)


CODE = {
    "model": ("config.json", {"auto_map": {"AutoModelForMaskGeneration": "evil.M"}}),
    "processor": ("processor_config.json", {"auto_map": {"AutoImageProcessor": "evil.IP"}}),
    "old processor": ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "evil.IP"}}),
    "within": ("config.json", {"vision_config": {"auto_map": {"AutoModel": "evil.M"}}}),
    "pipeline": ("config.json", {"custom_pipelines": {"mask-generation": {"impl": "evil.P"}}}),
    "kernel": ("config.json", {"attn_implementation": "somebody/evil"}),
    "quantizer": ("config.json", {"quantization_config": {"quant_method": "evil"}}),
}


@pytest.mark.parametrize("kind", CODE)
def test_a_folder_with_code_of_its_own_is_refused_at_once(copy, monkeypatch, kind):
    """Neither run nor asked about: the library would ask on the terminal, for 15 s."""
    ran = copy.parent / "ran"
    (copy / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass IP: pass\nclass M: pass\n")
    name, entry = CODE[kind]
    if not (copy / name).exists():
        (copy / name).write_text("{}")
    change(copy / name, **entry)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    began = time.monotonic()
    with pytest.raises(CheckpointError, match=f"{name} asks for code .* never run"):
        SamMasks(copy, "cpu")
    assert time.monotonic() - began < 5
    assert not ran.exists()
    assert sys.stdin.read(1) == "y"  # nobody has been asked


def test_the_network_is_not_asked(copy, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network is asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("processor_config.json", "preprocessor_config.json"):
        (copy / name).unlink(missing_ok=True)
    change(copy / "config.json", _name_or_path="somebody/sam")
    with pytest.raises(CheckpointError, match="cannot be loaded as a Segment-Anything model"):
        SamMasks(copy, "cpu")
    (copy / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/sam"}')
    with pytest.raises(CheckpointError, match="an adapter, not a whole model"):
        SamMasks(copy, "cpu")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "its model_type is None, none of sam"),
        ('{"model_type": "bert"}', "its model_type is 'bert', none of sam"),
        ('{"model_type": ["sam"]}', "none of sam"),
        ("[" * 100_000, "cannot be read: it is nested too deeply"),
    ],
)
def test_configurations_of_other_models(copy, content, message):
    (copy / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=f"config.json .*{message}"):
        SamMasks(copy, "cpu")


def change_weights(folder, changed):
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    changed(tensors)
    save_file(tensors, file, {"format": "pt"})


LAYER = "mask_decoder.transformer.layers.0.mlp.lin1.weight"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda t: t.pop(LAYER), rf"missing: {LAYER}\."),
        (lambda t: t.update(more=t[LAYER].clone()), r"surplus: more\."),
        (
            lambda t: t.update({LAYER: t[LAYER][:5, :5].clone()}),
            rf"misshapen: {LAYER} is \[5, 5\], not \[16, 16\]\.",
        ),
        (lambda t: t[LAYER].fill_(float("nan")), rf"not finite: {LAYER}\."),
        (
            lambda t: [t.update({f"encoder.{name}": t.pop(name)}) for name in list(t)],
            r"missing: .* and \d+ more; surplus: encoder\..* and \d+ more\.",
        ),
    ],
)
def test_tensors_that_are_not_the_model_s(copy, changed, message):
    """The library gives random numbers to what is missing, and says so in its log alone."""
    change_weights(copy, changed)
    with pytest.raises(CheckpointError, match=message):
        SamMasks(copy, "cpu")


def test_a_model_far_larger_than_its_files_is_not_made(copy):
    vision = json.loads((copy / "config.json").read_text())["vision_config"]
    change(copy / "config.json", vision_config=vision | {"hidden_size": 16384, "mlp_dim": 65536})
    with pytest.raises(CheckpointError, match="describes a model of .* files hold at most"):
        SamMasks(copy, "cpu")


def test_a_model_of_a_million_layers_is_not_made(copy):
    vision = json.loads((copy / "config.json").read_text())["vision_config"]
    change(copy / "config.json", vision_config=vision | {"num_hidden_layers": 10**6})
    with pytest.raises(CheckpointError, match="'num_hidden_layers' is 1000000, more than 200"):
        SamMasks(copy, "cpu")


def test_a_pipe_among_the_files_is_not_waited_for(copy):
    import os

    (copy / "model.safetensors").unlink()
    os.mkfifo(copy / "model.safetensors")
    with pytest.raises(CheckpointError, match="is not a regular file"):
        SamMasks(copy, "cpu")


class Evil:
    def __reduce__(self):
        return print, ("ran",)


def test_a_pickle_is_refused_without_the_advice_to_run_it(copy, capfd):
    import torch

    (copy / "model.safetensors").unlink()
    torch.save({"a": Evil()}, copy / "pytorch_model.bin", pickle_module=pickle)
    with pytest.raises(CheckpointError, match="asks for .*print.* not allowed") as raised:
        SamMasks(copy, "cpu")
    assert "weights_only" not in str(raised.value)
    assert "ran" not in capfd.readouterr().out


def test_processors_that_do_not_fit(copy):
    change_processor(copy, size={"longest_edge": 40_000})
    with pytest.raises(CheckpointError, match=r"processor_config\.json: .* 40000, more than 2048"):
        SamMasks(copy, "cpu")
    change_processor(copy, size={"longest_edge": 96}, pad_size={"height": 96, "width": 96})
    source = SamMasks(copy, "cpu")
    with pytest.raises(CheckpointError, match="do not fit each other .*96"):
        source(PHOTO, FEATURES, (40, 60))


def test_what_has_no_memory_says_so(checkpoint):
    source = SamMasks(checkpoint, "cpu")

    def fail(photo, points_per_batch):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    source._generate = fail
    with pytest.raises(RuntimeError, match="can't allocate"):
        source(PHOTO, FEATURES, (40, 60))


def test_half_precision_finds_masks_too(copy):
    import torch

    change_weights(copy, lambda t: t.update({name: x.half() for name, x in t.items()}))
    change(copy / "config.json", dtype="float16", torch_dtype="float16")
    source = SamMasks(copy, "cpu")
    assert source._generate.model.dtype == torch.float32


def test_segment_anything_s_own_file_gets_a_hint(tmp_path):
    (tmp_path / "sam_vit_b_01ec64.pth").write_bytes(b"weights")
    with pytest.raises(UsageError, match=r"a file, not a folder .* convert_sam_to_hf\.py"):
        SamMasks(tmp_path / "sam_vit_b_01ec64.pth", "cpu")


def test_no_bar_where_nobody_looks(checkpoint, capfd):
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled(), logging.get_verbosity()
    SamMasks(checkpoint, "cpu")
    assert capfd.readouterr().err == ""
    assert (logging.is_progress_bar_enabled(), logging.get_verbosity()) == before
