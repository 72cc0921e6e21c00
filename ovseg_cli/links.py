"""Links in an output folder: nothing is written or removed through them, wherever they lead.

The folder itself may be one: its user has named it. Those within it may have come with it from
somebody else.
"""

import os
import sys
from pathlib import Path

from ovseg_cli.errors import OutputError
from ovseg_cli.printable import printable


def first_link(root: Path, path: Path) -> Path | None:
    """The first link on the way from `root`, itself aside, to a path below it, if there is one."""
    place = str(root)
    for part in path.relative_to(root).parts:
        place = os.path.join(place, part)
        if _is_link(place):
            return Path(place)
    return None


def refuse_links(root: Path, path: Path) -> None:
    """Raise OutputError where there is one."""
    _refuse(first_link(root, path))


def refuse_links_within(root: Path, path: Path) -> None:
    """The same for a path that may lead into `root` by any other spelling, or not at all.

    Links elsewhere are its user's own, and may be followed.
    """
    for place in (*reversed(path.parents), path):  # ".." stays in it, as the system follows it
        if _is_link(place) and _holds(root, place.parent):
            _refuse(place)


def _is_link(place: str | Path) -> bool:
    # Of Windows' two kinds; older Pythons do not tell the second.
    return os.path.islink(place) or (sys.version_info >= (3, 12) and os.path.isjunction(place))


def _holds(root: Path, folder: Path) -> bool:
    real = Path(os.path.realpath(folder))
    return any(os.path.samefile(root, place) for place in (real, *real.parents))


def _refuse(link: Path | None) -> None:
    if link is not None:
        raise OutputError(
            f"{printable(str(link))} is a link, through which nothing is written: remove it, or "
            "name the folder to which it leads with -o"
        )
