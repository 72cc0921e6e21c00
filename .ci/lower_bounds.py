"""The lower bounds of a setup.cfg as pip's constraints; --installed: what is there instead."""

from __future__ import annotations

import configparser
import re
import sys
from collections.abc import Iterator
from importlib import metadata

# What packages need that come with ours, and do not say: later ones need numpy 2.
UNSAID = ("pyarrow < 18",)
# "name[extra] >= 1.2; marker"
_BOUND = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*>=\s*([0-9][^\s;,]*)[^;]*(;.*)?")


def bounds(text: str) -> Iterator[tuple[str, str, str]]:
    """Name, lowest version and marker of every requirement, extras' too, each name once."""
    config = configparser.ConfigParser()
    config.read_string(text)
    lists = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    seen = set()
    for line in "\n".join(lists).splitlines():
        found = _BOUND.fullmatch(line.strip())
        if line.strip() and not line.strip().startswith("#") and found is None:
            raise SystemExit(f"lower_bounds: no lower bound: {line.strip()}")
        if found is not None and found.group(1).lower() not in seen:
            seen.add(found.group(1).lower())
            yield found.group(1), found.group(2), found.group(3) or ""


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        lowest = list(bounds(file.read()))
    if "--installed" not in sys.argv:
        print("\n".join(UNSAID))
    for name, version, marker in lowest:
        if "--installed" not in sys.argv:
            print(f"{name} == {version}{marker}")
            continue
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # of an extra that tests do not need, or another Python's
        wanted = version.split(".")
        mark = "" if found.split("+")[0].split(".")[: len(wanted)] == wanted else "  not the lowest"
        print(f"lowest: {name} {found}{mark}")


if __name__ == "__main__":
    main()
