"""Makes examples/GALLERY.md and its pictures from gallery.toml: `python examples/gallery.py`.

Each entry is one `ovseg segment` of a photo with the names given there; what is said about the
result was written by somebody who looked at it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ovseg_cli.training.config import read_toml

HERE = Path(__file__).parent
PAGE = HERE / "GALLERY.md"
PICTURES = HERE / "gallery"
HEAD = """# What `mini` makes of photos: wins and failures

Made by `python examples/gallery.py` from [gallery.toml](gallery.toml) with the bundled model and
default options, save for `--other` where it is named. Photos and
their licences: [photos/LICENSES.md](photos/LICENSES.md).
"""


def entries() -> list[dict[str, Any]]:
    """The entries of gallery.toml: name, photo, classes, verdict and perhaps other."""
    found: list[dict[str, Any]] = read_toml(HERE / "gallery.toml")["entry"]
    return found


def page(listed: list[dict[str, Any]]) -> str:
    """The page's text."""
    parts = [HEAD]
    for entry in listed:
        other = f", `--other {entry['other']}`" if "other" in entry else ""
        parts.append(
            f"## {entry['title']}\n\n`{entry['classes']}`{other}\n\n{entry['verdict']}\n\n"
            f"![{entry['title']}](gallery/{entry['name']}.jpg)\n"
        )
    return "\n".join(parts)


def segment(entry: dict[str, Any]) -> None:
    """Make the entry's overlay."""
    photo = HERE / "photos" / entry["photo"]
    options = ["--classes", entry["classes"], "--save", "overlay", "--quiet"]
    if "other" in entry:
        options += ["--other", entry["other"]]
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, "-m", "ovseg_cli", "segment", str(photo), *options]
        subprocess.run([*program, "--output", folder, "--overwrite"], check=True)
        made = Path(folder) / "overlays" / f"{photo.stem}.jpg"
        shutil.copyfile(made, PICTURES / f"{entry['name']}.jpg")


def main() -> None:
    """Make everything anew."""
    listed = entries()
    PICTURES.mkdir(exist_ok=True)
    for picture in PICTURES.glob("*.jpg"):
        picture.unlink()
    for entry in listed:
        segment(entry)
    PAGE.write_text(page(listed), "utf-8")


if __name__ == "__main__":
    main()
