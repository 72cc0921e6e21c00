"""SAN as a model like any other: imported, loaded, and asked for scores and labels."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from san_recording import Recorded
from small_models import SMALL_SAN, san_authors_state

from ovseg_cli.cli.main import ovseg
from ovseg_cli.errors import UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.importing import import_checkpoint
from ovseg_cli.loading import load_model
from ovseg_cli.model.network import TextFeatures
from ovseg_cli.model.score_map import full_scores
from ovseg_cli.segmentation import UNLABELED
from ovseg_cli.segmenter import Segmenter
from ovseg_cli.vocabulary import Vocabulary

NAMES = ["sky", "traffic light", "grass"]
OPTIONS = {"visual_heads": 2, "text_heads": 2, "side_heads": 2, "min_size": 64, "max_size": 160}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of models that holds `small-san`."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVSEG_HOME", str(folder))
        torch.save({"model": san_authors_state(), "iteration": 3}, folder / "san.pth")
        import_checkpoint(folder / "san.pth", "small-san", OPTIONS)
    return folder


@pytest.fixture(autouse=True)
def own_home(home, monkeypatch):
    monkeypatch.setenv("OVSEG_HOME", str(home))


@pytest.fixture
def model():
    return load_model("small-san", device="cpu")


def noise(height, width):
    """A photo with large and small structure."""
    coarse = np.random.default_rng(height * width).integers(0, 256, (4, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def test_the_recorded_scores_come_out_of_an_imported_file(shared_dir, tmp_path):
    recorded = Recorded(shared_dir, "")
    torch.save({"model": recorded.authors_state()}, tmp_path / "san.pth")
    import_checkpoint(tmp_path / "san.pth", "recorded-san", {"min_size": None})
    model = load_model("recorded-san", device="cpu")
    for case in ("main", "square"):
        photo = recorded.input(f"{case}.image").permute(1, 2, 0).numpy()
        scores = model.scores(photo, recorded.about["class_names"])
        recorded.expect(scores, f"{case}.0.sem_seg", 1e-3)
        labels = model.segment(photo, recorded.about["class_names"]).labels
        assert (labels == scores.argmax(0).numpy()).mean() >= 0.999


def test_an_imported_file_says_what_it_is(model):
    assert model.config == SMALL_SAN
    assert json.loads(json.dumps(model.config.to_dict()))["kind"] == "san"


@torch.no_grad()
def test_scores_follow_the_paper_s_steps(model):
    photo = noise(75, 111)
    network = model.network
    small = Image.fromarray(photo).resize((95, 64), Image.Resampling.BILINEAR)
    pixels = torch.tensor(np.asarray(small), dtype=torch.float32).permute(2, 0, 1)[None]
    mean = 255 * torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = 255 * torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    image = F.pad((pixels - mean) / std, (0, 1, 0, 0))
    segmenter = Segmenter(model, Vocabulary(NAMES))
    output = network(image, segmenter._text)
    p = output.class_logits[0].softmax(-1)[:, :-1]
    masks = F.interpolate(output.mask_logits, (64, 96), mode="bilinear")[..., :95]
    masks = F.interpolate(masks, (75, 111), mode="bilinear").sigmoid()[0]
    found = model.scores(photo, NAMES)
    torch.testing.assert_close(found, torch.einsum("nk,nyx->kyx", p, masks), atol=1e-4, rtol=1e-4)
    assert (found.amax((1, 2)) - found.amin((1, 2))).max() > 0.01  # the test can tell something


def test_labels_are_the_best_scores_in_every_size(model):
    for size in ((75, 111), (300, 40), (30, 44)):
        photo = noise(*size)
        scores = model.scores(photo, NAMES)
        result = model.segment(photo, NAMES)
        chosen = scores.gather(0, torch.from_numpy(result.labels)[None].long())[0]
        torch.testing.assert_close(chosen, scores.amax(0), atol=1e-5, rtol=0)
        assert (result.confidence <= (chosen / scores.sum(0)).numpy() + 1e-5).all()


def test_other_is_the_models_own_background(model):
    photo = noise(64, 96)
    assert (model.segment(photo, NAMES, other="other").labels != 3).all()
    with torch.no_grad():
        model.network.text.non_object_embedding.neg_()
    named = model.segment(photo, NAMES, other="other")
    assert named.vocabulary.names == (*NAMES, "other")
    assert (named.labels == 3).all()
    assert (model.segment(photo, NAMES).labels < 3).all()  # without it nothing else is a label


def test_what_is_uncertain_stays_unlabelled(model):
    photo = noise(64, 96)
    plain = model.segment(photo, NAMES)
    threshold = float(np.median(plain.confidence))
    cut = model.segment(photo, NAMES, threshold=threshold)
    assert np.array_equal(cut.labels == UNLABELED, plain.confidence < threshold)


def test_photos_in_a_batch_do_not_see_each_other(model):
    segmenter = Segmenter(model, Vocabulary(NAMES))
    frames = [Frame(noise(64, 90)), Frame(noise(64, 95))]
    together = segmenter.segment(frames)
    for frame, result in zip(frames, together, strict=True):
        assert (segmenter(frame).labels == result.labels).mean() > 0.999


@pytest.mark.parametrize("choices", [{"tile": 64}, {"refine": True}])
def test_windows_and_edges_work_at_the_networks_size(model, choices):
    result = model.segment(noise(64, 150), NAMES, **choices)
    plain = model.segment(noise(64, 150), NAMES)
    assert result.labels.shape == (64, 150)
    assert (result.labels == plain.labels).mean() > 0.5


@torch.inference_mode()
def test_one_window_is_the_whole_photo(model):
    """Windows interpolate mask logits to the photo's size, as a photo without windows has it."""
    segmenter, frame = Segmenter(model, Vocabulary(NAMES)), Frame(noise(91, 133))
    whole = segmenter.score_maps([frame])[0]
    scorer = segmenter._scorer
    window = scorer._tiled(scorer._prepared(frame), segmenter._text, 96, False)
    expected = full_scores(whole, frame.size_hw)
    torch.testing.assert_close(full_scores(window, frame.size_hw), expected, atol=1e-5, rtol=1e-5)
    labels = segmenter.segmentation(window, frame).labels
    assert (labels == segmenter.segmentation(whole, frame).labels).mean() > 0.999


