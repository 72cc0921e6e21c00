"""Names that compete for pixels without being classes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from mock_segmenter import make_photo
from PIL import Image
from small_models import CLIP, PYRAMID, SMALL_SAN

from ovseg_cli.cli.compute import Compute
from ovseg_cli.cli.main import ovseg
from ovseg_cli.frame import Frame
from ovseg_cli.model.build import build
from ovseg_cli.model.config import OtherWeight
from ovseg_cli.model.network import TextFeatures
from ovseg_cli.model.score_map import full_scores
from ovseg_cli.names.rivals import competing
from ovseg_cli.segmentation import UNLABELED
from ovseg_cli.segmenter import Model, Segmenter
from ovseg_cli.vocabulary import Vocabulary
from ovseg_cli.vocabulary_files import preset

OWN = Vocabulary(["sky", "traffic light|lamp", "grass"])
RIVALS = Vocabulary(["water", "lamps", "wall|brick wall", "cup"])
TOGETHER = Vocabulary([*OWN.classes, "water", "wall|brick wall", "cup"])  # a lamp is a class


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("OVSEG_HOME", str(tmp_path / "home"))


# Weights by which own names, rivals and none of them all win somewhere.
@pytest.fixture(params=[(CLIP, 36), (PYRAMID, 24), (SMALL_SAN, 19)], ids=["deop", "grid", "san"])
def model(request):
    config, seed = request.param
    torch.manual_seed(seed)
    network = build(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return Model(network.eval(), "small", "ab" * 32, torch.device("cpu"), "fp32")


def photo(height=80, width=112):
    coarse = np.random.default_rng(8).integers(0, 256, (4, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(
    ("own", "rival", "kept"),
    [
        ("sky", "Sky", False),
        ("sky", "sky-other", False),
        ("sky", "skyscraper", True),
        ("dogs", "dog", False),
        ("box", "boxes", False),
        ("person", "people", False),
        ("grass", "gras", True),
        ("diningtable", "dining table", False),
        ("dining table", "table", False),
        ("wall", "wall-brick", False),
        ("car|vehicle", "vehicle", False),
        ("car", "truck|car", False),
        ("sofa", "couch", False),  # ADE-150 has them as synonyms
        ("aeroplane", "airplane", False),
        ("tie", "ties", False),
        ("movies", "movie", False),
        ("potato", "potatoes", False),
        ("wolf", "grey wolves", False),
        ("knives", "knife", False),
        ("gas", "gases", False),
        ("bus", "buses", False),
        ("glass", "glasses", False),
        ("teeth", "tooth", False),
        ("cap", "cape", True),
        ("cap", "capes", True),
        ("pin", "pine trees", True),
        ("ski", "sky", True),
        ("train", "railroad", True),  # a railroad train is one, a railroad is not
        ("ram", "arm", True),
        ("Straße", "strasse", False),
        ("猫", "犬", True),
        ("other", "stuff", True),
        ("!", "?", True),
    ],
)
def test_what_means_a_class_does_not_compete_with_it(own, rival, kept):
    assert competing(Vocabulary([rival]), Vocabulary([own])) == ([0] if kept else [])


def test_a_preset_does_not_compete_with_itself():
    coco = preset("coco171")
    assert competing(coco, coco) == []
    assert len(competing(coco, Vocabulary(["horse"]))) == 170


def reference(model, other):
    """All names as classes, each pixel's best taken; what a rival wins is no class of one's own."""
    segmenter = Segmenter(model, TOGETHER)
    frame = Frame(photo())
    with torch.inference_mode():
        scores = full_scores(segmenter.score_maps([frame])[0], frame.size_hw)
    best, won = scores[:-1].max(0)
    if other:
        none = scores[-1] > scores[:-1].sum(0)
        best, won = torch.where(none, scores[-1], best), torch.where(none, len(scores) - 1, won)
    confidence = best / scores.sum(0)
    assert (won < 3).any()
    assert (won.remainder(6) >= 3).any()
    labels = torch.where(won < 3, won, 3 if other else UNLABELED)
    return labels.numpy(), confidence.numpy()


@pytest.mark.parametrize("other", [None, "rest"])
def test_pixels_that_a_rival_wins_are_no_class_of_ones_own(model, other):
    expected, confidence = reference(model, other)
    found = Segmenter(model, OWN, other=other, rivals=RIVALS)(Frame(photo()))
    assert found.vocabulary.names == (*OWN.names, *([other] if other else []))
    assert (found.labels == expected).mean() > 0.999
    np.testing.assert_allclose(found.confidence, confidence, atol=2e-5)
    plain = Segmenter(model, OWN, other=other)(Frame(photo()))
    assert (plain.labels != found.labels).any()  # without them the labels are others


@torch.inference_mode()
def test_a_weight_by_the_number_of_names_counts_them(model, monkeypatch):
    """Six names collect what speaks for them by chance, of which three are one's own."""
    weighing = replace(model.network.config, other_weight=OtherWeight(power=0.5))
    monkeypatch.setattr(model.network, "config", weighing)
    frame = Frame(photo())
    scores = full_scores(Segmenter(model, TOGETHER).score_maps([frame])[0], frame.size_hw)
    named, rest = scores[:-1].sum(0), scores[-1]
    none = 6**0.5 * rest > named
    confidence = torch.where(none, rest, scores[:-1].amax(0)) / (named + rest)
    found = Segmenter(model, OWN, other="rest", rivals=RIVALS)(frame)
    assert (none != (3**0.5 * rest > named)).any()  # the test can tell something
    assert (found.labels[none.numpy()] == 3).mean() > 0.999
    clear = abs(6**0.5 * rest / named - 1) > 1e-4  # else rounding decides
    np.testing.assert_allclose(found.confidence[clear], confidence[clear], atol=2e-5)


