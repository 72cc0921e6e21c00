"""Runs of the program that are killed at random moments, in forks of one warm process.

`python tests/killed_often.py KILLS WHOLE ARGUMENT...` runs `ovseg ARGUMENT... -o roundN --resume`,
kills it with SIGKILL after a random time, looks whether all that its journal names is what WHOLE
(the result of an undisturbed run) has, and begins again; once a round has come to its end by itself
it begins another, until there were so many kills. Prints how many entries
the journals had after each kill.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import mock_segmenter

LIFE = 0.2  # seconds, at most


def fork(arguments):
    """The process id of the program at work."""
    child = os.fork()
    if child == 0:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 2)
        from ovseg_cli.cli.main import ovseg

        try:
            ovseg.main(arguments, prog_name="ovseg")
        except SystemExit as end:
            os._exit(end.code)
        os._exit(99)
    return child


def check(out, whole):
    """All that the journal names is there, and whole; returns how many entries there are."""
    entries = 0
    for journal in (out / ".ovseg").glob("journal*.jsonl"):
        for line in journal.read_bytes().splitlines():
            try:
                files = json.loads(line)["files"]
            except ValueError:
                continue  # a line that a kill cut short
            entries += 1
            for names in files.values():
                for name, size in names.items():
                    data = (out / name).read_bytes()
                    assert len(data) == size, f"{name} is not whole"
                    assert data == (whole / name).read_bytes(), f"{name} is another"
    return entries


def main(kills, whole, arguments):
    chance = random.Random(0)
    progress = []
    number = 0
    while len(progress) < kills:
        out = Path(f"round{number}")
        number += 1
        while True:
            child = fork([*arguments, "-o", str(out), "--resume"])
            if len(progress) < kills:
                time.sleep(chance.uniform(0, LIFE))
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            entries = check(out, whole)
            if not os.WIFSIGNALED(status):
                assert status == 0, f"exit code {os.waitstatus_to_exitcode(status)}"
                break
            progress.append(entries)
    print(json.dumps(progress))


if __name__ == "__main__":
    mock_segmenter.install(float(os.environ.get("MOCK_SECONDS", "0")))
    os.environ["OMP_NUM_THREADS"] = "1"

    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
