import csv
import functools
import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from mock_segmenter import MockModel, files_below, make_photo, make_photos
from PIL import Image

from ovseg_cli import __version__, cores
from ovseg_cli.batch import run as batch
from ovseg_cli.cli import console, segment_run


@pytest.fixture
def photos(tmp_path):
    make_photos(tmp_path / "photos", 4)
    return "photos"


def table(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_whole_way(segment, photos, tmp_path, fake):
    ended = segment(photos)
    assert (ended.code, ended.out) == (0, "")
    out = tmp_path / "out"
    assert sorted(files_below(out)) == sorted(
        ["classes.json", "stats.csv", "summary.csv"]
        + [f"labels/{i:02}.png" for i in range(4)]
        + [f"overlays/{i:02}.jpg" for i in range(4)]
    )
    total = {}
    for i in range(4):
        red = np.asarray(Image.open(tmp_path / photos / f"{i:02}.png"))[..., 0]
        labels = Image.open(out / f"labels/{i:02}.png")
        assert labels.mode == "L" and (np.asarray(labels) == red % 3).all()
        assert __version__ in labels.text["Software"]
        assert fake.made[0].model.checksum in labels.text["Model"]
        assert json.loads(labels.text["Vocabulary"]) == ["sky", "road", "car"]
        rows = [r for r in table(out / "stats.csv") if r["image"] == f"{i:02}.png"]
        assert [int(r["pixels"]) for r in rows] == np.bincount(red.ravel() % 3).tolist()
        assert sum(float(r["fraction"]) for r in rows) == pytest.approx(1, abs=1e-8)
        for row in rows:
            total[row["class"]] = total.get(row["class"], 0) + int(row["pixels"])
    assert {r["class"]: int(r["pixels"]) for r in table(out / "summary.csv")} == total
    classes = json.loads((out / "classes.json").read_text())
    assert [(c["id"], c["name"], c["synonyms"]) for c in classes] == [
        (0, "sky", []),
        (1, "road", []),
        (2, "car", ["automobile"]),
    ]


def test_the_table_at_the_end_tells_no_class_that_is_there_as_nothing(
    segment, tmp_path, monkeypatch
):
    tables = []
    monkeypatch.setattr(console, "table", lambda title, columns, rows: tables.append([*rows]))
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[0, 0, 0] = 1  # one pixel of road, all others of sky
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    assert segment("photo.png").code == 0
    assert tables == [[("sky", "0", "100.0%", "1"), ("road", "1", "<0.1%", "1")]]


def test_run_json(segment, photos, tmp_path, fake):
    (tmp_path / photos / "bad.png").write_bytes(b"")
    assert segment(photos, "--device", "cpu", "--model", "some").code == 1
    unset = ["size", "proposals", "attention", "last_block", "quality"]
    own = dict.fromkeys(unset) | {"runtime": "torch"}
    assert fake.loaded == [("some", "cpu", "auto", own)]
    report = json.loads((tmp_path / "out/run.json").read_text())
    assert report["version"] == __version__
    assert report["command"].startswith("ovseg segment photos --device cpu --model some --classes")
    assert report["model"] == {"name": "mock", "checksum": "ab" * 32}
    assert (report["device"], report["precision"], report["status"]) == ("cpu", "fp32", "complete")
    assert report["counts"] == {
        "inputs": 5,
        "done": 4,
        "skipped": 0,
        "failed": 1,
        "not_processed": 0,
    }
    assert report["failures"] == [{"path": "photos/bad.png", "reason": "the file is empty"}]
    assert report["timing"]["run_seconds"] > 0


class TestVocabulary:
    def test_it_is_echoed(self, segment, photos):
        err = segment(photos).err
        assert "3 classes: 0 sky, 1 road, 2 car|automobile" in err

    def test_names_in_other_scripts_are_told_of(self, segment, photos):
        err = segment(photos, classes="sky, \u6728, \u8def|road, \u5929").err
        assert '"\u6728" has no Latin letter, as 1 more: models' in err

    def test_from_a_file(self, segment, photos, tmp_path):
        (tmp_path / "names.txt").write_text("# mine\nsky\nroad | street\n")
        assert "2 classes: 0 sky, 1 road|street" in segment(photos, classes="@names.txt").err
        again = segment(photos, "--vocab", "names.txt", "--overwrite", classes=None)
        assert "2 classes: 0 sky, 1 road|street" in again.err

    def test_from_a_preset(self, segment, photos, fake):
        assert segment(photos, "--preset", "voc20", classes=None).code == 0
        assert len(fake.made[0].vocabulary) == 20

    def test_none(self, segment, photos):
        ended = segment(photos, classes=None)
        assert ended.code == 2
        assert all(option in ended.err for option in ("--classes", "--vocab", "--preset"))

    def test_two(self, segment, photos):
        ended = segment(photos, "--preset", "voc20")
        assert ended.code == 2
        assert "--classes and --preset" in ended.err

    @pytest.mark.parametrize(
        ("classes", "said"),
        [
            ("", "no class names"),
            ("sky,,road", "blank"),
            ("sky, Sky", '"sky" occurs 2 times'),
            (", ".join(["same"] * 300), '"same" occurs 300 times'),
            ("@missing.txt", "missing.txt"),
        ],
    )
    def test_bad_names_load_no_model(self, program, photos, fake, tmp_path, classes, said):
        ended = program("segment", photos, "--classes", classes, "-o", "out")
        assert ended.code == 2
        assert said in ended.err and len(ended.err) < 500
        assert not fake.loaded
        assert not (tmp_path / "out").exists()

    def test_unknown_preset(self, segment, photos):
        ended = segment(photos, "--preset", "nonsense", classes=None)
        assert ended.code == 2
        assert "voc20" in ended.err

    def test_other_adds_a_class(self, segment, photos, fake, tmp_path):
        ended = segment(photos, "--other", "rest")
        assert ended.code == 0 and "3 rest" in ended.err
        assert fake.made[0].other == "rest"
        assert table(tmp_path / "out/summary.csv")[-1]["class"] == "rest"

    @pytest.mark.parametrize("rivals", [(), ("--rivals", "voc20")])
    @pytest.mark.parametrize("learnt", [True, False])
    def test_other_of_a_model_that_has_learnt_none_is_warned_of(
        self, segment, photos, monkeypatch, learnt, rivals
    ):
        monkeypatch.setattr(MockModel, "knows_other", learnt)
        ended = segment(photos, "--other", "rest", *rivals)
        assert ended.code == 0
        told = "mock has learnt nothing of what fits none of the names" in ended.err
        assert told == (not learnt and not rivals)

    def test_other_that_is_a_class_already(self, segment, photos, fake):
        assert segment(photos, "--other", "Automobile").code == 2
        assert not fake.loaded

    def test_a_name_with_a_newline_and_escapes(self, segment, photos, tmp_path):
        name = "sea\x1b[2J\nside"
        ended = segment(photos, classes=f"{name}, road")
        assert ended.code == 0
        assert "\x1b" not in ended.err
        assert table(tmp_path / "out/summary.csv")[0]["class"] == name

    def test_many_names_are_shortened(self, segment, photos):
        err = segment(photos, classes=",".join(f"name{i}" for i in range(400))).err
        assert "400 classes" in err and "360 more" in err

    def test_more_than_255_classes_make_16_bits(self, segment, photos, tmp_path):
        assert segment(photos, classes=",".join(f"name{i}" for i in range(256))).code == 0
        header = (tmp_path / "out/labels/00.png").read_bytes()[:26]
        assert header[24:26] == bytes([16, 0])  # bits a pixel, greyscale

    def test_too_many_classes_for_a_palette(self, segment, photos, fake):
        names = ",".join(f"name{i}" for i in range(256))
        assert segment(photos, "--save", "palette", classes=names).code == 2
        assert not fake.loaded


def test_threshold_leaves_pixels_unlabelled(segment, photos, tmp_path):
    assert segment(photos, "--threshold", "0.5").code == 0
    green = np.asarray(Image.open(tmp_path / photos / "00.png"))[..., 1]
    labels = np.asarray(Image.open(tmp_path / "out/labels/00.png"))
    assert ((labels == 255) == (green / 255 < 0.5)).all()
    rows = [r for r in table(tmp_path / "out/stats.csv") if r["image"] == "00.png"]
    assert [r["class_id"] for r in rows] == ["0", "1", "2", "-1"]
    assert sum(float(r["fraction"]) for r in rows) == pytest.approx(1, abs=1e-8)


class TestSave:
    def test_only_what_is_asked_for(self, segment, photos, tmp_path):
        assert segment(photos, "--save", "palette, confidence,masks").code == 0
        folders = {path.name for path in (tmp_path / "out").iterdir()}
        assert folders == {"palette", "confidence", "masks", "classes.json", "run.json", ".ovseg"}

    def test_an_unknown_name(self, segment, photos):
        ended = segment(photos, "--save", "labels,nonsense")
        assert ended.code == 2
        assert "nonsense" in ended.err and "overlay" in ended.err and "stats" in ended.err

    @pytest.mark.parametrize("names", ["", " , "])
    def test_no_name(self, segment, photos, tmp_path, fake, names):
        """As of a variable of the shell that is not set: nothing would be left of the work."""
        ended = segment(photos, "--save", names)
        assert ended.code == 2 and "--save names nothing: name one, such as labels" in ended.err
        assert not fake.loaded and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--other", ""], "--other: an empty name"),
        (["--other", "Road"], '--other Road: class name "road" occurs 2 times'),
        (["--batch-size", "9" * 5000], "is neither 'auto' nor a number from 1"),
        (["--max-errors", "9" * 5000], "is neither a number from 1 nor 1% to 100%"),
        (["--max-errors", "9" * 5000 + "%"], "is neither a number from 1 nor 1% to 100%"),
        (["--tar-size", "9" * 5000], "is no size such as 500MB or 2GB"),
    ],
)
def test_values_that_cannot_be_meant(segment, photos, fake, arguments, reason):
    ended = segment(photos, *arguments)
    assert ended.code == 2 and reason in " ".join(ended.err.split())
    assert len(ended.err) < 2000 and not fake.loaded


