"""What helps where results could not be written."""

import errno
import os

import pytest

from ovseg_cli.errors import OutputError
from ovseg_cli.failures import remedy_of
from ovseg_cli.whole_files import output_errors


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
