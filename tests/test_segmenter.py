"""From a photo to scores and labels, against the paper's steps written out plainly."""

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from small_models import CLIP, PLAIN, PYRAMID, openai_style_state

from ovseg_cli import weights
from ovseg_cli.errors import CheckpointError, InputError, UsageError, VocabularyError
from ovseg_cli.frame import Frame
from ovseg_cli.importing import import_checkpoint
from ovseg_cli.loading import load_model
from ovseg_cli.model.build import build
from ovseg_cli.model.clip import resize_positions
from ovseg_cli.model.config import DeOPConfig, InputConfig, OtherWeight
from ovseg_cli.model.convert import source_name
from ovseg_cli.model.pamr import refine
from ovseg_cli.model.score_map import full_scores
from ovseg_cli.prepared import resized
from ovseg_cli.scoring import Scorer
from ovseg_cli.segmentation import UNLABELED
from ovseg_cli.segmenter import Model, Segmenter
from ovseg_cli.vocabulary import Vocabulary

NAMES = ["sky", "traffic light", "grass"]


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("OVSEG_HOME", str(tmp_path / "home"))


def model_file(config: DeOPConfig, path: Path, half: bool = False) -> Path:
    """A model with random weights whose masks and features differ from each other."""
    torch.manual_seed(3)
    network = build(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for layer in network.proposals.mask_embed.layers:
            layer.weight.mul_(3)
    weights.save(weights.Checkpoint(config, network.state_dict()), path, half)
    return path


@pytest.fixture
def clip(tmp_path) -> Model:
    return load_model(model_file(CLIP, tmp_path / "clip.safetensors"), device="cpu")


@pytest.fixture
def pyramid(tmp_path) -> Model:
    return load_model(model_file(PYRAMID, tmp_path / "pyramid.safetensors"), device="cpu")


def noise(height: int, width: int) -> np.ndarray:
    """A photo with large and small structure."""
    draw = np.random.default_rng(height * width)
    coarse = draw.integers(0, 256, (4, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def prepared(photo: np.ndarray, size_hw: tuple[int, int]) -> torch.Tensor:
    """As DeOP's authors prepare photos: resize, normalise, pad to a multiple of 32."""
    resized = Image.fromarray(photo).resize(size_hw[::-1], Image.Resampling.BILINEAR)
    pixels = torch.tensor(np.asarray(resized), dtype=torch.float32).permute(2, 0, 1)
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    pixels = (pixels - mean[:, None, None]) / std[:, None, None]
    height, width = size_hw
    image = torch.zeros(1, 3, -(-height // 32) * 32, -(-width // 32) * 32)
    image[0, :, :height, :width] = pixels
    return image


@torch.no_grad()
def test_scores_follow_the_paper_s_steps(clip):
    photo = noise(75, 111)
    network = clip.network
    image = prepared(photo, (64, 95))
    masks = network.proposals(network.backbone(image)).mask_logits
    patches = F.normalize(network.visual(image, masks), dim=-1)
    at_patches = F.interpolate(masks.sigmoid(), patches.shape[1:3], mode="bilinear")
    regions = network.heatmap_decoder(patches.permute(0, 3, 1, 2), at_patches)[0]
    text = torch.cat(
        [network.text.encode(NAMES), F.normalize(network.text.non_object_embedding, dim=-1)]
    )
    p = (100 * regions @ text.T).softmax(-1)[:, :-1]
    full_masks = F.interpolate(masks, image.shape[-2:], mode="bilinear").sigmoid()[0]
    scores = torch.einsum("nk,nyx->kyx", p, full_masks)[:, :64, :95]
    expected = F.interpolate(scores[None], (75, 111), mode="bilinear")[0]

    actual = clip.scores(photo, NAMES)
    assert actual.shape == (3, 75, 111)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    assert (actual.amax((1, 2)) - actual.amin((1, 2))).max() > 0.01  # the test can tell something


def test_labels_are_the_best_scores_and_confidence_their_share(clip):
    photo = noise(75, 111)
    scores = clip.scores(photo, NAMES)
    scores.clone().div_(2)
    (scores * torch.ones(len(NAMES), 1, 1, requires_grad=True)).sum().backward()  # a plain tensor
    scores += 0
    result = clip.segment(photo, NAMES)
    chosen = scores.gather(0, torch.from_numpy(result.labels)[None].long())[0]
    torch.testing.assert_close(chosen, scores.amax(0), atol=1e-5, rtol=0)
    assert result.vocabulary.names == tuple(NAMES)
    # S / (ΣS + R) is below S / ΣS, since R is not negative.
    assert (result.confidence <= (chosen / scores.sum(0)).numpy() + 1e-5).all()


@torch.no_grad()
def test_grid_scores_are_each_patch_s_own(pyramid):
    photo = noise(64, 96)
    image = prepared(photo, (64, 96))
    network = pyramid.network
    patches = F.normalize(network.visual(network.backbone(image))[0], dim=-1)  # (16, 24, C)
    text = torch.cat(
        [network.text.encode(NAMES), F.normalize(network.text.non_object_embedding, dim=-1)]
    )
    p = (100 * patches @ text.T).softmax(-1).permute(2, 0, 1)
    expected = F.interpolate(p[None], (64, 96), mode="bilinear")[0][:-1]
    torch.testing.assert_close(pyramid.scores(photo, NAMES), expected, atol=1e-4, rtol=1e-3)


def test_scores_ask_nothing_of_the_caller(pyramid):
    """Text features are made in inference mode: without it, autograd would refuse them."""
    frame = Frame(noise(48, 64))
    segmenter = Segmenter(pyramid, Vocabulary(NAMES))
    (scores,) = segmenter.score_maps([frame])
    expected = segmenter(frame)
    found = segmenter.segmentation(scores, frame)
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_other_and_threshold(pyramid):
    photo = noise(40, 60)
    plain = pyramid.segment(photo, NAMES)
    other = pyramid.segment(photo, NAMES, other="rest")
    assert other.vocabulary.names == (*NAMES, "rest")
    kept = other.labels != 3
    assert (other.labels[kept] == plain.labels[kept]).all()
    assert 0 < kept.mean() < 1
    assert (other.confidence[~kept] > 0.5).all()  # R is more than all names have together
    assert (other.confidence[kept] == plain.confidence[kept]).all()
    sure = pyramid.segment(photo, NAMES, threshold=0.5)
    assert ((sure.labels == UNLABELED) == (plain.confidence < 0.5)).all()
    assert (sure.labels == UNLABELED).any()
    surest = float(plain.confidence.max())
    sure = pyramid.segment(photo, NAMES, threshold=surest)
    assert ((sure.labels == UNLABELED) == (plain.confidence < surest)).all()  # not at it
    assert (pyramid.segment(photo, NAMES, threshold=0.0).labels == plain.labels).all()


@pytest.mark.parametrize(
    "options",
    [
        {"tile": 64, "overlap": 0.0},
        {"refine": True},
        {"rivals": ["water", "wall"]},
        {"masks": lambda frame, patches, size_hw: np.eye(*size_hw, dtype=bool)[None]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_is_asked_for_with_a_photo_is_done(pyramid, options):
    photo = noise(64, 150)
    found = pyramid.segment(photo, NAMES, **options)
    expected = Segmenter(pyramid, NAMES, **options)(photo)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.confidence, expected.confidence)
    fewer = dict(list(options.items())[:-1])
    assert (found.confidence != pyramid.segment(photo, NAMES, **fewer).confidence).any()


def test_a_model_may_let_the_other_class_take_more_the_more_names_there_are(pyramid, monkeypatch):
    photo, config = noise(40, 60), pyramid.network.config
    scores = pyramid.scores(photo, NAMES).numpy()
    rest, named = 1 - scores.sum(0), scores.sum(0)
    taken = []
    for power in (0.0, 0.5, 1.0):
        changed = replace(config, other_weight=OtherWeight(scale=0.8, power=power))
        monkeypatch.setattr(pyramid.network, "config", changed)
        taken.append(pyramid.segment(photo, NAMES, other="rest").labels == 3)
        expected = 0.8 * 3**power * rest > named
        clear = abs(0.8 * 3**power * rest - named) > 1e-5  # else rounding decides
        np.testing.assert_array_equal(taken[-1][clear], expected[clear])
        assert clear.mean() > 0.99
        one = pyramid.segment(photo, ["sky"], other="rest").labels == 1  # whatever the power
        score = pyramid.scores(photo, ["sky"]).numpy()[0]
        clear = abs(0.8 * (1 - score) - score) > 1e-5
        np.testing.assert_array_equal(one[clear], (0.8 * (1 - score) > score)[clear])
    assert (taken[1] >= taken[0]).all()
    assert 0 < taken[0].mean() < taken[1].mean() < taken[2].mean()


def test_a_result_does_not_depend_on_its_batch(clip):
    frames = [Frame(noise(64, 96)), Frame(noise(70, 100)), Frame(noise(64, 90))]
    segmenter = Segmenter(clip, Vocabulary(NAMES))
    assert len({segmenter.input_size(frame.size_hw) for frame in frames}) == 1
    for frame, together in zip(frames, segmenter.segment(frames), strict=True):
        alone = segmenter(frame)
        assert together.labels.shape == frame.size_hw
        np.testing.assert_allclose(together.confidence, alone.confidence, atol=1e-3)
        assert (together.labels == alone.labels).mean() > 0.999


def test_synonyms_count_by_the_best_of_them(pyramid):
    photo = noise(40, 60)
    twice = pyramid.scores(photo, ["sky|Sky blue", "grass"])
    network = pyramid.network
    image = prepared(photo, (64, 96))
    with torch.no_grad():
        patches = F.normalize(network.visual(network.backbone(image))[0], dim=-1)
        text = network.text.encode(["sky", "Sky blue", "grass"])
        non_object = F.normalize(network.text.non_object_embedding, dim=-1)
        cosines = patches @ torch.cat([text, non_object]).T
        best = torch.stack([cosines[..., :2].amax(-1), cosines[..., 2], cosines[..., 3]], -1)
        p = (100 * best).softmax(-1).permute(2, 0, 1)
        expected = F.interpolate(p[None], (40, 60), mode="bilinear")[0][:-1]
    torch.testing.assert_close(twice, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("size_hw", "expected"),
    [
        ((480, 640), (512, 683)),
        ((100, 1000), (256, 2560)),
        ((3000, 4000), (512, 683)),
        ((1024, 1025), (512, 513)),  # 512.5: halves up, as the authors' int(x + 0.5) has it
        ((1, 10_000), (1, 2560)),  # never less than a pixel
    ],
)
def test_resizing_rule(size_hw, expected):
    assert resized(size_hw, InputConfig()) == expected


@pytest.mark.parametrize(
    ("size_hw", "sides", "expected"),
    [
        ((103, 1024), (512, 2560), (258, 2560)),  # 2560 · 103 / 1024 = 257.5
        ((1024, 103), (512, 2560), (2560, 258)),
        # 71.5 and 262.5, were numbers exact: 100 · (130 / (100 / 44 · 80)) is a little less.
        ((44, 80), (100, 130), (71, 130)),
        ((75, 128), (336, 448), (262, 448)),
    ],
)
def test_halves_are_rounded_as_by_the_authors_code(size_hw, sides, expected):
    """There the shorter side is the one asked for, and only the longer is multiplied."""
    assert resized(size_hw, InputConfig(min_size=sides[0], max_size=sides[1])) == expected


def test_a_photo_that_fills_no_patch(tmp_path):
    config = replace(CLIP, input=replace(CLIP.input, min_size=None, size_divisibility=1))
    model = load_model(model_file(config, tmp_path / "m.safetensors"), device="cpu")
    side = config.visual.patch_size
    with pytest.raises(InputError, match=f"^{side - 1}x40 pixels of it reach .*--size"):
        model.segment(noise(40, side - 1), NAMES)
    assert model.segment(noise(64, side), NAMES).labels.shape == (64, side)


@pytest.mark.parametrize("severed", [(), (0,), (0, 2)])
def test_the_last_layer_s_attention_where_others_are_severed(tmp_path, severed):
    visual = replace(CLIP.visual, layers=3, position_layers=(), severed_layers=severed)
    path = model_file(replace(CLIP, visual=visual), tmp_path / "m.safetensors")
    model = load_model(path, device="cpu", attention="self")
    assert model.config.visual.severed_layers == (2,)
    scores = [m.scores(noise(64, 96), NAMES) for m in (load_model(path, device="cpu"), model)]
    assert not torch.allclose(*scores, rtol=1e-3)
    with pytest.raises(UsageError, match="not severed: name an --attention"):
        load_model(path, device="cpu", last_block="reduced")


@pytest.mark.parametrize(("min_size", "max_size"), [(64, 128), (None, 2560)])
def test_another_size_than_the_models_own(tmp_path, min_size, max_size):
    own = replace(PYRAMID, input=InputConfig(min_size=min_size, max_size=max_size))
    wanted = replace(PYRAMID, input=InputConfig(min_size=96, max_size=192 if min_size else 2560))
    photo = noise(50, 70)
    found = load_model(model_file(own, tmp_path / "own.safetensors"), "cpu", size=96)
    expected = load_model(model_file(wanted, tmp_path / "wanted.safetensors"), "cpu")
    assert found.config.input == wanted.input
    torch.testing.assert_close(found.scores(photo, NAMES), expected.scores(photo, NAMES))


def test_a_grid_of_patches_instead_of_the_models_own_proposals(clip, tmp_path):
    grid = load_model(tmp_path / "clip.safetensors", "cpu", proposals="grid")
    assert (clip.config.proposals, grid.config.proposals) == ("queries", "grid")
    scores = grid.scores(noise(64, 96), NAMES)
    assert (scores.sum(0) <= 1 + 1e-5).all()  # probabilities of patches
    assert not torch.allclose(scores, clip.scores(noise(64, 96), NAMES), atol=1e-3)


KINDS = {"clip": CLIP, "pyramid": PYRAMID, "grid": replace(PYRAMID, proposals="grid")}


def looking(config: DeOPConfig, path: Path, **looks) -> Model:
    """The same weights however often the model looks at a photo."""
    config = replace(config, input=replace(config.input, **looks))
    return load_model(model_file(config, path / "looking.safetensors"), "cpu")


@pytest.mark.parametrize(
    ("asked", "looks"),
    [
        ({}, [(1.0, (False,))]),
        ({"mirror": True}, [(1.0, (False, True))]),
        ({"mirror": True, "scales": (0.5, 2.0)}, [(2.0, (False, True)), (0.5, (False, True))]),
        ({"mirror": True, "mirror_scale": 0.625}, [(1.0, (False,)), (0.625, (True,))]),
        ({"mirror_scale": 0.625}, [(1.0, (False,))]),
        ({"scales": (0.5, 2.0)}, [(2.0, (False,)), (0.5, (False,))]),
        ({"scales": (1.0, 0.5, 1.0)}, [(1.0, (False,)), (0.5, (False,))]),
        (
            {"scales": (0.5, 1.0), "mirror": True, "mirror_scale": 2.0},
            [(2.0, (True,)), (1.0, (False,)), (1.0, (True,)), (0.5, (False,))],
        ),
    ],
)
def test_the_looks_that_a_configuration_asks_for(asked, looks, tmp_path):
    scorer = Scorer(looking(PYRAMID, tmp_path, **asked).network, torch.device("cpu"), "fp32")
    assert scorer.looks == looks


def soft(kind: str) -> DeOPConfig:
    """One whose patches are not sure: a mean is nearly the same before blending as after."""
    return replace(KINDS[kind], logit_scale=10.0)


def joined(looks: list[torch.Tensor], kind: str) -> torch.Tensor:
    """Scores (K, H, W) of several looks: those of patches share out the mean of their mass as in
    the geometric mean, each look counting as its mass; those of regions are the arithmetic one."""
    scores = torch.stack(looks)
    if kind == "clip":
        return scores.mean(0)
    scores = scores.clamp(min=1e-9)
    mass = scores.sum(1, keepdim=True)
    product = ((scores / mass) ** (mass / mass.sum(0))).prod(0)
    return product / product.sum(0) * mass.mean(0)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_mirror_image_may_be_seen_smaller(kind, tmp_path):
    """The mean of a look at the photo and of one at its smaller mirror image, turned back."""
    config = replace(soft(kind), input=InputConfig(min_size=None, max_size=640))
    photo = Image.fromarray(noise(8, 8)).resize((256, 256), Image.Resampling.BICUBIC)
    both = looking(config, tmp_path, mirror=True, mirror_scale=0.625)
    once = looking(config, tmp_path)
    small = np.asarray(photo.resize((160, 160), Image.Resampling.BILINEAR))
    first = once.scores(np.asarray(photo), NAMES)
    second = once.scores(np.ascontiguousarray(small[:, ::-1]), NAMES).flip(-1)
    second = F.interpolate(second[None], (256, 256), mode="bilinear")[0]
    found = both.scores(np.asarray(photo), NAMES)
    mean = joined([first, second], kind)
    assert (found - mean).abs().mean() < 0.1 * (found - first).abs().mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", [{}, {"tile": 64}, {"masks": "halves"}])
@torch.inference_mode()
def test_with_a_mirror_left_and_right_are_treated_alike(kind, how, tmp_path):
    """A photo's mirror image has the mirrored scores, which no such network gives by itself."""
    photo = noise(64, 96)

    def halves(frame, patches, size_hw):
        left = np.arange(size_hw[1]) < size_hw[1] // 2
        return np.stack([np.broadcast_to(side, size_hw) for side in (left, ~left)])

    how = {**how, **({"masks": halves} if "masks" in how else {})}
    away = {}
    for mirror in (False, True):
        model = looking(KINDS[kind], tmp_path, mirror=mirror)
        segmenter = Segmenter(model, Vocabulary(NAMES), **how)
        one, other = segmenter.score_maps([Frame(photo), Frame(photo[:, ::-1].copy())])
        difference = full_scores(one, (64, 96)) - full_scores(other, (64, 96)).flip(-1)
        away[mirror] = difference.abs().max()
    assert away[True] < 1e-4 < away[False]


@pytest.mark.parametrize("kind", KINDS)
def test_high_quality_is_the_mean_of_six_looks(kind, tmp_path):
    """On photos whose sizes leave no padding, where only blending between numbers differs."""
    config = replace(soft(kind), input=InputConfig(min_size=None, max_size=640))
    path = tmp_path / "model.safetensors"
    model_file(config, path)
    photo = Image.fromarray(noise(8, 8)).resize((256, 256), Image.Resampling.BICUBIC)
    fast = load_model(path, "cpu", quality="fast")
    expected = []
    for side in (320, 256, 224):
        look = np.asarray(photo.resize((side, side), Image.Resampling.BILINEAR))
        for turned in (look, look[:, ::-1]):
            scores = fast.scores(turned.copy(), NAMES)
            scores = scores if turned is look else scores.flip(-1)
            scores = F.interpolate(scores[None], (256, 256), mode="bilinear")[0]
            expected.append(scores)
    found = load_model(path, "cpu", quality="high").scores(photo, NAMES)
    mean = joined(expected, kind)
    single = expected[2]
    assert (found - mean).abs().mean() < 0.1 * (found - single).abs().mean()


def test_photos_of_one_size_may_differ_at_another_scale(tmp_path):
    model = looking(PYRAMID, tmp_path, scales=(1.0, 0.77))
    segmenter = Segmenter(model, Vocabulary(NAMES))
    frames = [Frame(noise(64, 84)), Frame(noise(64, 81)), Frame(noise(64, 90))]
    assert len({segmenter.input_size(frame.size_hw) for frame in frames}) == 1
    together = [found.labels for found in segmenter.segment(frames)]
    for frame, labels in zip(frames, together, strict=True):
        assert (segmenter(frame).labels == labels).mean() > 0.999


@pytest.mark.parametrize("kind", ["clip", "pyramid"])
def test_windows_as_large_as_the_photo_change_nothing(kind, request):
    model = request.getfixturevalue(kind)
    photo = Frame(noise(75, 111))
    vocabulary = Vocabulary(NAMES)
    whole = Segmenter(model, vocabulary)(photo)
    tiled = Segmenter(model, vocabulary, tile=128)(photo)
    assert np.array_equal(whole.labels, tiled.labels)


@pytest.mark.parametrize("kind", ["clip", "pyramid"])
@torch.inference_mode()
def test_each_window_is_seen_for_itself(kind, request):
    """Far from the overlap a photo's scores are those of its left and right half alone."""
    model = request.getfixturevalue(kind)
    photo = noise(64, 128)
    vocabulary = Vocabulary(NAMES)
    (tiled,) = Segmenter(model, vocabulary, tile=64, overlap=0.0).score_maps([Frame(photo)])
    halves = [Frame(photo[:, :64].copy()), Frame(photo[:, 64:].copy())]
    left, right = (
        full_scores(s, (64, 64)) for s in Segmenter(model, vocabulary).score_maps(halves)
    )
    found = full_scores(tiled, (64, 128))
    torch.testing.assert_close(found[..., :60], left[..., :60], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[..., 68:], right[..., 4:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "patch"), [("clip", 1), ("pyramid", 4)])
@torch.inference_mode()
def test_windows_lie_in_the_photo_and_leave_its_padding_out(kind, patch, request):
    """75×111 pixels are seen at 64×95, padded to 64×96: two windows of 64, half of it shared.

    Masks have a number for each pixel, a grid one for each patch of 4.
    """
    segmenter = Segmenter(request.getfixturevalue(kind), NAMES, tile=64, overlap=0.5)
    (scores,) = segmenter.score_maps([Frame(noise(75, 111))])
    assert scores.size_hw == (64 // patch, 96 // patch)
    assert scores.span_hw == (64 / patch, 95 / patch)
    assert [(tile.top, tile.left) for tile in scores.tiles] == [(0, 0), (0, 32 // patch)]
    # A window counts less within its shared half: from nothing at its edge to all in its middle.
    numbers, half = 64 // patch, 32 // patch
    rising = (torch.arange(half) + 0.5) / half
    expected = torch.cat([rising, rising.flip(0)])
    for tile in scores.tiles:
        assert len(tile.across) == numbers
        torch.testing.assert_close(tile.across, expected)


@torch.inference_mode()
def test_refined_scores_follow_the_photo_as_the_network_sees_it(pyramid):
    photo = Frame(noise(75, 111))
    vocabulary = Vocabulary(NAMES)
    (plain,) = Segmenter(pyramid, vocabulary).score_maps([photo])
    (found,) = Segmenter(pyramid, vocabulary, refine=True).score_maps([photo])
    image = prepared(photo.pixels, (64, 95))[0, :, :64, :95]
    expected = refine(full_scores(plain, (64, 95)), image)
    held = found.held.tolist()
    assert held[-1] == len(NAMES)
    torch.testing.assert_close(found.rows(0, 64)[held], expected[held], atol=1e-5, rtol=1e-4)


def test_no_resizing_where_the_model_says_so():
    assert resized((77, 1234), InputConfig(min_size=None)) == (77, 1234)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"size_divisibility": 0}, {"size_divisibility": -8}, {"min_size": 0}, {"min_size": -5}),
        *({"max_size": 0}, {"pixel_std": (1.0, 0.0, 1.0)}, {"mirror_scale": 0.0}, {"scales": ()}),
    ],
)
def test_inputs_that_no_photo_fits(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        InputConfig(**wrong)


def test_one_pixel_and_one_class(pyramid):
    result = pyramid.segment(np.zeros((1, 1, 3), np.uint8), ["sky"])
    assert result.labels.tolist() == [[0]]


def test_image_kinds_give_the_same(pyramid, tmp_path):
    photo = noise(30, 40)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    from_array = pyramid.segment(photo, NAMES).labels
    assert (pyramid.segment(Image.fromarray(photo), NAMES).labels == from_array).all()
    assert (pyramid.segment(tmp_path / "photo.png", NAMES).labels == from_array).all()
    with pytest.raises(InputError):
        pyramid.segment(tmp_path / "absent.png", NAMES)
    for other in (torch.from_numpy(photo), photo.tobytes(), None):
        with pytest.raises(TypeError, match="an image is a path, a PIL image or an H×W×3 uint8"):
            pyramid.segment(other, NAMES)


def test_scores_are_those_of_a_jpeg_s_own_pixels(pyramid, tmp_path):
    """`segment` may decode a large one at a part of its size."""
    photo = noise(1200, 1600)
    Image.fromarray(photo).save(tmp_path / "large.jpg", quality=95)
    decoded = np.array(Image.open(tmp_path / "large.jpg"))
    found = pyramid.scores(tmp_path / "large.jpg", NAMES)
    assert torch.equal(found, pyramid.scores(decoded, NAMES))


def test_a_segmenter_takes_the_same_kinds_of_image(pyramid, tmp_path):
    photo = noise(30, 40)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    segmenter = Segmenter(pyramid, NAMES)
    expected = pyramid.segment(photo, NAMES).labels
    for image in (photo, Frame(photo), Image.fromarray(photo), tmp_path / "photo.png"):
        assert (segmenter(image).labels == expected).all()
    with pytest.raises(TypeError, match="an image is a path"):
        segmenter([photo])


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize(
    "setting",
    [
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: torch.device("meta"),
        lambda: default_dtype(torch.float64),
        lambda: default_dtype(torch.bfloat16),
    ],
    ids=["autocast", "device", "float64", "bfloat16"],
)
@pytest.mark.parametrize("kind", [CLIP, PYRAMID], ids=["clip", "pyramid"])
def test_what_a_program_sets_of_torch_for_itself_changes_nothing(
    setting, kind, tmp_path, monkeypatch
):
    def results():
        model = load_model(file, device="cpu")
        found = [
            model.segment(photo, NAMES, **options)
            for options in ({}, {"other": "rest"}, {"tile": 32}, {"refine": True})
        ]
        with torch.inference_mode():
            scores = model.scores(photo, NAMES)
        return found, scores

    file, photo = model_file(kind, tmp_path / "model.safetensors"), noise(70, 90)
    expected, expected_scores = results()
    monkeypatch.setenv("OVSEG_HOME", str(tmp_path / "another home"))  # text features anew
    with setting():
        found, scores = results()
    again, _ = results()  # with the text features kept meanwhile
    for result in (found, again):
        for one, other in zip(result, expected, strict=True):
            assert (one.labels == other.labels).all()
            assert (one.confidence == other.confidence).all()
    assert scores.dtype == torch.float32 and torch.equal(scores, expected_scores)


def test_text_features_are_kept_and_used_again(pyramid, tmp_path, monkeypatch):
    Segmenter(pyramid, Vocabulary(NAMES))
    (kept,) = (tmp_path / "home" / "text").iterdir()
    monkeypatch.setattr(pyramid.network.text, "encode", None)  # must not be asked again
    Segmenter(pyramid, Vocabulary(NAMES))
    monkeypatch.undo()
    monkeypatch.setenv("OVSEG_HOME", str(tmp_path / "home"))
    kept.write_bytes(b"damaged")
    Segmenter(pyramid, Vocabulary(NAMES))  # is made again
    assert kept.stat().st_size > 100
    Segmenter(pyramid, Vocabulary(["other", "words"]))
    assert len(list((tmp_path / "home" / "text").iterdir())) == 2


def test_a_home_that_cannot_be_written_is_no_error(pyramid, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OVSEG_HOME", str(tmp_path / "file"))
    assert len(Segmenter(pyramid, Vocabulary(NAMES)).vocabulary) == 3


def test_errors_name_the_culprit(pyramid):
    with pytest.raises(VocabularyError, match="verylong"):
        pyramid.segment(noise(9, 9), ["sky", "verylong " * 60])
    with pytest.raises(UsageError, match="overlap by 1.0"):
        pyramid.segment(noise(9, 9), NAMES, tile=64, overlap=1.0)
    with pytest.raises(UsageError, match="1.5"):
        pyramid.segment(noise(9, 9), NAMES, threshold=1.5)


def test_scores_that_are_not_finite_are_an_error(pyramid):
    with torch.no_grad():
        pyramid.network.visual.projection.bias[0] = torch.inf
    with pytest.raises(CheckpointError, match="not finite"):
        pyramid.segment(noise(9, 9), NAMES)


def test_bf16_is_close(tmp_path, pyramid):
    photo = noise(64, 96)
    half = load_model(tmp_path / "pyramid.safetensors", device="cpu", precision="bf16")
    assert half.precision == "bf16"
    difference = (half.scores(photo, NAMES) - pyramid.scores(photo, NAMES)).abs().mean()
    assert difference < 0.1


def test_an_imported_checkpoint_gives_the_same_scores(clip, tmp_path):
    stored = weights.load(tmp_path / "clip.safetensors").state_dict
    state = {source_name(k): v.clone() for k, v in stored.items()}
    # What the authors' files hold beside the tensors that count.
    state["clip_adapter.clip_model.logit_scale"] = torch.tensor(4.6)
    state["clip_adapter.prompt_learner.pad_signal"] = torch.zeros(1, CLIP.text.width)
    for name in ("weight", "bias"):
        state[f"decoder.norm.{name}"] = torch.zeros(CLIP.joint_width)
    torch.save({"model": state, "iteration": 60000}, tmp_path / "authors.pth")
    options = {
        "visual_heads": 2,
        "text_heads": 2,
        "proposal_heads": 2,
        "cal_heads": 4,
        "res5_multi_grid": [1],
        "min_size": 64,
        "max_size": 160,
    }
    entry = import_checkpoint(tmp_path / "authors.pth", "mine", options)
    assert entry.path.is_relative_to(tmp_path / "home")
    imported = load_model("mine", device="cpu")
    assert imported.config == CLIP
    photo = noise(75, 111)
    torch.testing.assert_close(imported.scores(photo, NAMES), clip.scores(photo, NAMES))


@pytest.fixture
def openai_style():
    return openai_style_state()


def import_clip(folder, state, **options) -> Model:
    torch.save(state, folder / "clip.pt")
    options = {"visual_heads": 2, "text_heads": 2, "min_size": 64, "max_size": 160, **options}
    import_checkpoint(folder / "clip.pt", "plain", options)
    return load_model("plain", device="cpu")


def test_a_plain_clip_has_learnt_nothing_of_what_fits_no_name(openai_style, tmp_path, pyramid):
    assert not import_clip(tmp_path, openai_style).knows_other
    assert pyramid.knows_other


@torch.no_grad()
def test_a_plain_clip_names_each_patch_for_itself(openai_style, tmp_path):
    """MaskCLIP: the last layer's values, then residual and MLP, ln_post and the projection."""
    model = import_clip(tmp_path, openai_style)
    assert model.config == PLAIN
    photo = noise(64, 96)
    visual = model.network.visual
    mean, std = (
        torch.tensor(v)[:, None, None] for v in (PLAIN.input.pixel_mean, PLAIN.input.pixel_std)
    )
    image = (torch.tensor(photo).permute(2, 0, 1).float() - mean) / std
    tokens = visual.conv1(image[None]).flatten(2).transpose(1, 2)  # (1, 24, width)
    tokens = torch.cat([visual.class_embedding.view(1, 1, -1), tokens], 1)
    tokens = visual.ln_pre(tokens + resize_positions(visual.positional_embedding, (4, 6)))
    first, last = visual.blocks
    tokens = first(tokens)
    width = PLAIN.visual.width
    h = last.ln_1(tokens)
    value = h @ last.attn.in_proj_weight[2 * width :].T + last.attn.in_proj_bias[2 * width :]
    tokens = tokens + last.attn.out_proj(value)
    tokens = tokens + last.mlp(last.ln_2(tokens))
    patches = F.normalize(visual.ln_post(tokens[0, 1:]) @ visual.proj, dim=-1)
    text = model.network.text.encode(NAMES, ["a photo of a {}."])
    logits = torch.cat([100 * patches @ text.T, torch.zeros(24, 1)], 1)  # non-object: zero
    p = logits.softmax(-1).T.view(1, -1, 4, 6)
    expected = F.interpolate(p, (64, 96), mode="bilinear")[0][:-1]
    torch.testing.assert_close(model.scores(photo, NAMES), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("severance", ["csa", "self", "neighbour"])
def test_a_plain_clip_with_other_attention(openai_style, tmp_path, severance):
    model = import_clip(tmp_path, openai_style, severance=severance, reduced=True, gelu="exact")
    assert (model.config.visual.severance, model.config.visual.reduced) == (severance, True)
    assert model.config.text.gelu == model.config.visual.gelu == "exact"
    assert model.segment(noise(50, 70), NAMES).labels.shape == (50, 70)


@pytest.mark.parametrize("gelu", ["quick", "exact"])
@torch.no_grad()
def test_both_towers_are_those_of_open_clip(tmp_path, gelu):
    from open_clip.model import CLIP as OpenClip
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    torch.manual_seed(7)
    theirs = OpenClip(
        16,
        CLIPVisionCfg(layers=2, width=16, head_width=8, patch_size=16, image_size=48),
        CLIPTextCfg(context_length=77, vocab_size=49408, width=8, heads=2, layers=1),
        quick_gelu=gelu == "quick",
    ).eval()
    ours = import_clip(tmp_path, theirs.state_dict(), gelu=gelu).network
    images = torch.randn(2, 3, 48, 48)
    features = ours.visual.image_features(images)
    torch.testing.assert_close(features, theirs.encode_image(images), atol=1e-4, rtol=1e-4)
    ids = ours.text.tokenize(["a photo of a cat.", "sky"])
    expected = theirs.encode_text(ids, normalize=True)
    torch.testing.assert_close(ours.text.features(ids), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_masks_from_elsewhere_are_named_by_their_patches(pyramid):
    photo = noise(64, 96)
    masks = np.zeros((3, 64, 96), bool)
    masks[0, :, :40], masks[1, 16:32, 30:80], masks[2, 60:, 90:] = True, True, True
    seen = {}

    def source(frame, features, size_hw):
        seen["features"], seen["size"] = features, size_hw
        return masks

    labels = pyramid.segment(photo, NAMES, masks=source).labels
    network = pyramid.network
    patches = F.normalize(network.patch_features(prepared(photo, (64, 96))), dim=-1)[0]
    assert seen["size"] == (64, 96)
    torch.testing.assert_close(torch.from_numpy(seen["features"]), patches)
    text = network.text.encode(NAMES)
    non_object = F.normalize(network.text.non_object_embedding, dim=-1)
    total = torch.zeros(len(NAMES), 64, 96)
    for mask in torch.from_numpy(masks):
        share = mask.float().view(16, 4, 24, 4).mean((1, 3))  # of each patch
        mean = F.normalize((share[..., None] * patches).sum((0, 1)), dim=-1)
        p = (100 * torch.cat([text, non_object]) @ mean).softmax(0)[:-1]
        total += p[:, None, None] * mask
    expected = total.argmax(0).int()
    expected[total.sum(0) == 0] = UNLABELED
    assert (labels == expected.numpy()).mean() > 0.999  # ties between scores that are alike


def test_masks_of_another_photo_s_size_are_cut_to_the_padded_input(pyramid):
    """75×111 pixels become 64×95 and are padded to 64×96."""

    def left_half(frame, features, size_hw):
        assert features.shape == (16, 24, 16)
        assert size_hw == (64, 95)
        masks = np.zeros((1, *size_hw), bool)
        masks[0, :, :48] = True
        return masks

    labels = pyramid.segment(noise(75, 111), NAMES, masks=left_half).labels
    assert (labels[:, :55] >= 0).all()
    assert (labels[:, 58:] == UNLABELED).all()


@pytest.mark.parametrize(
    ("masks", "found"),
    [
        (np.ones((2, 64, 96), np.uint8), r"\(2, 64, 96\) uint8"),
        (np.ones((1, 3, 3), bool), r"\(1, 3, 3\) bool"),
        (np.ones((0, 64, 96), bool), r"\(0, 64, 96\) bool"),
        (np.ones((64, 96), bool), r"\(64, 96\) bool"),
        ([np.ones((64, 96), bool)], "a list"),
    ],
)
def test_a_source_of_masks_that_breaks_its_contract(pyramid, masks, found):
    """Values beyond 1, for one, would make confidences that are none."""
    with pytest.raises(ValueError, match=f"masks are Q×64×96 bool, at least one, not {found}"):
        pyramid.segment(noise(64, 96), NAMES, masks=lambda *_: masks)


def test_a_segmenter_takes_a_list_of_names(pyramid):
    assert Segmenter(pyramid, list(NAMES)).vocabulary == Vocabulary(NAMES)


def test_windows_and_masks_from_elsewhere_exclude_each_other(pyramid):
    with pytest.raises(UsageError, match="--tile"):
        pyramid.segment(noise(64, 96), NAMES, tile=64, masks=lambda *_: None)


@pytest.mark.parametrize(
    ("attention", "severance", "reduced"),
    [
        ("severed", "gps", False),
        ("mask", "mps", False),
        ("csa", "csa", False),
        ("self", "self", True),
        ("neighbour", "neighbour", True),
    ],
)
@pytest.mark.parametrize("config", [CLIP, PYRAMID], ids=["clip", "pyramid"])
def test_the_last_layer_s_attention_can_be_chosen(tmp_path, config, attention, severance, reduced):
    path = model_file(config, tmp_path / "m.safetensors")
    model = load_model(path, device="cpu", attention=attention)
    visual = model.config.visual
    assert (visual.severance, visual.reduced) == (severance, reduced)
    labels = model.segment(noise(64, 96), NAMES).labels
    assert labels.shape == (64, 96)
    other = load_model(path, device="cpu", attention=attention, last_block="reduced")
    assert other.config.visual.reduced
    scores = [m.scores(noise(64, 96), NAMES) for m in (load_model(path, device="cpu"), model)]
    assert not torch.allclose(*scores, rtol=1e-3)


def test_an_attention_that_looks_at_masks_needs_some(openai_style, tmp_path):
    import_clip(tmp_path, openai_style)
    model = load_model("plain", device="cpu", attention="mask")
    with pytest.raises(UsageError, match="needs masks"):
        model.segment(noise(64, 96), NAMES)

    def halves(frame, features, size_hw):
        masks = np.zeros((2, *size_hw), bool)
        masks[0, :, : size_hw[1] // 2] = True
        return np.stack([masks[0], ~masks[0]])

    seen = model.segment(noise(64, 96), NAMES, masks=halves).labels
    assert len(np.unique(seen[:, :40])) == len(np.unique(seen[:, 56:])) == 1


def test_what_a_plain_clip_cannot_do(openai_style, tmp_path):
    model = import_clip(tmp_path, openai_style)
    assert not model.network.has_regions
    with pytest.raises(UsageError, match="without mask proposals"):
        load_model("plain", proposals="queries")
    for options, message in (
        ({"severance": "gps_mask"}, "severance .* one of gps, csa"),
        ({"cal_heads": 8}, "unknown keys .*: cal_heads"),
    ):
        with pytest.raises(UsageError, match=message):
            import_clip(tmp_path, openai_style, **options)
    openai_style["visual.ln_pre.weight"] = torch.zeros(15)
    del openai_style["visual.ln_post.bias"]
    told = (
        r"not those of a CLIP with a ViT: missing: visual\.ln_post\.bias; "
        r"misshapen: visual\.ln_pre\.weight is \[15\], not \[16\]"
    )
    with pytest.raises(CheckpointError, match=told):
        import_clip(tmp_path, openai_style)


@pytest.mark.parametrize("tokens", [32000, 49409])
def test_a_clip_of_another_tokenizer_is_not_imported(openai_style, tmp_path, tokens):
    openai_style["token_embedding.weight"] = torch.zeros(tokens, 8)
    with pytest.raises(CheckpointError, match=f"has {tokens} tokens, CLIP's tokenizer 49408"):
        import_clip(tmp_path, openai_style)
