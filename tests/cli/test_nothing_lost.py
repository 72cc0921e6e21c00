"""What a run leaves behind after kills, full disks, other runs and changing inputs: processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import killed_often
import many_inputs
import pytest
from mock_segmenter import files_below, make_photo, make_photos
from PIL import Image

import ovseg_cli
from ovseg_cli.errors import UsageError
from ovseg_cli.run_folder.journal import Journal
from ovseg_cli.run_folder.output import OutputFolder

CLASSES = ["--classes", "sky,road,car"]
ARGUMENTS = ["segment", "photos", *CLASSES, "-o", "out"]
linux = pytest.mark.skipif(sys.platform != "linux", reason="of Linux")


def script(module, *arguments, cwd, **environment):
    """What a script of the tests prints, as JSON."""
    tests = Path(module.__file__).parent
    path = os.pathsep.join([str(Path(ovseg_cli.__file__).parents[1]), str(tests)])
    ran = subprocess.run(
        [sys.executable, module.__file__, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def wait_for_results(out, count):
    deadline = time.monotonic() + 60
    while len(list((out / "labels").glob("*.png"))) < count:
        assert time.monotonic() < deadline, "no results appear"
        time.sleep(0.01)


def ended(process):
    """Exit code and standard error."""
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_fifty_kills_at_random_moments(start, tmp_path):
    kills = 50
    make_photos(tmp_path / "photos", 300)
    assert ended(start(*ARGUMENTS[:-1], "whole"))[0] == 0
    # After each kill the script looks whether what the journal names is whole and right.
    progress = script(
        killed_often, kills, "whole", *ARGUMENTS[:-2], cwd=tmp_path, MOCK_SECONDS="0.005"
    )
    assert len(progress) == kills
    whole = files_below(tmp_path / "whole")
    told = json.loads((tmp_path / "whole/run.json").read_text())
    for out in tmp_path.glob("round*"):
        assert files_below(out) == whole  # and no temporary file is left
        again = json.loads((out / "run.json").read_text())
        for key in ("version", "status", "model", "precision", "options", "failures"):
            assert again[key] == told[key]
        counts = again["counts"]
        assert counts["done"] + counts["skipped"] == counts["inputs"] == 300
        rels = {entry.rel for entry in Journal(out / ".ovseg").entries()}
        assert len(rels) == 300


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB; call it with another size to change that."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(*options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(disk)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    if sys.platform != "linux" or os.geteuid() != 0 or not mount("size=400k"):
        pytest.skip("needs root to mount a small disk")
    yield lambda *options: mount("remount", *options)
    subprocess.run(["umount", str(disk)], check=True)


class TestDisk:
    def test_full_and_then_room_again(self, start, small_disk, tmp_path):
        make_photos(tmp_path / "photos", 60, (64, 48))
        assert ended(start(*ARGUMENTS[:-1], "whole"))[0] == 0
        whole = files_below(tmp_path / "whole")
        arguments = [*ARGUMENTS[:-1], "disk/out"]
        code, err = ended(start(*arguments))
        assert code == 1 and "No space left" in err and "--resume" in err
        out = tmp_path / "disk/out"
        written = {n: d for n, d in files_below(out).items() if n.startswith("labels/")}
        assert 0 < len(written) < 60
        assert all(whole[name] == data for name, data in written.items())
        code, err = ended(start(*arguments, "--resume"))  # still full, and nothing is lost
        assert code in (1, 2) and "No space left" in err
        assert small_disk("size=20m")
        code, err = ended(start(*arguments, "--resume"))
        assert code == 0 and "finished earlier" in err
        assert files_below(out) == whole

    def test_read_only(self, start, small_disk, tmp_path):
        make_photos(tmp_path / "photos", 3)
        arguments = [*ARGUMENTS[:-1], "disk/out"]
        assert small_disk("ro")
        for more in ([], ["--resume"], ["--overwrite"]):
            code, err = ended(start(*arguments, *more))
            assert code == 2 and "cannot write to disk/out" in err
        assert small_disk("rw", "size=20m")
        assert ended(start(*arguments))[0] == 0
        assert small_disk("ro")
        code, err = ended(start(*arguments, "--resume"))
        assert code == 2 and "cannot write to disk/out" in err


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="stops processes")
class TestTwoRuns:
    """The first is held up meanwhile, so that it does not end before the second has begun."""

    @pytest.fixture
    def first(self, start, tmp_path):
        make_photos(tmp_path / "photos", 30)
        process = start(*ARGUMENTS, seconds=0.1)
        wait_for_results(tmp_path / "out", 2)
        process.send_signal(signal.SIGSTOP)
        return process

    @pytest.mark.parametrize(
        "more", [[], ["--resume"], ["--overwrite"], ["--resume", "--shard", "1/2"]]
    )
    def test_the_second_is_refused_and_the_first_goes_on(self, start, first, tmp_path, more):
        code, err = ended(start(*ARGUMENTS, *more))
        assert code == 2
        assert f"process {first.pid} on " in err and " since 20" in err
        first.send_signal(signal.SIGCONT)
        assert ended(first)[0] == 0

    def test_who_says_nothing_is_told_of_the_run_not_to_replace_it(self, start, first, tmp_path):
        code, err = ended(start(*ARGUMENTS))
        assert code == 2 and "another run writes to out" in err
        assert "--overwrite" not in err

    def test_results_that_came_meanwhile_are_told_of(self, start, first, tmp_path, monkeypatch):
        """Looked for again under the lock, which is no other run's then."""
        first.kill()
        first.wait()
        folder = OutputFolder(tmp_path / "out", [])
        with folder.hold(), pytest.raises(UsageError, match="results of an earlier run"):
            folder.check(resume=False, overwrite=False)

    def test_a_dry_run_is_not(self, start, first, tmp_path):
        assert ended(start(*ARGUMENTS, "--resume", "--dry-run"))[0] == 0

    def test_the_lock_ends_with_a_kill(self, start, first, tmp_path):
        first.kill()
        first.wait()
        assert ended(start(*ARGUMENTS, "--resume"))[0] == 0

    def test_parts_run_together_and_keep_a_whole_run_out(self, start, tmp_path):
        make_photos(tmp_path / "photos", 24)
        shards = [[*ARGUMENTS, "--resume", "--shard", f"{i}/2"] for i in (1, 2)]
        both = [start(*arguments, seconds=0.2) for arguments in shards]
        for part in ("1-of-2", "2-of-2"):
            while not (tmp_path / f"out/.ovseg/journal-{part}.jsonl").exists():
                time.sleep(0.01)
        for process in both:
            process.send_signal(signal.SIGSTOP)
        others = (["--overwrite"], ["--resume"], ["--resume", "--shard", "1/3"])
        for process in [start(*ARGUMENTS, *more) for more in others]:
            code, err = ended(process)
            assert code == 2 and ("another run writes" in err or "does not fit" in err)
        for process in both:
            process.send_signal(signal.SIGCONT)
        assert [ended(process)[0] for process in both] == [0, 0]
        assert ended(start("merge", "out"))[0] == 0
        assert ended(start(*ARGUMENTS[:-1], "whole"))[0] == 0
        assert files_below(tmp_path / "out") == files_below(tmp_path / "whole")