def test_names_from_standard_input(segment, photos, fake):
    given = {"stdin": b"sky\n# ground\nroad|street\n", "classes": None}
    assert segment(photos, "--vocab", "-", **given).code == 0
    assert fake.made[-1].vocabulary.names == ("sky", "road")
    ended = segment("-", "--vocab", "-", "--overwrite", **given)
    assert ended.code == 2 and "both the class names and the inputs" in ended.err
    ended = segment("-", "--classes", "@-", "--overwrite", **given)
    assert ended.code == 2 and "both the class names and the inputs" in ended.err


@pytest.mark.parametrize(("option", "value"), [("--vocab", ""), ("--classes", "@")])
def test_a_file_of_names_without_a_name(segment, photos, option, value):
    ended = segment(photos, option, value, classes=None)
    assert ended.code == 2 and "the file of class names has an empty name" in ended.err


def test_a_list_of_inputs_from_a_standard_input_that_is_closed(start):
    command = ("segment", "-", "--classes", "sky", "-o", "out")
    process = start(*command, preexec_fn=functools.partial(os.close, 0))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and "standard input is closed" in err


class TestJson:
    def test_an_object_a_photo(self, segment, photos, tmp_path):
        (tmp_path / photos / "02.png").write_bytes(b"")
        ended = segment(photos, "--json")
        assert ended.code == 1
        records = [json.loads(line) for line in ended.out.splitlines()]
        assert [r["path"] for r in records] == [f"photos/{i:02}.png" for i in range(4)]
        assert set(records[2]) == {"path", "status", "error"}
        assert records[2]["error"] == "the file is empty"
        first = records[0]
        assert first["files"] == {"overlay": "out/overlays/00.jpg", "labels": "out/labels/00.png"}
        assert sum(c["fraction"] for c in first["classes"]) == pytest.approx(1, abs=1e-8)
        assert [c["name"] for c in first["classes"]] == ["sky", "road", "car"]
        assert first["seconds"] > 0

    def test_skipped_photos_are_told_too(self, segment, photos):
        first = [json.loads(line) for line in segment(photos, "--json").out.splitlines()]
        second = segment(photos, "--json", "--resume").out.splitlines()
        for before, line in zip(first, second, strict=True):
            after = json.loads(line)
            assert (before["status"], after["status"]) == ("done", "skipped")
            assert before["classes"] == after["classes"]

    def test_quiet_says_only_what_failed(self, segment, photos, tmp_path):
        assert segment(photos, "-q").err == ""
        (tmp_path / photos / "02.png").write_bytes(b"")
        err = segment(photos, "-q", "--overwrite").err
        assert err == "ovseg: error: photos/02.png: the file is empty\n"


