import json
import os
import socket
import sys
import warnings

import numpy as np
import pytest
from finished_runs import blobs, photo_at
from PIL import Image

from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.media.images import format_of

rasterio = pytest.importorskip("rasterio")
from rasterio import features  # noqa: E402
from rasterio.control import GroundControlPoint  # noqa: E402

PLACE = rasterio.Affine(0.5, 0.01, 500_000.25, -0.02, -0.5, 5_300_000.75)  # turned a little


@pytest.fixture(autouse=True)
def _no_warnings_of_photos_without_coordinates():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


def geotiff(path, size_hw, crs="EPSG:32632", transform=PLACE):
    pixels = np.random.default_rng(0).integers(0, 256, (3, *size_hw), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=size_hw[1],
        height=size_hw[0],
        count=3,
        dtype="uint8",
        crs=crs,
        transform=transform,
    ) as written:
        written.write(pixels)
    return path


@pytest.fixture
def placed(make_run):
    """A run on a GeoTIFF in UTM 32."""
    made = make_run(["forêt", "b", "never"])
    labels = blobs()
    labels[0, 0] = labels[1, 1] = 1  # touch at a corner
    labels[0, 1] = labels[1, 0] = -1
    return made.add("x/a", labels, photo=geotiff(made.folder / "photos/a.tif", labels.shape))


def test_geotiff_lies_where_the_photo_lies(placed):
    with rasterio.open(placed.export("geotiff") / "x/a.tif") as read:
        assert read.crs.to_epsg() == 32632 and read.transform == PLACE
        assert read.nodata == 255 and read.dtypes == ("uint8",)
        values = read.read(1)
        colors = read.colormap(1)
        assert read.tags(1)["class_0"] == "forêt"
    np.testing.assert_array_equal(
        np.where(values == 255, -1, values.astype(int)), placed.labels["x/a"]
    )
    for class_id, entry in enumerate(placed.open().classes):
        assert colors[class_id][:3] == entry.color


def test_geotiff_of_more_than_255_classes(huge_vocabulary):
    with rasterio.open(huge_vocabulary.export("geotiff") / "a.tif") as read:
        assert read.nodata == 65535 and read.dtypes == ("uint16",)
        values = read.read(1).astype(int)
        assert read.crs is None
    expected = huge_vocabulary.labels["a"]
    np.testing.assert_array_equal(np.where(values == 65535, -1, values), expected)


def rasterized(document, size_hw, transform):
    labels = np.full(size_hw, -1, np.int32)
    for feature in document["features"]:
        mask = features.rasterize([feature["geometry"]], size_hw, transform=transform).astype(bool)
        assert mask.sum() == feature["properties"]["pixels"]
        labels[mask] = feature["properties"]["class_id"]
    return labels