def test_inputs_that_vanish_and_change_while_it_runs(start, tmp_path):
    paths = make_photos(tmp_path / "photos", 40)
    process = start(*ARGUMENTS, seconds=0.1)
    wait_for_results(tmp_path / "out", 3)
    make_photo(paths[0], (80, 60), seed=100)  # finished already
    make_photo(paths[35], (80, 60), seed=101)  # not begun yet
    paths[36].unlink()
    paths[37].write_bytes(paths[37].read_bytes()[:50])
    code, err = ended(process)
    assert code == 1
    assert "36.png: No such file" in err and "37.png: " in err
    labels = tmp_path / "out/labels"
    assert Image.open(labels / "35.png").size == (80, 60)
    assert Image.open(labels / "00.png").size == (48, 32)
    code, err = ended(start(*ARGUMENTS, "--resume"))
    assert code == 1 and "1 done, 37 finished earlier, 1 failed" in err  # 36 is on no list now
    assert Image.open(labels / "00.png").size == (80, 60)
    make_photo(paths[37], seed=37)
    assert ended(start(*ARGUMENTS, "--resume"))[0] == 0
    shutil.rmtree(tmp_path / "out/.ovseg")
    assert ended(start(*ARGUMENTS[:-1], "whole"))[0] == 0
    assert files_below(tmp_path / "out") == files_below(tmp_path / "whole")


