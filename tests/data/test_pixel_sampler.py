"""Views of photos, and what is pasted into them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.data.batches import Guest, ViewStyle
from ovseg_cli.data.image_sampler import ImageSampler
from ovseg_cli.data.pixel_sampler import PixelSampler, class_weights
from ovseg_cli.data.pixel_set import IGNORE, read_pixel_set
from ovseg_cli.errors import UsageError


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


def test_of_classes_with_many_things_more_is_pasted_but_not_in_proportion(
    plains, write_plains, tmp_path
):
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


def test_things_of_another_set_are_pasted_under_the_name_both_have(plains, write_plains, tmp_path):
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


def test_what_is_part_of_one_thing_is_pasted_together(plains, write_plains, tmp_path):
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
    assert views.guests == {4: Guest("pets", 1)}
    pasted = views.images[..., 0] == 10
    assert (views.labels[pasted] == 4).all()  # after the three names and none of them
    assert pasted.any((1, 2)).all()
    assert not np.isin(views.images[..., 0], (12, 20, 30)).any()
    without = sampler.draw(60, replace(style, guests=False), np.random.default_rng(0))
    assert not without.guests
    assert np.isin(without.labels, (0, 1, 3, IGNORE)).all()


def test_what_is_marked_replaces_the_labels_and_guests_follow_it(plains, marked):
    sampler = PixelSampler(read_pixel_set(plains, "train"))
    sampler.invite(marked, [1])
    labels = [
        np.full(sampler.photo(i)[1].shape, 5, np.uint8) for i in range(len(sampler.data.keys))
    ]
    sampler.mark(labels, 2)  # 3 is none of the names, 4 and 5 are marked, 6 is unsure
    assert (sampler.photo(1)[1] == 5).all()
    style = ViewStyle(40, (1.0, 1.0), guests=True)
    views = sampler.draw(20, style, np.random.default_rng(0))
    assert views.guests == {7: Guest("pets", 1)}
    assert set(np.unique(views.labels)) <= {5, 7, IGNORE}
    assert (views.labels[views.images[..., 0] == 10] == 7).all()


def test_guests_have_labels_that_are_free(plains, marked, monkeypatch):
    """Where labels run out, some views stay without one."""
    monkeypatch.setattr("ovseg_cli.data.pixel_sampler.IGNORE", 5)  # leaves 4
    masks = marked.masks.copy()
    masks[1] = masks[0]  # "a" can be told, too
    both = ImageSampler("pets", marked.data, masks)
    sampler = PixelSampler(read_pixel_set(plains, "train"))
    sampler.invite(both, [0, 1])
    style = ViewStyle(40, (1.0, 1.0), guests=True)
    views = sampler.draw(60, style, np.random.default_rng(0))
    assert len(views.guests) == 1
    assert views.labels[views.labels != 255].max() == 4
    colour = {0: 20, 1: 10}[next(iter(views.guests.values())).label]
    assert (views.images[..., 0][views.labels == 4] == colour).all()


@pytest.mark.parametrize("power", [0.0, 0.4, 1.0])
def test_class_weights_lift_rare_classes(power):
    pixels = np.array([1000, 10, 0, 100, 200, 3])
    weights = class_weights(pixels, power)
    median = 100.0  # of 3, 10, 100, 200, 1000
    for count, weight in zip(pixels.tolist(), weights.tolist(), strict=True):
        expected = 1.0 if count == 0 else (median / count) ** power
        assert weight == pytest.approx(min(max(expected, 1 / 8), 8))
