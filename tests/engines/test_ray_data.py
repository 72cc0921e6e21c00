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
from ovseg_cli.batch import options as batch_options
from ovseg_cli.batch import run as batch
from ovseg_cli.cli.main import ovseg
from ovseg_cli.engines import ray_actor, ray_cluster, ray_data
from ovseg_cli.engines.ray_cluster import Pool, connected, load_ray, plan_pool
from ovseg_cli.errors import OvsegError, UsageError
from ovseg_cli.exports import select
from ovseg_cli.media.inputs import find_images
from ovseg_cli.run_folder.output import OutputFolder
from ovseg_cli.storage.destination import Destination
from ovseg_cli.vocabulary import Vocabulary

VOCABULARY = Vocabulary(["sky", "road", "car"])
RUN = {"run": "fingerprint", "metadata": {"Software": "test"}}
DEADLY_WH = (70, 50)


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


class DeadlySegmenter(MockSegmenter):
    """Ends its process at the sight of a photo of DEADLY_WH pixels, as `die` does it."""

    die = staticmethod(lambda: os.kill(os.getpid(), signal.SIGKILL))

    def segment(self, frames):
        if any(frame.size_hw == DEADLY_WH[::-1] for frame in frames):
            self.die()
        return super().segment(frames)


def announced(folder, seconds, kind=MockSegmenter):
    """A segmenter whose process says that it is there."""
    (Path(folder) / str(os.getpid())).touch()
    return kind(MockModel(), VOCABULARY, seconds=seconds)


def refused():
    raise UsageError("no such weights")


@pytest.fixture
def prepare(tmp_path):
    """Opens OUT; returns what an actor needs to know, and the folder."""

    def make(segmenter, *, tar_bytes=None, checksum=MockModel.checksum):
        writers = tuple(select(["overlay", "labels"], VOCABULARY))
        destination = Destination(str(tmp_path / "out"), tar_bytes)
        output = destination.folder(writers, stats=True)
        output.open(VOCABULARY, **RUN)
        work = ray_actor.Work(
            version=ovseg_cli.__version__,
            checksum=checksum,
            segmenter=segmenter,
            options=partial(batch_options.options_for, workers=1),
            destination=destination,
            writers=writers,
            part="",
            **RUN,
        )
        return work, output

    return make


@pytest.fixture
def begin(cluster, prepare, tmp_path):
    """Begins a run over some photos; returns its generator, its folder and where pids are."""

    def make(images, *, seconds=0.0, stop=lambda: False, segmenter=None, kind=MockSegmenter, **how):
        pids = tmp_path / "pids"
        pids.mkdir()
        work, output = prepare(segmenter or partial(announced, str(pids), seconds, kind), **how)
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
    assert not list((output.root / ".ovseg").glob("[gs]*-*"))  # no tickets


def test_a_photo_that_kills_its_process_fails_by_name_and_no_other(begin, tmp_path):
    make_photos(tmp_path / "in", 33)
    make_photo(tmp_path / "in" / "10 deadly.png", DEADLY_WH)
    images = find_images([str(tmp_path / "in")])
    results, output, pids = begin(images, kind=DeadlySegmenter)
    found = {result.image.rel: result for result in results}
    assert found.keys() == {image.rel for image in images}
    failed = found.pop("10 deadly")
    assert failed.status == "failed" and "3 times the process" in failed.reason
    assert {result.status for result in found.values()} == {"done"}
    assert len(list(pids.iterdir())) <= 2 + 3
    output.journal.load()
    assert output.journal.entry("10 deadly").reason == failed.reason
    output.close()


class TestDeaths:
    """Actors in this process, which die one after the other over the same photos."""

    class Died(BaseException):
        pass

    @pytest.fixture
    def live(self, prepare, monkeypatch):
        """Gives some photos to actors until one answers; returns the answers and the deaths."""
        monkeypatch.setattr(ray_actor, "load_ray", lambda: SimpleNamespace(get=lambda found: found))
        for name in ("share_cores", "keep_freed_memory"):
            monkeypatch.setattr(ray_actor, name, lambda *_: None)

        def die():
            raise self.Died

        monkeypatch.setattr(DeadlySegmenter, "die", staticmethod(die))

        def run(images, tar_bytes):
            segmenter = partial(DeadlySegmenter, MockModel(), VOCABULARY)
            work, output = prepare(segmenter, tar_bytes=tar_bytes)
            ticket = ray_actor.Ticket(work.destination, "1")
            ticket.post()
            counting = ray_actor.Beginnings()
            methods = {
                name: SimpleNamespace(remote=getattr(counting, name))
                for name in ("counts", "begin", "end")
            }
            for deaths in range(20):
                actor = ray_actor.Actor(work, ticket, SimpleNamespace(**methods), 1)
                try:
                    return actor.answers(list(enumerate(images))), deaths, output
                except self.Died:
                    pass
            raise AssertionError("no end of it")

        return run

    @pytest.mark.parametrize("tar_bytes", [None, 1_000_000])
    def test_several_photos_that_kill(self, live, tmp_path, tar_bytes):
        make_photos(tmp_path / "in", 8)
        deadly = [make_photo(tmp_path / "in" / name, DEADLY_WH) for name in ("02b.png", "05b.png")]
        images = find_images([str(tmp_path / "in")])
        answers, deaths, output = live(images, tar_bytes)
        assert sorted(position for position, _ in answers) == list(range(len(images)))
        failed = [answer.image.path for _, answer in answers if answer.status == "failed"]
        assert sorted(failed) == deadly
        assert deaths <= 3 * len(deadly)
        output.journal.load()
        for image in images:
            assert bool(output.journal.entry(image.rel).reason) == (image.path in deadly)
        output.close()


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