@linux
def test_many_tiny_inputs(tmp_path):
    """200 000 by hand: see `many_inputs.py`; here fewer."""
    count = 8000
    fresh, resumed = script(many_inputs, count, tmp_path, cwd=tmp_path)
    assert fresh["statuses"] == {"done": count} and resumed["statuses"] == {"skipped": count}
    for each in (fresh, resumed):
        assert each["growth"] < 3 << 20  # bytes, over the last three quarters
        assert each["longest_pause"] < 5  # seconds


class TestMaxErrors:
    @pytest.fixture
    def photos(self, tmp_path):
        for number, path in enumerate(make_photos(tmp_path / "photos", 40)):
            if number % 4 == 0:
                path.write_bytes(b"")
        return tmp_path / "photos"

    @pytest.mark.parametrize(("limit", "least"), [("3", 3), ("10%", 4), ("1%", 1)])
    def test_it_ends_the_run(self, program, photos, tmp_path, limit, least):
        arguments = [*ARGUMENTS, "--workers", "1", "--max-errors", limit]
        run = program(*arguments)
        said = re.search(r"--max-errors after (\d+) failures?:", run.err)
        assert run.code == 1 and least <= int(said[1]) <= least + 4  # some may be at hand
        told = json.loads((tmp_path / "out/run.json").read_text())
        assert told["status"] == "stopped" and told["counts"]["not_processed"] > 10
        assert len(list((tmp_path / "out").glob("labels/*"))) == told["counts"]["done"]
        for number in range(0, 40, 4):
            make_photo(photos / f"{number:02}.png", seed=number)
        again = program(*arguments, "--resume")
        assert again.code == 0 and f"{40 - told['counts']['done']} done" in again.err

    @pytest.mark.parametrize("limit", ["11", "26%", "100%"])
    def test_fewer_do_not(self, program, photos, tmp_path, limit):
        run = program(*ARGUMENTS, "--max-errors", limit)
        assert run.code == 1 and "stopped" not in run.err
        assert json.loads((tmp_path / "out/run.json").read_text())["status"] == "complete"

    @pytest.mark.parametrize("limit", ["0", "-1", "x", "0%", "101%", "2.5", "%", ""])
    def test_what_is_no_limit(self, program, photos, limit):
        run = program(*ARGUMENTS, f"--max-errors={limit}")
        assert run.code == 2 and "--max-errors" in run.err


def test_a_clock_that_goes_backwards(program, tmp_path, monkeypatch):
    paths = make_photos(tmp_path / "photos", 4)
    now = [2e9]

    def backwards():
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    assert program(*ARGUMENTS).code == 0
    make_photo(paths[1], (80, 60), seed=9)
    os.utime(paths[1], ns=(1, 1))  # older than the results, too
    assert "1 done, 3 finished earlier" in program(*ARGUMENTS, "--resume").err
    assert "4 finished earlier" in program(*ARGUMENTS, "--resume").err
    assert "01.png,80,60" in (tmp_path / "out/stats.csv").read_text()
    assert program("report", "out").code == 0
    timing = json.loads((tmp_path / "out/run.json").read_text())["timing"]
    assert 0 <= timing["load_seconds"] < 100 and 0 <= timing["run_seconds"] < 100
