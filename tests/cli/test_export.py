import json
import logging
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from mock_segmenter import files_below, make_photo, make_photos
from PIL import Image
from pycocotools.coco import COCO

from ovseg_cli.formats import FORMATS
from ovseg_cli.formats.labelled import LabelledRun
from ovseg_cli.run_folder.layout import EXPORTS
from ovseg_cli.run_folder.run_lock import holding


@pytest.fixture
def photos(tmp_path):
    make_photos(tmp_path / "photos", 3)
    make_photo(tmp_path / "photos/deep/00.png", seed=9)
    return "photos"


def coco_maps(file):
    coco = COCO(str(file))
    maps = {}
    for image in coco.dataset["images"]:
        labels = np.full((image["height"], image["width"]), 255, np.uint8)
        for annotation in coco.imgToAnns[image["id"]]:
            labels[coco.annToMask(annotation).astype(bool)] = annotation["category_id"] - 1
        maps[image["file_name"]] = labels
    return maps


def stored(out, name):
    with Image.open(out / "labels" / f"{name.removesuffix('.png')}.png") as image:
        return np.asarray(image)


def test_the_whole_way(program, segment, photos, tmp_path):
    segment(photos, "-r", "--threshold", "0.3")
    ended = program("export", "out", "--to", "coco, cvat,yolo,coco")
    assert (ended.code, ended.out) == (0, "")
    exports = tmp_path / "out/exports"
    maps = coco_maps(exports / "coco/instances.json")
    assert set(maps) == {"00.png", "01.png", "02.png", "deep/00.png"}
    for name, labels in maps.items():
        np.testing.assert_array_equal(labels, stored(tmp_path / "out", name))
    with zipfile.ZipFile(exports / "cvat/annotations.zip") as archive:
        assert "SegmentationClass/deep/00.png" in archive.namelist()
    assert (exports / "yolo/labels/deep/00.txt").exists()
    assert "coco: 1 file of 4 photos" in ended.err and "yolo: 9 files" in ended.err


def test_at_the_end_of_a_run(program, segment, photos, tmp_path):
    ended = segment(photos, "-r", "--save", "labels,coco,masks")
    assert ended.code == 0
    maps = coco_maps(tmp_path / "out/exports/coco/instances.json")
    assert len(maps) == 4 and (tmp_path / "out/masks/00").is_dir()
    assert not (tmp_path / "out/exports/masks").exists(), "masks are written with the photos"
    make_photo(tmp_path / "photos/new.png", seed=5)
    assert segment(photos, "-r", "--save", "labels,coco", "--resume").code == 0
    assert len(coco_maps(tmp_path / "out/exports/coco/instances.json")) == 5


def test_a_run_with_failures_exports_the_rest(segment, photos, tmp_path):
    (tmp_path / photos / "bad.png").write_bytes(b"")
    assert segment(photos, "--save", "labels,coco").code == 1
    assert len(coco_maps(tmp_path / "out/exports/coco/instances.json")) == 3


