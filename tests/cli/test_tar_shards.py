"""WebDataset shards in and out."""

import errno
import io
import json
import os
import signal
import tarfile
import time
from collections import Counter

import fsspec
import numpy as np
import pytest
from mock_segmenter import files_below, make_photo, make_photos
from PIL import Image

from ovseg_cli.errors import InputError
from ovseg_cli.exports import select
from ovseg_cli.frame import Frame
from ovseg_cli.media.inputs import ImageInput, InputState
from ovseg_cli.segmentation import Segmentation
from ovseg_cli.storage import packed_folder
from ovseg_cli.storage.inputs import expand_braces
from ovseg_cli.storage.tar_photos import tar_photos
from ovseg_cli.vocabulary import Vocabulary


@pytest.fixture
def segment(program):
    def run(*arguments):
        return program("segment", "--classes", "sky, road, car", *arguments)

    return run


def add(tar, name, data=b"", **fields):
    """Add a member with any header."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


def pack(target, folder):
    """All files of a folder as a shard, each with a caption beside it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w") as tar:
        for file in sorted(folder.rglob("*.*")):
            name = file.relative_to(folder).as_posix()
            add(tar, name, file.read_bytes())
            add(tar, f"{os.path.splitext(name)[0]}.txt", b"a caption")


@pytest.fixture
def shards(tmp_path):
    """Two shards, whose photos have the same names, and folders of the same photos."""
    for number in range(2):
        folder = tmp_path / "plain" / f"shard-{number:03}.tar"
        for i in range(3):
            make_photo(folder / f"{i:05}.png", seed=10 * number + i)
        pack(tmp_path / "in" / f"shard-{number:03}.tar", folder)
    return "in/shard-{000..001}.tar"


