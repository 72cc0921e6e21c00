"""GeoTIFF and GeoJSON that lie where the photo, a GeoTIFF, lies (OGC 19-008r4; RFC 7946).

rasterio, an optional extra, is imported within functions.
"""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.exports import UNLABELED_8, UNLABELED_16
from ovseg_cli.formats.labelled import LabelledPhoto, LabelledRun
from ovseg_cli.formats.options import ExportOptions
from ovseg_cli.formats.outlines import Ring, edge_rings
from ovseg_cli.formats.segments import regions, segments
from ovseg_cli.formats.writing import json_list, json_text, write_text
from ovseg_cli.media.images import format_of
from ovseg_cli.vocabulary import printable
from ovseg_cli.whole_files import atomic_path

# Pillow's names of formats -> GDAL's, where they differ. GDAL is told which one it is to be: it
# also knows files that name others to be read, on the network, too.
_DRIVERS = {"TIFF": "GTiff", "JPEG2000": "JP2OpenJPEG", "DIB": "BMP"}


def load_rasterio() -> ModuleType:
    """The module rasterio; raises UsageError that says how to get it."""
    try:
        import rasterio
    except ImportError as error:
        raise UsageError(
            f"geojson and geotiff need rasterio ({error}): pip install 'ovseg-cli[geo]'"
        ) from error
    return rasterio


def write_geotiff(run: LabelledRun, folder: Path, options: ExportOptions) -> Iterator[Path]:
    """Write REL.tif: the label map with the photo's coordinate system and transform.

    Values as in OUT/labels, 255 (16-bit: 65535) being "no data"; with 8 bits the classes' colours
    are in it, too. A photo without coordinates gives a TIFF without.
    """
    rasterio = load_rasterio()
    small = len(run.classes) <= UNLABELED_8
    kind, nothing = (np.uint8, UNLABELED_8) if small else (np.uint16, UNLABELED_16)
    for photo in run:
        height, width = photo.size_hw
        crs, transform = _place(photo)
        values = photo.labels().astype(kind)
        target = folder / f"{photo.rel}.tif"
        with (
            atomic_path(target) as temporary,
            rasterio.open(
                temporary,
                "w",
                driver="GTiff",
                width=width,
                height=height,
                count=1,
                dtype=values.dtype,
                crs=crs,
                transform=transform,
                nodata=nothing,
                compress="deflate",
            ) as written,
        ):
            written.write(values, 1)
            written.update_tags(1, **{f"class_{i}": n for i, n in enumerate(run.names)})
            if small:
                written.write_colormap(1, dict(enumerate(map(tuple, run.colors.tolist()))))
        yield target


def write_geojson(run: LabelledRun, folder: Path, options: ExportOptions) -> Iterator[Path]:
    """Write REL.geojson: a polygon for each connected region, along the edges of its pixels.

    Coordinates are the photo's own, its system named in "crs" as GeoJSON had it in 2008 and as
    GDAL and QGIS read it; of a photo without coordinates they are pixels, y growing downwards.
    """
    for photo in run:
        yield write_text(folder / f"{photo.rel}.geojson", _collection(run, photo))


def _place(photo: LabelledPhoto) -> tuple[Any, Any]:
    """The coordinate system (None = none) and the transform from pixels to coordinates."""
    rasterio = load_rasterio()
    shown = printable(str(photo.path))
    try:
        kind = format_of(photo.path)
        with rasterio.open(photo.path, driver=_DRIVERS.get(kind, kind)) as source:
            size_hw, crs, transform = source.shape, source.crs, source.transform
    except (InputError, OSError, rasterio.errors.RasterioError) as error:  # GDAL knows no such kind
        raise InputError(f"{shown}: its coordinates cannot be read ({error})") from error
    if crs is None and transform.is_identity:
        return None, transform
    if size_hw != photo.size_hw:
        raise InputError(
            f"{shown}: turned upright it no longer fits its coordinates; run ovseg segment with "
            "--no-exif"
        )
    return crs, transform


def _collection(run: LabelledRun, photo: LabelledPhoto) -> Iterator[str]:
    crs, transform = _place(photo)
    yield '{"type":"FeatureCollection",'
    if crs is not None:
        yield f'"crs":{json_text(_named(crs))},'
    yield '"features":'
    yield from json_list(_features(run, photo, transform))
    yield "}\n"


def _named(crs: Any) -> dict[str, Any]:
    code = crs.to_epsg()
    name = crs.to_wkt() if code is None else f"urn:ogc:def:crs:EPSG::{code}"
    return {"type": "name", "properties": {"name": name}}


def _features(run: LabelledRun, photo: LabelledPhoto, transform: Any) -> Iterator[dict[str, Any]]:
    ids, classes = regions(photo.labels(), connectivity=4)  # so that no ring touches itself
    for part in segments(ids):
        left, top, wide, high = part.box_xywh
        mask = ids[top : top + high, left : left + wide] == part.value
        class_id = classes[part.value]
        for outer, holes in edge_rings(mask):
            rings = [_coordinates(outer + (left, top), transform, True)]
            rings += [_coordinates(hole + (left, top), transform, False) for hole in holes]
            yield {
                "type": "Feature",
                "properties": {
                    "class_id": class_id,
                    "class": run.names[class_id],
                    "pixels": part.area,
                },
                "geometry": {"type": "Polygon", "coordinates": rings},
            }


def _coordinates(ring: Ring, transform: Any, outer: bool) -> list[list[float]]:
    """A closed ring, counter-clockwise where it is an outer one, else clockwise."""
    column, row = np.concatenate([ring, ring[:1]]).T
    x = transform.a * column + transform.b * row + transform.c
    y = transform.d * column + transform.e * row + transform.f
    area = float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())
    points = np.stack([x, y], axis=1)
    listed: list[list[float]] = (points if (area > 0) == outer else points[::-1]).tolist()
    return listed