class TestResumeAndOverwrite:
    def test_results_are_not_overwritten_unasked(self, segment, photos, tmp_path, fake):
        assert segment(photos).code == 0
        before = files_below(tmp_path / "out")
        ended = segment(photos, "--threshold", "0.5")
        assert ended.code == 2
        assert "--resume" in ended.err and "--overwrite" in ended.err
        assert files_below(tmp_path / "out") == before
        assert len(fake.loaded) == 1

    def test_both(self, segment, photos):
        ended = segment(photos, "--resume", "--overwrite")
        assert ended.code == 2
        assert "--resume and --overwrite" in ended.err

    def test_overwrite_leaves_nothing_of_the_earlier_run(self, segment, photos, tmp_path):
        segment(photos)
        (tmp_path / photos / "00.png").unlink()
        assert segment(photos, "--overwrite").code == 0
        assert "labels/00.png" not in files_below(tmp_path / "out")

    def test_resume_in_a_new_folder(self, segment, photos):
        assert segment(photos, "--resume").code == 0

    def test_resume_does_only_what_is_missing(self, segment, photos, tmp_path, fake):
        segment(photos)
        before = files_below(tmp_path / "out")
        (tmp_path / "out/labels/02.png").unlink()
        assert segment(photos, "--resume").code == 0
        assert fake.made[1].batches == [[(32, 48)]]
        assert files_below(tmp_path / "out") == before

    @pytest.mark.parametrize(
        "change",
        [["--threshold", "0.2"], ["--other", "rest"], ["--no-exif"]],
    )
    def test_other_options_do_all_photos_anew(self, segment, photos, fake, change):
        segment(photos)
        assert segment(photos, "--resume", *change).code == 0
        assert len(fake.made[1].batches) == 4

    def test_another_model_does_all_photos_anew(self, segment, photos, fake):
        segment(photos)
        model = type(fake.made[0].model)(checksum="cd" * 32)
        fake.load_model = lambda *_, **__: model
        segment(photos, "--resume")
        assert len(fake.made[1].batches) == 4

    def test_another_precision_does_all_photos_anew(self, segment, photos, fake):
        segment(photos)
        model = type(fake.made[0].model)(precision="bf16")
        fake.load_model = lambda *_, **__: model
        segment(photos, "--resume")
        assert len(fake.made[1].batches) == 4

    def test_another_version_does_all_photos_anew(self, segment, photos, fake, monkeypatch):
        """What it would make of them nobody knows."""
        segment(photos)
        monkeypatch.setattr("ovseg_cli.cli.provenance.__version__", "99.0")
        segment(photos, "--resume")
        assert len(fake.made[1].batches) == 4

    def test_new_names_do_all_photos_anew(self, segment, photos, fake):
        segment(photos)
        segment(photos, "--resume", classes="sky, road, car|auto")
        assert len(fake.made[1].batches) == 4

    def test_another_device_or_batch_size_does_not(self, segment, photos, fake):
        segment(photos)
        segment(photos, "--resume", "--device", "cpu", "--batch-size", "3", "--workers", "1")
        assert fake.made[1].batches == []

    def test_results_in_the_input_folder_are_no_inputs(self, program, tmp_path, fake):
        make_photos(tmp_path, 2)
        arguments = ["segment", ".", "-r", "--classes", "sky,road", "-o", "."]
        assert program(*arguments).code == 0
        ended = program(*arguments, "--resume")
        assert ended.code == 0
        assert "4 inputs left out" in ended.err
        assert fake.made[1].batches == []

    def test_photos_are_called_alike_though_results_are_named_beside_them(self, program, tmp_path):
        """As a shell expands */*.png once there are overlays and label maps to match."""
        make_photo(tmp_path / "day/a.png")
        arguments = ["--classes", "sky,road", "-o", "."]
        assert program("segment", "day/a.png", *arguments).code == 0
        before = files_below(tmp_path / "labels")
        again = ["day/a.png", "labels/a.png", "overlays/a.jpg", *arguments]
        ended = program("segment", *again, "--overwrite")
        assert ended.code == 0 and "2 inputs left out" in ended.err
        assert files_below(tmp_path / "labels") == before and set(before) == {"a.png"}

    def test_somebodys_own_exports_are_photos(self, program, tmp_path, fake):
        """Photographers call folders so; only what `ovseg export` has noted there is ours."""
        make_photo(tmp_path / "raw/a.png")
        make_photo(tmp_path / "exports/b.png")
        make_photo(tmp_path / "report-files/c.png")
        arguments = ["segment", ".", "-r", "--classes", "sky,road", "-o", ".", "--save"]
        assert program(*arguments, "labels,voc").code == 0
        assert (tmp_path / "exports/voc/SegmentationClass/exports/b.png").exists()
        labels = files_below(tmp_path / "labels")
        assert set(labels) == {"raw/a.png", "exports/b.png", "report-files/c.png"}
        ended = program(*arguments, "labels", "--resume")
        assert ended.code == 0 and "3 finished earlier" in ended.err
        assert files_below(tmp_path / "labels") == labels

    def test_tables_of_an_earlier_run_do_not_stay_as_they_were(self, segment, photos, tmp_path):
        segment(photos)
        (tmp_path / photos / "00.png").unlink()
        assert segment(photos, "--resume", "--save", "labels").code == 0
        assert "00.png" not in (tmp_path / "out/stats.csv").read_text()