@torch.inference_mode()
def test_each_window_is_seen_for_itself(model):
    """Far from the others a window's scores are those of a photo that ends with it."""
    segmenter = Segmenter(model, Vocabulary(NAMES), tile=64, overlap=0.5)
    frame = Frame(noise(64, 128))
    scores = full_scores(segmenter.score_maps([frame])[0], frame.size_hw)
    for part in (slice(0, 32), slice(96, 128)):  # the first window and the last are there alone
        columns = slice(0, 64) if part.start == 0 else slice(64, 128)
        alone = Segmenter(model, Vocabulary(NAMES)).score_maps([Frame(frame.pixels[:, columns])])[0]
        seen = full_scores(alone, (64, 64))[:, :, part.start - columns.start :][:, :, :32]
        torch.testing.assert_close(scores[:, :, part], seen, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("attention", [None, "csa", "mask"])
def test_every_patch_for_itself(attention):
    model = load_model("small-san", device="cpu", proposals="grid", attention=attention)
    scores = model.scores(noise(64, 96), NAMES)
    assert scores.shape == (3, 64, 96)
    assert float(scores.sum(0).max()) <= 1 + 1e-5


@pytest.mark.parametrize("choices", [{"attention": "csa"}, {"attention": "severed"}])
def test_attention_of_patches_is_nothing_to_class_tokens(choices):
    """What would be ignored is refused; with masks from elsewhere patches are asked again."""
    model = load_model("small-san", device="cpu", **choices)
    with pytest.raises(UsageError, match="class tokens name the queries.*--proposals grid"):
        model.segment(noise(64, 96), NAMES)
    masks = np.ones((1, 64, 96), bool)
    model.segment(noise(64, 96), NAMES, masks=lambda frame, patches, size_hw: masks)


@torch.no_grad()
def test_the_last_layers_patches_reach_no_query(model):
    """Why the last layer's attention could change nothing: by whatever patches become there."""
    image = torch.randn(1, 3, 64, 96)
    before = model.network(image, TextFeatures(torch.eye(3, 16)))
    last = model.network.visual.blocks[-1]
    plain = last.mlp.forward
    mlp = lambda x: plain(x) + 9 * (torch.arange(x.shape[1]) >= 6)[:, None]  # noqa: E731
    last.mlp.forward = mlp  # the six queries come first
    after = model.network(image, TextFeatures(torch.eye(3, 16)))
    assert torch.equal(before.class_logits, after.class_logits)


def test_masks_from_elsewhere(model):
    masks = np.zeros((2, 64, 96), bool)
    masks[0, :, :40], masks[1, :, 40:80] = True, True
    found = model.segment(noise(64, 96), NAMES, masks=lambda frame, patches, size_hw: masks)
    assert (found.labels[:, 80:] == UNLABELED).all()
    assert len(np.unique(found.labels[:, :40])) == 1


@pytest.mark.parametrize("smooth", ["0", "0.85"])
def test_it_runs_in_video(home, tmp_path, smooth, capfd):
    for index in range(4):
        Image.fromarray(np.roll(noise(64, 96), index, 1)).save(tmp_path / f"{index}.png")
    arguments = ["video", str(tmp_path), "--classes", ",".join(NAMES), "--model", "small-san"]
    with pytest.raises(SystemExit) as end:
        ovseg.main([*arguments, "--smooth", smooth, "-o", str(tmp_path / "out")], prog_name="ovseg")
    assert end.value.code == 0, capfd.readouterr().err
    labels = list((tmp_path / "out" / f"{tmp_path.name}.labels").iterdir())
    assert len(labels) == 4
    assert all(np.asarray(Image.open(path)).max() < len(NAMES) for path in labels)


def test_it_can_be_evaluated_and_shown_pictures(home, tmp_path, capfd):
    data = tmp_path / "data"
    for folder in ("images", "labels"):
        (data / folder).mkdir(parents=True)
    Image.fromarray(noise(64, 96)).save(data / "images" / "a.png")
    Image.fromarray(np.arange(64 * 96).reshape(64, 96).astype(np.uint8) % 3).save(
        data / "labels" / "a.png"
    )
    (data / "classes.json").write_text(json.dumps(dict(enumerate(NAMES))))
    (data / "val.txt").write_text("a\n")
    shown = f"sky={data / 'images' / 'a.png'}:0,0,40,30"
    arguments = ["eval", "--data", str(data), "--model", "small-san", "--json"]
    for more in ([], ["--exemplar", shown]):
        with pytest.raises(SystemExit) as end:
            ovseg.main([*arguments, *more], prog_name="ovseg")
        out, err = capfd.readouterr()
        assert end.value.code == 0, err
        assert 0 <= json.loads(out)["mIoU"] <= 1
