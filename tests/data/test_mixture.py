"""Batches from several data sets."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.data.image_set import ImageSet
from ovseg_cli.data.mixture import (
    Guest,
    ImageSampler,
    PixelMixture,
    PixelSampler,
    ViewConfig,
    ViewStyle,
    class_weights,
)
from ovseg_cli.data.pixel_set import IGNORE, read_pixel_set
from ovseg_cli.errors import UsageError


@pytest.fixture
def plains(tmp_path):
    """Three photos of 40×40: one shows a rare class, all the common one, none the third."""
    return write_plains(tmp_path / "plains")


def write_plains(root):
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    names = {0: "background", 1: "common", 2: "rare", 3: "never"}
    (root / "classes.json").write_text(json.dumps(names))
    (root / "train.txt").write_text("p0\np1\np2\n")
    for index in range(3):
        labels = np.ones((40, 40), np.uint8)
        labels[:4] = 0
        labels[-1] = 255
        if index == 1:
            labels[10:18, 10:18] = 2
        Image.fromarray(labels).save(root / "labels" / f"p{index}.png")
        photo = np.full((40, 40, 3), 100 + index, np.uint8)
        photo[labels == 2] = 200
        Image.fromarray(photo).save(root / "images" / f"p{index}.png")
    return root


def draw_from(sampler, count, focus_share, seed=0, size=12, scales=(1.0, 1.0)):
    draw = np.random.default_rng(seed)
    return sampler.draw(count, ViewStyle(size, scales, focus_share), draw)


def test_pixels_are_counted_by_training_id(plains):
    sampler = PixelSampler(read_pixel_set(plains, "train"))
    assert sampler.pixels.tolist() == [3 * 40 * 35 - 64, 64, 0, 3 * 160]
    assert [showing.tolist() for showing in sampler.showing] == [[0, 1, 2], [1], []]
    assert sampler.focusable == [0, 1]


def test_views_that_aim_show_rare_classes_more_often(plains):
    sampler = PixelSampler(read_pixel_set(plains, "train"))
    shares = []
    for focus_share in (0.0, 1.0):
        views = draw_from(sampler, 400, focus_share)
        assert views.set_name == "plains"
        assert views.images.shape == (400, 12, 12, 3) and views.labels.shape == (400, 12, 12)
        shares.append((views.labels == 1).any((1, 2)).mean())
        photos = views.images[..., 0].min((1, 2))
        assert set(photos.tolist()) == {100, 101, 102}
    # Aimed views draw the rare class with 1 / (1 + 3^0.4) = 0.39.
    assert shares[0] < 0.25
    assert shares[1] > 0.39


def test_what_does_not_fit_into_memory_is_read_again(plains):
    data = read_pixel_set(plains, "train")
    whole, none = PixelSampler(data), PixelSampler(data, memory=0)
    some = PixelSampler(data, memory=40 * 40 * 4)
    assert [len(s._kept) for s in (whole, some, none)] == [3, 1, 0]
    expected = draw_from(whole, 20, 0.5)
    for sampler in (some, none):
        found = draw_from(sampler, 20, 0.5)
        assert np.array_equal(found.images, expected.images)
        assert np.array_equal(found.labels, expected.labels)


def test_of_classes_with_many_things_more_is_pasted_but_not_in_proportion(plains, tmp_path):
    """Of one class there is one thing, of another 33, nearly all of another set."""
    labels = np.ones((40, 40), np.uint8)
    labels[10:18, 10:18] = 3
    Image.fromarray(labels).save(plains / "labels" / "p2.png")
    other = write_plains(tmp_path / "other")
    (other / "classes.json").write_text(json.dumps({0: "background", 1: "ground", 2: "never"}))
    sampler = PixelSampler(read_pixel_set(plains, "train"))
    for _ in range(32):
        sampler.borrow(PixelSampler(read_pixel_set(other, "train")), {})
    assert [sampler.names[label] for label in sampler.pastable] == ["rare", "never"]
    views = sampler.draw(900, ViewStyle(40, (1.0, 1.0), paste_share=1.0), np.random.default_rng(0))
    plain = (views.images[..., 0] == 100).any((1, 2))  # of the photo that shows neither
    rare, many = ((views.labels[plain] == label).any((1, 2)) for label in (1, 2))
    assert (rare ^ many).all()
    assert rare.mean() == pytest.approx(1 / (1 + 33**0.4), abs=0.07)  # three deviations


def test_a_set_of_background_alone_can_be_drawn(plains):
    for index in range(3):
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(plains / "labels" / f"p{index}.png")
    views = draw_from(PixelSampler(read_pixel_set(plains, "train")), 5, 1.0)
    assert (views.labels == 3).all()


@pytest.mark.parametrize(
    ("ids", "reason"),
    [((9, 77), r"no id in its labels \(9, 77\) is in classes\.json"), ((255,), "all are ignored")],
)
def test_a_set_of_which_no_pixel_counts(plains, ids, reason):
    for index in range(3):
        labels = np.full((40, 40), ids[index % len(ids)], np.uint8)
        Image.fromarray(labels).save(plains / "labels" / f"p{index}.png")
    with pytest.raises(UsageError, match=f"plains: no pixel counts: {reason}"):
        PixelSampler(read_pixel_set(plains, "train"))


def test_ids_of_no_class_are_told_of(plains, caplog):
    PixelSampler(read_pixel_set(plains, "train"))
    assert not caplog.text
    Image.fromarray(np.full((40, 40), 9, np.uint8)).save(plains / "labels" / "p1.png")
    PixelSampler(read_pixel_set(plains, "train"))
    assert "plains: labels hold ids that are not in classes.json (9)" in caplog.text


def test_things_are_pasted_with_their_labels(plains):
    """Photo p1 alone shows the rare class; each photo is one grey, so pixels tell their origin."""
    for index in range(3):
        grey = np.full((40, 40, 3), 50 * index, np.uint8)
        Image.fromarray(grey).save(plains / "images" / f"p{index}.png")
    sampler = PixelSampler(read_pixel_set(plains, "train"))
    assert sampler.pastable == [1]  # the rare one: the common class covers more than a tenth
    draw = np.random.default_rng(0)
    views = sampler.draw(60, ViewStyle(40, (1.0, 1.0), paste_share=1.0), draw)
    pasted = 0
    for image, labels in zip(views.images, views.labels, strict=True):
        assert set(np.unique(labels)) <= {0, 1, 3, 255}
        assert (image[labels == 1] == 50).all()
        ground = image[(labels != 1) & (labels != 255)]
        assert len(np.unique(ground)) == 1
        pasted += (labels == 1).any() and ground[0, 0] != 50
    assert pasted > 30  # of the 40 or so views of the two other photos
    plain = sampler.draw(60, ViewStyle(40, (1.0, 1.0)), np.random.default_rng(0))
    for image, labels in zip(plain.images, plain.labels, strict=True):
        assert (labels == 1).any() == (image == 50).any()  # where it was photographed


def test_things_of_another_set_are_pasted_under_the_name_both_have(plains, tmp_path):
    """The other set calls its class 3 "rare", and each of its photos is one dark grey."""
    other = write_plains(tmp_path / "other")
    names = {0: "background", 1: "ground", 2: "never", 3: "rare"}
    (other / "classes.json").write_text(json.dumps(names))
    for index in range(3):
        labels = np.ones((40, 40), np.uint8)
        labels[20:30, 20:30] = 3
        Image.fromarray(labels).save(other / "labels" / f"p{index}.png")
        grey = np.full((40, 40, 3), 10 + index, np.uint8)
        Image.fromarray(grey).save(other / "images" / f"p{index}.png")
    sampler = PixelSampler(read_pixel_set(plains, "train"))
    sampler.borrow(PixelSampler(read_pixel_set(other, "train")), {})
    style = ViewStyle(40, (1.0, 1.0), paste_share=1.0)
    views = sampler.draw(200, style, np.random.default_rng(0))
    borrowed = views.images[..., 0] < 100  # all of the set's own are lighter
    assert set(np.unique(views.images[..., 0][borrowed])) == {10, 11, 12}
    assert (views.labels[borrowed] == 1).all()  # what is around it there stays there
    assert 0.65 < borrowed.any((1, 2)).mean() < 0.85  # three of the four photos that show it


def test_what_is_part_of_one_thing_is_pasted_together(plains, tmp_path):
    """The other set's cap and coat lie side by side, and a third photo has what it calls rare."""
    other = write_plains(tmp_path / "other")
    names = {0: "background", 1: "ground", 2: "cap", 3: "coat", 4: "rare"}
    (other / "classes.json").write_text(json.dumps(names))
    for index, (left, right) in enumerate(((2, 3), (3, 3), (4, 4))):
        labels = np.ones((40, 40), np.uint8)
        labels[10:30, 10:20], labels[10:30, 20:30] = left, right
        Image.fromarray(labels).save(other / "labels" / f"p{index}.png")
        shades = np.full((40, 40, 3), 10 + index, np.uint8)
        shades[:, 20:] = 20 + index
        Image.fromarray(shades).save(other / "images" / f"p{index}.png")
    sampler = PixelSampler(read_pixel_set(plains, "train"))
    sampler.borrow(PixelSampler(read_pixel_set(other, "train")), {"rare": ("cap", "coat")})
    style = ViewStyle(40, (1.0, 1.0), paste_share=1.0)
    views = sampler.draw(200, style, np.random.default_rng(0))
    shown = views.images[..., 0]
    borrowed = shown < 100  # all of the set's own are lighter
    assert (views.labels[borrowed] == 1).all()
    for index in range(3):  # the photo with both is no likelier than the others, and never halved
        halves = [(shown == shade + index).any((1, 2)) for shade in (10, 20)]
        assert 0.15 < halves[0].mean() < 0.35  # one photo of four
        both = halves[0] & halves[1]  # always, unless the edge of the view cuts between them
        assert both.sum() > 0.7 * halves[0].sum()


