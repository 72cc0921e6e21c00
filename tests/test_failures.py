"""Why an input fails, and what is said to help."""

import errno
import os

import pytest

from ovseg_cli.errors import OutputError
from ovseg_cli.failures import reason_of, remedy_of
from ovseg_cli.whole_files import output_errors

CUDA = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 2 GiB"
MPS = "MPS backend out of memory (MPS allocated: 9.00 GB, max allowed: 9.07 GB)"
CPU = "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room, then run it again"),
        (errno.EDQUOT, "make room, then run it again"),
        (errno.EROFS, "mend that, then run it again"),
        (errno.EISDIR, "mend that, then run it again"),
    ],
)
def test_only_a_full_disk_asks_for_room(tmp_path, number, remedy):
    with pytest.raises(OutputError) as caught, output_errors(tmp_path / "stats.csv"):
        raise OSError(number, os.strerror(number))
    assert remedy_of(caught.value, "run it again") == remedy


class TestReasonOf:
    @pytest.mark.parametrize("message", [CUDA, MPS])
    def test_memory_of_a_gpu(self, message):
        reason = reason_of(RuntimeError(message), "a.jpg", (3000, 4000))
        assert reason == (
            "not enough memory for this photo of 4000x3000 pixels; --device cpu may have more"
        )

    @pytest.mark.parametrize("error", [RuntimeError(CPU), MemoryError()])
    def test_memory_of_the_computer(self, error):
        """The CPU is not told to be tried where it is what has too little."""
        reason = reason_of(error, "a.mp4", kind="clip")
        assert reason == "not enough memory for this clip; one of fewer pixels needs less"
