"""Signals and closed pipes, on a process of its own."""

import csv
import json
import os
import signal
import struct
import subprocess
import time

import pytest
from mock_segmenter import files_below, make_photos
from PIL import Image

COUNT = 40
ARGUMENTS = ["segment", "photos", "--classes", "sky,road,car", "-o", "out"]


@pytest.fixture
def out(tmp_path):
    make_photos(tmp_path / "photos", COUNT)
    return tmp_path / "out"


def wait_for_results(out, count):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if len(list((out / "labels").glob("*.png"))) >= count:
            return
        time.sleep(0.01)
    raise AssertionError("no results appear")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_in_good_order(start, out, tmp_path, number, code):
    process = start(*ARGUMENTS, seconds=0.05)
    wait_for_results(out, 3)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "--resume" in err and "Traceback" not in err
    label_maps = sorted((out / "labels").iterdir())
    assert 3 <= len(label_maps) < COUNT
    for path in label_maps:
        assert path.suffix == ".png"
        Image.open(path).load()
    with (out / "stats.csv").open(newline="") as stream:
        assert {row["image"] for row in csv.DictReader(stream)} == {p.name for p in label_maps}
    report = json.loads((out / "run.json").read_text())
    assert report["status"] == "interrupted"
    assert report["counts"]["done"] == len(label_maps)
    assert report["counts"]["not_processed"] == COUNT - len(label_maps)

    process = start(*ARGUMENTS, "--resume")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"{len(label_maps)} finished earlier" in err
    start(*ARGUMENTS[:-1], "whole").communicate(timeout=60)
    assert files_below(out) == files_below(tmp_path / "whole")


def test_a_second_signal_ends_it_at_once(start, out):
    process = start(*ARGUMENTS, "--batch-size", "40", seconds=5)
    deadline = time.monotonic() + 30
    while not (out / "classes.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT


def test_after_a_kill_resume_gives_what_a_whole_run_gives(start, out, tmp_path):
    process = start(*ARGUMENTS, seconds=0.02)
    wait_for_results(out, 10)
    process.kill()
    process.wait()
    assert start(*ARGUMENTS).wait(timeout=60) == 2  # holds results
    assert start(*ARGUMENTS, "--resume").wait(timeout=60) == 0
    start(*ARGUMENTS[:-1], "whole").communicate(timeout=60)
    whole, resumed = files_below(tmp_path / "whole"), files_below(out)
    assert {name: data for name, data in resumed.items() if not name.endswith(".tmp")} == whole


def test_a_reader_of_a_list_that_goes_away(start, out):
    process = start(*ARGUMENTS, "--dry-run")
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=30) == 141
    assert "Traceback" not in err and "Exception" not in err
    assert not out.exists()


def test_a_reader_that_goes_away(start, out):
    process = start(*ARGUMENTS, "--json", seconds=0.02)
    json.loads(process.stdout.readline())
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=30) == 141
    assert "Traceback" not in err and "Exception" not in err
    assert (out / "stats.csv").exists()


def test_bars_and_tables_are_for_terminals(start, out):
    process = start(*ARGUMENTS, "--json")
    stdout, err = process.communicate(timeout=60)
    assert len(stdout.splitlines()) == COUNT
    assert "\r" not in err and "\x1b" not in err and "┃" not in err


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_on_a_terminal(out, tmp_path, start, term, monkeypatch):
    fcntl, pty, termios = map(pytest.importorskip, ("fcntl", "pty", "termios"))
    monkeypatch.setenv("TERM", term)
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = start(*ARGUMENTS, seconds=0.01, stdout=subprocess.PIPE, stderr=follower)
    os.close(follower)
    seen = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(leader)
    assert process.wait(timeout=30) == 0
    text = seen.decode()
    assert ("photo/s" in text) == ("Classes found" in text) == (term != "dumb")
    assert process.stdout.read() == ""