class TestShards:
    def test_parts_are_disjoint_and_complete(self, program, tmp_path):
        make_photos(tmp_path / "photos", 20)
        seen = []
        for part in ("1/3", "2/3", "3/3"):
            arguments = ["photos", "--classes", "sky,road", "--json", "--shard", part]
            ended = program("segment", *arguments, "-o", part[0])
            assert ended.code == 0
            seen += [json.loads(line)["path"] for line in ended.out.splitlines()]
        assert len(seen) == 20 and len(set(seen)) == 20

    def test_parts_in_one_folder_end_in_the_same_tables(self, program, tmp_path):
        make_photos(tmp_path / "photos", 12)
        arguments = ["segment", "photos", "--classes", "sky,road"]
        program(*arguments, "-o", "whole")
        for part in ("2/2", "1/2"):
            ended = program(*arguments, "-o", "parts", "--resume", "--shard", part)
            assert ended.code == 0
        assert files_below(tmp_path / "whole") == files_below(tmp_path / "parts")

    def test_an_empty_part_is_fine(self, program, tmp_path):
        make_photos(tmp_path / "photos", 1)
        arguments = ["segment", "photos", "--classes", "sky,road", "-o"]
        codes = {program(*arguments, str(i), "--shard", f"{i}/3").code for i in (1, 2, 3)}
        assert codes == {0}


def test_a_preset_is_meant_though_a_file_is_called_so(segment, photos, tmp_path):
    (tmp_path / "voc20").write_text("no names of mine")
    assert segment(photos, "--rivals", "voc20").code == 0


class TestStandardInput:
    def test_a_path_a_line(self, segment, photos, tmp_path):
        listed = b"photos/03.png\r\n\n  \nphotos/01.png\n"
        assert segment("-", stdin=listed).code == 0
        assert set(files_below(tmp_path / "out/labels")) == {"01.png", "03.png"}

    def test_zero_bytes_between_paths(self, segment, tmp_path):
        make_photo(tmp_path / "photos" / "new\nline.png")
        assert segment("-", "-0", stdin=b"photos/new\nline.png\0").code == 0
        assert list(files_below(tmp_path / "out/labels")) == ["new\nline.png"]

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    def test_as_windows_writes_them(self, segment, tmp_path, encoding):
        make_photo(tmp_path / "photos" / "stra\u00dfe.png")
        assert segment("-", stdin="photos/stra\u00dfe.png\r\n".encode(encoding)).code == 0
        assert list(files_below(tmp_path / "out/labels")) == ["stra\u00dfe.png"]

    def test_a_list_that_is_cut_off(self, segment):
        ended = segment("-", stdin="photos/a.png".encode("utf-16")[:-1])
        assert ended.code == 2 and "cannot be read as paths" in ended.err

    def test_what_is_no_path_fails_by_name(self, segment, photos, tmp_path):
        ended = segment("-", stdin=b"a\0b/c.png\nphotos/00.png\n")
        assert ended.code == 1 and "c.png" in ended.err
        assert list(files_below(tmp_path / "out/labels")) == ["00.png"]

    @pytest.mark.parametrize(
        ("options", "listed", "told"),
        [
            ((), b"photos/00.png\0photos/01.png\0", "give -0"),
            ((), b"\xff\xd8\xff\xe0\0\x10JFIF\0\n\0\n", "a picture itself cannot be read"),
            (("-0",), b"photos/00.png\nphotos/01.png\n", "leave it out"),
        ],
    )
    def test_paths_that_end_otherwise_than_is_said(self, segment, photos, options, listed, told):
        ended = segment("-", *options, stdin=listed)
        assert ended.code == 2 and told in ended.err and len(ended.err.splitlines()) <= 3

    def test_what_is_gone_fails_by_name(self, segment, photos, tmp_path):
        ended = segment("-", stdin=b"photos/gone.png\nphotos/00.png\n")
        assert ended.code == 1
        assert "photos/gone.png: No such file" in ended.err
        assert list(files_below(tmp_path / "out/labels")) == ["00.png"]

    def test_nothing(self, segment):
        assert segment("-", stdin=b"\n").code == 2

    def test_mixed_with_others(self, segment, photos):
        assert segment("-", photos, stdin=b"photos/00.png").code == 2

    def test_null_without_a_list(self, segment, photos):
        assert segment(photos, "-0").code == 2


