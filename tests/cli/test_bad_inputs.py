"""Odd, broken and hostile inputs, and outputs that cannot be written, through the command."""

import json
import os
import resource
import shutil
import subprocess

import pytest
from mock_segmenter import files_below, make_photo, make_photos
from PIL import Image


def test_an_empty_folder(segment, tmp_path, fake):
    (tmp_path / "photos").mkdir()
    ended = segment("photos")
    assert ended.code == 2
    assert "no photo" in ended.err
    assert not (tmp_path / "out").exists() and not fake.loaded


def test_a_folder_of_text_files(segment, tmp_path):
    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.md", "c"):
        (tmp_path / "texts" / name).write_text("no image")
    ended = segment("texts")
    assert ended.code == 2
    assert "no photo" in ended.err


def test_an_input_that_is_not_there(segment, tmp_path):
    ended = segment("missing.jpg", "other/")
    assert ended.code == 2 and "no such file or folder: missing.jpg" in ended.err


def test_one_of_several_inputs_that_is_not_there(segment, photo, tmp_path):
    """A file may vanish after the shell has listed it."""
    Image.fromarray(photo).save(tmp_path / "there.png")
    ended = segment("missing.png", "there.png")
    assert ended.code == 1
    assert "not there, so that they will fail: missing.png" in ended.err
    assert "missing.png: No such file" in ended.err
    assert [path.name for path in (tmp_path / "out/labels").iterdir()] == ["there.png"]
    failures = json.loads((tmp_path / "out/run.json").read_text())["failures"]
    assert [failure["path"] for failure in failures] == ["missing.png"]


def test_a_part_of_a_run_has_the_inputs_of_all_parts(segment, photo, tmp_path):
    """Else photos would be divided otherwise than those of the parts that saw the file."""
    Image.fromarray(photo).save(tmp_path / "there.png")
    ended = segment("missing.png", "there.png", "--shard", "1/2")
    assert ended.code == 2 and "no such file or folder: missing.png" in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", ["", "none*.png", "x" * 5000])
def test_what_no_file_can_have_been_called_is_wrong_usage(segment, photo, tmp_path, wrong):
    Image.fromarray(photo).save(tmp_path / "there.png")
    assert segment("there.png", wrong).code == 2
    assert not (tmp_path / "out").exists()


def test_odd_photos_are_all_done(segment, odd_images, photo, tmp_path):
    ended = segment("odd")
    assert (ended.code, ended.err.count("error")) == (0, 0)
    report = json.loads((tmp_path / "out/run.json").read_text())
    assert report["counts"]["done"] == len(odd_images)
    for label_map in (tmp_path / "out/labels").iterdir():
        assert Image.open(label_map).size == (photo.shape[1], photo.shape[0])


def test_broken_photos_fail_by_name_and_the_others_are_complete(
    segment, broken_images, odd_images, tmp_path
):
    ended = segment("broken", "odd")
    assert ended.code == 1
    for name in broken_images:
        assert f"ovseg: error: broken/{name}: " in ended.err
    report = json.loads((tmp_path / "out/run.json").read_text())
    assert {f["path"] for f in report["failures"]} == {f"broken/{name}" for name in broken_images}
    assert len(files_below(tmp_path / "out/labels")) == len(odd_images)
    assert len(files_below(tmp_path / "out/overlays")) == len(odd_images)


def test_photos_over_the_limit_fail(segment, tmp_path):
    make_photo(tmp_path / "large.png", (100, 100))
    ended = segment("large.png", "--max-pixels", "9999")
    assert ended.code == 1
    assert "--max-pixels 10000" in ended.err
    assert segment("large.png", "--max-pixels", "10000", "--overwrite").code == 0


@pytest.mark.parametrize(
    "name",
    ["new\nline.png", "\x1b[31mred.png", "[bold]x[red].png", "-r.png", "ünï 😀.png", " .png"],
)
def test_names_of_all_kinds(segment, tmp_path, name):
    make_photo(tmp_path / "photos" / name)
    ended = segment("photos", "--json")
    assert ended.code == 0
    assert len(ended.out.splitlines()) == 1
    assert json.loads(ended.out)["path"] == f"photos/{name}"
    assert (tmp_path / "out/labels" / name).exists()
    (tmp_path / "photos" / name).write_bytes(b"")
    ended = segment("photos", "--overwrite")
    assert ended.code == 1
    assert "\x1b" not in ended.err
    failures = [line for line in ended.err.splitlines() if "error" in line]
    assert len(failures) == 1 and "empty" in failures[0]


