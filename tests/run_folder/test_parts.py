"""What parts of a run agree on in their common folder."""

import pytest

from ovseg_cli.errors import OutputError
from ovseg_cli.run_folder import layout, parts
from ovseg_cli.run_folder.shard import Division, Shard


def test_a_division_that_cannot_be_made_anew_is_an_error_of_the_output(tmp_path):
    (tmp_path / layout.STATE / "division-of-2.json").mkdir(parents=True)
    with pytest.raises(OutputError, match="division-of-2"):
        parts.agree(tmp_path, Shard(1, 2), Division((1 << 63,)), anew=True)
