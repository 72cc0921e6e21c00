import json
import socket
import sys
import warnings

import numpy as np
import pytest
from finished_runs import blobs, photo_at

from ovseg_cli.errors import InputError, UsageError

rasterio = pytest.importorskip("rasterio")
from rasterio import features  # noqa: E402

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


def test_a_photo_of_another_size_does_not_get_its_coordinates(placed):
    geotiff(placed.photos["x/a"], (120, 90))
    with pytest.raises(InputError, match=r"a\.tif: turned upright it no longer fits"):
        placed.export("geotiff")


def test_a_photo_that_has_become_a_list_of_addresses_asks_nobody(make_run):
    made = make_run()
    made.add("a", blobs(), photo=photo_at(made.folder / "a.png", (90, 120)))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        address = f"/vsicurl/http://127.0.0.1:{server.getsockname()[1]}/a.tif"
        made.photos["a"].write_text(
            '<VRTDataset rasterXSize="120" rasterYSize="90">'
            '<VRTRasterBand dataType="Byte" band="1">'
            f'<SimpleSource><SourceFilename relativeToVRT="0">{address}</SourceFilename>'
            "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
        )
        with pytest.raises(InputError, match="its coordinates cannot be read"):
            made.export("geotiff")
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_photo_that_gdal_cannot_read(make_run):
    made = make_run()
    made.add("a", blobs(), photo=photo_at(made.folder / "a.png", (90, 120)))
    made.photos["a"].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a\.png: its coordinates cannot be read"):
        made.export("geotiff")