def test_a_run_that_is_stopped_while_actors_begin_ends_without_an_error(begin, tmp_path):
    make_photos(tmp_path / "in", 4)
    results, output, pids = begin(find_images([str(tmp_path / "in")]), stop=lambda: True)
    assert list(results) == [] and not list(pids.iterdir())
    output.close()


def test_what_an_actor_cannot_begin_for_is_said_as_it_is(begin, tmp_path):
    make_photos(tmp_path / "in", 2)
    results, output, _ = begin(find_images([str(tmp_path / "in")]), segmenter=refused)
    with pytest.raises(UsageError, match="^no such weights$"):
        list(results)
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
        mock_segmenter.lend(monkeypatch)
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

    def test_relative_paths_lead_to_the_same_files_in_an_actor(self, segment, tmp_path):
        assert Path.cwd() == tmp_path  # where no actor runs
        make_photos(tmp_path / "in", 2)
        (tmp_path / "masks").mkdir()
        code, _, err = segment("-o", "out", "--proposals", "file:masks", "--engine", "ray")
        assert code == 0 and "2 done" in err

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


class TestAddress:
    @pytest.fixture
    def idle(self):
        """A Ray without a cluster; `joined` has the addresses at which it was sent to one."""
        joined = []
        return SimpleNamespace(
            is_initialized=lambda: False,
            init=lambda address, **_: joined.append(address),
            shutdown=lambda: None,
            joined=joined,
        )

    def refuse(self, idle, address, reason):
        with pytest.raises(UsageError, match=reason), connected(idle, address):
            pass
        assert not idle.joined

    def test_where_nobody_listens_is_said_at_once(self, idle):
        with socket.socket() as taken:  # bound, and not listening
            taken.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            self.refuse(idle, address, f"no Ray cluster at {address}")

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [(b"", "timed out"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "something else answers")],
    )
    def test_where_something_else_listens(self, idle, monkeypatch, answer, reason):
        monkeypatch.setattr(ray_cluster, "_ANSWER_SECONDS", 0.5)
        with socket.create_server(("127.0.0.1", 0)) as server:

            def reply():
                line, _ = server.accept()
                line.sendall(answer)
                ended.wait(10)
                line.close()

            ended = threading.Event()
            replying = threading.Thread(target=reply)
            replying.start()
            address = f"127.0.0.1:{server.getsockname()[1]}"
            self.refuse(idle, address, rf"no Ray cluster at {address} \({reason}")
            ended.set()
            replying.join()

    @pytest.mark.parametrize("address", ["", " ", "127.0.0.1:99999"])
    def test_none_that_can_be(self, idle, address):
        self.refuse(idle, address, "address|no Ray cluster")

    def test_where_a_cluster_is(self, cluster, idle):
        address = load_ray().get_runtime_context().gcs_address
        with connected(idle, address):
            assert idle.joined == [address]

    @pytest.mark.parametrize("joined_before", [True, False])
    def test_what_ray_prints_is_kept_out_of_standard_output(self, idle, capfd, joined_before):
        """Ray prints from a thread of its own, and from the caller's while it begins and ends."""

        def begin(address, **_):
            print("began")

        def end():
            print("ended")

        idle.init, idle.shutdown = begin, end
        idle.is_initialized = lambda: joined_before
        ray_thread = threading.Thread(target=print, args=("a task failed",))
        with connected(idle, None):
            print("a row")
            ray_thread.start()
            ray_thread.join()
        print("another row")
        output, errors = capfd.readouterr()
        assert output == "a row\nanother row\n"
        around = [] if joined_before else ["began", "ended"]
        assert sorted(errors.split("\n")) == sorted(["", "a task failed", *around])

    @pytest.mark.parametrize("there", [True, False])
    def test_a_token_is_shown_where_there_is_one(self, monkeypatch, tmp_path, there):
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            monkeypatch.setenv(name, "")  # so that it is in the end as it was
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        if there:
            (tmp_path / ".ray").mkdir()
            (tmp_path / ".ray" / "auth_token").write_text("secret")
        load_ray()
        assert os.environ.get("RAY_AUTH_MODE") == ("token" if there else None)


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
