import os

import numpy as np
import pytest
from finished_runs import HOSTILE, blobs, photo_at
from PIL import Image

from ovseg_cli.errors import InputError, OutputError, UsageError
from ovseg_cli.formats import FORMATS, discard_exports, export, select
from ovseg_cli.formats.options import ExportOptions
from ovseg_cli.run_folder.journal import Journal
from ovseg_cli.run_folder.journal_entry import Entry

SKY = ExportOptions(class_name="sky")


def files_in(folder):
    """Path below the folder -> bytes."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_select():
    assert [entry.name for entry in select(["yolo", "coco", "yolo"])] == ["yolo", "coco"]
    with pytest.raises(UsageError, match=r"no format 'coko'; there are: coco, "):
        select(["coko"])


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_run_gives_the_same_bytes(run, name, tmp_path):
    pytest.importorskip("rasterio")
    options = {"class_name": "sky"}
    first, second = (run.export(name, tmp_path / place, **options) for place in "12")
    assert files_in(first) == files_in(second)


@pytest.mark.parametrize("name", FORMATS)
def test_one_label_map_is_in_memory_at_a_time(run, name, monkeypatch):
    """Each is read once, and only after the files of the one before are made."""
    pytest.importorskip("rasterio")
    opened = run.open()
    read = []
    opened.seen = lambda: read.append(1)
    for _ in FORMATS[name].write(opened, run.folder / "x", SKY):
        pass
    assert len(read) == 3


class TestExport:
    def test_files_of_an_earlier_export_go_and_other_files_stay(self, run):
        folder = run.export("svg")
        (folder / "mine.svg").write_text("")
        (folder / "deep er/mine.svg").write_text("")
        latest = run.open()
        latest._photos = latest._photos[:1]
        assert export(latest, FORMATS["svg"], folder, SKY) == 1
        expected = {"a.svg", "mine.svg", "deep er/mine.svg", ".ovseg-files"}
        assert set(files_in(folder)) == expected

    def test_an_export_that_fails_is_tidied_by_the_next(self, run):
        run.photos["été/天空 #1"].unlink()
        folder = run.export("cutout", class_name="sky")
        assert "a.png" in files_in(folder) and list(run.left_out) == ["été/天空 #1"]
        run.export("cutout", class_name=HOSTILE[-1])  # which occurs nowhere
        assert set(files_in(folder)) == {".ovseg-files"}

    @pytest.mark.parametrize("name", FORMATS)
    def test_a_damaged_label_map_costs_that_photo_only(self, run, name):
        """What is written is what would be, had the photo never been there."""
        pytest.importorskip("rasterio")
        without = run.open()
        without._photos = [photo for photo in without._photos if photo.entry.rel != "deep er/a"]
        expected = run.folder / "expected" / name
        export(without, FORMATS[name], expected, SKY)
        (run.out / "labels/deep er/a.png").write_bytes(b"damaged")  # the second of three
        exports = run.folder / "exports"
        run.export(name, exports / name, class_name="sky")
        assert list(run.left_out) == ["deep er/a"] and "damaged" in run.left_out["deep er/a"]
        assert files_in(exports / name) == files_in(expected)
        discard_exports(exports)
        assert not files_in(exports)

    @pytest.mark.parametrize("name", FORMATS)
    def test_where_no_photo_is_left_nothing_is_written(self, run, name):
        pytest.importorskip("rasterio")
        for rel in run.labels:
            (run.out / f"labels/{rel}.png").write_bytes(b"damaged")
        exports = run.folder / "exports"
        with pytest.raises(InputError, match="(?s)labels/a.png: damaged.*1.png: damaged"):
            run.export(name, exports / name, class_name="sky")
        assert not set(files_in(exports)) - {f"{name}/.ovseg-files"}

    def test_an_export_that_fails_forgets_nothing_of_the_one_before(self, run):
        folder = run.export("cutout", class_name="sky")
        before = files_in(folder)
        assert "été/天空 #1.png" in before
        run.photos["été/天空 #1"].unlink()
        run.export("cutout", class_name="sky")
        assert run.left_out and files_in(folder) == before
        run.export("cutout", class_name=HOSTILE[-1])  # which occurs nowhere
        assert set(files_in(folder)) == {".ovseg-files"}

    def test_exports_of_an_earlier_run_go_but_not_through_a_link(self, run):
        exports, elsewhere = run.folder / "exports", run.folder / "elsewhere"
        run.export("svg", exports / "svg")
        run.export("svg", elsewhere)
        there = files_in(elsewhere)
        (exports / "other").symlink_to(elsewhere)
        (exports / "svg" / "mine.svg").write_text("")
        discard_exports(exports)
        assert files_in(elsewhere) == there
        assert set(files_in(exports)) == {"svg/mine.svg"}

    @pytest.mark.parametrize(
        "listing",
        *[['["../victim"]', '["/{}/victim"]', r'["a\u0000b", "a\ud800"]', "[1]", "{", ""]],
    )
    def test_a_listing_from_elsewhere_reaches_nothing_outside(self, run, listing):
        victim = run.folder / "victim"
        victim.write_text("precious")
        folder = run.folder / "exported"
        folder.mkdir()
        (folder / ".ovseg-files").write_text(listing.replace("{}", str(run.folder)))
        run.export("svg")
        assert victim.exists()

    def test_a_folder_that_cannot_be_written(self, run):
        (run.folder / "exported").write_text("")
        for name in FORMATS:
            with pytest.raises(OutputError, match="exported"):
                run.export(name, class_name="sky")

    def test_masks_of_a_finished_run(self, run):
        folder = run.export("masks")
        with Image.open(folder / "a/1-天空.png") as image:
            expected = np.where(run.labels["a"] == 1, 255, 0)
            np.testing.assert_array_equal(np.asarray(image), expected)


@pytest.mark.parametrize(
    ("name", "program"), [("label-studio", "Label Studio"), ("cvat", "CVAT"), ("coco", "")]
)
def test_programs_that_turn_photos_which_the_run_has_not_turned(make_run, caplog, name, program):
    made = make_run()
    for orientation in (1, 3, 6):
        exif = Image.Exif()
        exif[0x0112] = orientation
        photo = photo_at(made.folder / f"photos/{orientation}.jpg", (60, 80), exif=exif)
        made.add(str(orientation), blobs((60, 80)), photo=photo, exif=False)
    made.export(name)
    assert not caplog.records, "as far as is known, the run has turned them itself"
    made.record(options={"exif": False})
    made.photos["6"].unlink()
    made.export(name)
    said = f"{program} turns 1 photo upright"
    assert [said in entry.getMessage() for entry in caplog.records] == [True] * bool(program)


class TestRun:
    def test_no_output_folder(self, make_run, tmp_path):
        made = make_run()
        with pytest.raises(UsageError, match="holds no finished photo"):
            made.export("coco")
        (made.out / "classes.json").unlink()
        with pytest.raises(UsageError, match="no output folder of ovseg segment"):
            made.export("coco")

    def test_without_label_maps(self, make_run):
        made = make_run(save=["overlay"]).add("a", blobs())
        with pytest.raises(UsageError, match=r"a\.png has no label map.*--resume and labels"):
            made.export("coco")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda file: file.write_bytes(file.read_bytes()[:60]), "damaged"),
            (lambda file: file.write_text("no image"), "damaged"),
            (lambda file: Image.new("L", (4, 4)).save(file), "not the label map"),
            (lambda file: Image.new("RGB", (120, 90)).save(file), "not the label map"),
            (lambda file: Image.new("L", (120, 90), 3).save(file), "class 3 is not among the 3"),
        ],
    )
    def test_a_damaged_label_map_is_named(self, make_run, change, said):
        made = make_run().add("a", blobs())
        change(made.out / "labels/a.png")
        with pytest.raises(InputError, match=rf"labels/a\.png: .*{said}"):
            made.export("coco")

    def test_photos_that_failed_are_left_out(self, run):
        journal = Journal(run.out / ".ovseg")
        journal.append(Entry("bad", "/photos/bad.png", 1, 1, "run", reason="truncated"))
        assert [photo.rel for photo in run.open()] == sorted(run.labels)

    def test_a_foreign_journal_cannot_reach_outside(self, make_run):
        made = make_run().add("a", blobs())
        journal = Journal(made.out / ".ovseg")
        journal.load()
        for rel in ("../../victim", "/victim"):
            entry = journal.entry("a")
            values = {**vars(entry), "rel": rel}
            journal.append(Entry(**values))
            with pytest.raises(InputError, match="cannot lie outside"):
                made.export("svg")
        assert not list(made.folder.rglob("victim*"))

    def test_file_names_that_are_no_utf8(self, make_run):
        if os.name == "nt":
            pytest.skip("names are text there")
        made = make_run().add("caf\udce9", blobs(), name="caf\udce9.png")
        for name in ("coco", "yolo", "label-studio", "svg"):
            made.export(name, made.folder / name)
        text = (made.folder / "coco/instances.json").read_text("utf-8")
        assert r'"caf\udce9.png"' in text
        assert "caf%E9.png" in (made.folder / "label-studio/tasks.json").read_text("utf-8")
