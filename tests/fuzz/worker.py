"""python -m fuzz.worker READER FOLDER EXAMPLES SECONDS LONGEST: one reader's inputs, one by one.

Prints a line of JSON: inputs tried, read, refused, peak memory in MB, findings. A finding is an
exception that is no OvsegError, a file that appeared outside the output folder, memory beyond
LARGEST. An input that takes longer than LONGEST seconds of computing, whatever else the machine
does meanwhile, ends the process.
"""

import faulthandler
import json
import logging
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

from fuzz.faulty import FAULTS
from fuzz.readers import READERS, Reader
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ovseg_cli.errors import OvsegError

STUCK = 120.0  # seconds for one input, computing or waiting
LARGEST = 2000.0  # MB beyond what the imports take
ROUND = 200  # inputs of one call of hypothesis, after which it starts from another seed


def peak_mb() -> float:
    """Of this process alone: Linux has `ru_maxrss` begin at what the parent took."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


class Trial:
    """One reader, its valid files below `folder/given`, and what is found."""

    def __init__(self, reader: Reader, folder: Path, longest: float) -> None:
        self.reader, self.folder, self.longest = reader, folder, longest
        self.given = folder / "given"
        self.given.mkdir()
        self.read = reader.prepare(self.given)
        self.seeds = {name: (self.given / name).read_bytes() for name in reader.files(self.given)}
        self.outside = self.listing()
        for _ in range(2):  # what comes with the first call is not the input's doing
            self.read()
        self.usual_mb = peak_mb()
        self.counts: Counter[str] = Counter()
        self.findings: dict[str, str] = {}  # by place -> traceback

    def listing(self) -> set[str]:
        """All there is beside `given`, and in it beside its folder `out`."""
        return {
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if "out" not in path.relative_to(self.folder).parts[:2] and path.name != "current"
        }

    def try_one(self, name: str, data: bytes) -> None:
        """Read with one file being these bytes. Raises what is a finding."""
        (self.folder / "current").write_bytes(data)
        (self.given / name).write_bytes(data)
        signal.setitimer(signal.ITIMER_PROF, self.longest)
        faulthandler.dump_traceback_later(STUCK, exit=True)
        try:
            self.counts["tried"] += 1
            self.read()
            self.counts["read"] += 1
        except OvsegError:
            self.counts["refused"] += 1
        finally:
            faulthandler.cancel_dump_traceback_later()
            signal.setitimer(signal.ITIMER_PROF, 0)
            (self.given / name).write_bytes(self.seeds[name])
        if self.counts["tried"] % 20 == 1 and (strange := self.listing() - self.outside):
            self.outside |= strange
            raise AssertionError(f"written outside: {sorted(strange)}")
        if peak_mb() - self.usual_mb > LARGEST:
            self.usual_mb = peak_mb()
            raise AssertionError(f"{peak_mb():.0f} MB")

    def round(self, number: int, examples: int) -> None:
        """So many inputs from one seed."""
        mutate, names = self.reader.mutate, sorted(self.seeds)

        @seed(number)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )
        @given(st.data())
        def attempt(data: st.DataObject) -> None:
            name = data.draw(st.sampled_from(names))
            self.try_one(name, mutate(name)(data.draw, self.seeds[name]))

        try:
            attempt()
        except Exception as error:
            places = traceback.extract_tb(error.__traceback__)
            own = [place for place in places if "ovseg_cli" in place.filename] or places
            key = f"{type(error).__name__} at {own[-1].filename}:{own[-1].lineno}"
            if key not in self.findings:
                self.findings[key] = "".join(traceback.format_exception(error))[-2500:]
                kept = self.folder / "found" / str(len(self.findings))
                kept.parent.mkdir(exist_ok=True)
                kept.write_bytes((self.folder / "current").read_bytes())
                self.outside = self.listing()


def main() -> None:
    name, folder, examples, seconds, longest = sys.argv[1:]
    sys.setswitchinterval(0.05)
    warnings.simplefilter("ignore")
    logging.disable()
    faulthandler.register(signal.SIGPROF, chain=True)  # says where, then ends the process
    most = resource.getrlimit(resource.RLIMIT_DATA)[1]
    trial = Trial((READERS | FAULTS)[name], Path(folder), float(longest))
    room = 8 << 30  # more than a finding, less than the machine
    resource.setrlimit(resource.RLIMIT_DATA, (room, most))
    end, number = time.monotonic() + float(seconds), 0
    while number == 0 or time.monotonic() < end:
        trial.round(number, ROUND if float(seconds) else int(examples))
        number += 1
    counts = {key: trial.counts[key] for key in ("tried", "read", "refused")}
    peak = round(peak_mb() - trial.usual_mb, 1)
    findings = [f"{key}\n{text}" for key, text in trial.findings.items()]
    print(json.dumps(counts | {"peak_mb": peak, "findings": findings}))


if __name__ == "__main__":
    main()