def test_dry_run_touches_nothing(segment, photos, tmp_path, fake):
    ended = segment(photos, "--dry-run")
    assert ended.code == 0
    assert ended.out.splitlines()[0] == "photos/00.png\tout/overlays/00.jpg\tout/labels/00.png"
    assert len(ended.out.splitlines()) == 4
    assert not (tmp_path / "out").exists()
    assert not fake.loaded


def test_the_default_output_folder(program, photos, tmp_path):
    assert program("segment", photos, "--classes", "sky,road").code == 0
    assert (tmp_path / "ovseg-out/labels/00.png").exists()


def test_batch_size_and_workers_are_passed_on(segment, photos, fake, monkeypatch):
    real, seen = batch.run, []

    def run(images, segmenter, output, options, stop):
        seen.append(options)
        return real(images, segmenter, output, options, stop)

    monkeypatch.setattr(batch, "run", run)
    segment(photos, "--batch-size", "3", "--workers", "5", "--max-pixels", "5000", "--no-exif")
    (options,) = seen
    assert (options.batch_size, options.workers) == (3, 5)
    assert (options.exif, options.max_pixels) == (False, 5000)


def test_a_crash_of_the_run_loses_nothing(segment, photos, tmp_path, monkeypatch):
    real = batch.run

    def run(*arguments):
        for number, result in enumerate(real(*arguments)):
            yield result
            if number == 1:
                raise AssertionError("a bug in the run")

    monkeypatch.setattr(batch, "run", run)
    ended = segment(photos)
    assert ended.code == 1
    assert "bug in ovseg" in ended.err
    stats = {row["image"] for row in table(tmp_path / "out/stats.csv")}
    assert {"00.png", "01.png"} <= stats
    assert json.loads((tmp_path / "out/run.json").read_text())["status"] == "failed"


@pytest.fixture
def window(monkeypatch):
    """What a window is asked to show, and whether it was left standing at the end."""
    asked = SimpleNamespace(shown=[], waited=0)

    class Window:
        def show(self, pixels, title):
            asked.shown.append((pixels.shape, title))

        def wait(self):
            asked.waited += 1

    monkeypatch.setattr("ovseg_cli.media.window.Window", Window)
    return asked


def test_show_shows_each_overlay(segment, photos, window, tmp_path):
    assert segment(photos, "--show").code == 0
    assert [title for _, title in window.shown] == [f"photos/{i:02}.png" for i in range(4)]
    for i, (shape, _) in enumerate(window.shown):
        with Image.open(tmp_path / f"out/overlays/{i:02}.jpg") as overlay:
            assert shape == (overlay.height, overlay.width, 3)
    assert window.waited == 1


def test_an_overlay_that_cannot_be_shown_ends_nothing(segment, photos, window, tmp_path):
    assert segment(photos).code == 0
    overlay = tmp_path / "out/overlays/01.jpg"
    overlay.write_bytes(bytes(overlay.stat().st_size))  # of the size that it had
    ended = segment(photos, "--show", "--resume")
    assert ended.code == 0
    assert [title for _, title in window.shown] == [f"photos/{i:02}.png" for i in (0, 2, 3)]
    assert "warning: not shown: " in ended.err and "overlays/01.jpg" in ended.err
    assert json.loads((tmp_path / "out/run.json").read_text())["status"] == "complete"


def test_show_needs_overlays(segment, photos, window, tmp_path):
    ended = segment(photos, "--show", "--save", "labels")
    assert ended.code == 2
    assert "add overlay to --save" in ended.err
    assert not (tmp_path / "out").exists()


def test_show_without_a_screen_ends_before_any_work(segment, photos, monkeypatch, fake):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    ended = segment(photos, "--show")
    assert ended.code == 2
    assert "leave out --show" in ended.err
    assert not fake.loaded


def test_the_model_is_asked_for_another_size_and_other_regions(segment, photos, tmp_path, fake):
    assert segment(photos, "--size", "640", "--proposals", "queries").code == 0
    ((*_, adapted),) = fake.loaded
    assert (adapted["size"], adapted["proposals"]) == (640, "queries")
    options = json.loads((tmp_path / "out/run.json").read_text())["options"]
    assert (options["size"], options["proposals"]) == (640, "queries")
    # What was made at another size is not what this run would make.
    again = segment(photos, "--size", "320", "--proposals", "queries", "--resume")
    assert (again.code, json.loads((tmp_path / "out/run.json").read_text())["counts"]["done"]) == (
        0,
        4,
    )


@pytest.mark.parametrize("size", ["0", "31", "4097", "big"])
def test_a_size_that_no_model_can_use(segment, photos, fake, size):
    ended = segment(photos, "--size", size)
    assert ended.code == 2 and "--size" in ended.err
    assert not fake.loaded


