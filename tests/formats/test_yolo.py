from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from finished_runs import HOSTILE, blobs, photo_at
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw

from ovseg_cli.formats.outlines import edge_rings, joined_rings
from ovseg_cli.media.images import read_image


def as_ultralytics_reads(file, size_hw):
    """Label map of a label file: shares times size, decimals cut off, cv2.fillPoly."""
    labels = np.full(size_hw, -1, np.int32)
    for row in file.read_text().splitlines():
        class_id, *shares = row.split()
        points = np.array(shares, float).reshape(-1, 2)
        assert len(points) >= 3 and points.min() >= 0 and points.max() <= 1
        mask = np.zeros(size_hw, np.uint8)
        cv2.fillPoly(mask, [(points * size_hw[::-1]).astype(np.int32)], 1)
        labels[mask.astype(bool)] = int(class_id)
    return labels


def test_the_same_pixels(run):
    folder = run.export("yolo")
    for rel, labels in run.labels.items():
        read = as_ultralytics_reads(folder / "labels" / f"{rel}.txt", labels.shape)
        np.testing.assert_array_equal(read, labels)


@pytest.mark.parametrize("seed", range(4))
def test_other_ways_to_fill_polygons_agree_nearly(make_run, seed):
    """Pillow fills between the points, without the even-odd rule's border."""
    labels = blobs((300, 400), classes=3, seed=seed)
    file = make_run().add("a", labels).export("yolo") / "labels/a.txt"
    for class_id in (0, 1):
        image = Image.new("L", (400, 300))
        for row in file.read_text().splitlines():
            name, *shares = row.split()
            if int(name) == class_id:
                points = (np.array(shares, float).reshape(-1, 2) * (400, 300)).ravel()
                ImageDraw.Draw(image).polygon(points.tolist(), fill=1)
        read, true = np.asarray(image).astype(bool), labels == class_id
        assert (read & true).sum() / (read | true).sum() >= 0.98


def test_data_yaml(run):
    folder = run.export("yolo")
    data = yaml.safe_load((folder / "data.yaml").read_text("utf-8"))
    names = [name.split("|")[0].strip() for name in HOSTILE]
    assert data["names"] == dict(enumerate(names))
    assert (folder / data["train"]).is_dir() and (folder / data["val"]).is_dir()


def labels_of(image):
    """How ultralytics finds the labels of an image."""
    return Path("/labels/".join(str(image).rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt")


def test_every_photo_stands_beside_its_labels(run):
    folder = run.export("yolo")
    for rel, photo in run.photos.items():
        (image,) = (p for p in (folder / "images" / rel).parent.iterdir() if p.is_file())
        assert image.read_bytes() == photo.read_bytes()
        assert labels_of(image) == folder / "labels" / f"{rel}.txt"


@pytest.mark.parametrize("rel", ["images/a", "day 1/images/a", "images/x/images/y/a", "images"])
def test_photos_below_a_folder_named_images_keep_their_labels(make_run, rel):
    made = make_run().add(rel, blobs())
    folder = made.export("yolo")
    read = as_ultralytics_reads(labels_of(folder / "images" / f"{rel}.png"), (90, 120))
    np.testing.assert_array_equal(read, made.labels[rel])


def test_where_links_cannot_be_made_photos_are_copied(run, monkeypatch):
    def refuse(*_):
        raise OSError("no right")

    monkeypatch.setattr("os.symlink", refuse)
    image = run.export("yolo") / "images/a.png"
    assert not image.is_symlink() and image.read_bytes() == run.photos["a"].read_bytes()


def test_a_photo_that_is_gone_has_labels_all_the_same(run):
    run.photos["a"].unlink()
    folder = run.export("yolo")
    assert (folder / "labels/a.txt").exists() and not (folder / "images/a.png").is_symlink()


def test_a_photo_that_has_changed_is_named(run):
    photo_at(run.photos["deep er/a"], (64, 200), seed=9)
    folder = run.export("yolo")
    assert "deep er/a.jpg: the photo has changed since the run" in run.left_out["deep er/a"]
    assert not (folder / "labels/deep er/a.txt").exists() and (folder / "labels/a.txt").exists()


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_where_readers_would_turn_a_photo_they_get_what_was_segmented(make_run, orientation):
    """cv2.imread, with which ultralytics reads, turns a photo after its EXIF orientation."""
    made = make_run()
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = photo_at(made.folder / "photos/a.jpg", (60, 80), exif=exif)
    made.add("a", blobs((60, 80)), photo=photo, exif=False)
    made.record(options={"exif": False})
    (image,) = (made.export("yolo") / "images").iterdir()
    assert image.is_symlink() == (orientation == 1)
    np.testing.assert_array_equal(
        np.asarray(cv2.imread(str(image)))[..., ::-1], read_image(photo, exif=False).pixels
    )


def test_points_lines_and_rings_within_rings(make_run):
    labels = np.full((24, 24), -1, np.int32)
    labels[0, 0] = labels[2, :5] = labels[4:9, 2] = 0
    for inset in range(0, 7, 2):
        labels[10 + inset // 2 : 24 - inset // 2, 8 + inset : 24 - inset] = inset % 4 // 2
    made = make_run().add("a", labels)
    read = as_ultralytics_reads(made.export("yolo") / "labels/a.txt", labels.shape)
    np.testing.assert_array_equal(read, labels)


def test_nothing_labelled_is_an_empty_file(make_run):
    made = make_run().add("a", np.full((4, 5), -1, np.int32))
    assert (made.export("yolo") / "labels/a.txt").read_text() == ""


MASKS = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=14))


@settings(max_examples=400, deadline=None)
@given(MASKS)
def test_joined_rings_are_the_mask(mask):
    filled = np.zeros(mask.shape, np.uint8)
    for ring in joined_rings(mask):
        cv2.fillPoly(filled, [ring.astype(np.int32)], 1)
    np.testing.assert_array_equal(filled.astype(bool), mask)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.4, 0.97))
def test_joined_rings_of_many_holes(seed, share):
    mask = np.random.default_rng(seed).random((40, 40)) < share
    filled = np.zeros(mask.shape, np.uint8)
    for ring in joined_rings(mask):
        own = np.zeros_like(filled)
        cv2.fillPoly(own, [ring.astype(np.int32)], 1)
        assert not (own & filled).any(), "regions do not overlap"
        filled |= own
    np.testing.assert_array_equal(filled.astype(bool), mask)


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_edge_rings_are_the_mask(mask):
    """A pixel is inside if a ray from its centre crosses the rings an odd number of times."""
    crossings = np.zeros(mask.shape, int)
    for outer, holes in edge_rings(mask):
        for ring in (outer, *holes):
            for (x, y), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                assert (x == x2) != (y == y2), "each side is horizontal or vertical"
                if x == x2:
                    crossings[min(y, y2) : max(y, y2), x:] += 1
    np.testing.assert_array_equal(crossings % 2 == 1, mask)
