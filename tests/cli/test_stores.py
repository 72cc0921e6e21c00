"""Inputs and outputs by URL: a folder, memory, and a server that speaks S3."""

import hashlib
import json
import signal
import socket
import sys
import time

import fsspec
import pytest
from mock_segmenter import files_below, make_photo, make_photos

from ovseg_cli.errors import UsageError
from ovseg_cli.run_folder.layout import RUNS_OF_CLASSES
from ovseg_cli.storage.store import Store
from ovseg_cli.storage.store_folder import StoreFolder


@pytest.fixture(scope="session")
def s3_server():
    """The address of an S3 server in this process."""
    from moto.server import ThreadedMotoServer

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch, tmp_path):
    """The URL of an empty bucket; clients find the server by their own environment variables."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    client = fsspec.get_filesystem_class("s3")
    client.clear_instance_cache()
    name = "b" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]
    client().mkdir(name)
    yield f"s3://{name}"
    client.clear_instance_cache()


@pytest.fixture
def memory():
    """The URL of an empty place in memory."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    yield "memory://place"
    store.store.clear()


@pytest.fixture
def folder(tmp_path):
    """A folder by URL."""
    (tmp_path / "store").mkdir()
    return (tmp_path / "store").as_uri()


@pytest.fixture(params=["folder", "memory", "s3"])
def url(request):
    """A place to read from and to write to."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def segment(program):
    def run(*arguments, stdin=b""):
        return program("segment", "--classes", "sky, road, car", *arguments, stdin=stdin)

    return run


def upload(folder, url):
    store = Store(url)
    for file in folder.rglob("*"):
        if file.is_file():
            store.put(file, file.relative_to(folder).as_posix())


def download(url, folder):
    store = Store(url)
    for name in store.fs.find(store.path):
        target = folder / name[len(store.path) :].lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        store.fs.get_file(name, str(target))
    return folder


def test_from_store_to_store_as_from_folder_to_folder(url, segment, tmp_path):
    make_photos(tmp_path / "in", 4)
    make_photo(tmp_path / "in" / "deep" / "two words.png")
    (tmp_path / "in" / "bad.jpg").write_bytes(b"no image")
    upload(tmp_path / "in", f"{url}/in")
    assert segment("in", "-r", "-o", "here").code == 1
    ended = segment(f"{url}/in", "-r", "-o", f"{url}/out", "--json")
    assert ended.code == 1 and "bad.jpg: not an image" in ended.err
    there = download(f"{url}/out", tmp_path / "there")
    assert files_below(there) == files_below(tmp_path / "here")
    for record in map(json.loads, ended.out.splitlines()):
        for file in record.get("files", {}).values():
            assert Store(file).size("") > 0

    again = segment(f"{url}/in", "-r", "-o", f"{url}/out")
    assert again.code == 2 and "holds results of an earlier run" in again.err
    again = segment(f"{url}/in", "-r", "-o", f"{url}/out", "--resume")
    assert "5 finished earlier, 1 failed" in again.err
    assert files_below(download(f"{url}/out", tmp_path / "there")) == files_below(there)


def test_what_is_gone_or_changed_is_done_again(url, segment, tmp_path):
    make_photos(tmp_path / "in", 3)
    upload(tmp_path / "in", f"{url}/in")
    assert segment(f"{url}/in", "-o", f"{url}/out").code == 0
    Store(f"{url}/out").remove("labels/00.png")
    if url.startswith("file"):
        time.sleep(0.02)  # another time of change
    upload(make_photo(tmp_path / "new" / "01.png", seed=9).parent, f"{url}/in")
    ended = segment(f"{url}/in", "-o", f"{url}/out", "--resume")
    assert ended.code == 0 and "2 done, 1 finished earlier" in ended.err
    make_photo(tmp_path / "in" / "01.png", seed=9)
    assert segment("in", "-o", "here").code == 0
    there = download(f"{url}/out", tmp_path / "there")
    assert files_below(there) == files_below(tmp_path / "here")


def test_names_that_are_kinds_of_nothing_any_more_have_no_such_table(url, program, tmp_path):
    make_photos(tmp_path / "in", 2)
    for text, there in (("vehicle:\n  car\nsky\n", True), ("car\nsky\n", False)):
        (tmp_path / "names.txt").write_text(text)
        ended = program("segment", "in", "--vocab", "names.txt", "-o", f"{url}/out", "--resume")
        assert ended.code == 0
        assert (Store(f"{url}/out").size("parents.csv") >= 0) == there


def test_overwrite_removes_what_the_run_before_wrote_and_nothing_else(url, segment, tmp_path):
    make_photos(tmp_path / "in", 2)
    upload(tmp_path / "in", f"{url}/in")
    assert segment(f"{url}/in", "-o", f"{url}/out").code == 0
    Store(f"{url}/out").post("labels/mine.txt")
    only = f"{url}/in/00.png"
    assert segment(only, "-o", f"{url}/out", "--overwrite", "--save", "labels").code == 0
    left = files_below(download(f"{url}/out", tmp_path / "there"))
    assert set(left) == {"classes.json", "labels/00.png", "labels/mine.txt"}


def test_results_in_the_place_are_no_inputs(memory, segment, tmp_path):
    upload(make_photos(tmp_path / "in", 2)[0].parent, memory)
    assert segment(memory, "-r", "-o", memory).code == 0
    ended = segment(memory, "-r", "-o", memory, "--resume")
    assert "2 photos to segment" in ended.err and "2 finished earlier" in ended.err


@pytest.mark.parametrize("by_url", ["input", "output"])
def test_results_are_no_inputs_though_one_of_both_is_a_url(by_url, segment, tmp_path):
    make_photos(tmp_path / "in", 2)
    url = (tmp_path / "in").as_uri()
    source, target = (url, "in") if by_url == "input" else ("in", url)
    assert segment(source, "-r", "-o", target).code == 0
    ended = segment(source, "-r", "-o", target, "--resume")
    assert "2 photos to segment" in ended.err and "2 finished earlier" in ended.err


def test_an_object_that_a_list_names_and_that_is_gone_fails_by_name(url, segment, tmp_path):
    upload(make_photos(tmp_path / "in", 2)[0].parent, f"{url}/in")
    listed = "".join(f"{url}/in/{name}.png\n" for name in ("00", "gone", "01")).encode()
    ended = segment("-", "-o", "out", stdin=listed)
    assert ended.code == 1 and f"{url}/in/gone.png: cannot be read: no such" in ended.err
    assert "2 done, 1 failed" in ended.err


def test_files_of_a_killed_run_do_not_pass_for_those_of_the_one_before(
    memory, segment, tmp_path, monkeypatch
):
    """The same names in another order give label maps of the same size."""
    make_photos(tmp_path / "in", 3)
    place = f"{memory}/out"
    command = ("in", "-o", place, "--save", "labels")
    assert segment(*command).code == 0
    before = download(place, tmp_path / "before")

    def killed(self):
        raise SystemExit(9)

    with monkeypatch.context() as patch:
        patch.setattr(StoreFolder, "settle", killed)
        patch.setattr(StoreFolder, "close", killed)
        again = segment(*command, "--resume", "--classes", "car, road, sky")
        assert again.code == 9
    between = download(place, tmp_path / "between")
    for name in ("00", "01", "02"):
        maps = [folder / "labels" / f"{name}.png" for folder in (before, between)]
        assert maps[0].read_bytes() != maps[1].read_bytes()
    ended = segment(*command, "--resume")
    assert ended.code == 0 and "3 done" in ended.err
    assert files_below(download(place, tmp_path / "after")) == files_below(before)


def test_patterns_and_lists(memory, segment, tmp_path):
    upload(make_photos(tmp_path / "in", 12)[0].parent, f"{memory}/in")
    ended = segment(f"{memory}/in/1*.png", "-o", "a", "--dry-run")
    assert [line.split("\t")[0] for line in ended.out.splitlines()] == [
        f"{memory}/in/10.png",
        f"{memory}/in/11.png",
    ]
    listed = f"{memory}/in/03.png\n".encode()
    assert segment("-", "-o", "b", stdin=listed).code == 0
    assert set(files_below(tmp_path / "b")) >= {"labels/03.png", "overlays/03.jpg"}


def test_names_that_look_like_patterns_are_names_where_they_are_there(url, segment, tmp_path):
    names = ["br1.png", "br[1].png", "q?1.png", "qx1.png"]
    for seed, name in enumerate(names):
        make_photo(tmp_path / "in" / name, seed=seed)
    upload(tmp_path / "in", f"{url}/in")
    typed = segment(f"{url}/in/q?1.png", "-o", "typed", "--dry-run")
    assert [line.split("\t")[0] for line in typed.out.splitlines()] == [f"{url}/in/q?1.png"]
    listed = "".join(f"{url}/in/{name}\n" for name in ("br[1].png", "q?1.png", "z*.png")).encode()
    ended = segment("-", "-o", "out", "--save", "labels", stdin=listed)
    assert ended.code == 1 and "2 done, 1 failed" in ended.err and "in/z*.png: cannot" in ended.err
    segment("in", "-o", "here", "--save", "labels")
    here = files_below(tmp_path / "here")
    for name in ("labels/br[1].png", "labels/q?1.png"):
        assert files_below(tmp_path / "out")[name] == here[name]


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_colons_in_a_name_begin_no_other_url(place, request, segment, tmp_path):
    url = request.getfixturevalue(place)
    for seed, name in enumerate(["a.png", "a.png::b.png"]):
        make_photo(tmp_path / "in" / name, seed=seed)
    upload(tmp_path / "in", f"{url}/in")
    for source, target in (("in", "here"), (f"{url}/in", f"{url}/out")):
        assert segment(source, "-o", target).code == 0
    there = download(f"{url}/out", tmp_path / "there")
    assert files_below(there) == files_below(tmp_path / "here")


def test_a_key_with_an_empty_part_is_another_photo(s3, segment, tmp_path):
    for seed, name in enumerate(["a.png", "/a.png"]):
        Store(f"{s3}/in").put(make_photo(tmp_path / "a.png", seed=seed), name)
    ended = segment(f"{s3}/in", "-r", "-o", "out", "--json")
    assert ended.code == 0 and "2 done" in ended.err
    records = [json.loads(line) for line in ended.out.splitlines()]
    assert {record["path"] for record in records} == {f"{s3}/in/a.png", f"{s3}/in//a.png"}
    maps = [(tmp_path / record["files"]["labels"]).read_bytes() for record in records]
    assert maps[0] != maps[1]


def test_no_listing_and_no_photo_are_said(memory, segment):
    for name in ("nothing", "nothing/*.jpg"):
        ended = segment(f"{memory}/{name}", "-o", "out")
        assert ended.code == 2 and f"{memory}/{name}" in ended.err


@pytest.mark.parametrize("when", ["before", "at the end"])
def test_a_store_that_fails_to_list(memory, tmp_path, segment, monkeypatch, when):
    upload(make_photos(tmp_path / "in", 2)[0].parent, f"{memory}/in")
    store = fsspec.filesystem("memory")
    right = type(store).ls
    broken = when == "before"

    def ls(self, path, *arguments, **options):
        if broken and path.rstrip("/").endswith(("out", ".ovseg")):
            raise ConnectionError("the line is dead")
        return right(self, path, *arguments, **options)

    def settle(self):
        nonlocal broken
        broken = True  # the photos are done, the tables come next
        kept(self)

    kept = StoreFolder.settle
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "ls", ls)
        patch.setattr(StoreFolder, "settle", settle)
        ended = segment(f"{memory}/in", "-o", f"{memory}/out")
    assert ended.code == (2 if when == "before" else 1)
    assert f"{memory}/out" in ended.err and "the line is dead" in ended.err
    assert "bug in ovseg" not in ended.err
    ended = segment(f"{memory}/in", "-o", f"{memory}/out", "--resume")
    assert ended.code == 0 and store.exists(f"{memory}/out/stats.csv")
    assert ("2 finished earlier" in ended.err) == (when == "at the end")


def test_a_store_that_lets_nothing_be_removed(memory, tmp_path, segment, monkeypatch):
    upload(make_photos(tmp_path / "in", 2)[0].parent, f"{memory}/in")
    segment(f"{memory}/in", "-o", f"{memory}/out", "--save", "labels,masks")
    store = fsspec.filesystem("memory")

    def refuse(self, path):
        raise PermissionError("AccessDenied")

    monkeypatch.setattr(type(store), "rm_file", refuse)
    monkeypatch.setattr(type(store), "_rm", refuse)
    ended = segment(
        f"{memory}/in", "-o", f"{memory}/out", "--resume", "--threshold", "0.3", "--save", "labels"
    )
    assert ended.code == 0 and "2 done" in ended.err
    assert "earlier results of 00 stay" in ended.err and "AccessDenied" in ended.err


def test_names_that_changed_are_said_of_a_store_too(memory, tmp_path, program):
    upload(make_photos(tmp_path / "in", 1)[0].parent, f"{memory}/in")
    for names, said in (("sky", False), ("tree", True), ("tree", False)):
        arguments = ["segment", f"{memory}/in", "--classes", names, "-o", f"{memory}/out"]
        ended = program(*arguments, "--resume")
        assert ended.code == 0 and ("was made with other names" in ended.err) == said


def test_a_folder_whose_names_have_changed_goes_on_by_url(tmp_path, program):
    """What tells whose names the ids are goes along: else export takes none of the new results."""
    make_photos(tmp_path / "in", 2)
    out = tmp_path / "out"
    for names, place in (("sky", "out"), ("sky,tree", "out"), ("sky,cow", out.as_uri())):
        arguments = ["segment", "in", "--classes", names, "-o", place, "--save", "labels"]
        assert program(*arguments, "--resume").code == 0
    ended = program("export", "out", "--to", "coco")
    assert ended.code == 0 and "2 photos" in ended.err
    assert program(*arguments[:-3], out.as_uri(), *arguments[-2:], "--overwrite").code == 0
    assert not (out / RUNS_OF_CLASSES).exists()


def test_an_interrupted_run_goes_on(memory, tmp_path, segment, monkeypatch):
    """Pieces of the journal stand in the store although the process never came to its end."""
    upload(make_photos(tmp_path / "in", 5)[0].parent, f"{memory}/in")
    monkeypatch.setattr("ovseg_cli.storage.store_folder.PIECE_ENTRIES", 2)

    def killed(self, *_):
        raise SystemExit(9)

    with monkeypatch.context() as patch:
        patch.setattr(StoreFolder, "settle", killed)
        segment(f"{memory}/in", "-o", f"{memory}/out", "--workers", "1")
    ended = segment(f"{memory}/in", "-o", f"{memory}/out", "--resume")
    assert ended.code == 0 and "1 done, 4 finished earlier" in ended.err


def test_a_signal_leaves_whole_objects_and_a_journal(start, tmp_path, folder):
    make_photos(tmp_path / "in", 30)
    process = start("segment", "in", "--classes", "sky, road", "-o", f"{folder}/out", seconds=0.1)
    labels = tmp_path / "store" / "out" / "labels"
    while len(list(labels.glob("*.png")) if labels.is_dir() else []) < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    done = {file.stem for file in labels.glob("*.png")}
    lines = [
        json.loads(line)["rel"]
        for file in (tmp_path / "store" / "out" / ".ovseg").glob("journal*.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert sorted(lines) == sorted(done) and 3 <= len(done) < 30
    assert not [file for file in labels.iterdir() if file.suffix != ".png"]


class TestRefusals:
    def test_credentials_in_a_url_are_refused_and_not_shown(self, segment):
        ended = segment("s3://key:hidden@bucket/in", "-o", "out")
        assert ended.code == 2 and "AWS_PROFILE" in ended.err and "hidden" not in ended.err

    def test_a_missing_package_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "gcsfs", None)
        with pytest.raises(UsageError, match=r"pip install 'ovseg-cli\[remote\]' gcsfs"):
            Store("gs://bucket/in")

    def test_an_unknown_protocol(self, segment):
        ended = segment("nonsense://bucket/in", "-o", "out")
        assert ended.code == 2 and "nonsense" in ended.err

    def test_a_bucket_that_is_not_there(self, s3, segment):
        ended = segment("s3://no-such-bucket-of-ours/in", "-o", "out")
        assert ended.code == 2 and "no-such-bucket-of-ours" in ended.err

    def test_a_bucket_that_is_not_there_is_not_made(self, s3, segment, tmp_path):
        make_photos(tmp_path / "in", 1)
        for options in ([], ["--tar-size", "1MB"]):
            ended = segment("in", "-o", "s3://mistyped-bucket/out", *options)
            assert ended.code == 2 and "s3://mistyped-bucket/out" in ended.err
            assert not fsspec.filesystem("s3").exists("mistyped-bucket")

    def test_a_client_that_cannot_begin(self, segment):
        ended = segment("zip://in.zip", "-o", "out")
        assert ended.code == 2 and "zip://in.zip" in ended.err

    @pytest.mark.parametrize(
        "options, said",
        [
            (["--save", "labels,coco"], "ovseg export"),
            (["--show"], "--show"),
            (["--shard", "1/2"], "--engine ray"),
        ],
    )
    def test_what_needs_a_folder(self, options, said, segment, tmp_path, memory):
        make_photos(tmp_path / "in", 1)
        ended = segment("in", "-o", f"{memory}/out", *options)
        assert ended.code == 2 and said in ended.err
