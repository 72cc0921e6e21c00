import zipfile

import numpy as np
import pytest
from finished_runs import HOSTILE, blobs
from PIL import Image

from ovseg_cli.errors import InputError, UsageError


def label_map(text):
    """Name -> colour, read as datumaro reads labelmap.txt."""
    found = {}
    for row in text.split("\n"):
        row = row.strip()
        if not row or row[0] == "#":
            continue
        name, color, parts, actions = row.split(":")
        assert name not in found and not parts and not actions
        found[name] = tuple(map(int, color.split(",")))
        assert len(found[name]) == 3
    return found


def by_color(image, colors):
    """Label map of a picture in colours; an undeclared colour is a KeyError."""
    pixels = np.asarray(image.convert("RGB"))
    ids = {color: position for position, color in enumerate(colors)}
    flat = [ids[tuple(color)] for color in pixels.reshape(-1, 3).tolist()]
    return np.array(flat).reshape(pixels.shape[:2])


class TestVoc:
    def test_values_are_class_ids_and_255_is_void(self, run):
        folder = run.export("voc")
        for rel, labels in run.labels.items():
            with Image.open(folder / "SegmentationClass" / f"{rel}.png") as image:
                assert image.mode == "P"
                expected = np.where(labels < 0, 255, labels)
                np.testing.assert_array_equal(np.asarray(image), expected)
                colors = list(label_map((folder / "labelmap.txt").read_text("utf-8")).values())
                read = by_color(image, colors)
                np.testing.assert_array_equal(np.where(read == len(HOSTILE), -1, read), labels)

    def test_names_and_list(self, run):
        folder = run.export("voc")
        names = list(label_map((folder / "labelmap.txt").read_text("utf-8")))
        assert names[:2] == ["sky", "天空"] and names[-1] == "void"
        # What VOClabelcolormap.m gives to 255 but for its last bits: 224, 224, 192.
        void = label_map((folder / "labelmap.txt").read_text("utf-8"))["void"]
        assert void == list(voc_colors())[255] == (224, 224, 192)
        assert len(names) == len(HOSTILE) + 1
        listed = (folder / "ImageSets/Segmentation/default.txt").read_text("utf-8").splitlines()
        assert listed == ["a", "deep er/a", "été/天空 #1"]

    def test_classes_whose_names_would_meet_stay_apart(self, make_run):
        made = make_run(["a:b", "a b", "a b (2)"]).add("a", blobs())
        text = (made.export("voc") / "labelmap.txt").read_text()
        assert list(label_map(text)) == ["a b", "a b (2)", "a b (2) (2)", "void"]

    def test_a_class_named_void_keeps_its_name(self, make_run):
        made = make_run(["road", "void"]).add("a", blobs(classes=2))
        text = (made.export("voc") / "labelmap.txt").read_text()
        assert list(label_map(text)) == ["road", "void", "void (2)"]

    @pytest.mark.parametrize("name", ["a\nb", " a", "#a", "a\x85b"])
    def test_a_photo_whose_name_is_no_line(self, make_run, name):
        made = make_run().add(name, blobs(), name="x.png")
        for entry in ("voc", "cvat"):
            with pytest.raises(InputError, match="rename the photo"):
                made.export(entry)
        assert not (made.folder / "exported/annotations.zip").exists()

    def test_more_than_255_classes_are_refused(self, huge_vocabulary):
        for name in ("voc", "cvat"):
            with pytest.raises(UsageError, match=f"{name} holds at most 255 classes.*847"):
                huge_vocabulary.export(name)

    def test_255_classes(self, make_run):
        labels = np.arange(-1, 255, dtype=np.int32).reshape(16, 16).repeat(2, axis=1)
        made = make_run([f"class {i}" for i in range(255)]).add("a", labels)
        with Image.open(made.export("voc") / "SegmentationClass/a.png") as image:
            np.testing.assert_array_equal(np.asarray(image), labels % 256)
        classes, objects, names = cvat_maps(made.export("cvat"), "a")
        np.testing.assert_array_equal(classes, labels + 1)
        np.testing.assert_array_equal(objects, labels + 1)


def cvat_maps(folder, rel):
    """Positions in labelmap.txt and numbers of objects for each pixel, and the names."""
    with zipfile.ZipFile(folder / "annotations.zip") as archive:
        assert archive.testzip() is None
        declared = label_map(archive.read("labelmap.txt").decode())
        with archive.open(f"SegmentationClass/{rel}.png") as file:
            classes = by_color(Image.open(file), declared.values())
        with archive.open(f"SegmentationObject/{rel}.png") as file:
            objects = by_color(Image.open(file), voc_colors())
    return classes, objects, list(declared)


def voc_colors():
    """As the devkit's VOClabelcolormap.m has it, a bit at a time."""
    for number in range(256):
        color = [0, 0, 0]
        for place in range(8):
            for channel in range(3):
                color[channel] |= (number >> (3 * place + channel) & 1) << (7 - place)
        yield tuple(color)


class TestCvat:
    def test_the_same_pixels_and_no_undeclared_color(self, run):
        folder = run.export("cvat")
        for rel, labels in run.labels.items():
            classes, objects, names = cvat_maps(folder, rel)
            assert names[0] == "background"
            np.testing.assert_array_equal(classes - 1, labels)
            np.testing.assert_array_equal(objects == 0, labels < 0)
            for number in set(np.unique(objects)) - {0}:
                assert len(np.unique(labels[objects == number])) == 1, "an object has one class"

    def test_a_class_named_background_keeps_its_name_and_is_not_what_is_unlabelled(self, make_run):
        made = make_run(["background", "road"]).add("a", np.array([[-1, 0], [1, 1]]))
        classes, objects, names = cvat_maps(made.export("cvat"), "a")
        assert names == ["background (2)", "background", "road"]
        assert classes.tolist() == [[0, 1], [2, 2]]
        assert objects.tolist() == [[0, 1], [2, 2]], "nothing is of the line that comes first"

    def test_list_of_photos(self, run):
        with zipfile.ZipFile(run.export("cvat") / "annotations.zip") as archive:
            listed = archive.read("ImageSets/Segmentation/default.txt").decode().splitlines()
        assert listed == ["a", "deep er/a", "été/天空 #1"]

    def test_colors_that_are_the_same(self, run):
        text = (run.out / "classes.json").read_text("utf-8")
        first = run.open().classes[0].color
        second = run.open().classes[1].color

        def shown(color):
            return ",".join(f"\n      {c}" for c in color)

        assert shown(second) in text
        (run.out / "classes.json").write_text(text.replace(shown(second), shown(first)), "utf-8")
        with pytest.raises(UsageError, match="must differ"):
            run.export("cvat")

    def test_the_same_bytes_again(self, run):
        first = (run.export("cvat") / "annotations.zip").read_bytes()
        assert (run.export("cvat") / "annotations.zip").read_bytes() == first
