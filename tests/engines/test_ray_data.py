"""A real cluster of one machine, whose workers have the segmenter without torch."""

import json
import os
import signal
import socket
import sys
import tarfile
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import mock_segmenter
import pytest
from mock_segmenter import MockModel, MockSegmenter, files_below, make_photo, make_photos

import ovseg_cli
from ovseg_cli import batch, batch_options
from ovseg_cli.cli.main import ovseg
from ovseg_cli.engines import ray_data
from ovseg_cli.engines.ray_cluster import Pool, connected, load_ray, plan_pool
from ovseg_cli.errors import OvsegError, UsageError
from ovseg_cli.exports import select
from ovseg_cli.media.images import find_images
from ovseg_cli.output import OutputFolder
from ovseg_cli.storage.destination import Destination
from ovseg_cli.vocabulary import Vocabulary

VOCABULARY = Vocabulary(["sky", "road", "car"])
RUN = {"run": "fingerprint", "metadata": {"Software": "test"}}


@pytest.fixture(scope="module")
def cluster():
    ray = load_ray()
    paths = [Path(mock_segmenter.__file__).parent, Path(ovseg_cli.__file__).parents[1]]
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100_000_000,
        runtime_env={
            "env_vars": {"PYTHONPATH": os.pathsep.join(map(str, paths))},
            "worker_process_setup_hook": "mock_segmenter.install",
        },
    )
    yield
    ray.shutdown()


def announced(folder, seconds):
    """A segmenter whose process says that it is there."""
    (Path(folder) / str(os.getpid())).touch()
    return MockSegmenter(MockModel(), VOCABULARY, seconds=seconds)


@pytest.fixture
def begin(cluster, tmp_path):
    """Opens a run over some photos; returns its generator, its folder and where pids are."""

    def make(images, *, seconds=0.0, stop=lambda: False, checksum=MockModel.checksum):
        pids = tmp_path / "pids"
        pids.mkdir()
        writers = tuple(select(["overlay", "labels"], VOCABULARY))
        destination = Destination(str(tmp_path / "out"))
        output = destination.folder(writers, stats=True)
        output.open(VOCABULARY, **RUN)
        work = ray_data.Work(
            version=ovseg_cli.__version__,
            checksum=checksum,
            segmenter=partial(announced, str(pids), seconds),
            options=partial(batch_options.options_for, workers=1),
            destination=destination,
            writers=writers,
            part="",
            **RUN,
        )
        results = ray_data.run(images, work, ray_data.Cluster(actors=2), output, stop)
        return results, output, pids

    return make


def local_run(images, root):
    output = OutputFolder(root, select(["overlay", "labels"], VOCABULARY))
    output.open(VOCABULARY, **RUN)
    segmenter = MockSegmenter(MockModel(), VOCABULARY)
    assert all(
        r.status == "done"
        for r in batch.run(images, segmenter, output, batch_options.BatchOptions())
    )
    output.write_tables(images, VOCABULARY)
    output.close()
    return files_below(root)


def entries(root):
    files = (root / ".ovseg").glob("journal*.jsonl")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def kill_one(pids, root, killed):
    """Kill a worker that has finished some photos, not all of its portion."""
    while not killed:
        for file in pids.iterdir():
            if len(entries(root)) >= 3:
                os.kill(int(file.name), signal.SIGKILL)
                killed.append(int(file.name))
                return
        time.sleep(0.02)


def test_a_worker_killed_in_the_middle_loses_nothing(begin, tmp_path):
    make_photos(tmp_path / "in", 40)
    images = find_images([str(tmp_path / "in")])
    results, output, pids = begin(images, seconds=0.2)
    killed = []
    killer = threading.Thread(target=kill_one, args=(pids, output.root, killed))
    killer.start()
    found = list(results)
    killer.join()
    assert len(killed) == 1 and len(list(pids.iterdir())) == 3  # one was started anew
    assert sorted(result.image.rel for result in found) == [image.rel for image in images]
    assert {result.status for result in found} == {"done"}
    output.write_tables(images, VOCABULARY)
    output.close()
    assert files_below(output.root) == local_run(images, tmp_path / "local")
    assert not list((output.root / ".ovseg").glob("going-*"))


def test_stopping_leaves_whole_photos_and_begins_no_others(begin, tmp_path):
    make_photos(tmp_path / "in", 60)
    images = find_images([str(tmp_path / "in")])
    asked = threading.Event()
    results, output, _ = begin(images, seconds=0.2, stop=asked.is_set)
    done = [next(results)]
    asked.set()
    done += results
    assert 1 <= len(done) < 60
    output.journal.load()
    for result in done:
        entry = output.journal.entry(result.image.rel)
        assert all((output.root / name).stat().st_size == size
                   for files in entry.files.values() for name, size in files.items())  # fmt: skip
    output.close()


def test_another_model_on_a_worker_is_refused(begin, tmp_path):
    make_photos(tmp_path / "in", 2)
    results, output, _ = begin(find_images([str(tmp_path / "in")]), checksum="another")
    with pytest.raises(OvsegError, match="has another model under the name mock"):
        list(results)
    output.close()


