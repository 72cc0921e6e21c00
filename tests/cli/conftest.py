"""The program in this process, on a segmenter without torch."""

import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mock_segmenter
import pytest

import ovseg_cli
from ovseg_cli.cli.main import ovseg


@dataclass
class Ended:
    """How a run of the program ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def fake(monkeypatch):
    """The stand-in for what knows torch; `made` and `loaded` say what was asked of it."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the program sets it; here it is to end with us
    return mock_segmenter.lend(monkeypatch)


@pytest.fixture
def program(fake, capfd, monkeypatch, tmp_path):
    """Runs `ovseg` with these arguments in tmp_path, and returns how that ended."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            ovseg.main([str(argument) for argument in arguments], prog_name="ovseg")
        out, err = capfd.readouterr()
        assert "Traceback" not in err or "--debug" in arguments
        return Ended(end.value.code, out, err)

    return run


@pytest.fixture
def segment(program):
    """Runs `ovseg segment` with the classes sky, road and car into out/."""

    def run(*arguments, stdin=b"", classes="sky, road, car|automobile"):
        names = ["--classes", classes] if classes else []
        return program("segment", *arguments, *names, "-o", "out", stdin=stdin)

    return run


@pytest.fixture
def start(tmp_path):
    """Starts `ovseg` in a process of its own, on the segmenter without torch."""
    processes = []

    def begin(*arguments, seconds=0.0, **options):
        root = Path(ovseg_cli.__file__).parents[1]
        script = mock_segmenter.__file__
        environment = os.environ | {"MOCK_SECONDS": str(seconds), "PYTHONPATH": str(root)}
        process = subprocess.Popen(
            [sys.executable, script, *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.wait()