def test_geojson_burnt_in_again_gives_the_same_pixels(placed):
    document = json.loads((placed.export("geojson") / "x/a.geojson").read_text("utf-8"))
    assert document["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32632"
    labels = placed.labels["x/a"]
    np.testing.assert_array_equal(rasterized(document, labels.shape, PLACE), labels)
    assert {f["properties"]["class"] for f in document["features"]} == {"forêt", "b"}
    for feature in document["features"]:
        for number, ring in enumerate(feature["geometry"]["coordinates"]):
            assert ring[0] == ring[-1] and len(ring) >= 4
            assert len(set(map(tuple, ring))) == len(ring) - 1, "no ring touches itself"
            x, y = np.array(ring).T
            x, y = x - x[0], y - y[0]
            area = (x[:-1] * y[1:] - x[1:] * y[:-1]).sum()
            assert (area > 0) == (number == 0), "outer rings run counter-clockwise, holes do not"


def test_geojson_of_an_ordinary_photo_is_in_pixels(run):
    document = json.loads((run.export("geojson") / "deep er/a.geojson").read_text("utf-8"))
    assert "crs" not in document
    labels = run.labels["deep er/a"]
    identity = rasterio.Affine.identity()
    np.testing.assert_array_equal(rasterized(document, labels.shape, identity), labels)


@pytest.mark.parametrize("name", ["geotiff", "geojson"])
def test_a_photo_that_is_gone_is_named(placed, name):
    placed.photos["x/a"].unlink()
    with pytest.raises(InputError, match=r"photos/a\.tif: the photo is gone"):
        placed.export(name)


@pytest.mark.parametrize("name", ["geotiff", "geojson"])
def test_without_rasterio(run, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(UsageError, match=r"need rasterio .*pip install 'ovseg-cli\[geo\]'"):
        run.export(name)


@pytest.mark.parametrize("size_hw", [(90, 120), (120, 90)])
@pytest.mark.parametrize("name", ["geotiff", "geojson"])
def test_a_photo_that_has_changed_does_not_give_its_coordinates(placed, name, size_hw):
    geotiff(placed.photos["x/a"], size_hw, transform=rasterio.Affine.scale(2))
    with pytest.raises(InputError, match=r"a\.tif: the photo has changed since the run"):
        placed.export(name)


@pytest.mark.parametrize(
    ("orientation", "exif"), [*((value, True) for value in range(1, 9)), (3, False)]
)
def test_a_photo_that_was_turned_does_not_get_its_coordinates(make_run, orientation, exif):
    """Turned by 180 degrees, or square, it has the size that it had."""
    made = make_run()
    photo = geotiff(made.folder / "photos/a.tif", (60, 60))
    with Image.open(photo) as image:
        image.load()
        tags = image.tag_v2
        tags[0x0112] = orientation
        image.save(photo, tiffinfo=tags)
    made.add("a", blobs((60, 60)), photo=photo, exif=exif)
    made.record(options={"exif": exif})
    if exif and orientation > 1:
        with pytest.raises(InputError, match=r"a\.tif: turned upright it no longer .*--no-exif"):
            made.export("geotiff")
    else:
        with rasterio.open(made.export("geotiff") / "a.tif") as read:
            assert read.transform == PLACE


def replace_unnoticed(photo, data):
    """Put other bytes into a photo, whose size and time stay what the run has noted."""
    before = photo.stat()
    photo.write_bytes(data.ljust(before.st_size))
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_photo_that_has_become_a_list_of_addresses_asks_nobody(make_run):
    made = make_run()
    made.add("a", blobs(), photo=photo_at(made.folder / "a.png", (90, 120)))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        address = f"/vsicurl/http://127.0.0.1:{server.getsockname()[1]}/a.tif"
        vrt = (
            '<VRTDataset rasterXSize="120" rasterYSize="90">'
            '<VRTRasterBand dataType="Byte" band="1">'
            f'<SimpleSource><SourceFilename relativeToVRT="0">{address}</SourceFilename>'
            "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
        )
        replace_unnoticed(made.photos["a"], vrt.encode())
        with pytest.raises(InputError, match="its coordinates cannot be read"):
            made.export("geotiff")
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_photo_that_gdal_cannot_read(make_run):
    made = make_run()
    made.add("a", blobs(), photo=photo_at(made.folder / "a.png", (90, 120)))
    replace_unnoticed(made.photos["a"], b"no image")
    with pytest.raises(InputError, match=r"a\.png: its coordinates cannot be read"):
        made.export("geotiff")


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
@pytest.mark.parametrize("name", ["geotiff", "geojson"])
def test_a_photo_whose_name_is_no_utf8_is_named(make_run, name):
    made = make_run().add("caf\udce9", blobs(), name="caf\udce9.png")
    with pytest.raises(InputError, match=r"caf\\udce9\.png: .* not UTF-8: rename the photo"):
        made.export(name)


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_folder_whose_name_is_no_utf8_is_named(run):
    with pytest.raises(InputError, match=r"caf\\udce9/a\.tif: .* not UTF-8"):
        run.export("geotiff", run.folder / "caf\udce9")


@pytest.mark.parametrize(
    ("kind", "mode"), [("MPO", "RGB"), ("PPM", "RGB"), ("PPM", "1"), ("AVIF", "RGB")]
)
def test_photos_of_other_kinds_have_no_coordinates(make_run, kind, mode):
    """Phones and drones write MPO, as .jpg; of AVIF and some kinds of PPM GDAL knows nothing."""
    made = make_run()
    photo = made.folder / "a.jpg"
    picture = Image.new(mode, (120, 90))
    several = {"save_all": True, "append_images": [picture]} if kind == "MPO" else {}
    try:
        picture.save(photo, kind, **several)
    except KeyError:
        pytest.skip(f"this Pillow writes no {kind}")
    assert format_of(photo) == kind
    made.add("a", blobs(), photo=photo)
    with rasterio.open(made.export("geotiff") / "a.tif") as read:
        assert read.crs is None and read.transform.is_identity
        values = read.read(1).astype(int)
    np.testing.assert_array_equal(np.where(values == 255, -1, values), made.labels["a"])
    document = json.loads((made.export("geojson") / "a.geojson").read_text("utf-8"))
    identity = rasterio.Affine.identity()
    np.testing.assert_array_equal(rasterized(document, (90, 120), identity), made.labels["a"])


def with_points(path, size_hw, corners, crs):
    """A TIFF that lies where PLACE puts it, by ground control points at some (row, column)."""
    geotiff(path, size_hw, None, rasterio.Affine.identity())
    points = [
        GroundControlPoint(row, column, *rasterio.transform.xy(PLACE, row, column, offset="ul"))
        for row, column in corners
    ]
    with rasterio.open(path, "r+") as written:
        written.gcps = (points, rasterio.CRS.from_user_input(crs) if crs else rasterio.CRS())
    return path


@pytest.mark.parametrize("crs", ["EPSG:32632", None])
def test_control_points_are_kept(make_run, crs):
    made = make_run()
    corners = [(0, 0), (0, 120), (90, 0), (90, 120)]
    photo = with_points(made.folder / "a.tif", (90, 120), corners, crs)
    made.add("a", blobs(), photo=photo)
    with rasterio.open(made.export("geotiff") / "a.tif") as read, rasterio.open(photo) as given:
        points, kept = read.gcps
        assert [p.asdict() for p in points] == [p.asdict() for p in given.gcps[0]]
        assert kept == given.gcps[1] and len(points) == 4
    document = json.loads((made.export("geojson") / "a.geojson").read_text("utf-8"))
    assert ("crs" in document) == (crs is not None)
    np.testing.assert_array_equal(rasterized(document, (90, 120), PLACE), made.labels["a"])


@pytest.mark.parametrize("corners", [[(0, 0)], [(0, 0), (0, 120)], [(0, 0), (45, 60), (90, 120)]])
def test_control_points_that_do_not_tell_where_the_polygons_lie(make_run, corners):
    made = make_run()
    photo = with_points(made.folder / "a.tif", (90, 120), corners, "EPSG:32632")
    made.add("a", blobs(), photo=photo)
    with rasterio.open(made.export("geotiff") / "a.tif") as read:
        assert len(read.gcps[0]) == len(corners)
    with pytest.raises(InputError, match=r"a\.tif: its \d control points do not tell"):
        made.export("geojson")