def test_a_run_where_all_failed(segment, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    ended = segment("bad.png", "--save", "labels,coco")
    assert ended.code == 1 and "nothing to export" not in ended.err


@pytest.mark.parametrize(
    ("save", "said"),
    [
        ("overlay,coco", "--save coco is made of the label maps: add labels"),
        ("labels,cutout", "--to cutout --class NAME"),
        ("labels,coko", "--save does not know 'coko'; there are: overlay, labels"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_a_model_is_loaded(
    segment, photos, fake, tmp_path, save, said
):
    ended = segment(photos, "--save", save)
    assert ended.code == 2 and said in ended.err
    assert not fake.loaded and not (tmp_path / "out").exists()


def test_more_than_255_classes_are_refused_beforehand(segment, photos, fake):
    names = ",".join(f"name{i}" for i in range(300))
    ended = segment(photos, "--save", "labels,voc", classes=names)
    assert ended.code == 2 and "voc holds at most 255 classes" in ended.err
    assert not fake.loaded


def test_another_folder_and_options(program, segment, photos, tmp_path):
    segment(photos)
    assert program("export", "out", "--to", "coco", "--annotations", "class", "-o", "x").code == 0
    document = json.loads((tmp_path / "x/coco/instances.json").read_text())
    assert len(document["annotations"]) == 9
    ended = program("export", "out", "--to", "cutout", "--class", "Automobile", "-o", "x")
    assert ended.code == 0
    with Image.open(tmp_path / "x/cutout/00.png") as image:
        alpha = np.asarray(image)[..., 3]
    np.testing.assert_array_equal(alpha == 255, stored(tmp_path / "out", "00.png") == 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["out", "--to", "coko"], "there is no format 'coko'; there are: coco"),
        (["out", "--to", ","], "--to names nothing: name one, such as coco"),
        (["out"], "--to"),
        (["missing", "--to", "coco"], "no such folder: missing"),
        (["memory://o", "--to", "coco"], "memory://o: formats are made of label maps in a folder,"),
        (["photos", "--to", "coco"], "photos is no output folder of ovseg segment"),
        (["out", "--to", "coco,cutout"], "--class NAME"),
        (["out", "--to", "coco", "--class", "sky"], "--class is for cutout, which is not among"),
        (["out", "--to", "voc", "--annotations", "class"], "--annotations is for coco, which is"),
        (["out", "--to", "yolo", "--photos-at", "/p"], "--photos-at is for label-studio, which"),
        (["out", "--to", "cutout", "--class", "ski"], "--class ski: the run has no such class"),
    ],
)
def test_wrong_usage(program, segment, photos, tmp_path, arguments, said):
    segment(photos)
    ended = program("export", *arguments)
    assert ended.code == 2 and said in ended.err
    assert not (tmp_path / "out/exports/coco").exists()


def test_a_photo_that_is_gone(program, segment, photos, tmp_path):
    segment(photos)
    (tmp_path / "photos/01.png").unlink()
    ended = program("export", "out", "--to", "cutout", "--class", "sky")
    assert ended.code == 1 and "photos/01.png: the photo is gone" in ended.err
    assert program("export", "out", "--to", "coco").code == 0


def test_exports_are_no_photos(program, segment, photos, tmp_path):
    segment(photos)
    program("export", "out", "--to", "voc,yolo")
    ended = program("segment", "out", "-r", "--classes", "sky, road", "-o", "out", "--resume")
    assert ended.code == 2 and "results of ovseg" in ended.err


def test_every_format_is_in_the_help(program):
    text = program("export", "--help").out
    assert all(f"\n    {name} " in text.replace("      ", "    ") for name in FORMATS)
    listed = text.split("Separated by commas:")[1].split(".")[0]
    assert [name.strip() for name in listed.split(",")] == list(FORMATS)


def test_what_one_format_cannot_write_does_not_cost_the_others(program, segment, photos, tmp_path):
    segment(photos, "-r")
    (tmp_path / "photos/deep/00.png").unlink()  # of which cutout needs the pixels
    ended = program("export", "out", "--to", "cutout,coco,voc", "--class", "sky")
    assert ended.code == 1
    assert "cutout: " in ended.err and "00.png: the photo is gone" in ended.err
    for file in ("coco/instances.json", "voc/labelmap.txt"):
        assert (tmp_path / "out/exports" / file).exists()


def test_a_photo_that_is_gone_costs_the_others_of_its_format_nothing(
    program, segment, photos, tmp_path
):
    segment(photos, "-r")
    (tmp_path / "photos/01.png").unlink()
    (tmp_path / "out/labels/deep/00.png").write_bytes(b"damaged")
    ended = program("export", "out", "--to", "svg,cutout,coco", "--class", "sky")
    assert ended.code == 1
    (gone,) = (line for line in ended.err.splitlines() if "is gone" in line)
    (damaged,) = (line for line in ended.err.splitlines() if "damaged" in line)
    assert "cutout: " in gone and "photos/01.png: the photo is gone" in gone
    assert "labels/deep/00.png: damaged" in damaged and "svg, " not in damaged  # of all formats
    exports = tmp_path / "out/exports"
    kept = set(files_below(tmp_path / "out/labels")) - {"deep/00.png"}
    assert {
        f"{name[:-4]}.png" for name in files_below(exports / "svg") if "ovseg" not in name
    } == kept
    document = json.loads((exports / "coco/instances.json").read_text())
    assert {
        f"{Path(image['file_name']).with_suffix('.png')}" for image in document["images"]
    } == kept
    assert "coco: 1 file of 3 photos" in ended.err


def test_label_maps_in_tar_shards(program, segment, photos):
    segment(photos, "--tar-size", "1MB")
    ended = program("export", "out", "--to", "coco,voc")
    assert ended.code == 2
    assert "has its label maps in tar shards (ovseg-000000.tar)" in ended.err
    assert "without --tar-size" in ended.err


def test_photos_within_an_archive(program, segment, photos, tmp_path):
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        tar.add(tmp_path / photos / "00.png", "00.png")
    segment("in.tar")
    ended = program("export", "out", "--to", "cutout", "--class", "sky")
    assert ended.code == 1
    assert "in.tar/00.png: the photo is within in.tar: unpack that and segment" in ended.err
    assert "this format needs the photo: " in ended.err


def test_an_export_while_another_is_written_is_refused(program, segment, photos, tmp_path):
    segment(photos)
    with holding(tmp_path / "out/exports", EXPORTS):
        ended = program("export", "out", "--to", "coco")
    assert ended.code == 2 and "another run writes to out/exports: process" in ended.err
    assert not (tmp_path / "out/exports").exists()


def test_parts_wait_for_an_export_that_is_under_way(segment, photos, tmp_path):
    at_work, awaited = threading.Event(), threading.Event()

    class Awaited(logging.Handler):
        def emit(self, record):
            if "its end is awaited" in record.getMessage():
                awaited.set()

    handler = Awaited()
    logging.getLogger("ovseg_cli.run_folder.run_lock").addHandler(handler)

    def other():
        with holding(tmp_path / "out/exports", EXPORTS):
            at_work.set()
            assert awaited.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        assert at_work.wait(60)
        for part in ("1/2", "2/2"):
            ended = segment(photos, "-r", "--save", "labels,coco", "--shard", part, "--resume")
            assert ended.code == 0 and awaited.is_set()
    finally:
        awaited.set()
        thread.join()
        logging.getLogger("ovseg_cli.run_folder.run_lock").removeHandler(handler)
    assert len(coco_maps(tmp_path / "out/exports/coco/instances.json")) == 4


def test_an_export_takes_what_is_finished_once_it_may_write(
    program, segment, photos, tmp_path, monkeypatch
):
    """Read earlier it would know less than one that it then replaces."""
    states = []

    class Spied(LabelledRun):
        def __init__(self, *arguments):
            states.append((tmp_path / f"out/exports/.ovseg/{EXPORTS}.lock").exists())
            super().__init__(*arguments)

    monkeypatch.setattr("ovseg_cli.formats.labelled.LabelledRun", Spied)
    segment(photos, "--save", "labels,coco")
    assert program("export", "out", "--to", "coco").code == 0
    assert states == [True, True]


def test_of_a_merged_run_without_files_the_merge_is_the_remedy(program, segment, photos):
    for index in (1, 2):
        classes = ("--classes", "sky, road, car")
        name = f"part{index}"
        program("segment", photos, "-r", *classes, "--shard", f"{index}/2", "-o", name)
    assert program("merge", "part1", "part2", "-o", "whole").code == 0
    ended = program("export", "whole", "--to", "coco")
    assert ended.code == 2 and "ovseg merge again with --files copy or link and" in ended.err
    again = program("merge", "part1", "part2", "-o", "whole", "--files", "copy", "--overwrite")
    assert again.code == 0 and program("export", "whole", "--to", "coco").code == 0


def test_photos_that_yolo_lacks_are_said(program, segment, photos, tmp_path):
    segment(photos, "-r")
    for name in ("00", "01"):
        (tmp_path / f"photos/{name}.png").unlink()
    ended = program("export", "out", "--to", "yolo")
    assert ended.code == 0 and ended.err.count("2 photos are not there") == 1
    assert "put them into out/exports/yolo/images, under" in ended.err


def test_a_label_map_of_more_pixels_than_are_wanted(
    program, segment, photos, tmp_path, monkeypatch
):
    """How large one may be is not for the folder to say: it may come from somebody else."""
    segment(photos)
    ended = program("export", "out", "--to", "voc,svg", "--max-pixels", "1535")
    assert ended.code == 1
    assert "exceed the limit of 1535 pixels" in ended.err and "--max-pixels 1536" in ended.err
    assert not (tmp_path / "out/exports").exists()
    assert program("export", "out", "--to", "voc", "--max-pixels", "1536").code == 0
    monkeypatch.setattr("ovseg_cli.formats.labelled.MAX_PIXELS", 1535)
    assert program("export", "out", "--to", "voc").code == 1
    # At the end of a run its own photos are exported, however many pixels were allowed.
    assert segment(photos, "--save", "labels,voc", "--overwrite").code == 0


def test_results_are_not_exported_under_the_names_of_a_later_run(
    program, segment, photos, tmp_path
):
    segment(photos)
    ended = segment("-", "--resume", classes="cat, dog, cow", stdin=b"photos/nope.png\n")
    assert ended.code == 1 and "was made with other names" in ended.err
    ended = program("export", "out", "--to", "coco")
    assert ended.code == 2 and "only of earlier ones with other names" in ended.err
    assert segment(photos, "--resume").code == 0
    assert program("export", "out", "--to", "coco").code == 0
    document = json.loads((tmp_path / "out/exports/coco/instances.json").read_text())
    assert [entry["name"] for entry in document["categories"]] == ["sky", "road", "car"]
