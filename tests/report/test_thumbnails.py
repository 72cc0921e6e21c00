import os

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.render import palette
from ovseg_cli.report.thumbnails import LONGER_SIDE, remove_others, write_thumbnails
from ovseg_cli.run_folder.finished_run import read_run


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


@pytest.fixture
def files(tmp_path):
    return tmp_path / "files"


def made(out, files):
    run = read_run(out)
    names = [photo.name for photo in run.photos]
    return dict(zip(names, write_thumbnails(run, files), strict=True))


def photo_of(tmp_path, size_wh, name="photo.png"):
    """Left half red, right half green: classes 255 % 3 = 0 and 0."""
    image = np.zeros((*size_wh[::-1], 3), np.uint8)
    image[:, : size_wh[0] // 2] = (201, 40, 10)  # class 0
    image[:, size_wh[0] // 2 :] = (100, 220, 10)  # class 1
    path = tmp_path / name
    Image.fromarray(image).save(path)
    return path


@pytest.mark.parametrize("size_wh", [(1200, 800), (300, 900), (64, 48), (90, 700)])
def test_photo_and_overlay_lie_on_each_other(make_run, tmp_path, files, size_wh):
    """Also where the overlay is wider than a narrow photo, for its legend's sake."""
    out = make_run([(photo_of(tmp_path, size_wh), "photo")])
    small = made(out, files)["photo.png"]
    photo, overlay = pixels(files / small.photo), pixels(files / small.overlay)
    assert photo.shape == overlay.shape
    assert max(photo.shape) == min(LONGER_SIDE, max(size_wh))
    colors = palette(3).astype(int)
    width = photo.shape[1]
    for columns, color, kept in (
        (slice(4, width // 2 - 4), (201, 40, 10), colors[0]),
        (slice(width // 2 + 4, width - 4), (100, 220, 10), colors[1]),
    ):
        assert abs(photo[4:-4, columns] - color).max() < 12
        expected = (np.array(color) + kept) / 2  # nothing of the legend in any corner
        assert abs(overlay[4:-4, columns] - expected).max() < 16


@pytest.mark.parametrize("size_wh", [(60, 60), (100, 100), (100, 40), (20, 200), (8000, 100)])
def test_small_overlays_are_sharp_and_show_nothing_of_the_legend(
    make_run, tmp_path, files, size_wh
):
    """Beside the legend of many classes a small photo is a small part of the picture."""
    width, height = size_wh
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(width) * 30 // width  # thirty classes side by side
    Image.fromarray(image).save(tmp_path / "photo.png")
    names = [f"a class of number {number}" for number in range(30)]
    out = make_run([(tmp_path / "photo.png", "photo")], names)
    small = made(out, files)["photo.png"]
    # In grey: of colours so close to each other a JPEG file of this quality has only the mean.
    overlay = Image.open(files / small.overlay).convert("L")
    saved = Image.open(out / "overlays/photo.jpg").convert("L")
    expected = saved.resize(overlay.size, Image.Resampling.BOX, (0, 0, width, height))
    difference = abs(np.asarray(overlay).astype(int) - np.asarray(expected).astype(int))
    assert difference.mean() < 5 and difference[-1].mean() < 8


def test_without_saved_overlays_they_are_made_of_the_label_maps(make_run, tmp_path, files):
    with_overlay = make_run([(photo_of(tmp_path, (600, 400)), "photo")])
    labels_only = make_run([(photo_of(tmp_path, (600, 400)), "photo")], save=["labels"], out="o2")
    one, other = (made(out, files)["photo.png"].overlay for out in (with_overlay, labels_only))
    assert one != other
    difference = abs(pixels(files / one) - pixels(files / other))
    assert difference.mean() < 4


def test_neither_overlay_nor_label_map(make_run, tmp_path, files):
    out = make_run([(photo_of(tmp_path, (60, 40)), "photo")], save=[])
    small = made(out, files)["photo.png"]
    assert small.photo and not small.overlay and not small.missing


def test_photos_that_are_gone_or_changed_have_their_overlay_alone(make_run, tmp_path, files):
    paths = [photo_of(tmp_path, (60, 40), f"{name}.png") for name in ("gone", "same", "other")]
    out = make_run([(path, path.stem) for path in paths])
    paths[0].unlink()
    photo_of(tmp_path, (90, 40), "other.png")
    small = made(out, files)
    assert "no longer" in small["gone.png"].missing and not small["gone.png"].photo
    assert "changed" in small["other.png"].missing and not small["other.png"].photo
    assert not small["same.png"].missing and (files / small["same.png"].photo).exists()
    assert all((files / each.overlay).exists() for each in small.values())
    # And of label maps alone, on grey.
    out = make_run([(paths[1], "same")], save=["labels"], out="labels-only")
    paths[1].unlink()
    small = made(out, files)
    assert pixels(files / small["same.png"].overlay).shape == (40, 60, 3)


def test_a_photo_of_another_time_may_have_changed(make_run, tmp_path, files):
    """A copy loses the time of its file, and a photo without compression keeps its size."""
    paths = [photo_of(tmp_path, (60, 40), f"{name}.bmp") for name in ("same", "copy", "other")]
    out = make_run([(path, path.stem) for path in paths], save=["labels"])
    first = made(out, files)
    assert not any(each.unsure for each in first.values())
    os.utime(paths[1], ns=(1, 1))
    other = Image.open(paths[2]).transpose(Image.Transpose.FLIP_TOP_BOTTOM).point(lambda v: 255 - v)
    other.save(paths[2])
    os.utime(paths[2], ns=(2, 2))
    second = made(out, files)
    assert [second[f"{n}.bmp"].unsure for n in ("same", "copy", "other")] == [False, True, True]
    assert first["same.bmp"] == second["same.bmp"]
    # What was made of the earlier file is not taken for it.
    assert abs(pixels(files / second["other.bmp"].photo)[10, 10] - [54, 215, 245]).max() < 12
    assert abs(pixels(files / second["copy.bmp"].photo)[10, 10] - [201, 40, 10]).max() < 12


def test_an_overlay_that_was_made_without_its_photo_is_made_again(make_run, tmp_path, files):
    path = photo_of(tmp_path, (60, 40))
    out = make_run([(path, "photo")], save=["labels"])
    expected = made(out, tmp_path / "elsewhere")["photo.png"].overlay
    away = path.rename(tmp_path / "away.png")
    grey = made(out, files)["photo.png"].overlay
    assert made(out, files)["photo.png"].overlay == grey
    away.rename(path)
    back = made(out, files)["photo.png"]
    assert not back.missing and grey != back.overlay == expected
    seen = pixels(files / back.overlay)
    np.testing.assert_array_equal(seen, pixels(tmp_path / "elsewhere" / expected))
    assert abs(seen - pixels(files / grey)).mean() > 20
    remove_others(files, [back])
    assert {file.name for file in files.iterdir()} == {back.photo, back.overlay}
    # The photo away again: what was made upon it is still the best.
    path.rename(away)
    assert made(out, files)["photo.png"].overlay == expected


def test_a_damaged_overlay_costs_only_itself(make_run, tmp_path, files):
    out = make_run([(photo_of(tmp_path, (60, 40), f"{n}.png"), n) for n in "ab"])
    (out / "overlays/a.jpg").write_bytes(b"not a picture")
    small = made(out, files)
    assert not small["a.png"].overlay and small["a.png"].photo
    assert small["b.png"].overlay


def test_what_is_there_is_not_made_again_and_others_go(make_run, tmp_path, files):
    out = make_run([(photo_of(tmp_path, (60, 40), f"{n}.png"), n) for n in "ab"])
    first = made(out, files)
    times = {file: file.stat().st_mtime_ns for file in files.iterdir()}
    assert len(times) == 4
    assert made(out, files) == first
    assert {file: file.stat().st_mtime_ns for file in files.iterdir()} == times
    (files / "mine.jpg").write_bytes(b"mine")
    remove_others(files, [first["a.png"]])
    kept = {first["a.png"].photo, first["a.png"].overlay, "mine.jpg"}
    assert {file.name for file in files.iterdir()} == kept


def test_names_of_the_files_cannot_be_steered(make_run, tmp_path, files):
    rel = "sub/' onerror=alert(1) <b>"
    path = tmp_path / "x.png"
    out = make_run([(photo_of(tmp_path, (60, 40), path.name), rel)])
    (small,) = made(out, files).values()
    assert {file.name for file in files.iterdir()} == {small.photo, small.overlay}
    assert all(c in "0123456789abcdef" for c in small.photo.removesuffix("-photo.jpg"))


def test_overlays_that_pillow_would_call_bombs_are_shown(make_run, tmp_path, files, monkeypatch):
    out = make_run([(photo_of(tmp_path, (300, 200)), "photo")])
    with monkeypatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 300 * 200 // 4)  # twice as many are an error
        small = made(out, files)["photo.png"]
    assert pixels(files / small.overlay).shape == (200, 300, 3)
