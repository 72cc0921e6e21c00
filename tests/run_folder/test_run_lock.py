import gc
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from ovseg_cli.errors import UsageError
from ovseg_cli.run_folder import run_lock
from ovseg_cli.run_folder.run_lock import WHOLE, holding

ROOT = Path(__file__).parents[2]
HOLD = (
    "import sys, time; from pathlib import Path\n"
    "from ovseg_cli.run_folder.run_lock import holding\n"
    "with holding(Path(sys.argv[1]), sys.argv[2]):\n"
    "    print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path):
    """Starts a process that holds a lock of tmp_path."""
    processes = []

    def hold(name):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path), name],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        processes.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield hold
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def is_free(out, name):
    try:
        with holding(out, name):
            return True
    except UsageError:
        return False


class TestWhoExcludesWhom:
    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (WHOLE, WHOLE),
            (WHOLE, "1-of-2"),
            ("1-of-2", WHOLE),
            ("1-of-2", "1-of-2"),
            ("1-of-2", "2-of-3"),
            ("clip-a", "clip-a"),
        ],
    )
    def test_one_at_a_time(self, tmp_path, first, second):
        with holding(tmp_path, first):
            assert not is_free(tmp_path, second)
        assert is_free(tmp_path, second)

    def test_together(self, tmp_path):
        names = ["1-of-3", "2-of-3", "3-of-3", "clip-a", "clip-b"]
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(holding(tmp_path, name))
            assert not is_free(tmp_path, WHOLE)

    def test_clips_and_photos(self, tmp_path):
        with holding(tmp_path, WHOLE):
            assert is_free(tmp_path, "clip-a")


def test_who_is_refused_learns_who_is_there(tmp_path, holder):
    process = holder(WHOLE)
    with pytest.raises(UsageError) as caught, holding(tmp_path, "1-of-2"):
        pass
    said = rf"process {process.pid} on .+ since \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00; .*-o"
    assert re.search(said, str(caught.value))


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_lock_ends_with_its_holder(tmp_path, holder):
    process = holder(WHOLE)
    assert not is_free(tmp_path, WHOLE)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert is_free(tmp_path, WHOLE) and is_free(tmp_path, "1-of-2")


def test_nothing_is_left(tmp_path):
    with holding(tmp_path / "out", WHOLE), holding(tmp_path / "out", "clip-a"):
        assert (tmp_path / "out" / ".ovseg").exists()
    assert not (tmp_path / "out").exists() or os.name == "nt"


@pytest.fixture
def context():
    """Processes that are forked."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs fork")
    gc.collect()  # a fork that frees what other tests left of FFmpeg waits for threads it has not
    return multiprocessing.get_context("fork")


def _count_up(out, turns, failures):
    for _ in range(turns):
        with suppress_usage(), holding(out, WHOLE):
            number = int((out / "number").read_text())
            (out / "number").write_text(str(number + 1))
            failures.put(0)
            continue
        failures.put(1)


def test_never_two_at_once_though_the_file_comes_and_goes(tmp_path, monkeypatch, context):
    monkeypatch.setattr(run_lock, "_PAUSE", 0.0)
    (tmp_path / "number").write_text("0")
    failures = context.Queue()
    processes = [context.Process(target=_count_up, args=(tmp_path, 60, failures)) for _ in "abc"]
    for process in processes:
        process.start()
    failed = sum(failures.get(timeout=60) for _ in range(180))
    for process in processes:
        process.join()
    assert int((tmp_path / "number").read_text()) == 180 - failed


def test_an_error_within_frees_it(tmp_path):
    with pytest.raises(ZeroDivisionError), holding(tmp_path, WHOLE):
        _ = 1 // 0
    assert is_free(tmp_path, WHOLE)


def test_text_of_an_earlier_holder_does_not_matter(tmp_path):
    (tmp_path / ".ovseg").mkdir()
    (tmp_path / ".ovseg" / "run.lock").write_text('{"pid": 1, "host": "x", "since": "y"}')
    assert is_free(tmp_path, WHOLE)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x"}', "\x1b[2J"])
def test_a_holder_that_cannot_be_read(tmp_path, text, monkeypatch):
    monkeypatch.setattr(run_lock, "_PAUSE", 0.001)
    with holding(tmp_path, WHOLE):
        (tmp_path / ".ovseg" / "run.lock").write_text(text)
        with pytest.raises(UsageError, match=r"it holds .*run\.lock"), holding(tmp_path, WHOLE):
            pass


def _enter(out, number, entered):
    with suppress_usage(), holding(out, f"{number + 1}-of-16"):
        entered.put(number)


class suppress_usage:
    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        return kind is UsageError


def test_many_parts_that_begin_at_once_do_not_hinder_each_other(tmp_path, context):
    entered = context.Queue()
    processes = [context.Process(target=_enter, args=(tmp_path, i, entered)) for i in range(16)]
    for process in processes:
        process.start()
    assert sorted(entered.get(timeout=20) for _ in processes) == list(range(16))
    for process in processes:
        process.join()


def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog):
    import errno

    def refuse(stream, shared):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(run_lock, "_lock", refuse)
    with holding(tmp_path, WHOLE):
        assert "no locks" in caplog.text


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write"), holding(tmp_path / "file", WHOLE):
        pass


def test_a_folder_that_was_not_there_is_not_left_behind_empty(tmp_path):
    (tmp_path / "old").mkdir()
    for name in ("new", "old"):
        with holding(tmp_path / name, WHOLE):
            assert (tmp_path / name).is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_folder_in_place_of_a_lock(tmp_path):
    (tmp_path / ".ovseg" / "1-of-2.lock").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"1-of-2\.lock"), holding(tmp_path, WHOLE):
        pass