def test_windows_over_large_photos(segment, photos, tmp_path, fake):
    assert segment(photos, "--tile", "256", "--overlap", "0.5").code == 0
    assert fake.how == {
        "tile": 256,
        "overlap": 0.5,
        "refine": False,
        "masks": None,
        "exemplars": (),
        "rivals": None,
    }
    options = json.loads((tmp_path / "out/run.json").read_text())["options"]
    assert (options["tile"], options["overlap"]) == (256, 0.5)
    assert segment(photos, "--tile", "256", "--overlap", "0.95").code == 2


def test_an_overlap_without_windows(segment, photos, fake):
    ended = segment(photos, "--overlap", "0.5")
    assert ended.code == 2 and "--overlap without --tile" in ended.err
    assert not fake.loaded


def test_more_looks_are_part_of_how_results_were_made(segment, photos, tmp_path, fake):
    assert segment(photos, "--quality", "high").code == 0
    assert fake.loaded[-1][3]["quality"] == "high"
    assert json.loads((tmp_path / "out/run.json").read_text())["options"]["quality"] == "high"
    assert segment(photos, "--resume").code == 0
    assert json.loads((tmp_path / "out/run.json").read_text())["counts"]["done"] == 4
    assert segment(photos, "--quality", "best").code == 2


def test_refinement_is_part_of_how_results_were_made(segment, photos, tmp_path, fake):
    assert segment(photos, "--refine", "pamr").code == 0
    assert fake.how["refine"]
    assert json.loads((tmp_path / "out/run.json").read_text())["options"]["refine"] == "pamr"
    assert segment(photos, "--resume").code == 0
    assert json.loads((tmp_path / "out/run.json").read_text())["counts"]["done"] == 4


def test_templates_reach_the_names_and_are_part_of_how_results_were_made(
    segment, photos, tmp_path, fake
):
    (tmp_path / "mine.txt").write_text("a drawing of {}\n")
    assert segment(photos, "--templates", "mine.txt").code == 0
    assert fake.made[-1].vocabulary.templates == ("a drawing of {}",)
    options = json.loads((tmp_path / "out/run.json").read_text())["options"]
    assert options["templates"] == ["a drawing of {}"]
    assert segment(photos, "--templates", "nonsense", "--resume").code == 2


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ("sky", "mug=mug.png:9,0,10,10"),  # another part of it
        ("sky", "mug=mug.png"),  # all of it
        ("sky", "mug=mug.png:mask.png"),
        ("sky", "mug=other.png:0,0,10,10"),
        ("sky,mug", "mug=mug.png:0,0,10,10"),  # the word counts, too
    ],
)
def test_what_a_picture_shows_is_part_of_how_results_were_made(
    program, photos, tmp_path, names, shown
):
    for seed, name in enumerate(("mug.png", "other.png", "mask.png")):
        make_photo(tmp_path / name, seed=seed)

    def done(names, shown):
        arguments = ["-r", "--classes", names, "--exemplar", shown, "-o", "out", "--resume"]
        assert program("segment", photos, *arguments).code == 0
        return json.loads((tmp_path / "out/run.json").read_text())["counts"]["done"]

    first = done("sky", "mug=mug.png:0,0,10,10")
    assert first > 0
    assert done("sky", "mug=mug.png:0,0,10,10") == 0
    assert done(names, shown) == first


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
@pytest.mark.parametrize("shown", ["text.png", "photos/00.png:text.png", "photos/00.png:small.png"])
def test_pictures_that_cannot_be_used_are_found_before_anything_is_loaded(
    segment, photos, tmp_path, fake, shown, more
):
    (tmp_path / "text.png").write_text("This is no picture at all.")
    make_photo(tmp_path / "small.png", (5, 3))
    ended = segment(photos, "--exemplar", f"mug={shown}", *more)
    assert ended.code == 2 and not fake.loaded
    assert "exemplar of mug: " in ended.err


def test_a_box_that_reaches_out_of_its_picture_is_said(segment, photos):
    for width, said in (("5", False), ("500", True)):
        box = f"mug={photos}/00.png:0,0,{width},5"
        ended = segment(photos, "--exemplar", box, "--overwrite", "--dry-run")
        assert ended.code == 0
        assert ("--exemplar mug: the box reaches out of the picture" in ended.err) == said


@pytest.mark.parametrize("proposals", ["regions", "file:masks"])
def test_regions_from_elsewhere(segment, photos, tmp_path, fake, proposals):
    (tmp_path / "masks").mkdir()
    assert segment(photos, "--proposals", proposals).code == 0
    assert callable(fake.how["masks"])
    assert fake.loaded[-1][-1]["proposals"] is None
    options = json.loads((tmp_path / "out/run.json").read_text())["options"]
    kind, _, folder = proposals.partition(":")
    assert options["proposals"] == (f"{kind}:{tmp_path / folder}" if folder else proposals)


def test_files_are_the_same_however_they_are_spelled(program, photos, tmp_path, monkeypatch):
    """And masks of another folder are others, though they are spelled alike."""
    for place in (tmp_path, tmp_path / "elsewhere"):
        (place / "masks").mkdir(parents=True)
    make_photo(tmp_path / "mug.png")

    def done(masks, mug):
        options = ["--proposals", f"file:{masks}", "--exemplar", f"mug={mug}:0,0,10,10"]
        options += ["--classes", "sky", "-o", tmp_path / "out", "--resume"]
        assert program("segment", tmp_path / photos, *options).code == 0
        return json.loads((tmp_path / "out/run.json").read_text())["counts"]["done"]

    assert done("masks", "mug.png") == 4
    assert done(tmp_path / "masks", tmp_path / "mug.png") == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert done("../masks", "../mug.png") == 0
    assert done("masks", "../mug.png") == 4


