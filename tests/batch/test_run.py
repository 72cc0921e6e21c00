import errno
import os
import threading
import time

import numpy as np
import pytest
from mock_segmenter import MockModel, MockSegmenter, files_below, make_photo, make_photos
from PIL import Image

from ovseg_cli.batch import finished_inputs
from ovseg_cli.batch import options as batch_options
from ovseg_cli.batch import run as batch
from ovseg_cli.batch.options import BatchOptions
from ovseg_cli.batch.results import RunReport
from ovseg_cli.errors import OutputError
from ovseg_cli.exports import select
from ovseg_cli.media.inputs import find_images
from ovseg_cli.run_folder.output import OutputFolder
from ovseg_cli.vocabulary import Vocabulary

VOCABULARY = Vocabulary(["sky", "road", "car"])


@pytest.fixture
def segmenter():
    return MockSegmenter(MockModel(), VOCABULARY)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "photos"


def open_output(root, save=("overlay", "labels"), run="run"):
    output = OutputFolder(root, select(save, VOCABULARY))
    output.open(VOCABULARY, run=run, metadata={"Software": "test"})
    return output


@pytest.fixture
def output(tmp_path):
    return open_output(tmp_path / "out")


def run(folder, segmenter, output, stop=lambda: False, **options):
    images = find_images([str(folder)], recursive=True)
    return list(batch.run(images, segmenter, output, BatchOptions(**options), stop))


def statuses(results):
    return [(result.image.path.name, result.status) for result in results]


def test_every_photo_gets_its_files_and_areas(folder, segmenter, output):
    paths = make_photos(folder, 5)
    results = run(folder, segmenter, output)
    assert statuses(results) == [(path.name, "done") for path in paths]
    for path, result in zip(paths, results, strict=True):
        red = np.asarray(Image.open(path))[..., 0]
        labels = output.targets(result.image.rel)["labels"]
        assert (np.asarray(Image.open(labels)) == red % 3).all()
        assert (result.entry.width, result.entry.height) == (48, 32)
        assert {class_id: pixels for class_id, pixels, _ in result.entry.areas} == {
            k: int((red % 3 == k).sum()) for k in range(3)
        }
        assert result.seconds > 0


def test_results_come_in_the_order_of_the_inputs(folder, segmenter, output):
    sizes = [(48, 32), (32, 48), (48, 32), (64, 64), (32, 48), (48, 32), (64, 64)] * 4
    names = [make_photo(folder / f"{i:02}.png", s, i).name for i, s in enumerate(sizes)]
    results = run(folder, segmenter, output, batch_size=3, workers=4)
    assert [result.image.path.name for result in results] == names


