"""Names of files that come from elsewhere."""

from pathlib import PurePosixPath, PureWindowsPath

import pytest

from ovseg_cli.whole_files import stays_inside


@pytest.mark.parametrize("name", ["a", "a/b.png", "..a/b", "a b"])
def test_names_below_a_folder(name):
    assert stays_inside(PurePosixPath(name)) and stays_inside(PureWindowsPath(name))


@pytest.mark.parametrize("name", ["/a", "../a", "a/../../b", "//a/b"])
def test_names_that_lead_out(name):
    assert not stays_inside(PurePosixPath(name)) and not stays_inside(PureWindowsPath(name))


@pytest.mark.parametrize("name", ["C:a", r"C:\a", r"\a", r"\\host\share\a", r"a\..\..\b"])
def test_names_that_lead_out_on_windows(name):
    """Some are not absolute there, and still not below the folder they are put in."""
    folder = PureWindowsPath("D:/out")
    assert not stays_inside(PureWindowsPath(name))
    assert not (folder / name).is_relative_to(folder) or ".." in (folder / name).parts