@pytest.mark.parametrize("proposals", ["nonsense", "file:", "file:absent"])
def test_regions_that_are_none(segment, photos, proposals):
    ended = segment(photos, "--proposals", proposals)
    assert ended.code == 2
    assert "regions" in ended.err or "absent" in ended.err


def test_the_attention_of_the_last_layer(segment, photos, tmp_path, fake):
    assert segment(photos, "--attention", "self", "--last-block", "full").code == 0
    adapted = fake.loaded[-1][-1]
    assert (adapted["attention"], adapted["last_block"]) == ("self", "full")
    options = json.loads((tmp_path / "out/run.json").read_text())["options"]
    assert (options["attention"], options["last_block"]) == ("self", "full")


def test_what_was_made_before_a_run_went_on_is_told(segment, program, photos, tmp_path):
    assert "made before" not in segment(photos, "--save", "overlay,labels,coco,svg").err
    assert program("report", "out").code == 0
    ended = segment(photos, "--resume", "--save", "overlay,labels,coco")
    assert "finished earlier" in ended.err and "made before" not in ended.err  # nothing has come
    ended = segment(photos, "--resume", "--threshold", "0.1", "--save", "overlay,labels,coco")
    assert "so that they lack it: report.html, exports/svg\n" in ended.err


def test_overwrite_takes_away_what_was_made_of_the_earlier_results(
    segment, program, photos, tmp_path, monkeypatch
):
    monkeypatch.setattr("ovseg_cli.report.page.EMBEDDED_BYTES", 0)
    assert segment(photos, "--save", "overlay,labels,coco,svg").code == 0
    assert program("report", "out").code == 0
    assert (tmp_path / "out/exports/coco/instances.json").exists()
    (tmp_path / "out/exports/coco/own.txt").write_text("somebody's own")
    (tmp_path / "out/report-files/own.jpg").write_text("somebody's own")
    assert segment(f"{photos}/01.png", "--overwrite", classes="tree").code == 0
    left = {path for path in files_below(tmp_path / "out") if path.startswith(("exp", "rep"))}
    assert left == {"exports/coco/own.txt", "report-files/own.jpg"}


def test_going_on_with_other_names_says_what_no_longer_fits(segment, photos, tmp_path):
    assert segment(photos, "--save", "labels,masks").code == 0
    out = tmp_path / "out"
    assert (out / "masks/01").is_dir() and any((out / "masks/01").iterdir())
    ended = segment(f"{photos}/01.png", "--resume", classes="tree")
    assert ended.code == 0
    assert "out was made with other names" in ended.err
    assert not list((out / "masks").glob("01/*"))  # of the names before
    assert (out / "labels/00.png").exists() and list((out / "masks/00").iterdir())
    again = segment(f"{photos}/01.png", "--resume", classes="tree")
    assert "other names" not in again.err and "1 finished earlier" in again.err


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        ({"areas": [[99, 10, 0.5]]}, 1),
        ({"areas": [[-5, 10, 0.5]]}, 1),
        ({"areas": [[0, -4, True]]}, 1),
        ({"areas": [[0, 0, 0.5]]}, 1),
        ({"areas": [[0, 10**9, 0.5]]}, 1),
        ({"areas": [[0, 10, 7.5]]}, 1),
        ({"width": 0}, 1),
        ({"width": 10**400}, 1),
        ({"height": -3}, 1),
        ({"order": (1 << 63) - 1}, 0),
        ({"order": 1 << 63}, 1),
    ],
)
def test_a_damaged_line_of_the_journal_costs_its_photo_alone(
    segment, photos, tmp_path, change, redone
):
    assert segment(photos).code == 0
    tables = [(tmp_path / "out" / name).read_bytes() for name in ("stats.csv", "summary.csv")]
    journal = tmp_path / "out/.ovseg/journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    (number,) = [i for i, line in enumerate(lines) if line["rel"] == "01"]
    lines[number] |= change
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "out/labels/02.png").unlink()  # so that something is appended after it
    for done in (redone + 1, 0):
        ended = segment(photos, "--resume")
        assert ended.code == 0 and f"{4 - done} finished earlier" in ended.err
        found = [(tmp_path / "out" / name).read_bytes() for name in ("stats.csv", "summary.csv")]
        assert found == tables


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
@pytest.mark.parametrize("arguments", [["--json"], ["--dry-run"], ["--help"]])
def test_standard_output_that_is_full(start, photos, arguments):
    with open("/dev/full", "w") as full:
        process = start("segment", photos, "--classes", "sky", "-o", "o", *arguments, stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "cannot write to standard output: No space left" in err and "bug in ovseg" not in err


def test_standard_error_that_is_closed(start, photos, tmp_path):
    process = start(
        *("segment", photos, "--classes", "sky", "-o", "o", "--json"),
        stderr=None,
        preexec_fn=lambda: os.close(2),
    )
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert len([json.loads(line) for line in out.splitlines()]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threshold", "nan"], "'nan' is no finite number"),
        (["--model", "no-such-model"], "no model 'no-such-model'"),
        (["--shard", "1/99999999999"], "at most 999999 parts"),
        (["--classes", "\udcff,sky"], "is not text in UTF-8"),
    ],
)
def test_values_that_no_run_can_have(program, photos, arguments, message):
    ended = program("segment", photos, "--classes", "sky", "--dry-run", *arguments)
    assert ended.code == 2 and message in ended.err