class TestBatches:
    def test_photos_of_one_input_size_go_together(self, folder, segmenter, output):
        # 48x32 and 40x30 are both seen as 64x32 by the network.
        for i in range(8):
            make_photo(folder / f"{i}.png", (48, 32) if i % 2 else (40, 30))
        run(folder, segmenter, output, batch_size=4)
        assert [len(sizes) for sizes in segmenter.batches] == [4, 4]

    def test_a_batch_is_never_larger_than_asked(self, folder, segmenter, output):
        make_photos(folder, 10)
        run(folder, segmenter, output, batch_size=4)
        assert [len(sizes) for sizes in segmenter.batches] == [4, 4, 2]

    def test_a_photo_of_rare_size_does_not_wait_for_ever(self, folder, segmenter, output):
        make_photo(folder / "00.png", (200, 200))
        for i in range(1, 40):
            make_photo(folder / f"{i:02}.png", (48, 32))
        run(folder, segmenter, output, batch_size=2)
        assert segmenter.batches.index([(200, 200)]) <= batch.WINDOW + 1

    def test_large_photos_do_not_pile_up(self, folder, segmenter, output, monkeypatch):
        monkeypatch.setattr(batch, "PIXELS_AT_A_STAGE", 3 * 48 * 32)
        make_photos(folder, 12)
        run(folder, segmenter, output, batch_size=8)
        assert all(len(sizes) <= 3 for sizes in segmenter.batches)

    @pytest.mark.parametrize(("stage", "most"), [(48 * 32, 3), (48 * 32 // 3, 1)])
    def test_labels_of_large_photos_are_not_made_side_by_side(
        self, folder, output, monkeypatch, stage, most
    ):
        monkeypatch.setattr(batch, "PIXELS_AT_A_STAGE", stage)
        lock, together, seen = threading.Lock(), set(), []

        class Watched(MockSegmenter):
            def segment(self, frames):
                with lock:
                    together.add(threading.get_ident())
                    seen.append(len(together))
                time.sleep(0.02)
                with lock:
                    together.discard(threading.get_ident())
                return super().segment(frames)

        make_photos(folder, 12)
        run(folder, Watched(MockModel(), VOCABULARY), output, streams=4)
        assert len(seen) == 12
        assert max(seen) <= most

    def test_the_batches_do_not_depend_on_timing(self, folder, tmp_path, monkeypatch):
        sizes = np.random.default_rng(0).integers(1, 4, (40, 2)) * 32
        for i, size in enumerate(sizes.tolist()):
            make_photo(folder / f"{i:02}.png", tuple(size), i)
        real = batch.read_image
        batches = []
        for attempt in range(3):
            delays = np.random.default_rng(attempt).random(1000) * 0.004

            def slow(image, delays=delays, **options):
                time.sleep(delays[int(image.rel)])
                return real(image, **options)

            monkeypatch.setattr(batch, "read_image", slow)
            segmenter = MockSegmenter(MockModel(), VOCABULARY)
            output = open_output(tmp_path / f"out{attempt}")
            run(folder, segmenter, output, batch_size=3, workers=attempt + 1)
            batches.append(segmenter.batches)
        assert batches[0] == batches[1] == batches[2]

    def test_results_do_not_depend_on_batches(self, folder, tmp_path):
        make_photos(folder, 7)
        trees = []
        for size in (1, 4):
            segmenter = MockSegmenter(MockModel(), VOCABULARY)
            output = open_output(tmp_path / f"out{size}")
            run(folder, segmenter, output, batch_size=size)
            trees.append(files_below(output.root))
        assert trees[0] == trees[1]


class TestStreams:
    def test_passes_run_side_by_side(self, folder, segmenter, output):
        make_photos(folder, 12)
        lock, active, most = threading.Lock(), 0, 0
        real = segmenter.segment

        def segment(frames):
            nonlocal active, most
            with lock:
                active += 1
                most = max(most, active)
            time.sleep(0.01)
            result = real(frames)
            with lock:
                active -= 1
            return result

        segmenter.segment = segment
        results = run(folder, segmenter, output, streams=3)
        assert most == 3
        assert [r.image.path.name for r in results] == [f"{i:02}.png" for i in range(12)]
        assert all(result.status == "done" for result in results)

    def test_they_change_nothing(self, folder, tmp_path):
        for i in range(20):
            make_photo(folder / f"{i:02}.png", (48, 32) if i % 3 else (32, 48), i)
        trees, batches = [], []
        for streams in (1, 3):
            segmenter = MockSegmenter(MockModel(), VOCABULARY)
            output = open_output(tmp_path / f"out{streams}")
            run(folder, segmenter, output, batch_size=4, streams=streams)
            trees.append(files_below(output.root))
            batches.append(sorted(segmenter.batches))
        assert trees[0] == trees[1]
        assert batches[0] == batches[1]

    def test_how_many(self):
        def streams(device, cores, images):
            return batch_options.options_for(device, cores, images).streams

        assert streams("cpu", cores=2, images=100) == 2
        assert streams("cpu", cores=2, images=1) == 1
        assert streams("cpu", cores=64, images=100) == 4
        assert streams("cuda:0", cores=64, images=100) == 2
        assert streams("mps", cores=8, images=100) == 1
        assert streams("cpu", cores=2, images=0) == 1

    def test_a_bug_in_a_stream_is_not_lost(self, folder, segmenter, output, monkeypatch):
        make_photos(folder, 3)
        monkeypatch.setattr(batch._Run, "compute", lambda self, photos: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            run(folder, segmenter, output)


def test_reading_computing_and_writing_overlap(folder, segmenter, output, monkeypatch):
    make_photos(folder, 12)
    real_read = batch.read_image

    def slow_read(path, **options):
        time.sleep(0.03)
        return real_read(path, **options)

    real_save = output.save

    def slow_save(*args):
        time.sleep(0.03)
        return real_save(*args)

    monkeypatch.setattr(batch, "read_image", slow_read)
    monkeypatch.setattr(output, "save", slow_save)
    segmenter.seconds = 0.03
    started = time.perf_counter()
    run(folder, segmenter, output, workers=3)
    assert time.perf_counter() - started < 0.75 * 12 * 0.09


def test_the_number_of_photos_in_memory_is_bounded(folder, segmenter, output, monkeypatch):
    make_photo(folder / "000.png")
    for i in range(1, 60):
        os.link(folder / "000.png", folder / f"{i:03}.png")
    alive, most = set(), 0
    lock = threading.Lock()
    real_read, real_save = batch.read_image, output.save

    def read(image, **options):
        nonlocal most
        with lock:
            alive.add(image)
            most = max(most, len(alive))
        return real_read(image, **options)

    def save(image, *args):
        time.sleep(0.005)  # slower than all else, so that it would pile up
        entry = real_save(image, *args)
        with lock:
            alive.discard(image)
        return entry

    monkeypatch.setattr(batch, "read_image", read)
    monkeypatch.setattr(output, "save", save)
    run(folder, segmenter, output, batch_size=4, workers=2)
    # Read ahead and being written, at the model and waiting for it, and one just being read.
    assert most <= 2 * (4 + 2) + 2 * 4 + 1


class TestFailures:
    def test_one_bad_photo_does_not_touch_the_others(self, folder, segmenter, output):
        make_photos(folder, 4)
        (folder / "01.png").write_bytes(b"")
        results = run(folder, segmenter, output, batch_size=2)
        assert statuses(results) == [
            ("00.png", "done"),
            ("01.png", "failed"),
            ("02.png", "done"),
            ("03.png", "done"),
        ]
        assert "empty" in results[1].reason
        assert "01.png" not in results[1].reason  # the path is said beside it

    def test_an_unforeseen_error_while_reading(self, folder, segmenter, output, monkeypatch):
        make_photos(folder, 2)
        monkeypatch.setattr(batch, "read_image", lambda *_, **__: 1 // 0)
        results = run(folder, segmenter, output)
        assert [r.status for r in results] == ["failed", "failed"]
        assert "ZeroDivisionError" in results[0].reason

    def test_a_photo_that_breaks_the_model_fails_alone(self, folder, segmenter, output):
        make_photos(folder, 4)
        real = segmenter.segment
        culprit = np.asarray(Image.open(folder / "02.png"))

        def segment(frames):
            if any((frame.pixels == culprit).all() for frame in frames):
                raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
            return real(frames)

        segmenter.segment = segment
        results = run(folder, segmenter, output, batch_size=4)
        assert [r.status for r in results] == ["done", "done", "failed", "done"]
        assert "not enough memory" in results[2].reason and "48x32" in results[2].reason

    def test_batches_that_need_too_much_memory_become_smaller(self, folder, segmenter, output):
        make_photos(folder, 16)
        real = segmenter.segment

        def segment(frames):
            if len(frames) > 2:
                raise MemoryError
            return real(frames)

        segmenter.segment = segment
        results = run(folder, segmenter, output, batch_size=8)
        assert all(result.status == "done" for result in results)
        assert max(len(sizes) for sizes in segmenter.batches) == 2

    def test_memory_that_is_short_for_two_passes_suffices_for_one(self, folder, segmenter, output):
        make_photos(folder, 8)
        real, lock = segmenter.segment, threading.Lock()

        def segment(frames):
            if not lock.acquire(blocking=False):
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            try:
                time.sleep(0.01)
                return real(frames)
            finally:
                lock.release()

        segmenter.segment = segment
        results = run(folder, segmenter, output, streams=2)
        assert [r.status for r in results] == ["done"] * 8

    def test_labels_of_a_wrong_size_are_not_written(self, folder, segmenter, output):
        make_photos(folder, 1)
        real = segmenter.segment
        wrong = Image.new("RGB", (10, 10))
        segmenter.segment = lambda frames: real(
            [type(frame)(np.asarray(wrong)) for frame in frames]
        )
        assert run(folder, segmenter, output)[0].status == "failed"
        assert not (output.root / "labels").exists()

    def test_one_result_that_cannot_be_written(self, folder, segmenter, output):
        make_photos(folder, 3)
        (output.root / "labels" / "01.png").mkdir(parents=True)
        results = run(folder, segmenter, output)
        assert [r.status for r in results] == ["done", "failed", "done"]
        assert not (output.root / "overlays" / "01.jpg").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_ends_the_run(folder, segmenter, output, monkeypatch, number):
    make_photos(folder, 30)
    real = output.save

    def save(image, *args):
        if image.rel >= "03":
            raise OutputError("cannot write: disk full") from OSError(number, "full")
        return real(image, *args)

    monkeypatch.setattr(output, "save", save)
    images = find_images([str(folder)])
    results = []
    with pytest.raises(OutputError, match="disk full"):
        for result in batch.run(images, segmenter, output, BatchOptions()):
            results.append(result)
    assert [r.status for r in results[:3]] == ["done"] * 3
    assert [r.status for r in results[3:]] == ["failed"] * len(results[3:])
    assert 4 <= len(results) < 15


class TestStop:
    def test_what_is_computed_is_written_and_nothing_else_begun(self, folder, segmenter, output):
        make_photos(folder, 30)
        results = run(folder, segmenter, output, stop=lambda: len(segmenter.batches) >= 5)
        assert [r.status for r in results] == ["done"] * 5
        assert len(list((output.root / "labels").iterdir())) == 5

    def test_a_consumer_that_goes_away(self, folder, segmenter, output):
        make_photos(folder, 30)
        results = batch.run(find_images([str(folder)]), segmenter, output, BatchOptions())
        next(results)
        results.close()
        assert len(segmenter.batches) < 10
        done = len(list((output.root / "labels").iterdir()))
        assert done == len(segmenter.batches)
        assert not [t.name for t in threading.enumerate() if t.name.startswith("ovseg")]


class TestResume:
    def test_finished_photos_are_skipped_and_tables_are_the_same(self, folder, tmp_path):
        make_photos(folder, 9)
        images = find_images([str(folder)])
        trees = []
        for cut in (0, 4):
            root = tmp_path / f"out{cut}"
            if cut:
                first = MockSegmenter(MockModel(), VOCABULARY)
                run(
                    folder,
                    first,
                    open_output(root),
                    stop=lambda f=first, c=cut: len(f.batches) >= c,
                )
            segmenter = MockSegmenter(MockModel(), VOCABULARY)
            output = open_output(root)
            results = run(folder, segmenter, output)
            assert [r.status for r in results] == ["skipped"] * cut + ["done"] * (9 - cut)
            assert all(sum(area[1] for area in r.entry.areas) == 48 * 32 for r in results)
            assert len(segmenter.batches) == 9 - cut
            output.write_tables(images, VOCABULARY)
            trees.append(files_below(root))
        assert trees[0] == trees[1]

    @pytest.mark.parametrize("portion", [1, 3, 4, 100])
    def test_what_is_finished_in_between_is_skipped_in_its_place(
        self, folder, tmp_path, monkeypatch, portion
    ):
        monkeypatch.setattr(finished_inputs, "PORTION", portion)
        make_photos(folder, 12)
        run(folder, MockSegmenter(MockModel(), VOCABULARY), open_output(tmp_path / "out"))
        for name in ("05", "06", "10"):
            (tmp_path / "out/labels" / f"{name}.png").unlink()
        segmenter = MockSegmenter(MockModel(), VOCABULARY)
        results = run(folder, segmenter, open_output(tmp_path / "out"), workers=3)
        assert statuses(results) == [
            (f"{i:02}.png", "done" if i in (5, 6, 10) else "skipped") for i in range(12)
        ]
        assert len(segmenter.batches) == 3

    def test_each_file_is_looked_at_once(self, folder, tmp_path, monkeypatch):
        """Beside the journal that is all that skipping costs, and there may be a million."""
        count, save = 150, ("overlay", "labels")
        photo = make_photo(folder / "000.png", (8, 8))
        for i in range(1, count):
            os.link(photo, folder / f"{i:03}.png")
        segmenter = MockSegmenter(MockModel(), VOCABULARY)
        run(folder, segmenter, open_output(tmp_path / "out", save))
        images, output = find_images([str(folder)]), open_output(tmp_path / "out", save)
        files = [str(path) for path in tmp_path.rglob("*") if path.suffix in (".png", ".jpg")]
        seen, real = [], os.stat

        def stat(path, *args, **options):
            seen.append(str(path))
            return real(path, *args, **options)

        monkeypatch.setattr(os, "stat", stat)
        results = list(batch.run(images, segmenter, output, BatchOptions()))
        assert {result.status for result in results} == {"skipped"}
        looked_at = [path for path in seen if path.endswith((".png", ".jpg"))]
        assert len(looked_at) == len(set(looked_at)) == len(files) == count * (1 + len(save))

    def test_skipping_can_be_stopped(self, folder, tmp_path, segmenter):
        make_photos(folder, 9)
        run(folder, segmenter, open_output(tmp_path / "out"))
        images, seen = find_images([str(folder)]), []
        output = open_output(tmp_path / "out")
        stop = lambda: len(seen) >= 4  # noqa: E731
        for result in batch.run(images, segmenter, output, BatchOptions(), stop):
            seen.append(result.status)
        assert 4 <= len(seen) < 9  # some may be at hand

    def test_another_run_does_everything_anew(self, folder, tmp_path, segmenter):
        make_photos(folder, 3)
        run(folder, segmenter, open_output(tmp_path / "out", run="one"))
        results = run(folder, segmenter, open_output(tmp_path / "out", run="two"))
        assert [r.status for r in results] == ["done"] * 3

    def test_a_photo_that_was_damaged_meanwhile_leaves_the_tables(
        self, folder, tmp_path, segmenter
    ):
        make_photos(folder, 3)
        run(folder, segmenter, open_output(tmp_path / "out"))
        (folder / "01.png").write_bytes(b"not an image any more")
        output = open_output(tmp_path / "out")
        results = run(folder, segmenter, output)
        assert [r.status for r in results] == ["skipped", "failed", "skipped"]
        output.write_tables(find_images([str(folder)]), VOCABULARY)
        assert "01.png" not in (output.root / "stats.csv").read_text()
        assert not (output.root / "labels/01.png").exists()


class TestInputsThatChange:
    """While a run is at work on them; the photo is read, and then something happens."""

    @pytest.fixture
    def meanwhile(self, folder, monkeypatch):
        make_photos(folder, 4)
        real = batch.read_image

        def set_up(happens):
            def read(image, **options):
                frame = real(image, **options)
                if image.rel == "02":
                    happens(image.path)
                return frame

            monkeypatch.setattr(batch, "read_image", read)
            return lambda: monkeypatch.setattr(batch, "read_image", real)

        return set_up

    @pytest.mark.parametrize("how", ["replaced", "grown", "gone"])
    def test_a_photo_that_changes_while_it_is_read_is_not_done(
        self, folder, tmp_path, segmenter, meanwhile, how
    ):
        def happens(path):
            if how == "grown":
                with path.open("ab") as stream:
                    stream.write(b"more")
            path.unlink() if how == "gone" else how == "replaced" and make_photo(path, seed=99)

        over = meanwhile(happens)
        results = run(folder, segmenter, open_output(tmp_path / "out"))
        assert [r.status for r in results] == ["done", "done", "failed", "done"]
        assert "changed while it was read" in results[2].reason
        assert not (tmp_path / "out/labels/02.png").exists()
        over()
        make_photo(folder / "02.png", seed=99)
        output = open_output(tmp_path / "out")
        again = run(folder, segmenter, output)
        assert [r.status for r in again] == ["skipped", "skipped", "done", "skipped"]
        red = np.asarray(Image.open(folder / "02.png"))[..., 0]
        assert (np.asarray(Image.open(tmp_path / "out/labels/02.png")) == red % 3).all()

    def test_a_photo_that_changes_after_it_was_read_is_done_again(
        self, folder, tmp_path, segmenter
    ):
        make_photos(folder, 3)
        real = segmenter.segment

        def segment(frames):
            if any(frame.source.endswith("01.png") for frame in frames):
                make_photo(folder / "01.png", (64, 32), seed=7)
            return real(frames)

        segmenter.segment = segment
        results = run(folder, segmenter, open_output(tmp_path / "out"))
        assert [(r.status, r.entry.width) for r in results] == [("done", 48)] * 3
        segmenter.segment = real
        again = run(folder, segmenter, open_output(tmp_path / "out"))
        assert [(r.status, r.entry.width) for r in again] == [
            ("skipped", 48),
            ("done", 64),
            ("skipped", 48),
        ]


def test_report():
    assert RunReport(done=3, skipped=1).exit_code == 0
    assert RunReport(done=3, failed=1).exit_code == 1
    assert RunReport().exit_code == 0