@torch.inference_mode()
def test_they_are_put_into_the_prompts_of_ones_own_names(model):
    prompts = ["a drawing of many {}."]
    frame = Frame(photo())
    together = Segmenter(model, TOGETHER.with_templates(prompts)).score_maps([frame])[0]
    best = full_scores(together, frame.size_hw)[:-1].max(0).indices.numpy()
    found = Segmenter(model, OWN.with_templates(prompts), rivals=RIVALS)(frame)
    assert (found.labels == np.where(best < 3, best, UNLABELED)).mean() > 0.999
    plain = Segmenter(model, OWN, rivals=RIVALS)(frame)
    assert (plain.confidence != found.confidence).any()  # the prompts matter


def test_the_threshold_knows_of_them(model):
    plain = model.segment(photo(), OWN, rivals=RIVALS)
    threshold = float(np.median(plain.confidence))
    rivals = ["water", "lamps", "wall|brick wall", "cup"]
    cut = model.segment(photo(), OWN, rivals=rivals, threshold=threshold)
    assert (cut.labels[plain.confidence < threshold] == UNLABELED).all()
    sure = plain.confidence >= threshold
    assert np.array_equal(cut.labels[sure], plain.labels[sure])


def test_rivals_that_all_mean_a_class_change_nothing(model):
    plain, found = model.segment(photo(), OWN), model.segment(photo(), OWN, rivals=["lamp", "sky"])
    assert np.array_equal(plain.labels, found.labels)
    assert np.array_equal(plain.confidence, found.confidence)


@pytest.mark.parametrize("how", [{"tile": 64}, {"refine": True}])
def test_windows_and_edges_go_with_them(model, how):
    found = Segmenter(model, OWN, other="rest", rivals=RIVALS, **how)(Frame(photo(64, 150)))
    assert found.labels.max() <= 3
    assert found.labels.min() >= 0


def test_what_names_are_alike_is_said_of_ones_own(model):
    rows = Segmenter(model, OWN, rivals=RIVALS).phrase_features()
    np.testing.assert_array_equal(rows, Segmenter(model, OWN).phrase_features())
    assert len(rows) == 4


@pytest.mark.parametrize("synonyms", [False, True])
def test_rows_are_put_together_and_chosen_by_class(synonyms):
    one = TextFeatures(torch.eye(4)[:2])
    two = TextFeatures(torch.eye(4)[2:], torch.tensor([0, 0]) if synonyms else None)
    both = one.followed_by(two)
    assert both.classes == (3 if synonyms else 4)
    last = both.only([0, 2])
    assert last.classes == 2
    assert last.features.argmax(1).tolist() == ([0, 2, 3] if synonyms else [0, 2])


def test_a_run_is_told_apart_by_its_rivals():
    plain, with_some = Compute("mini", "cpu", "fp32"), Compute("mini", "cpu", "fp32", rivals=RIVALS)
    assert "rivals" not in plain.record()
    assert with_some.record()["rivals"] == ["water", "lamps", "wall|brick wall", "cup"]


def ran(*arguments):
    with pytest.raises(SystemExit) as end:
        ovseg.main(list(arguments), prog_name="ovseg")
    return end.value.code


def test_segment_says_what_competes(tmp_path, capfd):
    source = make_photo(tmp_path / "a.png")
    names = tmp_path / "names.txt"
    names.write_text("water\nskies\nwall\n")
    common = ["segment", str(source), "--classes", "sky,grass", "-o", str(tmp_path / "out")]
    assert ran(*common, "--rivals", f"@{names}", "--other", "rest", "--save", "labels") == 0
    said = capfd.readouterr().err
    assert '2 more names to compete with: what they win is "rest"; 1 left out' in said
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["options"]["rivals"] == ["water", "skies", "wall"]
    assert ran(*common, "--rivals", "pc59", "--resume", "--save", "labels") == 0
    assert "1 done" in capfd.readouterr().err  # other rivals, so what is there is of no use
    assert ran(*common, "--rivals", "nonsense", "--overwrite") == 2
    assert 'unknown preset "nonsense"' in capfd.readouterr().err


def test_ways_with_and_without_them_are_compared(tmp_path, capfd):
    data = tmp_path / "data"
    make_photo(data / "images" / "a.png")
    (data / "labels").mkdir()
    Image.fromarray(np.zeros((32, 48), np.uint8)).save(data / "labels" / "a.png")
    (data / "classes.json").write_text(json.dumps({"0": "sky", "1": "dog"}))
    (data / "val.txt").write_text("a\n")
    assert ran("eval", "--data", str(data), "--compare", "rivals=none,coco171", "--json") == 0
    captured = capfd.readouterr()
    compared = json.loads(captured.out)["compare"]
    assert [row["rivals"] for row in compared] == ["none", "coco171"]
    assert compared[0]["mIoU"] >= compared[1]["mIoU"]
    assert "more names to compete with: what they win stays unlabelled" in captured.err
