"""Defaults that a command states itself, for where they come from cannot be imported as fast."""

from ovseg_cli.cli.compute import Compute
from ovseg_cli.cli.video import DEFAULT_SMOOTH
from ovseg_cli.clips.smoothing import STRENGTH
from ovseg_cli.scoring import OVERLAP


def test_they_are_those_of_the_library():
    assert Compute.overlap == OVERLAP
    assert DEFAULT_SMOOTH == STRENGTH
