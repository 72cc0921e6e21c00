"""Stage "dense": pixels and pictures point at the features of their names."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ovseg_cli.data import image_sampler, pixel_sampler
from ovseg_cli.data.batches import Guest, ImageBatch, PixelBatch, ViewStyle
from ovseg_cli.data.pixel_sampler import PixelSampler, class_weights
from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.errors import UsageError
from ovseg_cli.model.build import build
from ovseg_cli.model.config import OtherWeight
from ovseg_cli.training import dense, dense_data
from ovseg_cli.training.dense import DenseBatch, DenseStage
from ovseg_cli.training.dense_config import GROUPS, DenseConfig, Phase
from ovseg_cli.training.kept import Kept
from ovseg_cli.training.other_names import OtherNames
from ovseg_cli.training.photo_marks import PhotoMarksConfig
from ovseg_cli.training.picture_masks import PictureMasksConfig

CPU = torch.device("cpu")
SETS = {"discs": "train", "fields": "train"}
PHOTOS = Phase(until=1.0, size=64, batch=4, sets={"discs": 1.0, "fields": 1.0}, scales=(0.9, 1.2))
CONFIG = DenseConfig(phases=(PHOTOS,), pixel_sets=SETS, evaluate_size=64, drop_share=0.0)


def stage_of(model, config, data):
    """A stage that keeps nothing in files."""
    return DenseStage(model, config, data, 100, CPU, out=Path("kept-nowhere"), origin="")


@pytest.fixture
def stage(tiny, data):
    return stage_of(build(tiny), CONFIG, data)


def test_patches_learn_and_text_and_proposals_stay(stage, learn):
    effect = learn(stage, 60, 1e-2)
    assert effect.after["pixels"] < 0.6 * effect.before["pixels"]
    assert effect.scores["fields"] > 0.8
    rooms = ("backbone.", "visual.", "text.non_object_embedding")
    assert all(name.startswith(rooms) for name in effect.changed)
    assert all(any(name.startswith(room) for name in effect.changed) for room in rooms)


def test_a_batch_is_a_function_of_its_step(stage):
    for step in (0, 7):
        one, other = stage.batch(step), stage.batch(step)
        for a, b in zip(one.groups, other.groups, strict=True):
            assert a.set_name == b.set_name
            assert np.array_equal(a.images, b.images)
            assert np.array_equal(a.labels, b.labels)
        assert one.draw.random() == other.draw.random()
    assert stage.batch(0).draw.random() != stage.batch(1).draw.random()


def test_a_set_may_have_a_weight_power_of_its_own(tiny, data):
    config = replace(CONFIG, weight_power=0.4, weight_powers={"fields": 0.1})
    stage = stage_of(build(tiny), config, data)
    for name, power in (("discs", 0.4), ("fields", 0.1)):
        expected = class_weights(stage.photos[name].pixels, power)
        assert stage.names.own[name].weights.tolist() == expected.tolist()


def test_views_of_some_sets_are_mixed(tiny, data, monkeypatch):
    asked = {}
    draw = PixelSampler.draw

    def keep(sampler, count, style, generator):
        asked[sampler.data.name] = style.mix_share
        return draw(sampler, count, style, generator)

    monkeypatch.setattr(PixelSampler, "draw", keep)
    stage = stage_of(build(tiny), replace(CONFIG, mix_shares={"fields": 0.25}), data)
    for step in range(5):
        stage.batch(step)
    assert asked == {"fields": 0.25, "discs": 0.0}


@pytest.mark.parametrize(
    ("other_weight", "non_object"), [(OtherWeight(), 1.0), (OtherWeight(0.5, 0.8), 0.5 * 2**0.8)]
)
def test_the_pixel_loss_is_the_weighted_cross_entropy_over_the_sets_own_names(
    stage, monkeypatch, other_weight, non_object
):
    """non_object: times as much as it speaks for is said for it, there being two names."""
    monkeypatch.setattr(dense, "jitter_colour", lambda images, draw: images)
    stage.config = replace(CONFIG, other_weight=other_weight)
    draw = np.random.default_rng(0)
    group = stage.photos["discs"].draw(1, ViewStyle(64, (1.0, 1.0), 0.5), draw)
    assert {0, 1, 2, IGNORE} >= set(np.unique(group.labels).tolist()) > {2}
    batch = DenseBatch((group,) * 4, draw)
    found = stage.losses(batch)
    assert set(found) == {"pixels"}  # no Jaccard loss unless it is asked for

    images = torch.from_numpy(group.images.copy()).permute(0, 3, 1, 2).float()
    model = stage.model.train()  # batch statistics, those of one view repeated
    patches = F.normalize(model.patch_features(model.normalise(images)), dim=-1)[0]
    text = model.text.encode(["red", "blue"])
    rows = torch.cat([text, F.normalize(model.text.non_object_embedding, dim=-1)])
    logits = (20 * patches @ rows.T).permute(2, 0, 1)
    logits = F.interpolate(logits[None], (32, 32), mode="bilinear")[0]
    masses = logits.exp() * torch.tensor([1, 1, non_object])[:, None, None]
    weights, total, count = stage.names.own["discs"].weights, 0.0, 0
    for y in range(32):
        for x in range(32):
            label = int(group.labels[0, 2 * y, 2 * x])
            if label != IGNORE:
                share = masses[label, y, x] / masses[:, y, x].sum()
                total -= (weights[label] * share.log()).item()
                count += 1
    assert found["pixels"].item() == pytest.approx(total / count, rel=1e-3)


def test_a_view_that_is_all_unknown_costs_nothing(stage):
    labels = np.full((1, 64, 64), IGNORE, np.uint8)
    group = PixelBatch("fields", np.zeros((1, 64, 64, 3), np.uint8), labels)
    stage.config = replace(CONFIG, jaccard_weight=1.0)
    losses = stage.losses(DenseBatch((group,) * 4, np.random.default_rng(0)))
    assert {name: loss.item() for name, loss in losses.items()} == {"pixels": 0, "jaccard": 0}
    sum(losses.values()).backward()


def test_the_jaccard_loss_counts_with_its_weight(stage, monkeypatch):
    monkeypatch.setattr(dense, "jitter_colour", lambda images, draw: images)
    group = stage.photos["discs"].draw(1, ViewStyle(64, (1.0, 1.0), 0.5), np.random.default_rng(0))
    found = {}
    for weight in (1.0, 0.25):
        stage.config = replace(CONFIG, jaccard_weight=weight, synonym_share=0.0)
        batch = DenseBatch((group,) * 4, np.random.default_rng(0))
        found[weight] = stage.losses(batch)["jaccard"].item()
    assert found[1.0] > 0
    assert found[0.25] == pytest.approx(found[1.0] / 4)


def test_phases_follow_each_other(tiny, data):
    phases = tuple(replace(PHOTOS, until=until, size=size) for until, size in ((0.25, 32), (1, 64)))
    stage = stage_of(build(tiny), replace(CONFIG, phases=phases), data)
    sizes = [stage.phase(step).size for step in (0, 24, 25, 99, 100)]
    assert sizes == [32, 32, 64, 64, 64]
    assert stage.batch(0).groups[0].images.shape == (1, 32, 32, 3)


@pytest.fixture
def mixed(tiny, pictures):
    """Photos and pictures in turn."""
    phase = replace(PHOTOS, sets={"fields": 1.0, "moods": 1.0})
    config = replace(CONFIG, phases=(phase,), image_sets={"moods": "train"}, synonym_share=0.0)
    return stage_of(build(tiny), config, pictures)


def test_a_step_mixes_photos_and_mosaics_of_pictures(mixed):
    assert mixed.names.own["moods"].phrases == (("sunny", "bright"), ("dark",))
    batches = [mixed.batch(step) for step in range(30)]
    groups = [group for batch in batches for group in batch.groups]
    mosaics = [group for group in groups if isinstance(group, ImageBatch)]
    assert 40 < len(mosaics) < 80  # half of 120
    for group in mosaics:
        assert group.images.shape == (1, 64, 64, 3)
        assert group.classes.shape == (1, 2, 2)  # pictures of 32
    kinds = [{type(group) for group in batch.groups} for batch in batches]
    both = next(b for b, kind in zip(batches, kinds, strict=True) if len(kind) == 2)
    assert set(mixed.losses(both)) == {"pixels", "pictures"}


def test_pictures_alone_can_be_learnt(tiny, pictures):
    phase = replace(PHOTOS, sets={"moods": 1.0})
    config = replace(CONFIG, phases=(phase,), image_sets={"moods": "train"})
    stage = stage_of(build(tiny), config, pictures)
    assert set(stage.losses(stage.batch(0))) == {"pictures"}


@pytest.fixture
def halves(monkeypatch):
    """In each picture its thing is said to be in the upper half; what the stage asked for."""
    asked = {}

    def stand_in(model, pictures, words, config, file, device):
        asked.update(words=words, file=file)
        masks = np.zeros(pictures.images.shape[:3], np.uint8)
        masks[:, : masks.shape[1] // 2] = 1
        return masks

    monkeypatch.setattr(dense_data, "stored_masks", stand_in)
    return asked


def test_what_pictures_are_named_after_can_be_marked_in_them(tiny, pictures, halves, tmp_path):
    phase = replace(PHOTOS, sets={"moods": 1.0})
    config = replace(
        CONFIG,
        phases=(phase,),
        image_sets={"moods": "train"},
        picture_masks=PictureMasksConfig(),
        picture_scales=(2.0, 2.0),
        other_names=(OtherNames(("day", "night"), ("moods",), {"day": ("sunny",)}),),
        other_names_share=0.0,
    )
    stage = DenseStage(build(tiny), config, pictures, 40, CPU, tmp_path, "these")
    assert halves["words"] == [["sunny", "bright", "day"], ["dark"]]
    assert halves["file"] == Kept(tmp_path / "moods-masks.npz", "these")
    batch = stage.batch(0)
    for group in batch.groups:
        assert isinstance(group, PixelBatch)
        assert group.labels.shape == (1, 64, 64)  # one picture, enlarged twice
        assert set(np.unique(group.labels)) <= {0, 1, 2, IGNORE}
    lower = np.mean([(group.labels == 2).mean() for group in batch.groups])
    assert 0.3 < lower < 0.8  # what is none of the names
    assert set(stage.losses(batch)) == {"pixels"}
    # As "day", what is around it may be anything; as none of the names, it weighs less.
    renaming = stage.names.others["moods"][0]
    assert renaming.table[:3].tolist() == [0, 2, IGNORE]
    assert renaming.weights.tolist() == [1, 1, pytest.approx(0.3)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"other_names": (OtherNames(("day",), ("moods",), {"day": ("rainy",)}),)},
        {"picture_masks": PictureMasksConfig(parts=("rainy",))},
        {"guests": ("rainy",)},
    ],
)
def test_what_is_wrong_with_a_recipe_is_said_before_pictures_are_marked(
    tiny, pictures, halves, wrong
):
    config = replace(CONFIG, image_sets={"moods": "train"}, picture_masks=PictureMasksConfig())
    with pytest.raises(UsageError, match="rainy"):
        stage_of(build(tiny), replace(config, **wrong), pictures)
    assert not halves


@pytest.mark.parametrize("masks", [PictureMasksConfig(), None])
def test_too_many_classes_are_said_before_pictures_are_marked(
    tiny, pictures, halves, monkeypatch, masks
):
    """Nor are they learnt as they are: numbers from 255 on would be those of other things."""
    monkeypatch.setattr(image_sampler, "IGNORE", 2)  # moods has two classes
    config = replace(CONFIG, image_sets={"moods": "train"}, picture_masks=masks)
    with pytest.raises(UsageError, match="moods: 2 classes are too many for stage dense"):
        stage_of(build(tiny), config, pictures)
    assert not halves


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"guests": ("dark",), "picture_masks": None}, "picture_masks is missing"),
        ({"guest_share": 0.5}, "guest_share needs guests"),
    ],
)
def test_guests_come_of_marked_pictures(tiny, pictures, wrong, said):
    config = replace(CONFIG, image_sets={"moods": "train"}, picture_masks=PictureMasksConfig())
    with pytest.raises(UsageError, match=said):
        stage_of(build(tiny), replace(config, **wrong), pictures)


MARKS = PhotoMarksConfig(("discs",), names=("day",), sizes=(64,))


@pytest.mark.parametrize(
    ("marks", "said"),
    [
        ([replace(MARKS, sets=("deserts",))], "deserts is not among the pixel_sets"),
        ([MARKS, MARKS], "discs is listed twice"),
        ([replace(MARKS, sets=("fields",))], "fields has no pixels that are none of its names"),
    ],
)
def test_marks_of_sets_that_cannot_have_them(tiny, data, marks, said):
    with pytest.raises(UsageError, match=f"photo_marks: {said}"):
        stage_of(build(tiny), replace(CONFIG, photo_marks=tuple(marks)), data)


def test_what_is_marked_in_photos_is_learnt(tiny, data, tmp_path, monkeypatch):
    """All that is none of the names of the discs is marked as day."""

    def all_day(model, photos, config, file, device):
        assert file.path == tmp_path / "discs-marks.npz"
        labels = [photos.photo(index)[1] for index in range(len(photos.data.keys))]
        return [np.where(each == 2, 3, each).astype(np.uint8) for each in labels]

    monkeypatch.setattr(dense_data, "stored_marks", all_day)
    phase = replace(PHOTOS, sets={"discs": 1.0})
    config = replace(
        CONFIG, phases=(phase,), photo_marks=(MARKS,), other_names_share=1.0, synonym_share=0.0
    )
    stage = DenseStage(build(tiny), config, data, 100, CPU, out=tmp_path, origin="")
    for group in stage.batch(0).groups:
        assert {0, 1, 3, IGNORE} >= set(np.unique(group.labels).tolist()) > {3}
    names = stage.names.draw("discs", np.random.default_rng(0))
    assert torch.equal(names.text, stage.names.features(["red", "blue", "day"]))
    assert names.table[:5].tolist() == [0, 1, 3, 2, IGNORE]


def test_guests_are_learnt_in_photos(tiny, pictures, halves, monkeypatch):
    config = replace(
        CONFIG,
        image_sets={"moods": "train"},
        picture_masks=PictureMasksConfig(),
        guest_share=1.0,
        guests=("dark",),
    )
    stage = stage_of(build(tiny), config, pictures)
    batch = stage.batch(0)
    for group in batch.groups:
        assert list(group.guests.values()) == [Guest("moods", 1)]
        label = stage.photos[group.set_name].data.other + 1
        assert (group.labels == label).any()
    asked = []
    thinned = stage.names.thinned
    monkeypatch.setattr(
        stage.names, "thinned", lambda names, *rest: asked.append(names) or thinned(names, *rest)
    )
    assert set(stage.losses(batch)) == {"pixels"}
    for group, names in zip(batch.groups, asked, strict=True):
        own = stage.photos[group.set_name].names
        assert torch.equal(names.text, stage.names.features([*own, "dark"]))
        assert names.table[len(own) : len(own) + 2].tolist() == [len(own) + 1, len(own)]


def test_marked_things_are_pasted_into_photos_that_have_a_name_for_them(
    tiny, pictures, halves, monkeypatch
):
    monkeypatch.setattr(pixel_sampler, "LARGEST_PASTED", 1.0)  # the discs are large
    other = OtherNames(("red", "blue"), ("moods",), {"red": ("sunny",), "blue": ("dark",)})
    config = replace(
        CONFIG,
        image_sets={"moods": "train"},
        picture_masks=PictureMasksConfig(parts=("dark",)),
        other_names=(other,),
        paste_share=1.0,
    )
    stage = stage_of(build(tiny), config, pictures)
    discs, moods = stage.photos["discs"], stage.pictures["moods"]
    donors = {label: [thing.donor for thing in found] for label, found in discs._things.items()}
    red, blue = (discs.names.index(name) for name in ("red", "blue"))
    assert donors[red].count(moods) == (moods.data.classes == 0).sum()
    assert donors[blue].count(moods) == 0


@pytest.fixture
def renamed(tiny, pictures):
    """Both kinds of sets always under the names of another vocabulary."""
    phase = replace(PHOTOS, sets={"discs": 1.0, "moods": 1.0})
    other = OtherNames(
        ("day", "blue", "green"), ("discs", "moods"), {"day": ("sunny",)}, unsure=("red",)
    )
    config = replace(
        CONFIG,
        phases=(phase,),
        pixel_sets={"discs": "train"},
        image_sets={"moods": "train"},
        other_names=(other,),
        other_names_share=1.0,
        synonyms={"green": ("verdant",)},
    )
    return stage_of(build(tiny), config, pictures)


def test_photos_and_pictures_may_go_by_the_names_of_another_vocabulary(renamed):
    kinds = {type(group) for group in renamed.batch(1).groups}
    assert kinds == {PixelBatch, ImageBatch}
    assert set(renamed.losses(renamed.batch(1))) == {"pixels", "pictures"}


def test_a_picture_of_none_of_the_names_points_at_the_non_object(renamed, monkeypatch):
    monkeypatch.setattr(dense, "jitter_colour", lambda images, draw: images)
    renamed.names.config = replace(renamed.config, synonym_share=0.0)
    group = renamed.pictures["moods"].draw(1, 64, np.random.default_rng(0))
    found = renamed.losses(DenseBatch((group,) * 4, np.random.default_rng(0)))["pictures"].item()

    model = renamed.model.train()
    images = torch.from_numpy(group.images.copy()).permute(0, 3, 1, 2).float()
    patches = model.patch_features(model.normalise(images))[0]  # (16, 16, C)
    rows = model.text.encode(["day", "blue", "green"])
    rows = torch.cat([rows, F.normalize(model.text.non_object_embedding, dim=-1)])
    total = weight = 0.0
    for row in range(2):
        for column in range(2):
            mean = patches[8 * row : 8 * row + 8, 8 * column : 8 * column + 8].mean((0, 1))
            log = (20 * F.normalize(mean, dim=0) @ rows.T).log_softmax(0)
            w = (1.0, 1.0, 1.0, 0.3)
            truth = 0 if group.classes[0, row, column] == 0 else 3
            smooth = sum(wk * lk for wk, lk in zip(w, log.tolist(), strict=True)) / 4
            total -= 0.9 * w[truth] * log[truth].item() + 0.1 * smooth
            weight += w[truth]
    assert found == pytest.approx(total / weight, rel=1e-3)


@pytest.mark.parametrize("name", ["discs", "moods"])
def test_what_may_be_anything_costs_nothing(renamed, name):
    """Under a vocabulary that says of no class what it is."""
    found = renamed.names.others[name][0]
    renamed.names.others[name] = [replace(found, table=torch.full((256,), IGNORE))]
    draw = np.random.default_rng(0)
    if name == "discs":
        group = renamed.photos[name].draw(1, ViewStyle(64, (1.0, 1.0), 0.5), draw)
    else:
        group = renamed.pictures[name].draw(1, 64, draw)
    losses = renamed.losses(DenseBatch((group,) * 4, draw))
    assert [loss.item() for loss in losses.values()] == [0]
    sum(losses.values()).backward()


def test_the_picture_loss_names_the_mean_patch_of_each_picture(mixed, monkeypatch):
    monkeypatch.setattr(dense, "jitter_colour", lambda images, draw: images)
    views = np.random.default_rng(0).integers(256, size=(1, 64, 64, 3)).astype(np.uint8)
    group = ImageBatch("moods", views, np.array([[[1, 0], [0, 0]]]))
    found = mixed.losses(DenseBatch((group,) * 4, np.random.default_rng(0)))["pictures"].item()
    model = mixed.model.train()  # batch statistics, those of one mosaic repeated
    images = torch.from_numpy(views).permute(0, 3, 1, 2).float()
    patches = model.patch_features(model.normalise(images))[0]  # (16, 16, C): 8×8 a picture
    text = model.text.encode(["sunny", "dark"])
    total = 0.0
    for rows, columns, name in (
        (slice(0, 8), slice(0, 8), 1),
        (slice(0, 8), slice(8, 16), 0),
        (slice(8, 16), slice(0, 8), 0),
        (slice(8, 16), slice(8, 16), 0),
    ):
        pooled = F.normalize(patches[rows, columns].mean((0, 1)), dim=0)
        logs = (20 * text @ pooled).log_softmax(0)
        total -= (0.9 * logs[name] + 0.1 * logs.mean()).item()  # labels smoothed by 0.1
    assert found == pytest.approx(total / 4, rel=1e-3)


@pytest.mark.parametrize("batch", [0, 2, 30])
def test_a_batch_is_divided_among_the_groups(batch):
    with pytest.raises(ValueError, match=f"a multiple of {GROUPS}, not {batch}"):
        replace(PHOTOS, batch=batch)


def test_folders_of_one_name_are_two_sets(tiny, data, tmp_path):
    sets = {"mine": "discs", "v2/mine/": "fields"}
    for name, original in sets.items():
        shutil.copytree(data / original, tmp_path / name)
    phase = replace(PHOTOS, sets=dict.fromkeys(sets, 1.0))
    config = replace(CONFIG, pixel_sets=dict.fromkeys(sets, "train"), phases=(phase,))
    stage = stage_of(build(tiny), config, tmp_path)
    assert stage.names.own["mine"].phrases == (("red",), ("blue",))
    assert stage.names.own["v2/mine/"].phrases == (("sky",), ("grass",))
    batch = stage.batch(0)
    assert {group.set_name for group in batch.groups} == set(sets)
    for group in batch.groups:
        others = 2 in group.labels  # the background of discs; all of fields has a name
        assert others == (group.set_name == "mine")
    assert set(stage.losses(batch)) == {"pixels"}
