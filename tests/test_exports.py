import errno
import json
import os
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from ovseg_cli import exports
from ovseg_cli.errors import OutputError, UsageError, VocabularyError
from ovseg_cli.exports import WRITERS, select, slug
from ovseg_cli.frame import Frame
from ovseg_cli.render import overlay, palette
from ovseg_cli.segmentation import Segmentation
from ovseg_cli.vocabulary import Vocabulary
from ovseg_cli.whole_files import atomic_path

try:
    import cv2
except ImportError:
    cv2 = None


def photo_and_result(count=3, size_hw=(20, 30), names=None, lowest=-1):
    rng = np.random.default_rng(count)
    vocabulary = Vocabulary(names or [f"class {i}" for i in range(count)])
    labels = rng.integers(lowest, len(vocabulary), size_hw).astype(np.int32)
    labels[0, 0], labels[-1, -1] = len(vocabulary) - 1, lowest
    confidence = rng.random(size_hw).astype(np.float32)
    pixels = rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    return Frame(pixels), Segmentation(labels, confidence, vocabulary)


def write(name, target, count=3, metadata=None, **options):
    frame, segmentation = photo_and_result(count, **options)
    files = WRITERS[name].write(target, frame, segmentation, metadata or {})
    return frame, segmentation, files


def chunks(data):
    """The chunks of a PNG as (kind, content), with their check sums verified."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, found = 8, []
    while place < len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        content = data[place + 8 : place + 8 + length]
        (check,) = struct.unpack(">I", data[place + 8 + length : place + 12 + length])
        assert check == zlib.crc32(kind + content)
        found.append((kind, content))
        place += 12 + length
    return found


def wanted_ids(segmentation, unlabelled):
    return np.where(segmentation.labels < 0, unlabelled, segmentation.labels)


class TestLabels:
    @pytest.mark.parametrize(
        ("count", "bits"), [(1, 8), (2, 8), (254, 8), (255, 8), (256, 16), (847, 16), (65535, 16)]
    )
    def test_read_back_bit_for_bit(self, tmp_path, count, bits):
        path = tmp_path / "a.png"
        _, segmentation, files = write("labels", path, count)
        assert files == [path]
        header = chunks(path.read_bytes())[0][1]
        assert struct.unpack(">IIBBBBB", header) == (30, 20, bits, 0, 0, 0, 0)
        expected = wanted_ids(segmentation, 2**bits - 1)
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), expected)
        if cv2 is not None:
            read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert read.dtype == (np.uint8 if bits == 8 else np.uint16)
            np.testing.assert_array_equal(read, expected)

    def test_metadata(self, tmp_path):
        names = json.dumps(["sky", "天空", "é"] + ["word"] * 500, ensure_ascii=False)
        metadata = {
            "Software": "ovseg 0.1",
            "model": "mini",
            "vocabulary": names,
            "empty": "",
            "large": "ab" * 1_000_000,
            "input": "caf\udce9.jpg",
        }
        write("labels", tmp_path / "a.png", metadata=metadata)
        with Image.open(tmp_path / "a.png") as image:
            image.load()
            found = dict(image.text)
        assert found.pop("input") == r"caf\udce9.jpg"
        assert found == {key: value for key, value in metadata.items() if key != "input"}

    def test_long_vocabularies_stay_small(self, tmp_path):
        names = json.dumps([f"class {i}" for i in range(847)])
        write("labels", tmp_path / "a.png", metadata={"vocabulary": names})
        text = [
            content for kind, content in chunks((tmp_path / "a.png").read_bytes()) if b"t" in kind
        ]
        assert sum(map(len, text)) < len(names) / 3

    def test_same_result_same_bytes(self, tmp_path):
        for name in ("overlay", "labels", "palette", "confidence", "npz"):
            write(name, tmp_path / "a", metadata={"model": "mini"})
            first = (tmp_path / "a").read_bytes()
            write(name, tmp_path / "a", metadata={"model": "mini"})
            assert (tmp_path / "a").read_bytes() == first


class TestPalette:
    @pytest.mark.parametrize("count", [1, 3, 16, 255])
    def test_ids_and_colours(self, tmp_path, count):
        _, segmentation, _ = write("palette", tmp_path / "a.png", count)
        found = dict(chunks((tmp_path / "a.png").read_bytes()))
        assert found[b"IHDR"][8:10] == bytes([8, 3])  # 8 bits, palette
        table = np.frombuffer(found[b"PLTE"], np.uint8).reshape(-1, 3)
        assert table.shape == (256, 3)
        np.testing.assert_array_equal(table[:count], palette(count))
        with Image.open(tmp_path / "a.png") as image:
            assert image.mode == "P"
            np.testing.assert_array_equal(np.asarray(image), wanted_ids(segmentation, 255))

    def test_too_many_classes_are_refused_beforehand(self):
        vocabulary = Vocabulary(str(i) for i in range(256))
        with pytest.raises(UsageError, match="palette holds at most 255 classes.*256"):
            WRITERS["palette"].check(vocabulary)
        WRITERS["labels"].check(vocabulary)
        with pytest.raises(UsageError, match="labels holds at most 65535"):
            WRITERS["labels"].check(Vocabulary(str(i) for i in range(65536)))


class TestMasks:
    def test_a_file_for_each_class_that_occurs(self, tmp_path):
        names = ["sky", "天空", "a/../b", "<i>", "never", "CON"]
        frame, segmentation = photo_and_result(names=names)
        segmentation.labels[segmentation.labels == 4] = 0
        files = WRITERS["masks"].write(tmp_path / "a", frame, segmentation, {})
        assert sorted(p.name for p in files) == [
            "0-sky.png",
            "1-天空.png",
            "2-a-b.png",
            "3-i.png",
            "5-con.png",
        ]
        for class_id, path in zip((0, 1, 2, 3, 5), files, strict=True):
            with Image.open(path) as image:
                assert image.mode == "L"
                expected = np.where(segmentation.labels == class_id, 255, 0)
                np.testing.assert_array_equal(np.asarray(image), expected)

    def test_masks_of_an_earlier_result_go_and_other_things_stay(self, tmp_path):
        folder = tmp_path / "a"
        (folder / "7-nested").mkdir(parents=True)
        for name in ("9-old.png", "12.png", "notes.png", "١-x.png", "7-nested/0-sky.png"):
            (folder / name).write_bytes(b"")
        write("masks", folder, 2)
        left = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
        assert left == {
            *("0-class-0.png", "1-class-1.png", "notes.png", "١-x.png", "7-nested/0-sky.png"),
        }

    def test_nothing_labelled(self, tmp_path):
        frame, segmentation = photo_and_result()
        segmentation.labels[:] = -1
        assert WRITERS["masks"].write(tmp_path / "a", frame, segmentation, {}) == []
        assert list((tmp_path / "a").iterdir()) == []

    def test_all_or_none(self, tmp_path, monkeypatch):
        real, calls = exports._write_bytes, []

        def failing(target, data):
            calls.append(target)
            if len(calls) == 2:
                raise OutputError("disk full")
            return real(target, data)

        monkeypatch.setattr(exports, "_write_bytes", failing)
        with pytest.raises(OutputError, match="disk full"):
            write("masks", tmp_path / "a")
        assert list((tmp_path / "a").iterdir()) == []


def test_confidence_is_16_bit(tmp_path):
    _, segmentation, _ = write("confidence", tmp_path / "a.png")
    exact = segmentation.confidence.astype(float) * 65535
    with Image.open(tmp_path / "a.png") as image:
        assert np.abs(np.asarray(image) - exact).max() < 0.51  # the nearest; half of one is a tie
    frame, segmentation = photo_and_result()
    segmentation.confidence[0, :2] = 0, 1
    WRITERS["confidence"].write(tmp_path / "b.png", frame, segmentation, {})
    with Image.open(tmp_path / "b.png") as image:
        assert np.asarray(image)[0, :2].tolist() == [0, 65535]


def test_npz_is_for_numpy(tmp_path):
    _, segmentation, files = write("npz", tmp_path / "a.npz", names=["sky", "天空"])
    assert files == [tmp_path / "a.npz"]
    with np.load(tmp_path / "a.npz") as read:
        np.testing.assert_array_equal(read["labels"], segmentation.labels)
        np.testing.assert_array_equal(read["confidence"], segmentation.confidence)
        assert read["confidence"].dtype == np.float32 and read["names"].tolist() == ["sky", "天空"]


class TestOverlay:
    def test_is_the_rendering(self, tmp_path):
        frame, segmentation, _ = write("overlay", tmp_path / "a.jpg", size_hw=(60, 300))
        with Image.open(tmp_path / "a.jpg") as image:
            assert image.format == "JPEG"
            pixels = np.asarray(image).astype(int)
        expected = np.asarray(overlay(frame, segmentation))
        assert pixels.shape == expected.shape
        assert np.abs(pixels - expected)[60:].mean() < 2

    def test_longer_than_jpeg_can_be(self, tmp_path):
        write("overlay", tmp_path / "a.jpg", size_hw=(2, 66000))
        with Image.open(tmp_path / "a.jpg") as image:
            assert image.width == 65500


class TestSelect:
    VOCABULARY = Vocabulary(["sky"])

    def test_in_order_and_once(self):
        found = select(["masks", "labels", "masks"], self.VOCABULARY)
        assert [writer.name for writer in found] == ["masks", "labels"]

    def test_unknown_names_list_the_known(self):
        with pytest.raises(
            UsageError, match=r"'lables'.*overlay, labels, .*confidence, npz, stats"
        ):
            select(["lables"], self.VOCABULARY, others=["stats"])

    def test_others_are_passed_over(self):
        assert [w.name for w in select(["stats", "labels"], self.VOCABULARY, ["stats"])] == [
            "labels"
        ]

    def test_checks_the_vocabulary(self):
        with pytest.raises(UsageError, match="at most 255"):
            select(["palette"], Vocabulary(str(i) for i in range(300)))
        assert not issubclass(UsageError, VocabularyError)

    def test_targets_keep_odd_names(self, tmp_path):
        assert WRITERS["labels"].target(tmp_path, "sub/a.b") == tmp_path / "labels/sub/a.b.png"
        assert WRITERS["masks"].target(tmp_path, "sub/a.b") == tmp_path / "masks/sub/a.b"


class TestAtomicPath:
    def test_makes_folders_and_leaves_only_the_target(self, tmp_path):
        target = tmp_path / "deep" / "er" / "a.txt"
        with atomic_path(target) as temporary:
            assert temporary.parent == target.parent
            assert temporary.suffix != target.suffix
            temporary.write_text("new")
            assert not target.exists()
        assert os.listdir(target.parent) == ["a.txt"]
        assert target.read_text() == "new"

    @pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OutputError("y")])
    def test_errors_leave_the_old_file(self, tmp_path, error):
        target = tmp_path / "a.txt"
        target.write_text("old")
        with pytest.raises(type(error)), atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error
        assert os.listdir(tmp_path) == ["a.txt"]
        assert target.read_text() == "old"

    def test_a_full_disk_is_an_output_error_with_its_cause(self, tmp_path):
        target = tmp_path / "a.txt"
        with (
            pytest.raises(OutputError, match=r"a\.txt: No space left") as caught,
            atomic_path(target) as temporary,
        ):
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        assert caught.value.__cause__.errno == errno.ENOSPC
        assert os.listdir(tmp_path) == []

    def test_a_limit_of_the_system_is_met_in_the_middle_of_a_file(self, tmp_path):
        resource = pytest.importorskip("resource")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            with pytest.raises(OutputError, match=r"a\.png: File too large"):
                write("confidence", tmp_path / "a.png", size_hw=(100, 100))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert os.listdir(tmp_path) == []

    def test_a_file_where_a_folder_should_be(self, tmp_path):
        (tmp_path / "labels").write_text("")
        with pytest.raises(OutputError, match="cannot write"):
            write("labels", tmp_path / "labels" / "a.png")

    def test_a_folder_where_a_file_should_be(self, tmp_path):
        (tmp_path / "a.png").mkdir()
        with pytest.raises(OutputError, match=r"a\.png"):
            write("labels", tmp_path / "a.png")
        assert os.listdir(tmp_path) == ["a.png"]

    def test_the_longest_name_works_and_a_longer_one_is_named(self, tmp_path):
        write("labels", tmp_path / ("n" * 251 + ".png"))
        assert len(os.listdir(tmp_path)) == 1
        with pytest.raises(OutputError, match="nnn.*too long"):
            write("labels", tmp_path / ("n" * 252 + ".png"))
        with pytest.raises(OutputError, match="too long"):
            write("labels", tmp_path / ("n" * 300) / "a.png")

    @pytest.mark.parametrize("name", ["a\nb.png", "caf\udce9.png", "-o.png", "天空.png"])
    def test_odd_names(self, tmp_path, name):
        _, _, (path,) = write("labels", tmp_path / name)
        assert path.name == name
        assert path.stat().st_size

    def test_many_writers_at_once(self, tmp_path):
        target = tmp_path / "a.png"
        threads = [
            threading.Thread(target=write, args=("labels", target, count)) for count in range(2, 10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert os.listdir(tmp_path) == ["a.png"]
        with Image.open(target) as image:
            image.load()

    def test_files_get_the_usual_permissions(self, tmp_path):
        (tmp_path / "usual").write_text("")
        write("labels", tmp_path / "a.png")
        assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sky", "sky"),
        ("Traffic Light", "traffic-light"),
        ("../../etc/passwd", "etc-passwd"),
        ("a\nb\0c", "a-b-c"),
        ("caf\udce9", "caf"),
        ("天空", "天空"),
        ("E\u0301te\u0301", "été"),  # one name, however its accents are written
        ("हिन्दी", "हिन्दी"),
        ("🏠", ""),
        ("x" * 100, "x" * 60),
    ],
)
def test_slug(name, expected):
    assert slug(name) == expected


def test_slug_is_cut_between_characters():
    assert slug("天" * 100) == "天" * 20
