import json
from collections import defaultdict

import numpy as np
import pytest
from finished_runs import HOSTILE, blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from ovseg_cli.formats.coco import compressed
from ovseg_cli.formats.segments import segments

NAMES = [name.split("|")[0].strip() for name in HOSTILE]


def read_back(file):
    """File name -> label map, by pycocotools."""
    coco = COCO(str(file))
    maps = {}
    for image in coco.loadImgs(coco.getImgIds()):
        labels = np.full((image["height"], image["width"]), -1, np.int32)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            mask = coco.annToMask(annotation).astype(bool)
            assert (labels[mask] == -1).all(), "annotations do not overlap"
            assert annotation["area"] == mask.sum()
            assert annotation["bbox"] == coco_mask.toBbox(annotation["segmentation"]).tolist()
            labels[mask] = annotation["category_id"] - 1
        maps[image["file_name"]] = labels
    return coco, maps


@pytest.mark.parametrize("annotations", ["region", "class"])
def test_pycocotools_reads_the_same_pixels(run, annotations):
    coco, maps = read_back(run.export("coco", annotations=annotations) / "instances.json")
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == NAMES
    assert set(maps) == {"a.png", "deep er/a.jpg", "été/天空 #1.png"}
    for name, rel in zip(sorted(maps), sorted(run.labels), strict=True):
        np.testing.assert_array_equal(maps[name], run.labels[rel])
    assert len(coco.anns) == len(set(coco.anns)) > 0


def test_a_class_is_one_annotation_a_region_one_each(make_run):
    labels = np.full((6, 8), 1, np.int32)
    labels[0, 0] = labels[1, 1] = labels[5, 7] = 0  # two touch at a corner, one is apart
    labels[3, 3] = -1
    made = make_run().add("a", labels)
    for annotations, expected in (("class", {0: 1, 1: 1}), ("region", {0: 2, 1: 1})):
        found = defaultdict(int)
        folder = made.export("coco", annotations=annotations)
        for entry in json.loads((folder / "instances.json").read_text())["annotations"]:
            found[entry["category_id"] - 1] += 1
        assert found == expected


def test_more_than_255_classes(huge_vocabulary):
    coco, maps = read_back(huge_vocabulary.export("coco") / "instances.json")
    assert len(coco.cats) == 847
    np.testing.assert_array_equal(maps["a.png"], huge_vocabulary.labels["a"])


def test_nothing_labelled(make_run):
    made = make_run().add("a", np.full((4, 5), -1, np.int32))
    coco, maps = read_back(made.export("coco") / "instances.json")
    assert not coco.anns and (maps["a.png"] == -1).all()


@settings(max_examples=200, deadline=None)
@given(
    arrays.arrays(
        np.int32,
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.integers(-1, 2),
    )
)
def test_run_lengths_are_those_of_pycocotools(ids):
    parts = {part.value: part for part in segments(ids)}
    assert set(parts) == set(np.unique(ids[ids >= 0]).tolist())
    for value, part in parts.items():
        expected = coco_mask.encode(np.asfortranarray(ids == value, dtype=np.uint8))
        assert compressed(part.counts()).encode() == expected["counts"]
        assert list(part.box_xywh) == coco_mask.toBbox(expected).tolist()
        assert part.area == coco_mask.area(expected)


@pytest.mark.parametrize("length", [15, 16, 31, 32, 511, 512, 513, 40_000, 100_000_000])
def test_numbers_of_any_size(length):
    counts = np.array([length, 1, 2, length + 3, 1, length])
    text = compressed(counts).encode()
    size = [int(counts.sum()), 1]
    assert coco_mask.area({"size": size, "counts": text}) == counts[1::2].sum()
    assert text == coco_mask.frPyObjects({"size": size, "counts": counts.tolist()}, *size)["counts"]


def segment_ids(path):
    """As panopticapi has it: R + 256 G + 256² B."""
    with Image.open(path) as image:
        assert image.mode == "RGB"
        pixels = np.asarray(image).astype(np.int64)
    return pixels @ (1, 256, 65536)


def panoptic_labels(folder):
    """File name -> label map, with the checks that panopticapi's evaluation makes."""
    document = json.loads((folder / "panoptic.json").read_text("utf-8"))
    categories = {c["id"]: c for c in document["categories"]}
    assert all(c["isthing"] == 0 for c in categories.values())
    images = {image["id"]: image for image in document["images"]}
    maps = {}
    for annotation in document["annotations"]:
        image = images[annotation["image_id"]]
        ids = segment_ids(folder / "panoptic" / annotation["file_name"])
        assert ids.shape == (image["height"], image["width"])
        infos = {info["id"]: info for info in annotation["segments_info"]}
        assert set(np.unique(ids)) - {0} == set(infos)
        labels = np.full(ids.shape, -1, np.int32)
        for number, info in infos.items():
            assert info["category_id"] in categories and info["iscrowd"] == 0
            assert info["area"] == (ids == number).sum()
            rows, columns = np.nonzero(ids == number)
            left, top, width, height = info["bbox"]
            assert (left, top) == (columns.min(), rows.min())
            assert (left + width - 1, top + height - 1) == (columns.max(), rows.max())
            labels[ids == number] = info["category_id"] - 1
        maps[image["file_name"]] = labels
    return categories, maps


def test_panoptic_pictures_and_json_agree(run):
    categories, maps = panoptic_labels(run.export("coco-panoptic"))
    assert [c["name"] for c in categories.values()] == NAMES
    colors = [tuple(c["color"]) for c in categories.values()]
    assert colors == [entry.color for entry in run.open().classes]
    for name, rel in zip(sorted(maps), sorted(run.labels), strict=True):
        np.testing.assert_array_equal(maps[name], run.labels[rel])


@pytest.mark.parametrize(("name", "file"), [("coco", "instances"), ("coco-panoptic", "panoptic")])
def test_the_model_is_named(run, name, file):
    run.record()
    document = json.loads((run.export(name) / f"{file}.json").read_text("utf-8"))
    assert document["info"]["version"] == "mini"


def test_panoptic_with_more_than_255_classes(huge_vocabulary):
    _, maps = panoptic_labels(huge_vocabulary.export("coco-panoptic"))
    np.testing.assert_array_equal(maps["a.png"], huge_vocabulary.labels["a"])


def test_noise_of_many_regions_takes_no_time_per_region(make_run):
    labels = np.random.default_rng(0).integers(0, 2, (400, 500)).astype(np.int32)
    made = make_run().add("a", labels)
    _, maps = read_back(made.export("coco") / "instances.json")
    np.testing.assert_array_equal(maps["a.png"], labels)


def test_blobs_have_holes_and_unlabelled_pixels():
    """What the other tests rely on."""
    assert {-1, 0, 1} <= set(np.unique(blobs(seed=1, classes=6)))
