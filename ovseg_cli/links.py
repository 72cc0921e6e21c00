"""Links in an output folder: nothing is written or removed through them, wherever they lead.

The folder itself may be one: its user has named it. Those within it may have come with it from
somebody else.
"""

import os
from pathlib import Path

from ovseg_cli.errors import OutputError
from ovseg_cli.vocabulary import printable


def first_link(root: Path, path: Path) -> Path | None:
    """The first link on the way from `root`, itself aside, to a path below it, if there is one."""
    place = str(root)
    for part in path.relative_to(root).parts:
        place = os.path.join(place, part)
        if os.path.islink(place):
            return Path(place)
    return None


def refuse_links(root: Path, path: Path) -> None:
    """Raise OutputError where there is one."""
    link = first_link(root, path)
    if link is not None:
        raise OutputError(
            f"{printable(str(link))} is a link, through which nothing is written: remove it, or "
            "name the folder to which it leads with -o"
        )
