"""Whatever files hold, readers give a result or an OvsegError: see `fuzz.worker`.

Each reader gets INPUTS files here. OVSEG_FUZZ_SECONDS=600 gives each that long instead.
"""

import os
import sys

import pytest
from fuzz.readers import READERS
from fuzz.watched import fuzz

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its limits are those of Unix")
INPUTS = 60
SECONDS = float(os.environ.get("OVSEG_FUZZ_SECONDS", "0"))


@pytest.mark.parametrize("reader", READERS)
def test_any_bytes_give_a_result_or_an_error_for_users(reader, tmp_path):
    outcome = fuzz(reader, tmp_path, examples=INPUTS, seconds=SECONDS)
    assert not outcome.findings, "\n".join(outcome.findings)
    assert outcome.tried >= INPUTS
    print(f"{reader}: {outcome}")  # with -s, or in the report of a longer run


@pytest.mark.parametrize(
    ("fault", "longest", "finding"),
    [
        ("error", 10.0, "KeyError"),
        ("hang", 1.0, "_hang"),
        ("crash", 10.0, "ended with -6"),
        ("memory", 30.0, "MB"),
        ("outside", 10.0, "escaped"),
    ],
)
def test_faults_are_found(fault, longest, finding, tmp_path):
    found = fuzz(fault, tmp_path, examples=60, longest=longest).findings
    assert len(found) == 1 and finding in found[0]


def test_a_reader_without_faults_has_no_findings(tmp_path):
    outcome = fuzz("none", tmp_path, examples=60)
    assert (outcome.findings, outcome.tried, outcome.refused) == ((), 60, 0)
