"""Label maps as PNG, read back by Pillow and OpenCV."""

import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from ovseg_cli.png import encoded, encoded_map

# Both sides of a band of rows, rows longer than a band, and rows and columns of one pixel.
SIZES = [(1, 1), (1, 300), (300, 1), (7, 5), (130, 1000), (131, 500), (3, 70_000)]


def patches(height, width, most, seed=0):
    """A map with areas of one value, as label maps have them, and single pixels of others."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, most + 1, (height // 16 + 1, width // 16 + 1))
    values = np.kron(coarse, np.ones((16, 16), int))[:height, :width]
    lone = draw.random(values.shape) < 0.01
    values[lone] = draw.integers(0, most + 1, lone.sum())
    return values


def decoded(data):
    pillow = np.asarray(Image.open(io.BytesIO(data)))
    opencv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(pillow, opencv)
    return opencv


class TestMaps:
    @pytest.mark.parametrize("size_hw", SIZES)
    @pytest.mark.parametrize("kind", [np.uint8, np.uint16])
    def test_read_back(self, size_hw, kind):
        values = patches(*size_hw, np.iinfo(kind).max).astype(kind)
        found = decoded(encoded_map(values, {}))
        assert found.dtype == kind
        np.testing.assert_array_equal(found, values)

    def test_any_memory_layout(self):
        values = patches(60, 40, 255).astype(np.uint8)
        for view in (values.T, values[::2, ::3], values[::-1], np.asfortranarray(values)):
            np.testing.assert_array_equal(decoded(encoded_map(view, {})), view)

    @pytest.mark.parametrize("kind", [np.uint8, np.uint16])
    def test_areas_with_round_borders_are_about_as_small_as_by_pillow(self, kind):
        draw = np.random.default_rng(0)
        fields = [
            cv2.resize(field, (640, 480), interpolation=cv2.INTER_CUBIC)
            for field in draw.random((20, 12, 16))
        ]
        values = np.argmax(fields, axis=0).astype(kind)
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
        assert len(encoded_map(values, {})) <= 1.1 * len(buffer.getvalue())

    def test_texts_as_in_pictures(self):
        texts = {"Software": "ovseg", "vocabulary": "天空" * 200, "long": "word " * 100}
        values = patches(20, 30, 9).astype(np.uint8)
        for data in (encoded_map(values, texts), encoded(Image.fromarray(values), texts)):
            with Image.open(io.BytesIO(data)) as image:
                assert image.text == texts
