"""`ovseg report`: after runs of the program on the segmenter without torch."""

import json
import shutil

import numpy as np
import pytest
from mock_segmenter import files_below, make_photo, make_photos
from PIL import Image

from ovseg_cli.media.picture_formats import HEAVY_PIXELS


@pytest.fixture
def done(segment, tmp_path):
    """out/: a run of three photos and a broken one."""
    make_photos(tmp_path / "photos", 3)
    (tmp_path / "photos/bad.png").write_bytes(b"")
    assert segment("photos").code == 1
    return tmp_path / "out"


def page_data(path):
    text = path.read_text("utf-8")
    return json.loads(text.split('type="application/json">')[1].split("</script>")[0])


@pytest.fixture
def large(monkeypatch):
    """As if no thumbnail had room in a page."""
    monkeypatch.setattr("ovseg_cli.report.page.EMBEDDED_BYTES", 0)


def test_the_page(program, done):
    before = set(files_below(done))
    ended = program("report", "out")
    assert (ended.code, ended.out) == (0, "")
    assert "3 done, 1 failed: out/report.html" in ended.err
    data = page_data(done / "report.html")
    assert sorted(photo["name"] for photo in data["photos"]) == ["00.png", "01.png", "02.png"]
    assert data["failures"][0][1] == "the file is empty"
    assert data["run"]["command"].startswith("ovseg segment photos --classes")
    shown = {photo[kind] for photo in data["photos"] for kind in ("photo", "overlay")}
    assert len(shown) == 6 and all(text.startswith("data:image/jpeg;") for text in shown)
    assert set(files_below(done)) - before == {"report.html"} and "copy both" not in ended.err
    assert program("report", "out", "--quiet").err == ""


def test_the_page_of_a_large_run_and_its_thumbnails(program, done, large):
    ended = program("report", "out")
    assert (ended.code, ended.out) == (0, "")
    assert "too many for one file and lie in out/report-files: copy both" in ended.err
    photos = page_data(done / "report.html")["photos"]
    shown = {photo[kind] for photo in photos for kind in ("photo", "overlay")}
    assert shown == {f"report-files/{file.name}" for file in (done / "report-files").iterdir()}
    assert program("report", "out", "--quiet").err == ""


def test_thumbnails_of_an_earlier_report_go_once_they_are_in_the_page(program, done, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("ovseg_cli.report.page.EMBEDDED_BYTES", 0)
        program("report", "out")
    assert (done / "report-files").is_dir()
    assert program("report", "out").code == 0
    assert not (done / "report-files").exists()


def test_another_place(program, done, tmp_path, large):
    before = set(files_below(done))
    assert program("report", "out", "-o", "pages/mine.html").code == 0
    assert (tmp_path / "pages/mine.html").exists() and set(files_below(done)) == before
    assert len(list((tmp_path / "pages/mine-files").iterdir())) == 6


def test_making_it_again_replaces_it(program, segment, done, tmp_path, large):
    program("report", "out")
    old = {file.name for file in (done / "report-files").iterdir()}
    make_photo(tmp_path / "photos/new.png", seed=9)
    (tmp_path / "photos/bad.png").unlink()
    (tmp_path / "photos/00.png").unlink()
    assert segment("photos", "--overwrite").code == 0
    assert program("report", "out").code == 0
    data = page_data(done / "report.html")
    assert {photo["name"] for photo in data["photos"]} == {"01.png", "02.png", "new.png"}
    new = {file.name for file in (done / "report-files").iterdir()}
    assert len(new) == 6 and not old & new


def test_later_runs_are_not_disturbed(program, segment, done, tmp_path):
    program("report", "out")
    page = (done / "report.html").read_bytes()
    (tmp_path / "photos/bad.png").unlink()
    assert segment("photos", "--resume").code == 0
    assert "3 finished earlier" in segment("photos", "--resume").err
    assert segment("photos").code == 2  # holds results
    assert (done / "report.html").read_bytes() == page
    # What is left of a report alone is no result of a run, and thumbnails are no photos.
    for name in ("labels", "overlays", ".ovseg"):
        shutil.rmtree(done / name)
    for name in ("classes.json", "run.json", "stats.csv", "summary.csv"):
        (done / name).unlink()
    assert segment(".", "-r").code == 0
    assert json.loads((done / "run.json").read_text())["counts"]["inputs"] == 3


def test_labels_at_hand(program, segment, done, tmp_path):
    data = tmp_path / "truth"
    (data / "labels").mkdir(parents=True)
    shutil.copytree(tmp_path / "photos", data / "images")
    (data / "classes.json").write_text('{"0": "sky", "1": "road", "2": "automobile", "3": "dog"}')
    (data / "val.txt").write_text("00\n01\n")
    (data / "test.txt").write_text("02\n")
    for key in ("00", "01", "02"):
        labels = np.array(Image.open(done / f"labels/{key}.png"))
        labels[: 32 if key == "02" else 0] = 3  # all of it wrong
        Image.fromarray(labels).save(data / f"labels/{key}.png")
    ended = program("report", "out", "--data", "truth")
    assert ended.code == 0
    assert "2 of 3 photos have labels among the 2 of val" in ended.err
    assert "no name for dog" in ended.err
    iou = {photo["name"]: photo["iou"] for photo in page_data(done / "report.html")["photos"]}
    assert iou == {"00.png": 1.0, "01.png": 1.0, "02.png": None}
    assert program("report", "out", "--data", "truth", "--split", "test").code == 0
    values = page_data(done / "report.html")
    assert values["accuracy"]["photos"] == 1 and values["accuracy"]["mean_iou"] == 0
    (data / "labels/02.png").write_bytes(b"")
    ended = program("report", "out", "--data", "truth", "--split", "test")
    assert (
        ended.code == 0 and "1 left out, whose labels cannot be read: truth/labels/02" in ended.err
    )
    for arguments, said in (
        (["--data", "truth", "--split", "none"], "none.txt"),
        (["--data", "photos"], "not a labelled data set"),
        (["--split", "val"], "--split without --data DIR"),
    ):
        ended = program("report", "out", *arguments)
        assert ended.code == 2 and said in ended.err


def test_labels_of_ids_that_are_no_class(program, done, tmp_path):
    data = tmp_path / "truth"
    (data / "labels").mkdir(parents=True)
    (data / "val.txt").write_text("00\n")
    labels = np.zeros((32, 48), np.uint8)
    labels[:8] = 7
    Image.fromarray(labels).save(data / "labels/00.png")
    (data / "classes.json").write_text('{"0": "sky", "1": "road"}')
    ended = program("report", "out", "--data", "truth")
    assert ended.code == 0 and "not in classes.json (7)" in ended.err and "25.0%" in ended.err
    (data / "classes.json").write_text('{"100": "sky", "101": "road"}')
    ended = program("report", "out", "--data", "truth")
    assert ended.code == 0 and "no id in its labels (0, 7) is in classes.json" in ended.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "no such folder: nowhere"),
        (["photos"], "photos is no output folder of ovseg segment"),
        (["out", "-o", "photos"], "photos is a folder"),
        ([], "Missing argument 'OUT'"),
    ],
)
def test_wrong_usage(program, done, arguments, said):
    ended = program("report", *arguments)
    assert ended.code == 2 and said in ended.err


