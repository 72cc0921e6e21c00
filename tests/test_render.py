import numpy as np
import pytest
from PIL import Image, ImageCms

from ovseg_cli.frame import Frame
from ovseg_cli.render import overlay, palette
from ovseg_cli.segmentation import Segmentation
from ovseg_cli.vocabulary import Vocabulary


def result(labels, count=3):
    labels = np.asarray(labels, np.int32)
    vocabulary = Vocabulary([f"class {i}" for i in range(count)])
    return Segmentation(labels, np.ones(labels.shape, np.float32), vocabulary)


def cielab(colors):
    """Lightness 0..100, a, b by Little CMS: an implementation that is not ours."""
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = Image.fromarray(np.asarray(colors, np.uint8)[None])
    image = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    planes = [np.asarray(plane)[0].astype(float) for plane in image.split()]
    signed = [np.where(plane > 127, plane - 256, plane) for plane in planes[1:]]
    return np.stack([planes[0] / 2.55, *signed], axis=1)


class TestPalette:
    @pytest.mark.parametrize("count", [1, 20, 255, 847, 5000])
    def test_all_colours_differ(self, count):
        colors = palette(count)
        assert colors.shape == (count, 3)
        assert colors.dtype == np.uint8
        assert len(np.unique(colors, axis=0)) == count

    def test_a_class_keeps_its_colour_as_more_follow(self):
        np.testing.assert_array_equal(palette(5000)[:150], palette(150))

    def test_the_first_are_far_apart(self):
        lab = cielab(palette(20))
        distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1e3 * np.eye(20)
        assert distance.min() > 20  # about ten times a just noticeable difference

    def test_none_is_nearly_black_white_or_grey(self):
        lab = cielab(palette(300))
        assert lab[:, 0].min() > 35
        assert lab[:, 0].max() < 90
        assert np.hypot(lab[:, 1], lab[:, 2]).min() > 20

    def test_callers_cannot_spoil_it_for_others(self):
        with pytest.raises(ValueError, match="read-only"):
            palette(3)[0] = 0


def drawn_overlay(pixels, labels):
    return np.asarray(overlay(Frame(pixels), result(labels)))


class TestOverlay:
    def test_blend_against_a_slow_reference(self):
        rng = np.random.default_rng(1)
        pixels = rng.integers(0, 256, (30, 300, 3), dtype=np.uint8)
        labels = np.repeat(np.repeat(rng.integers(-1, 3, (3, 30)), 10, axis=0), 10, axis=1)
        drawn = drawn_overlay(pixels, labels)
        for y in range(29):
            for x in range(299):
                label = labels[y, x]
                if label == -1:
                    expected = pixels[y, x]
                elif label != labels[y, x + 1] or label != labels[y + 1, x]:
                    expected = palette(3)[label]
                else:
                    expected = 0.5 * pixels[y, x] + 0.5 * palette(3)[label]
                assert np.abs(drawn[y, x] - np.asarray(expected, float)).max() <= 1.5

    def test_the_legend_lies_below_and_holds_the_colours(self):
        pixels = np.full((60, 400, 3), 128, np.uint8)
        labels = np.repeat([[0], [2]], 30, axis=0).repeat(400, axis=1)
        drawn = drawn_overlay(pixels, labels)
        assert drawn.shape[1] == 400
        assert drawn.shape[0] > 60
        legend = drawn[60:].reshape(-1, 3)
        present = {tuple(color) for color in legend.tolist()}
        colors = [tuple(color) for color in palette(3).tolist()]
        assert colors[0] in present
        assert colors[2] in present
        assert colors[1] not in present

    def test_the_legend_begins_with_the_largest_class(self):
        """In one column, for the photo is narrow: from the top, what covers most of it."""
        labels = np.repeat([[1], [0], [2], [2], [0], [2]], 20, axis=0).repeat(60, axis=1)
        legend = drawn_overlay(np.full((120, 60, 3), 128, np.uint8), labels)[120:]
        tops = [np.argwhere((legend == color).all(-1))[0, 0] for color in palette(3)]
        assert tops[2] < tops[0] < tops[1]

    def test_borders_of_a_large_photo_are_wide_enough_to_be_seen(self):
        """A pixel for each 500 of the shorter side, wherever a band of 40 rows ends."""
        pixels = np.zeros((1500, 1600, 3), np.uint8)
        labels = np.zeros((1500, 1600), np.int32)
        labels[:, 800:] = 1
        across = drawn_overlay(pixels, labels)[700, 790:800]
        assert (across[:7] == palette(3)[0] // 2).all()
        assert (across[7:] == palette(3)[0]).all()
        for row in (39, 40, 41, 42, 43):
            labels[:row], labels[row:] = 0, 1
            down = drawn_overlay(pixels, labels)[row - 6 : row, 5]
            assert (down[:3] == palette(3)[0] // 2).all()
            assert (down[3:] == palette(3)[0]).all()

    @pytest.mark.parametrize("size_hw", [(1, 1), (1, 50), (50, 1), (300, 20), (2, 3)])
    def test_small_and_narrow_photos(self, size_hw):
        pixels = np.full((*size_hw, 3), 77, np.uint8)
        drawn = drawn_overlay(pixels, np.full(size_hw, -1))
        height, width = size_hw
        np.testing.assert_array_equal(drawn[:height, :width], pixels)
        assert drawn.shape[1] >= 200  # room for a line of text
        assert (drawn[:height, width:] == drawn[-1, -1]).all()

    def test_many_rows_at_a_time_make_no_difference(self):
        """Bands of rows: a photo of several bands equals its parts put together."""
        rng = np.random.default_rng(2)
        pixels = rng.integers(0, 256, (400, 500, 3), dtype=np.uint8)
        labels = rng.integers(-1, 3, (400, 500))
        whole = drawn_overlay(pixels, labels)[:400]
        for top in range(0, 380, 20):
            part = drawn_overlay(pixels[top : top + 21], labels[top : top + 21])
            np.testing.assert_array_equal(part[:20], whole[top : top + 20])

    def test_labels_must_fit_the_photo(self):
        with pytest.raises(ValueError, match=r"\(2, 3\)"):
            overlay(Frame(np.zeros((3, 2, 3), np.uint8)), result(np.zeros((2, 3))))

    def test_inputs_are_left_alone_and_bytes_repeat(self):
        pixels = np.random.default_rng(3).integers(0, 256, (40, 300, 3), dtype=np.uint8)
        before = pixels.copy()
        labels = np.random.default_rng(4).integers(-1, 3, (40, 300))
        first = drawn_overlay(pixels, labels)
        np.testing.assert_array_equal(pixels, before)
        np.testing.assert_array_equal(first, drawn_overlay(pixels, labels))