@pytest.mark.skipif(os.name != "posix", reason="names of other systems are Unicode")
def test_a_name_that_is_not_unicode(segment, tmp_path):
    photo = make_photo(tmp_path / "photos" / "x.png")
    os.rename(photo, os.path.join(os.fsencode(tmp_path), b"photos", b"caf\xe9.png"))
    ended = segment("photos", "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["path"] == "photos/caf\udce9.png"
    assert os.listdir(os.fsencode(tmp_path / "out/labels")) == [b"caf\xe9.png"]
    assert (tmp_path / "out/stats.csv").read_text(encoding="utf-8").count("caf\\udce9.png") == 3
    assert segment("photos", "--resume").err.count("finished earlier") == 1


def test_inputs_that_would_meet_in_one_name(segment, tmp_path):
    for name in ("a.png", "a.bmp", "b.png"):
        make_photo(tmp_path / "photos" / name, seed=len(name))
    assert segment("photos").code == 0
    assert set(files_below(tmp_path / "out/labels")) == {"a.png.png", "a.bmp.png", "b.png"}
    images = {
        line.split(",")[0] for line in (tmp_path / "out/stats.csv").read_text().splitlines()[1:]
    }
    assert images == {"a.png", "a.bmp", "b.png"}


class TestOutput:
    def test_below_a_file(self, program, tmp_path, fake):
        make_photos(tmp_path / "photos", 1)
        (tmp_path / "file").touch()
        for out in ("file", "file/below"):
            ended = program("segment", "photos", "--classes", "sky", "-o", out)
            assert ended.code == 2
            assert "not a folder" in ended.err
        assert not fake.loaded

    def test_no_permission(self, program, tmp_path, monkeypatch):
        make_photos(tmp_path / "photos", 1)
        monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
        ended = program("segment", "photos", "--classes", "sky", "-o", "out")
        assert ended.code == 2
        assert "no permission" in ended.err

    def test_one_folder_in_it_cannot_be_written(self, segment, tmp_path):
        make_photos(tmp_path / "photos", 2)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "labels").touch()
        ended = segment("photos")
        assert ended.code == 1
        assert ended.err.count("cannot write") == 2
        assert not list((tmp_path / "out/overlays").iterdir())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(program, tmp_path, small_disk):
    make_photos(tmp_path / "photos", 40, (300, 200))
    arguments = ["segment", "photos", "--classes", "sky,road,car", "--save", "confidence,stats"]
    ended = program(*arguments, "-o", small_disk / "out")
    assert ended.code == 1
    assert "No space left" in ended.err and "--resume" in ended.err
    assert "not begun" in ended.err
    written = list((small_disk / "out" / "confidence").iterdir())
    assert 2 < len(written) < 30
    for path in written:
        Image.open(path).load()  # whole
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    ended = program(*arguments, "-o", small_disk / "out", "--resume")
    assert ended.code == 0
    assert f"{len(written)} finished earlier" in ended.err
    program(*arguments, "-o", tmp_path / "whole")
    assert files_below(small_disk / "out") == files_below(tmp_path / "whole")


def test_a_disk_that_is_read_only(program, tmp_path, small_disk):
    make_photos(tmp_path / "photos", 1)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    ended = program("segment", "photos", "--classes", "sky", "-o", small_disk / "out")
    assert ended.code == 2
    assert "cannot write" in ended.err


def test_a_limit_on_file_sizes(start, tmp_path):
    """An error of the file system that does not concern the whole disk."""
    make_photos(tmp_path / "photos", 3)
    make_photo(tmp_path / "photos" / "zz.png", (600, 400))
    arguments = ["segment", "photos", "--classes", "sky,road,car", "--save", "confidence"]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # noqa: E731
    process = start(*arguments, "-o", "out", preexec_fn=limit)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "photos/zz.png" in err and err.count("error") == 1
    assert len(list((tmp_path / "out/confidence").iterdir())) == 3