def test_label_maps_in_tar_shards_are_not_compared(program, segment, tmp_path):
    make_photos(tmp_path / "photos", 2)
    assert segment("photos", "--tar-size", "1MB").code == 0
    (tmp_path / "data/labels").mkdir(parents=True)
    shutil.copytree(tmp_path / "photos", tmp_path / "data/images")
    (tmp_path / "data/classes.json").write_text('["sky", "road"]')
    (tmp_path / "data/val.txt").write_text("00\n01\n")
    for key in ("00", "01"):
        Image.new("L", (48, 32)).save(tmp_path / f"data/labels/{key}.png")
    ended = program("report", "out", "--data", "data")
    assert ended.code == 2 and "label maps in tar shards" in ended.err
    assert not (tmp_path / "out/report.html").exists()


def test_a_folder_without_photos_makes_no_page(program, done, tmp_path):
    (tmp_path / "clips").mkdir()
    shutil.copy(done / "classes.json", tmp_path / "clips")
    for command in (("report", "clips"), ("export", "clips", "--to", "coco", "-o", "exported")):
        ended = program(*command)
        assert ended.code == 2 and "clips holds no finished photo" in ended.err
        assert "it holds clips" not in ended.err
    (tmp_path / "clips/street.run.json").write_text("{}")
    for command in (("report", "clips"), ("export", "clips", "--to", "coco", "-o", "exported")):
        ended = program(*command)
        assert ended.code == 2 and "it holds clips, as street.run.json tells" in ended.err
    assert not (tmp_path / "clips/report.html").exists()


def test_a_run_that_ended_before_its_first_photo_has_a_page(program, done, tmp_path):
    (tmp_path / "none").mkdir()
    shutil.copy(done / "classes.json", tmp_path / "none")
    (tmp_path / "none/run.json").write_text('{"status": "interrupted"}')
    assert program("report", "none").code == 0
    assert page_data(tmp_path / "none/report.html")["run"]["status"] == "interrupted"


def test_a_place_that_cannot_be_written(program, done, tmp_path):
    (tmp_path / "file").write_text("")
    ended = program("report", "out", "-o", "file/page.html")
    assert ended.code == 1 and "cannot write" in ended.err


def test_photos_of_more_pixels_than_are_wanted(program, done, monkeypatch):
    ended = program("report", "out", "--max-pixels", "1535")
    assert ended.code == 0
    assert "3 of the photos exceed the limit of 1535 pixels" in ended.err
    assert "--max-pixels 1536" in ended.err
    for photo in page_data(done / "report.html")["photos"]:
        assert not photo["photo"] and photo["overlay"] and "--max-pixels" in photo["missing"]
    monkeypatch.setattr("ovseg_cli.media.images.MAX_PIXELS", 1000)
    ended = program("report", "out", "--max-pixels", "1536", "-o", "page.html")
    assert ended.code == 0 and "exceed" not in ended.err
    assert all(photo["photo"] for photo in page_data(done.parent / "page.html")["photos"])


def test_photos_over_the_limit_of_their_format(program, done, monkeypatch):
    monkeypatch.setitem(HEAVY_PIXELS, "PNG", 1535)
    ended = program("report", "out")
    assert ended.code == 0
    assert "3 of the photos exceed their format's limit and are not shown" in ended.err
    assert "--max-pixels 1536" in ended.err
    for photo in page_data(done / "report.html")["photos"]:
        assert not photo["photo"] and "--max-pixels" in photo["missing"]
    ended = program("report", "out", "--max-pixels", "1536")
    assert ended.code == 0 and "exceed" not in ended.err
    assert all(photo["photo"] for photo in page_data(done / "report.html")["photos"])