def test_going_on_with_another_save_keeps_what_is_there(segment, photos, tmp_path):
    assert segment(photos, "--save", "overlay,masks").code == 0
    assert segment(photos, "--save", "labels", "--resume").code == 0
    for name in ("overlays/01.jpg", "labels/01.png"):
        assert (tmp_path / "out" / name).exists()
    assert list((tmp_path / "out/masks/01").iterdir())
    ended = segment(photos, "--save", "overlay,labels,masks", "--resume")
    assert "4 finished earlier" in ended.err  # all of it is noted
    other = segment(photos, "--save", "labels", "--resume", "--threshold", "0.3")
    assert other.code == 0
    assert not (tmp_path / "out/overlays/01.jpg").exists()  # of another threshold


def test_a_shard_with_other_photos_is_never_removed_for_one(segment, photos, tmp_path):
    assert segment(photos, "--tar-size", "100MB").code == 0
    (shard,) = (tmp_path / "out").glob("*.tar")
    before = shard.read_bytes()
    assert segment(f"{photos}/01.png", "--resume", "--threshold", "0.3").code == 0
    (tmp_path / photos / "02.png").write_bytes(b"damaged by now")
    assert segment(f"{photos}/02.png", "--resume").code == 1
    assert shard.read_bytes() == before


def test_overwrite_leaves_what_others_have_put_there(segment, program, photos, tmp_path):
    assert segment(photos, "--save", "overlay,labels,coco").code == 0
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (out / "exports/mine/empty").mkdir(parents=True)
    (elsewhere / "empty").mkdir(parents=True)
    (elsewhere / ".ovseg-files").write_text("[]")
    (out / "exports/svg").symlink_to(elsewhere)
    (out / "report.html").write_text("<p>somebody's own")
    (out / "report-files").mkdir()
    (out / f"report-files/{'0' * 20}-photo.jpg").mkdir()
    assert segment(photos, "--overwrite").code == 0
    assert (out / "exports/mine/empty").is_dir() and (elsewhere / "empty").is_dir()
    assert (elsewhere / ".ovseg-files").exists()
    assert (out / "report.html").read_text() == "<p>somebody's own"
    assert not (out / "exports/coco").exists()


def test_a_photo_alone_is_computed_as_among_others(program, photos, monkeypatch):
    """Threads of a pass decide in which order numbers are added."""
    for module in (cores, segment_run):
        monkeypatch.setattr(module, "available_cores", lambda: 8)
    threads = []
    for inputs in (photos, f"{photos}/00.png"):
        monkeypatch.delenv("OMP_NUM_THREADS")
        program("segment", inputs, "--classes", "sky", "-o", f"out{len(threads)}")
        threads.append(os.environ["OMP_NUM_THREADS"])
    assert threads == ["2", "2"]


def test_what_other_runs_have_made_is_no_photo(program, photos, tmp_path):
    arguments = ["segment", ".", "-r", "--classes", "sky", "--json", "-o"]
    first, second = program(*arguments, "one"), program(*arguments, "two/deep")
    paths = [[json.loads(line)["path"] for line in end.out.splitlines()] for end in (first, second)]
    assert paths[0] == paths[1] and len(paths[0]) == 4
    assert "8 inputs left out" in second.err  # overlays and label maps
    ended = program("segment", "one", "-r", "--classes", "sky", "-o", "three")
    assert ended.code == 2 and "all photos found are results" in ended.err
    ended = program("segment", "one/overlays", "-r", "--classes", "sky", "-o", "three")
    assert ended.code == 0 and len(files_below(tmp_path / "three/labels")) == 4
    for meant in ("one/overlays/*", "one/labels/photos/00.png"):
        ended = program("segment", meant, "-r", "--classes", "sky", "-o", "three", "--overwrite")
        assert ended.code == 0 and "left out" not in ended.err
    for search in ("**", f"file://{tmp_path}"):
        ended = program("segment", search, "-r", "--classes", "sky", "-o", "some", "--overwrite")
        assert ended.code == 0 and len(files_below(tmp_path / "some/labels")) == 4
    ended = program("segment", "-", "-r", "--classes", "sky", "-o", "five", stdin=b".\n")
    assert len(files_below(tmp_path / "five/labels")) == 4
    ended = program("segment", "five", "-r", "--classes", "sky", "-o", "five", "--overwrite")
    assert ended.code == 2 and "in the output folder" in ended.err
    # A folder of such a name that no run has made is one like any other.
    make_photo(tmp_path / "mine/labels/photo.png")
    assert program("segment", "mine", "-r", "--classes", "sky", "-o", "four").code == 0


def test_a_list_with_results_in_it_is_gone_on_with(segment, photos, tmp_path):
    """As of `find . -name '*.png'`, which finds label maps the second time."""

    def listed():
        return "\n".join(sorted(str(p) for p in tmp_path.rglob("*.png"))).encode()

    assert segment("-", stdin=listed()).code == 0
    before = files_below(tmp_path / "out")
    ended = segment("-", "--resume", stdin=listed())
    assert ended.code == 0
    assert "4 inputs left out" in ended.err and "4 finished earlier" in ended.err
    assert set(files_below(tmp_path / "out")) == set(before)
    results = "\n".join(map(str, (tmp_path / "out").rglob("*.png"))).encode()
    ended = segment("-", "--resume", stdin=results)
    assert ended.code == 2 and "all photos found are results" in ended.err
