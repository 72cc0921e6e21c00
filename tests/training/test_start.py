"""What a stage starts from; CLIP's parts against open_clip itself."""

import re
from dataclasses import replace

import pytest
import torch

from ovseg_cli import weights
from ovseg_cli.errors import CheckpointError, UsageError
from ovseg_cli.model.build import VARIANTS, build
from ovseg_cli.model.config import ClipVisualConfig, DeOPConfig, TextConfig
from ovseg_cli.model.san import TEXT, SANConfig
from ovseg_cli.training.start import FreshModel, finished_model, fresh_model, san_around

OPENAI_B16 = DeOPConfig(
    proposals="grid",
    backbone=None,
    proposal=None,
    heatmap=None,
    visual=ClipVisualConfig(run_grid=None, position_layers=(), severance="gps"),
    text=TextConfig(prompt_prefix=0, templates=("a photo of a {}.",)),
)


def sizes_of(config):
    return config.to_dict()


@pytest.fixture(scope="module")
def open_clip_model():
    """A CLIP of open_clip with random weights, small, with OpenAI's activation."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    torch.manual_seed(1)
    vision = CLIPVisionCfg(layers=2, width=128, head_width=64, patch_size=16, image_size=32)
    text = CLIPTextCfg(context_length=32, vocab_size=514, width=64, heads=1, layers=2)
    model = CLIP(16, vision, text, quick_gelu=True).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln_" in name or "bias" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def sizes(tiny_clip):
    visual = replace(tiny_clip.visual, width=128, heads=2, mlp_width=512)
    text = replace(tiny_clip.text, width=64, heads=1, layers=2)
    return replace(tiny_clip, visual=visual, text=text)


def test_clip_sees_and_reads_as_in_open_clip(open_clip_model, sizes, tmp_path):
    torch.save(open_clip_model.state_dict(), tmp_path / "clip.pt")
    table = FreshModel(sizes_of(sizes), clip=str(tmp_path / "clip.pt"))
    model = fresh_model(table).eval()
    assert model.config == sizes
    images = torch.randn(2, 3, 32, 32)
    tokens = torch.tensor([[512, 3, 4, 513] + [0] * 28, [512, 7, 8, 9, 10, 513] + [0] * 26])
    with torch.inference_mode():
        torch.testing.assert_close(
            model.visual.image_features(images),
            open_clip_model.encode_image(images),
            atol=1e-5,
            rtol=1e-4,
        )
        torch.testing.assert_close(
            model.text.tower(tokens), open_clip_model.encode_text(tokens), atol=1e-5, rtol=1e-4
        )
        assert torch.equal(model.text.prompt.end, model.text.tower.token_embedding.weight[513:])


def test_a_backbone_is_read_by_detectron2s_names(tiny, tmp_path):
    donor = build(tiny).backbone.state_dict()
    assert {"stem.conv1.weight", "res2.0.conv1.norm.running_var"} <= set(donor)
    torch.save({**donor, "fc.weight": torch.zeros(3)}, tmp_path / "resnet.pt")
    model = fresh_model(FreshModel(sizes_of(tiny), backbone=str(tmp_path / "resnet.pt")))
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, donor[name])


def test_a_file_that_lacks_a_tensor_or_has_another_shape(tiny, tmp_path):
    donor = build(tiny).backbone.state_dict()
    path = tmp_path / "resnet.pt"
    table = FreshModel(sizes_of(tiny), backbone=str(path))
    for change, message in (
        ({"stem.conv1.weight": donor["stem.conv2.weight"]}, r"stem\.conv1\.weight is \[8, 8, 3, 3"),
        ({"res5.0.conv2.norm.bias": None}, r"does not hold res5\.0\.conv2\.norm\.bias"),
    ):
        tensors = {name: value for name, value in (donor | change).items() if value is not None}
        torch.save(tensors, path)
        with pytest.raises(CheckpointError, match=rf"resnet\.pt.*{message}"):
            fresh_model(table)


@pytest.mark.parametrize("content", [b"text, not tensors", b"", b"PK\x03\x04 half a file"])
def test_files_that_hold_no_tensors(tiny, tmp_path, content):
    path = tmp_path / "clip.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        fresh_model(FreshModel(sizes_of(tiny), clip=str(path)))


def test_without_a_table_it_is_the_bundled_models_size():
    with torch.device("meta"):
        model = fresh_model(None)
    assert model.config.visual.kind == "pyramid"
    assert DeOPConfig.from_dict(FreshModel().sizes) == DeOPConfig()  # the published one


@pytest.mark.parametrize("sizes", [{"joint_widht": 8}, {"visual": {"width": 1.5, "kin": 2}}])
def test_sizes_that_make_no_model(sizes):
    with pytest.raises(UsageError, match=r"\[model\.sizes\]"):
        fresh_model(FreshModel(sizes))


def test_a_variant_with_another_models_text_encoder(tiny, tiny_san, tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "tiny-san", tiny_san)
    donor = build(tiny)
    path = tmp_path / "donor.safetensors"
    weights.save(weights.Checkpoint(tiny, donor.state_dict()), path)
    model = fresh_model(FreshModel(variant="tiny-san", text=str(path)))
    assert model.config == tiny_san
    for name, value in model.text.state_dict().items():
        assert torch.equal(value, donor.text.state_dict()[name])
    assert model.logit_factor().item() == pytest.approx(tiny.logit_scale)  # of its cosines, too
    wider = replace(tiny_san, text=replace(tiny_san.text, width=32))
    monkeypatch.setitem(VARIANTS, "tiny-san", wider)
    with pytest.raises(CheckpointError, match=r"donor\.safetensors .* text encoder of this size"):
        fresh_model(FreshModel(variant="tiny-san", text=str(path)))
    with pytest.raises(UsageError, match="no variant 'huge'; there are mini, deop, san-mini, san"):
        fresh_model(FreshModel(variant="huge"))


def test_a_side_adapter_beside_clip_is_as_published():
    with torch.device("meta"):
        clip = build(OPENAI_B16)
        model = san_around(clip)
        assert san_around(model) is model
    assert model.config == SANConfig(text=replace(TEXT, gelu="quick"))


def test_no_side_adapter_for_other_patches(tiny_plain):
    with pytest.raises(UsageError, match=r"patches of \[16, 14\]"):
        san_around(build(replace(tiny_plain, visual=replace(tiny_plain.visual, patch_size=8))))


def test_a_finished_model_by_folder_file_and_name(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("OVSEG_HOME", str(tmp_path))
    model = build(tiny)
    checkpoint = weights.Checkpoint(model.config, model.state_dict())
    weights.save(checkpoint, tmp_path / "run" / "model.safetensors")
    weights.save(checkpoint, tmp_path / "models" / "mine.safetensors")
    for init in (tmp_path / "run", tmp_path / "run" / "model.safetensors", "mine"):
        loaded = finished_model(type(tmp_path)(init))
        assert loaded.config == tiny
        for name, value in loaded.state_dict().items():
            assert torch.equal(value, model.state_dict()[name])


def test_an_unfinished_stage_and_an_unknown_name(tmp_path, monkeypatch):
    monkeypatch.setenv("OVSEG_HOME", str(tmp_path / "home"))
    with pytest.raises(UsageError, match=r"no model\.safetensors; finish that stage first"):
        finished_model(tmp_path)
    with pytest.raises(UsageError, match="no model 'nowhere'"):
        finished_model(type(tmp_path)("nowhere"))


def test_a_file_that_is_not_the_model_it_describes(tiny, tmp_path):
    state = build(tiny).state_dict()
    del state["text.non_object_embedding"]
    weights.save(weights.Checkpoint(tiny, state), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="does not hold the model it describes"):
        finished_model(tmp_path)


def test_other_sizes_are_of_the_variants_kind(tiny_san):
    sizes = tiny_san.to_dict()
    sizes.pop("kind", None)
    model = fresh_model(FreshModel(variant="san", sizes=sizes))
    assert model.config == tiny_san
    with pytest.raises(UsageError, match=r"\[model\.sizes\]"):
        fresh_model(FreshModel(variant="deop", sizes=sizes))


@pytest.mark.parametrize("width", [0, -4])
def test_widths_that_make_no_model(tiny, width):
    with pytest.raises(UsageError, match=r"\[model\.sizes\]"):
        fresh_model(FreshModel(sizes_of(replace(tiny, joint_width=width))))


def test_sizes_that_leave_a_part_empty(tiny):
    text = replace(tiny.text, layers=0, tokens=514, context=0)
    with pytest.raises(UsageError, match=r"\[model\.sizes\]: text\..* would have no number in it"):
        fresh_model(FreshModel(sizes_of(replace(tiny, text=text))))