class TestProgram:
    @pytest.fixture
    def segment(self, cluster, capfd, monkeypatch, tmp_path):
        fake = mock_segmenter.fake_module()
        monkeypatch.setitem(sys.modules, "ovseg_cli.segmenter", fake)
        monkeypatch.setattr(ovseg_cli, "segmenter", fake, raising=False)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        monkeypatch.chdir(tmp_path)

        def run(*arguments):
            capfd.readouterr()
            with pytest.raises(SystemExit) as end:
                ovseg.main(["segment", "in", "--classes", "sky, road, car", *arguments])
            out, err = capfd.readouterr()
            return end.value.code, out, err

        return run

    def test_it_goes_on_with_what_the_other_engine_began(self, segment, tmp_path):
        make_photos(tmp_path / "in", 4)
        (tmp_path / "in" / "bad.png").write_bytes(b"")
        assert segment("-o", "whole")[0] == 1
        assert segment("-o", "out")[0] == 1
        (tmp_path / "out" / "labels" / "02.png").unlink()
        code, out, err = segment("-o", "out", "--resume", "--engine", "ray", "--json")
        assert code == 1 and "in/bad.png: the file is empty" in err
        records = {r["path"]: r for r in map(json.loads, out.splitlines())}
        status = {path: record["status"] for path, record in records.items()}
        assert status == {
            "in/00.png": "skipped", "in/01.png": "skipped", "in/02.png": "done",
            "in/03.png": "skipped", "in/bad.png": "failed",
        }  # fmt: skip
        assert records["in/02.png"]["files"]["labels"] == os.path.join("out", "labels", "02.png")
        assert files_below(tmp_path / "out") == files_below(tmp_path / "whole")
        code, _, err = segment("-o", "out", "--resume")
        assert "4 finished earlier" in err

    def test_actors_write_to_a_store_and_shards(self, segment, tmp_path):
        make_photos(tmp_path / "in", 6)
        assert segment("-o", "plain")[0] == 0
        place = (tmp_path / "out").as_uri()
        for again in ("6 done", "6 finished earlier"):
            code, _, err = segment("-o", place, "--tar-size", "1MB", "--resume", "--engine", "ray")
            assert code == 0 and again in err
        members = []
        for file in (tmp_path / "out").glob("ovseg-*.tar"):
            with tarfile.open(file) as tar:
                members += tar.getnames()
        kinds = ("json", "labels.png", "overlay.jpg")
        assert sorted(members) == [f"{i:02}.{kind}" for i in range(6) for kind in kinds]
        for table in ("stats.csv", "summary.csv", "classes.json"):
            written = (tmp_path / "out" / table).read_bytes()
            assert written == (tmp_path / "plain" / table).read_bytes()
        left = {file.name.split("-")[0] for file in (tmp_path / "out" / ".ovseg").iterdir()}
        assert left == {"journal"}

    def test_without_a_cluster_nothing_is_left(self, segment, monkeypatch, tmp_path):
        make_photo(tmp_path / "in" / "a.png")
        monkeypatch.setattr(load_ray(), "is_initialized", lambda: False)
        code, _, err = segment("-o", "out", "--engine", "ray", "--address", "127.0.0.1:1")
        assert code == 2 and "no Ray cluster at 127.0.0.1:1" in err
        assert segment("-o", "out")[0] == 0

    def test_options_of_the_engine_need_it(self, segment, tmp_path):
        make_photo(tmp_path / "in" / "a.png")
        code, _, err = segment("--ray-actors", "2")
        assert code == 2 and "--ray-actors goes with --engine ray" in err


def test_without_ray_the_remedy_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'ovseg-cli\[ray\]'"):
        load_ray()


def test_an_address_where_nobody_listens_is_said_at_once():
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        idle = SimpleNamespace(is_initialized=lambda: False)
        with (
            pytest.raises(UsageError, match="no Ray cluster at 127.0.0.1"),
            connected(idle, address),
        ):
            pass


class TestPool:
    def test_an_actor_for_every_gpu(self):
        nodes = [{"CPU": 16.0, "GPU": 4.0}, {"CPU": 8.0}]
        assert plan_pool(nodes, None, "auto") == Pool(4, 4, 1)
        assert plan_pool(nodes, None, "cpu").gpus == 0

    def test_actors_fit_on_the_smallest_node(self):
        pool = plan_pool([{"CPU": 9.0}, {"CPU": 2.0}], None, "auto")
        assert pool == Pool(5, 2, 0)

    def test_more_actors_than_cores_share_them(self):
        assert plan_pool([{"CPU": 2.0}], 4, "cpu") == Pool(4, 0.5, 0)

    def test_more_actors_than_gpus_share_them(self):
        assert plan_pool([{"CPU": 8.0, "GPU": 1.0}], 2, "cuda") == Pool(2, 4, 0.5)

    def test_nothing_to_compute_with(self):
        with pytest.raises(UsageError, match="no cores"):
            plan_pool([{"GPU": 1.0}], None, "auto")