class TestInput:
    @pytest.mark.parametrize("pattern", ["in/shard-{000..001}.tar", "in/shard-*.tar"])
    def test_shards_are_read_as_folders_of_their_names(self, pattern, shards, segment, tmp_path):
        assert segment("plain", "-r", "-o", "expected").code == 0
        assert segment(pattern, "-o", "out").code == 0
        assert files_below(tmp_path / "out") == files_below(tmp_path / "expected")
        assert (tmp_path / "out" / "labels" / "shard-001.tar" / "00002.png").is_file()
        ended = segment(pattern, "-o", "out", "--resume")
        assert "6 finished earlier" in ended.err

    def test_a_shard_that_is_written_anew_is_done_again(self, shards, segment, tmp_path):
        assert segment(shards, "-o", "out").code == 0
        time.sleep(0.02)
        make_photo(tmp_path / "plain" / "shard-001.tar" / "00001.png", seed=99)
        pack(tmp_path / "in" / "shard-001.tar", tmp_path / "plain" / "shard-001.tar")
        ended = segment(shards, "-o", "out", "--resume")
        assert "3 done, 3 finished earlier" in ended.err
        assert segment("plain", "-r", "-o", "expected").code == 0
        assert files_below(tmp_path / "out") == files_below(tmp_path / "expected")

    def test_from_a_store(self, shards, segment, tmp_path):
        memory = fsspec.filesystem("memory")
        memory.store.clear()
        for file in (tmp_path / "in").iterdir():
            memory.pipe_file(f"/place/{file.name}", file.read_bytes())
        assert segment(shards, "-o", "expected").code == 0
        assert segment("memory://place/shard-{000..001}.tar", "-o", "out").code == 0
        assert files_below(tmp_path / "out") == files_below(tmp_path / "expected")
        assert segment("memory://place/shard-*.tar", "-o", "two").code == 0
        assert files_below(tmp_path / "two") == files_below(tmp_path / "expected")
        memory.store.clear()

    def test_of_a_shard_in_a_store_that_is_replaced_no_other_photo_is_taken(self, shards, tmp_path):
        memory = fsspec.filesystem("memory")
        memory.store.clear()
        first, second = (file.read_bytes() for file in sorted((tmp_path / "in").iterdir()))
        memory.pipe_file("/place/a.tar", first)
        photo = tar_photos("memory://place/a.tar")[0]
        assert photo.open().read() == first[photo.offset : photo.offset + photo.size]
        memory.pipe_file("/place/a.tar", second)
        with pytest.raises(InputError, match="changed since its photos were listed"):
            photo.open()
        memory.store.clear()

    def test_hostile_members_fail_by_name_and_nothing_is_written_outside(self, segment, tmp_path):
        photo = make_photo(tmp_path / "good.png").read_bytes()
        (tmp_path / "in").mkdir()
        with tarfile.open(tmp_path / "in" / "x.tar", "w") as tar:
            add(tar, "good.png", photo)
            add(tar, "../../up.png", photo)
            add(tar, "/tmp/absolute.png", photo)
            add(tar, "link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
            add(tar, "hard.png", type=tarfile.LNKTYPE, linkname="good.png")
            add(tar, "device.png", type=tarfile.CHRTYPE)
            add(tar, "pipe.png", type=tarfile.FIFOTYPE)
            add(tar, "good.png", photo)
            add(tar, "empty.png", b"")
            add(tar, "folder.png", type=tarfile.DIRTYPE)
            add(tar, ".hidden.png", photo)
            add(tar, "\x1b[2Jnaïve\n.png", photo)
            add(tar, "a" * 300 + ".png", photo)
            add(tar, "last.png", photo)
        before = set(tmp_path.rglob("*"))
        ended = segment("in/x.tar", "-o", "out/deep")
        assert ended.code == 1 and "\x1b" not in ended.err
        for name, reason in {
            "up.png": "leads out of the folder",
            "tmp/absolute.png": "leads out of the folder",
            "link.png": "a link, device or hole",
            "hard.png": "a link, device or hole",
            "device.png": "a link, device or hole",
            "pipe.png": "a link, device or hole",
            "good#2.png": "another photo of this name",
            "empty.png": "the file is empty",
        }.items():
            (line,) = [text for text in ended.err.splitlines() if f"x.tar/{name}:" in text]
            assert reason in line
        labels = {f.relative_to(tmp_path / "out/deep/labels").as_posix()
                  for f in (tmp_path / "out/deep/labels").rglob("*.png")}  # fmt: skip
        assert labels == {f"x.tar/{n}.png" for n in ("good", "last", "\x1b[2Jnaïve\n")}
        new = set(tmp_path.rglob("*")) - before - {tmp_path / "out"}
        assert all(path.is_relative_to(tmp_path / "out" / "deep") for path in new)

    def test_what_cannot_be_read_takes_no_name_from_what_can(self, segment, tmp_path):
        photo = make_photo(tmp_path / "good.png").read_bytes()
        names = ["../a.png", "a.png", "a.png", "a#2.png", "/b.png", "b.png"]
        with tarfile.open(tmp_path / "x.tar", "w") as tar:
            for name in names:
                add(tar, name, photo)
        ended = segment("x.tar", "-o", "out")
        assert ended.code == 1 and "3 failed" in ended.err
        written = sorted(path.name for path in (tmp_path / "out/labels/x.tar").iterdir())
        assert written == ["a#2.png", "a.png", "b.png"]

    def test_a_truncated_archive_gives_what_is_whole(self, shards, segment, tmp_path):
        file = tmp_path / "in" / "shard-001.tar"
        data = file.read_bytes()
        with tarfile.open(file) as tar:
            middle = tar.getmember("00001.png").offset_data + 100
        for length, whole in ((middle, 1), (700, 0)):
            file.write_bytes(data[:length])
            ended = segment(str(file), "-o", f"out{length}")
            assert ended.code == 1 and f"0000{whole}.png: the archive ends in the" in ended.err
            found = list((tmp_path / f"out{length}" / "labels").rglob("*.png"))
            assert len(found) == whole

    def test_a_header_that_claims_gigabytes_costs_none(self, segment, tmp_path):
        with tarfile.open(tmp_path / "x.tar", "w") as tar:
            add(tar, "a.png", make_photo(tmp_path / "a.png").read_bytes())
        data = (tmp_path / "x.tar").read_bytes()[: 512 * (2 + len(data_of(tmp_path)) // 512)]
        liar = tarfile.TarInfo("././@LongLink")
        liar.type, liar.size = tarfile.GNUTYPE_LONGNAME, 1 << 32
        (tmp_path / "x.tar").write_bytes(data + liar.tobuf() + bytes(2048))
        ended = segment("x.tar", "-o", "out")
        assert ended.code == 1 and "damaged (a header of" in ended.err
        assert (tmp_path / "out" / "labels" / "x.tar" / "a.png").is_file()

    @pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz"])
    def test_compressed_archives_are_refused_with_the_remedy(self, name, segment, tmp_path):
        (tmp_path / name).write_bytes(b"\x1f\x8b")
        ended = segment(name, "-o", "out")
        assert ended.code == 2 and "decompress it to a .tar" in ended.err

    def test_no_archive(self, segment, tmp_path):
        (tmp_path / "x.tar").write_bytes(b"this is a text\n" * 100)
        assert segment("x.tar", "-o", "out").code == 1
        ended = segment("y-{0..1}.tar", "-o", "out2")
        assert ended.code == 2 and "y-0.tar" in ended.err

    @pytest.mark.parametrize(
        "text, expected",
        [
            ("s-{08..11}.tar", ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]),
            ("s-{2..0}", ["s-2", "s-1", "s-0"]),
            ("{0..10}", [str(n) for n in range(11)]),
            ("{10..0}", [str(n) for n in range(10, -1, -1)]),
            ("{00..10}", [f"{n:02}" for n in range(11)]),
            ("{000..099}", [f"{n:03}" for n in range(100)]),
            ("{a,b}-{0..1}", ["a-0", "a-1", "b-0", "b-1"]),
            ("{one}", ["{one}"]),
            ("plain", ["plain"]),
        ],
    )
    def test_braces_as_in_a_shell(self, text, expected):
        assert list(expand_braces(text)) == expected


def data_of(folder):
    return (folder / "a.png").read_bytes()


def samples(folder):
    """What the webdataset library reads: key -> the fields of a sample."""
    import webdataset

    found = {}
    for tar in sorted(folder.glob("*.tar")):
        for sample in webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False):
            assert sample["__key__"] not in found
            found[sample["__key__"]] = sample
    return found


def packed(root, names, part=""):
    """A folder of shards that are never full."""
    return packed_folder.PackedFolder(root, select(["labels"], names), tar_bytes=1 << 20, part=part)


def save(output, photo, names):
    """Two pixels of class 1 and one of none, as a photo's results."""
    frame = Frame(np.zeros((1, 3, 3), np.uint8))
    found = Segmentation(np.array([[1, 1, -1]], np.int32), np.ones((1, 3), np.float32), names)
    image = ImageInput(str(photo), photo.stem)
    output.save(image, InputState.of(photo), frame, found)


class TestOutput:
    def test_webdataset_reads_it(self, segment, tmp_path):
        make_photos(tmp_path / "in", 6)
        make_photo(tmp_path / "in" / "deep" / "a.b%c.png", seed=8)
        save = ["--save", "overlay,labels,masks,npz,stats"]
        assert segment("in", "-r", "-o", "plain", *save).code == 0
        ended = segment("in", "-r", "-o", "out", "--tar-size", "20kB", *save)
        assert ended.code == 0
        out = tmp_path / "out"
        found = samples(out)
        assert len(list(out.glob("ovseg-*.tar"))) > 1
        assert set(found) == {*(f"{i:02}" for i in range(6)), "deep/a%2Eb%25c"}
        for key, sample in found.items():
            rel = key.replace("%2E", ".").replace("%25", "%")
            plain = tmp_path / "plain"
            assert sample["labels.png"] == (plain / "labels" / f"{rel}.png").read_bytes()
            assert sample["overlay.jpg"] == (plain / "overlays" / f"{rel}.jpg").read_bytes()
            assert "npz" in sample
            labels = np.asarray(Image.open(io.BytesIO(sample["labels.png"])))
            record = json.loads(sample["json"])
            assert record["image"] == f"{rel}.png"
            assert (record["height"], record["width"]) == labels.shape
            pixels = {entry["name"]: entry["pixels"] for entry in record["classes"]}
            for class_id, name in enumerate(("sky", "road", "car")):
                assert pixels[name] == (labels == class_id).sum()
                assert f"masks.{class_id}-{name}.png" in sample
        for table in ("stats.csv", "summary.csv", "classes.json"):
            assert (out / table).read_bytes() == (tmp_path / "plain" / table).read_bytes()
        assert {path.name for path in out.iterdir() if path.is_dir()} == {".ovseg"}

    def test_it_goes_on_after_a_kill_and_no_photo_is_in_two_shards(self, start, segment, tmp_path):
        make_photos(tmp_path / "in", 24)
        command = ["segment", "in", "--classes", "sky, road, car", "-o", "out"]
        command += ["--tar-size", "20kB", "--workers", "1"]
        for _ in range(3):
            process = start(*command, "--resume", seconds=0.05)
            time.sleep(0.9 + 0.05 * _)
            process.send_signal(signal.SIGKILL)
            process.wait()
        ended = segment("in", "-o", "out", "--tar-size", "20kB", "--resume")
        assert ended.code == 0
        assert set(samples(tmp_path / "out")) == {f"{i:02}" for i in range(24)}
        assert segment("in", "-o", "plain").code == 0
        stats = (tmp_path / "plain" / "stats.csv").read_bytes()
        assert (tmp_path / "out" / "stats.csv").read_bytes() == stats
        state = Counter(path.name.split("-")[0] for path in (tmp_path / "out/.ovseg").iterdir())
        assert not state["filling"] and not state["stage"]

    def test_a_shard_left_by_a_dead_process_goes(self, segment, tmp_path):
        make_photos(tmp_path / "in", 2)
        assert segment("in", "-o", "out", "--tar-size", "1MB").code == 0
        (tmp_path / "out" / "ovseg-000007.tar").write_bytes(b"")
        (tmp_path / "out" / ".ovseg" / "filling-ovseg-000007.tar").touch()
        assert segment("in", "-o", "out", "--tar-size", "1MB", "--resume").code == 0
        assert [f.name for f in (tmp_path / "out").glob("*.tar")] == ["ovseg-000000.tar"]

    @pytest.mark.parametrize("first, second", [("1-of-2", "2-of-2"), ("1-of-12", "11-of-12")])
    @pytest.mark.parametrize("actor", ["", "ray-0a1b2c-"])
    def test_a_part_leaves_the_shards_of_others_that_are_being_filled(
        self, first, second, actor, tmp_path
    ):
        names = Vocabulary(["sky", "road"])
        other = packed(tmp_path / "out", names, actor + second)
        other.open(names, run="run", metadata={})
        save(other, make_photo(tmp_path / "a.png"), names)
        ours = packed(tmp_path / "out", names, first)
        ours.open(names, run="run", metadata={})
        ours.tidy()  # as when the actors of a part have ended
        other.close()
        assert set(samples(tmp_path / "out")) == {"a"}

    def test_a_part_removes_what_its_dead_processes_have_left(self, tmp_path):
        names, out = Vocabulary(["sky", "road"]), tmp_path / "out"
        for part in ("1-of-2", "ray-0a1b2c-1-of-2", "2-of-2", "ray-0a1b2c-2-of-2"):
            (out / f".ovseg/stage-ovseg-{part}").mkdir(parents=True)
            (out / f".ovseg/filling-ovseg-{part}-000000.tar").touch()
            (out / f"ovseg-{part}-000000.tar").touch()
        packed(out, names, "1-of-2").open(names, run="run", metadata={})
        for kind in (".ovseg/stage-*", ".ovseg/filling-*", "*.tar"):
            assert len(left := list(out.glob(kind))) == 2
            assert all("2-of-2" in path.name for path in left)
        packed(out, names).open(names, run="run", metadata={})
        for kind in (".ovseg/stage-*", ".ovseg/filling-*", "*.tar"):
            assert not list(out.glob(kind))

    def test_a_changed_photo_fails_rather_than_being_there_twice(self, segment, tmp_path):
        make_photos(tmp_path / "in", 2)
        assert segment("in", "-o", "out", "--tar-size", "1MB").code == 0
        make_photo(tmp_path / "in" / "01.png", (50, 50), seed=5)
        for _ in range(2):
            ended = segment("in", "-o", "out", "--tar-size", "1MB", "--resume")
            assert ended.code == 1 and "01.png: its results are in ovseg-000000.tar" in ended.err
        assert set(samples(tmp_path / "out")) == {"00", "01"}
        ended = segment("in", "-o", "out", "--tar-size", "1MB", "--overwrite")
        assert ended.code == 0 and set(samples(tmp_path / "out")) == {"00", "01"}

    def test_a_process_that_joins_knows_the_names_of_the_classes(self, tmp_path):
        names = Vocabulary(["sky", "road"])
        packed(tmp_path / "out", names).open(names, run="run", metadata={})
        output = packed(tmp_path / "out", names, "joined")
        output.join(names, run="run", metadata={})
        save(output, make_photo(tmp_path / "a.png"), names)
        output.close()
        record = json.loads(samples(tmp_path / "out")["a"]["json"])
        assert [(c["id"], c["name"], c["pixels"]) for c in record["classes"]] == [
            (1, "road", 2),
            (-1, "unlabelled", 1),
        ]

    def test_a_photo_that_does_not_fit_leaves_the_shard_as_it_was(self, tmp_path):
        shard = packed_folder._Archive(tmp_path / "x.tar")
        shard.add(packed_folder._member("a.txt", b"first"))
        real, written = shard._stream, []

        class Full:
            """A disk with room for some bytes more."""

            def __getattr__(self, name):
                return getattr(real, name)

            def write(self, data):
                if written:
                    raise OSError(errno.ENOSPC, "No space left on device")
                written.append(real.write(data[:700]))
                return written[0]

        shard._stream = Full()
        with pytest.raises(OSError, match="No space"):
            shard.add(packed_folder._member("b.txt", b"second" * 500))
        shard._stream = real
        shard.add(packed_folder._member("c.txt", b"third"))
        shard.end()
        with tarfile.open(tmp_path / "x.tar") as tar:
            found = {m.name: tar.extractfile(m).read() for m in tar}
        assert found == {"a.txt": b"first", "c.txt": b"third"}
        assert shard.size == (tmp_path / "x.tar").stat().st_size

    def test_into_a_store(self, segment, tmp_path):
        memory = fsspec.filesystem("memory")
        memory.store.clear()
        make_photos(tmp_path / "in", 6)
        for _ in range(2):
            out = "memory://place/out"
            assert segment("in", "-o", out, "--tar-size", "20kB", "--resume").code == 0
        (tmp_path / "got").mkdir()
        for name in memory.glob("/place/out/*.tar"):
            (tmp_path / "got" / name.rpartition("/")[2]).write_bytes(memory.cat_file(name))
        assert set(samples(tmp_path / "got")) == {f"{i:02}" for i in range(6)}
        assert not memory.glob("/place/out/.ovseg/filling-*")
        memory.store.clear()

    def test_its_shards_are_no_inputs(self, segment, shards, tmp_path):
        command = ("in/*.tar", "-o", "in", "--tar-size", "1MB")
        assert segment(*command).code == 0
        ended = segment(*command, "--resume")
        assert "6 photos to segment" in ended.err and "6 finished earlier" in ended.err

    def test_a_shard_that_cannot_be_delivered_at_once_is_delivered_later(
        self, segment, tmp_path, monkeypatch
    ):
        make_photos(tmp_path / "in", 8)
        deliver, failures = packed_folder.PackedFolder._deliver, [1, 2]

        def hesitant(self, file, name):
            if failures.pop() == 2:
                raise ConnectionError(errno.ECONNRESET, "connection reset by peer")
            failures.append(1)
            deliver(self, file, name)

        monkeypatch.setattr(packed_folder.PackedFolder, "_deliver", hesitant)
        ended = segment("in", "-o", "out", "--tar-size", "10KB", "--workers", "1")
        assert ended.code == 0 and "it is tried again" in ended.err
        found = []
        for file in sorted((tmp_path / "out").glob("*.tar")):
            with tarfile.open(file) as tar:
                found += [name for name in tar.getnames() if name.endswith(".json")]
        assert sorted(found) == [f"{i:02}.json" for i in range(8)]
        assert (
            "8 finished earlier" in segment("in", "-o", "out", "--tar-size", "10KB", "--resume").err
        )

    def test_photos_do_not_count_whose_shard_is_never_delivered(
        self, segment, tmp_path, monkeypatch
    ):
        make_photos(tmp_path / "in", 8)

        def never(self, file, name):
            raise ConnectionError(errno.ECONNRESET, "connection reset by peer")

        with monkeypatch.context() as patch:
            patch.setattr(packed_folder.PackedFolder, "_deliver", never)
            ended = segment("in", "-o", "out", "--tar-size", "10KB")
        assert ended.code == 1 and "connection reset by peer" in ended.err
        ended = segment("in", "-o", "out", "--tar-size", "10KB", "--resume")
        assert ended.code == 0 and "8 done" in ended.err

    def test_a_store_that_refuses_a_shard_to_the_end_is_quoted(
        self, segment, tmp_path, monkeypatch
    ):
        memory = fsspec.filesystem("memory")
        memory.store.clear()
        put_file = type(memory).put_file

        def full(self, file, name, **options):
            with open(file, "rb"):  # as clients do before they speak to a store
                if name.endswith(".tar"):
                    raise OSError("the bucket is full")
            put_file(self, file, name, **options)

        make_photos(tmp_path / "in", 2)
        with monkeypatch.context() as patch:
            patch.setattr(type(memory), "put_file", full)
            ended = segment("in", "-o", "memory://place/out", "--tar-size", "1MB")
        assert ended.code == 1 and "the bucket is full" in ended.err.splitlines()[-1]
        assert "no such object" not in ended.err
        ended = segment("in", "-o", "memory://place/out", "--tar-size", "1MB", "--resume")
        assert ended.code == 0 and "2 done" in ended.err
        memory.store.clear()

    @pytest.mark.parametrize("size", ["0", "-1", "much", "1.5GB"])
    def test_no_size(self, size, segment, tmp_path):
        make_photos(tmp_path / "in", 1)
        ended = segment("in", "-o", "out", f"--tar-size={size}")
        assert ended.code == 2 and "such as 500MB" in ended.err
