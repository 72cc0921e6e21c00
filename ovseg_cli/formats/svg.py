"""Outlines as SVG 1.1 (w3.org/TR/SVG11): a path for each class of a photo."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ovseg_cli.formats.labelled import LabelledPhoto, LabelledRun
from ovseg_cli.formats.options import ExportOptions
from ovseg_cli.formats.outlines import Ring, edge_rings
from ovseg_cli.formats.segments import segments
from ovseg_cli.formats.writing import write_text, xml_attribute


def write_svg(run: LabelledRun, folder: Path, options: ExportOptions) -> Iterator[Path]:
    """Write REL.svg of each photo, as large as it; unlabelled pixels stay transparent.

    Outlines follow the edges of the pixels; holes are left out by the even-odd rule.
    """
    return run.each(lambda photo: write_text(folder / f"{photo.rel}.svg", _drawing(run, photo)))


def _drawing(run: LabelledRun, photo: LabelledPhoto) -> Iterator[str]:
    labels = photo.labels()
    height, width = labels.shape
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" fill-rule="evenodd" shape-rendering="crispEdges">\n'
    )
    for part in segments(labels):
        left, top, wide, high = part.box_xywh
        mask = labels[top : top + high, left : left + wide] == part.value
        red, green, blue = run.classes[part.value].color
        yield (
            f'<path id="class-{part.value}" aria-label={xml_attribute(run.names[part.value])} '
            f'fill="#{red:02x}{green:02x}{blue:02x}" d="'
        )
        for outer, holes in edge_rings(mask):
            yield "".join(_path(ring + (left, top)) for ring in (outer, *holes))
        yield '"/>\n'
    yield "</svg>\n"


def _path(ring: Ring) -> str:
    """From corner to corner: each side is horizontal or vertical, and the last closes itself."""
    steps = np.diff(ring, axis=0).tolist()
    sides = "".join(f"h{dx}" if dx else f"v{dy}" for dx, dy in steps)
    return f"M{ring[0, 0]} {ring[0, 1]}{sides}z"
