"""GeoTIFF and GeoJSON that lie where the photo, a GeoTIFF, lies (OGC 19-008r4; RFC 7946).

rasterio, an optional extra, is imported within functions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
from ovseg_cli.media.images import format_of, is_turned
from ovseg_cli.printable import printable
from ovseg_cli.whole_files import atomic_path

# Pillow's names of formats -> GDAL's, where they differ. GDAL is told which one it is to be: it
# also knows files that name others to be read, on the network, too. PPM is left out: GDAL's PNM
# knows two of its many kinds only.
_DRIVERS = {"TIFF": "GTiff", "MPO": "JPEG", "JPEG2000": "JP2OpenJPEG", "DIB": "BMP"}


@dataclass(frozen=True)
class _Place:
    """Where the pixels of a photo lie: by a transform, or by control points, or nowhere."""

    crs: Any = None  # the coordinate system; None and empty = none
    transform: Any = None  # from pixels to coordinates; None = there are points, or nothing
    points: tuple[Any, ...] = ()  # rasterio's GroundControlPoint

    def of_raster(self) -> Mapping[str, Any]:
        """What rasterio is told of it, where a raster is written."""
        if self.points:
            return {"crs": self.crs or load_rasterio().CRS(), "gcps": self.points}
        return {"crs": self.crs, "transform": self.transform}


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
    are in it, too. Control points are copied; a photo without coordinates gives a TIFF without.
    """
    rasterio = load_rasterio()
    small = len(run.classes) <= UNLABELED_8
    kind, nothing = (np.uint8, UNLABELED_8) if small else (np.uint16, UNLABELED_16)

    def write(photo: LabelledPhoto) -> Path:
        height, width = photo.size_hw
        place = _place(photo)
        values = photo.labels().astype(kind)
        target = folder / f"{photo.rel}.tif"
        _check_is_utf8(target)
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
                nodata=nothing,
                compress="deflate",
                **place.of_raster(),
            ) as written,
        ):
            written.write(values, 1)
            written.update_tags(1, **{f"class_{i}": n for i, n in enumerate(run.names)})
            if small:
                written.write_colormap(1, dict(enumerate(map(tuple, run.colors.tolist()))))
        return target

    return run.each(write)


def write_geojson(run: LabelledRun, folder: Path, options: ExportOptions) -> Iterator[Path]:
    """Write REL.geojson: a polygon for each connected region, along the edges of its pixels.

    Coordinates are the photo's own, its system named in "crs" as GeoJSON had it in 2008 and as
    GDAL and QGIS read it; of a photo without coordinates they are pixels, y growing downwards. Of
    control points the transform is taken that comes nearest to them.
    """
    return run.each(
        lambda photo: write_text(folder / f"{photo.rel}.geojson", _collection(run, photo))
    )


def _place(photo: LabelledPhoto) -> _Place:
    """Where the photo lies; raises InputError where it is gone, changed, damaged or turned."""
    rasterio = load_rasterio()
    path = photo.unchanged_path
    _check_is_utf8(path)
    shown = printable(str(path))
    try:
        kind = format_of(path)
        driver = _DRIVERS.get(kind, kind)
        with rasterio.Env() as gdal:
            if driver not in gdal.drivers():  # and so nothing can have given it coordinates
                return _Place()
            with rasterio.open(path, driver=driver) as source:
                size_hw, crs, transform = source.shape, source.crs, source.transform
                points, crs_of_points = source.gcps
    except (InputError, OSError, rasterio.errors.RasterioError) as error:
        raise InputError(f"{shown}: its coordinates cannot be read ({error})") from error
    if crs is None and transform.is_identity and not points:
        return _Place()
    if size_hw != photo.size_hw or (photo.run.exif and is_turned(path)):
        raise InputError(
            f"{shown}: turned upright it no longer fits its coordinates; run ovseg segment with "
            "--no-exif"
        )
    if points and transform.is_identity:
        return _Place(crs_of_points, points=tuple(points))
    return _Place(crs, transform)


def _check_is_utf8(path: Path) -> None:
    """Raise InputError for a path that rasterio cannot pass on to GDAL."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{printable(str(path))}: GDAL opens no file whose path is not UTF-8: rename the "
            "photo, or the folder that it is in"
        ) from error


def _to_coordinates(place: _Place, shown: str) -> Any:
    """The transform from pixels to coordinates; raises InputError where points do not give one."""
    affine = load_rasterio().Affine
    if not place.points:
        return place.transform or affine.identity()
    # Not rasterio's from_gcps: where GDAL finds none it returns whatever lay in the memory.
    known = np.array([(point.col, point.row, 1, point.x, point.y) for point in place.points])
    known = known[np.isfinite(known).all(axis=1)]
    solution, _, rank, _ = np.linalg.lstsq(known[:, :3], known[:, 3:], rcond=None)
    if rank < 3:
        raise InputError(
            f"{shown}: its {len(place.points)} control points do not tell where all of it lies: "
            "three that are not in line are needed"
        )
    return affine(*solution.T.ravel().tolist())


def _collection(run: LabelledRun, photo: LabelledPhoto) -> Iterator[str]:
    place = _place(photo)
    transform = _to_coordinates(place, printable(photo.name))
    yield '{"type":"FeatureCollection",'
    if place.crs:
        yield f'"crs":{json_text(_named(place.crs))},'
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