def test_boxes_of_other_views_are_mixed_in_with_their_labels(plains):
    for index in range(3):
        grey = np.full((40, 40, 3), 50 * index, np.uint8)
        Image.fromarray(grey).save(plains / "images" / f"p{index}.png")
        Image.fromarray(np.full((40, 40), index, np.uint8)).save(
            plains / "labels" / f"p{index}.png"
        )
    sampler = PixelSampler(read_pixel_set(plains, "train"))
    style = ViewStyle(30, (1.0, 1.0), mix_share=0.5)
    views = sampler.draw(300, style, np.random.default_rng(0))
    label_of = np.full(256, 255)
    label_of[[0, 50, 100]] = 3, 0, 1  # background, common, rare: one a photo
    inside = views.labels != 255
    assert (label_of[views.images[..., 0]][inside] == views.labels[inside]).all()
    mixed = np.mean([len(np.unique(labels[labels != 255])) > 1 for labels in views.labels])
    assert 0.2 < mixed < 0.4  # half of them, two thirds of these from another photo
    plain = sampler.draw(100, ViewStyle(30, (1.0, 1.0)), np.random.default_rng(0))
    assert all(len(np.unique(labels[labels != 255])) == 1 for labels in plain.labels)


def test_mosaics_are_drawn_with_their_classes():
    colours = np.arange(10, 60, 10, dtype=np.uint8)
    images = np.broadcast_to(colours[:, None, None, None], (5, 16, 16, 3)).copy()
    classes = np.array([0, 1, 0, 2, 1])
    sampler = ImageSampler("pets", ImageSet(images, classes, (("a",), ("b",), ("c",))))
    batch = sampler.draw(30, 53, np.random.default_rng(0))
    assert batch.set_name == "pets"
    assert batch.images.shape == (30, 53, 53, 3)
    assert batch.classes.shape == (30, 3, 3)  # three pictures of 17 each way, 2 pixels are left
    assert (batch.images[:, 51:] == 124).all()
    assert (batch.images[:, :, 51:] == 124).all()
    for (b, row, column), label in np.ndenumerate(batch.classes):
        tile = batch.images[b, 17 * row : 17 * row + 17, 17 * column : 17 * column + 17]
        inside = tile[tile != 124]
        assert len(set(inside.tolist())) == 1
        assert classes[inside[0] // 10 - 1] == label
        # Enlarged by 1 to 1.8: but for the aspect nothing lies outside.
        assert inside.size > 0.8 * tile.size
    assert set(batch.classes.ravel().tolist()) == {0, 1, 2}


def test_a_mosaic_smaller_than_a_picture_shows_one():
    images = np.full((1, 16, 16, 3), 50, np.uint8)
    sampler = ImageSampler("pets", ImageSet(images, np.array([0]), (("a",),)))
    batch = sampler.draw(2, 10, np.random.default_rng(0))
    assert batch.classes.shape == (2, 1, 1)


@pytest.mark.parametrize(("enlarged", "tiles"), [(1.0, 4), (1.5, 2), (2.0, 2), (5.0, 1)])
def test_enlarged_pictures_are_fewer(enlarged, tiles):
    images = np.full((1, 16, 16, 3), 50, np.uint8)
    sampler = ImageSampler("pets", ImageSet(images, np.array([0]), (("a",),)))
    batch = sampler.draw(2, 64, np.random.default_rng(0), enlarged)
    assert batch.classes.shape == (2, tiles, tiles)
    assert (batch.images == 50).mean() > 0.8


@pytest.fixture
def marked():
    """Three pictures of which the left half, all, and nothing for sure is what they are named."""
    colours = np.array([10, 20, 30], np.uint8)
    images = np.broadcast_to(colours[:, None, None, None], (3, 16, 16, 3)).copy()
    images[0, :, 8:] = 12
    masks = np.zeros((3, 16, 16), np.uint8)
    masks[0, :, :8] = masks[1] = 1
    masks[2] = 255
    names = (("a", "ah"), ("b",))
    return ImageSampler("pets", ImageSet(images, np.array([1, 0, 0]), names), masks)


def test_mosaics_of_marked_pictures_have_a_label_per_pixel(marked):
    batch = marked.draw(40, 32, np.random.default_rng(0))
    assert batch.set_name == "pets"
    assert batch.labels.shape == (40, 32, 32)
    grey = batch.images[..., 0]
    for colour, label in ((10, 1), (12, 2), (20, 0), (30, 255), (124, 255)):
        shown = grey == colour  # between 10 and 12 resizing blends
        assert shown.any()
        assert (batch.labels[shown] == label).all()


def test_marked_things_are_pasted_where_the_photos_have_a_name_for_them(plains, marked):
    sampler = PixelSampler(read_pixel_set(plains, "train"))
    sampler.borrow(marked, {"rare": ("b", "never heard of"), "common": ("a",)})
    style = ViewStyle(40, (1.0, 1.0), paste_share=1.0)
    views = sampler.draw(200, style, np.random.default_rng(0))
    pasted = views.images[..., 0] == 10
    assert (views.labels[pasted] == 1).all()
    assert 0.1 < pasted.any((1, 2)).mean() < 0.6
    # What is around the thing stays there, and the picture that is all thing is not cut out.
    assert not np.isin(views.images[..., 0], (12, 20, 30)).any()


def test_guests_are_pasted_under_labels_of_their_own(plains, marked):
    sampler = PixelSampler(read_pixel_set(plains, "train"))
    sampler.invite(marked, [0, 1])  # of "a" nothing is told from what is around it
    style = ViewStyle(40, (1.0, 1.0), guests=True)
    views = sampler.draw(60, style, np.random.default_rng(0))
    assert views.guests == (Guest("pets", 1),)
    pasted = views.images[..., 0] == 10
    assert (views.labels[pasted] == 4).all()  # after the three names and none of them
    assert pasted.any((1, 2)).all()
    assert not np.isin(views.images[..., 0], (12, 20, 30)).any()
    without = sampler.draw(60, replace(style, guests=False), np.random.default_rng(0))
    assert without.guests == ()
    assert np.isin(without.labels, (0, 1, 3, IGNORE)).all()


def test_guests_have_labels_that_are_free(plains, marked, monkeypatch):
    """Where labels run out, some views stay without one."""
    monkeypatch.setattr("ovseg_cli.data.mixture.IGNORE", 5)  # leaves 4
    masks = marked.masks.copy()
    masks[1] = masks[0]  # "a" can be told, too
    both = ImageSampler("pets", marked.data, masks)
    sampler = PixelSampler(read_pixel_set(plains, "train"))
    sampler.invite(both, [0, 1])
    style = ViewStyle(40, (1.0, 1.0), guests=True)
    views = sampler.draw(60, style, np.random.default_rng(0))
    assert len(views.guests) == 1
    assert views.labels[views.labels != 255].max() == 4
    colour = {0: 20, 1: 10}[views.guests[0].label]
    assert (views.images[..., 0][views.labels == 4] == colour).all()


def test_too_many_classes_to_mark(marked):
    data = replace(marked.data, names=(("a",),) * 255)
    with pytest.raises(UsageError, match="pets: 255 classes are too many to mark in pictures"):
        ImageSampler("pets", data, marked.masks)


@pytest.mark.parametrize("power", [0.0, 0.4, 1.0])
def test_class_weights_lift_rare_classes(power):
    pixels = np.array([1000, 10, 0, 100, 200, 3])
    weights = class_weights(pixels, power)
    median = 100.0  # of 3, 10, 100, 200, 1000
    for count, weight in zip(pixels.tolist(), weights.tolist(), strict=True):
        expected = 1.0 if count == 0 else (median / count) ** power
        assert weight == pytest.approx(min(max(expected, 1 / 8), 8))


@pytest.fixture
def two_sets(tmp_path):
    write_plains(tmp_path / "plains")
    write_plains(tmp_path / "steppes")
    return tmp_path


def config(**changes):
    sets = {"plains": "train", "steppes": "train"}
    return ViewConfig(**{"sets": sets, "size": 16, "batch": 3, **changes})


def test_a_mixed_batch_is_a_function_of_its_step_and_seed(two_sets):
    one, other = (PixelMixture(config(focus_share=0.5), two_sets) for _ in range(2))
    other.batch(3)  # what was drawn before has no influence
    for step in (0, 11):
        a, b = one.batch(step), other.batch(step)
        assert a.set_name == b.set_name
        assert np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
    reseeded = config(seed=1, focus_share=0.5)
    views = [one.batch(0), one.batch(1), PixelMixture(reseeded, two_sets).batch(0)]
    assert len({view.images.tobytes() for view in views}) == 3
    assert views[0].images.shape == (3, 16, 16, 3)


def test_sets_are_drawn_by_their_shares(two_sets):
    mixture = PixelMixture(config(batch=1, shares={"plains": 3.0}), two_sets)
    names = [mixture.batch(step).set_name for step in range(200)]
    assert 130 < names.count("plains") < 170
    mixture = PixelMixture(config(batch=1, shares={"plains": 0.0}), two_sets)
    assert {mixture.batch(step).set_name for step in range(20)} == {"steppes"}


def test_colours_are_distorted_and_labels_are_not(two_sets):
    mixture = PixelMixture(config(batch=8, scales=(1.0, 1.0), focus_share=0.5), two_sets)
    brightness, both = [], 0
    for step in range(10):
        views = mixture.batch(step)
        assert set(np.unique(views.labels)) <= {0, 1, 3, IGNORE}
        for image, labels in zip(views.images, views.labels, strict=True):
            common, rare = image[labels == 0], image[labels == 1]
            brightness.append(common.mean())
            if len(rare):  # brighter in the photos, and so in every view
                assert rare.mean() > common.mean() + 20
                both += 1
    assert min(brightness) < 80 and max(brightness) > 120  # about 101 in the photos
    assert both > 10


@pytest.mark.parametrize("changes", [{"shares": {"oceans": 1.0}}, {"sets": {}}])
def test_views_of_sets_that_are_not_listed(changes):
    with pytest.raises(ValueError, match="none of the sets|names none"):
        config(**changes)
