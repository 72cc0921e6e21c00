import os
import re

import numpy as np
import pytest
from finished_runs import blobs, photo_at
from PIL import Image

from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.media.images import read_image
from ovseg_cli.run_folder.journal import Journal
from ovseg_cli.run_folder.journal_entry import Entry


@pytest.mark.parametrize("name", ["天空", "CIEL", " ciel "])
def test_the_photo_where_it_is_of_the_class(run, name):
    folder = run.export("cutout", class_name=name)
    with_class = {rel for rel, labels in run.labels.items() if (labels == 1).any()}
    assert {p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.png")} == (
        with_class
    )
    for rel in with_class:
        with Image.open(folder / f"{rel}.png") as image:
            assert image.mode == "RGBA"
            pixels = np.asarray(image)
        mask = run.labels[rel] == 1
        np.testing.assert_array_equal(pixels[..., 3], np.where(mask, 255, 0))
        photo = read_image(run.photos[rel]).pixels
        np.testing.assert_array_equal(pixels[mask][:, :3], photo[mask])
        assert not pixels[~mask].any()


def test_a_photo_that_exif_turns(make_run):
    labels = blobs((60, 80))
    exif = Image.Exif()
    exif[0x0112] = 6
    made = make_run()
    photo = photo_at(made.folder / "turned.jpg", (80, 60), exif=exif)
    made.add("a", labels, photo=photo)
    with Image.open(made.export("cutout", class_name="sky") / "a.png") as image:
        pixels = np.asarray(image)
    mask = labels == 0
    np.testing.assert_array_equal(pixels[mask][:, :3], read_image(photo).pixels[mask])
    made.record(options={"exif": False})
    with pytest.raises(InputError, match="turned.jpg: no longer the photo"):
        made.export("cutout", class_name="sky")


def test_a_photo_that_is_gone_is_named(run):
    run.photos["deep er/a"].unlink()
    folder = run.export("cutout", class_name="sky")
    (said,) = run.left_out.values()
    assert "deep er/a.jpg: the photo is gone" in said
    assert (folder / "a.png").exists() and (folder / "été/天空 #1.png").exists()


def test_a_photo_that_has_changed_is_named(run):
    photo_at(run.photos["deep er/a"], run.labels["deep er/a"].shape, seed=9)
    run.export("cutout", class_name="sky")
    assert re.search(r"a\.jpg: the photo has changed.*--resume", run.left_out["deep er/a"])


def test_a_photo_that_has_changed_and_kept_its_size_is_named(make_run):
    made = make_run()
    photo = photo_at(made.folder / "a.bmp", (90, 120))
    made.add("a", blobs(), photo=photo)
    size = photo.stat().st_size
    photo_at(photo, (90, 120), seed=9)
    os.utime(photo, ns=(1, 1))
    assert photo.stat().st_size == size
    with pytest.raises(InputError, match=r"a\.bmp: the photo has changed.*--resume"):
        made.export("cutout", class_name="sky")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "this format needs the photo: a: the folder does not tell where the photo is"),
        ("s3://bucket/a.png", "s3://bucket/a.png: the photo is in a store: segment a copy on"),
        ("{}/x.tar/in/a.png", "x.tar/in/a.png: the photo is within x.tar: unpack that and segment"),
    ],
)
def test_a_photo_that_is_no_file_of_this_disk_is_told_so(make_run, path, said):
    made = make_run().add("a", blobs())
    (made.folder / "x.tar").write_bytes(b"")
    journal = Journal(made.out / ".ovseg")
    journal.load()
    values = vars(journal.entry("a"))
    journal.append(Entry(**{**values, "path": path.format(made.folder)}))
    with pytest.raises(InputError, match=said):
        made.export("cutout", class_name="sky")


def test_a_class_however_its_accents_are_written(make_run):
    """Names of files are often decomposed, what is typed is composed."""
    made = make_run(["cafe\u0301", "sky"])
    made.add("a", np.array([[0, 1]], np.int32))
    folder = made.export("cutout", class_name=" Caf\u00e9 ")
    assert np.asarray(Image.open(folder / "a.png"))[0, :, 3].tolist() == [255, 0]


def test_an_unknown_class(run):
    with pytest.raises(UsageError, match="--class ski: the run has no such class; it has sky, "):
        run.export("cutout", class_name="ski")
    with pytest.raises(UsageError, match="cutout is of one class: .*--class NAME"):
        run.export("cutout")
