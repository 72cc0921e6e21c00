import numpy as np
import pytest
from PIL import Image, ImageDraw

from ovseg_cli import legend
from ovseg_cli.legend import MAX_CLASSES, MIN_WIDTH, PAPER, draw_legend
from ovseg_cli.render import palette
from ovseg_cli.segmentation import UNLABELED, ClassArea


def areas(*names, fractions=None):
    shares = fractions or [1 / len(names)] * len(names)
    return [ClassArea(i, name, 1, shares[i], 0.5) for i, name in enumerate(names)]


@pytest.fixture
def written(monkeypatch):
    """What is drawn, as (text, left, right, baseline) of every piece of text."""
    pieces = []
    write = legend._write

    def noting(image, left, baseline, text, font, ink):
        pieces.append((text, left, left + font.getlength(text), baseline))
        return write(image, left, baseline, text, font, ink)

    monkeypatch.setattr(legend, "_write", noting)
    return pieces


def draw(entries, size_hw=(360, 480)):
    return draw_legend(entries, palette(max(1, len(entries))), size_hw)


def texts(written):
    return [piece[0] for piece in written]


def test_names_and_percentages(written):
    draw(areas("sky", "road", "car", fractions=[0.6125, 0.3871, 0.0004]))
    assert sorted(texts(written)) == sorted(["sky", "road", "car", "61.3%", "38.7%", "<0.1%"])


@pytest.mark.parametrize("size_hw", [(1, 1), (20, 300), (360, 480), (3000, 4000), (4000, 500)])
@pytest.mark.parametrize("count", [1, 3, 11, 40, 41, 300])
def test_nothing_is_cut_off_or_overlaps(written, size_hw, count):
    names = [f"class {i} {'long ' * (i % 7)}" for i in range(count)]
    image = draw(areas(*names), size_hw)
    assert image.shape[1] == max(size_hw[1], MIN_WIDTH)
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert (border == PAPER).all()
    boxes = [(left, right, baseline) for _, left, right, baseline in written]
    for left, right, baseline in boxes:
        assert left >= 0
        assert right <= image.shape[1]
        assert 8 < baseline < image.shape[0]
    for i, (left, right, baseline) in enumerate(boxes):
        for other_left, other_right, other_baseline in boxes[:i]:
            apart = abs(baseline - other_baseline) >= 12
            assert apart or left >= other_right or right <= other_left


def test_columns_use_the_width(written):
    wide, narrow = draw(areas(*"abcdefgh"), (400, 900)), draw(areas(*"abcdefgh"), (400, 100))
    assert wide.shape[0] < narrow.shape[0] / 2


def test_a_share_is_nearer_to_its_own_name_than_to_the_next_one(written):
    image = draw(areas("mountain", "building", fractions=[0.55, 0.45]))
    color = palette(2)[1]
    swatch = np.flatnonzero((image == color).all(-1).any(0))[0]  # of the second, in the same row
    place = {text: (left, right) for text, left, right, _ in written}
    assert place["building"][0] > swatch > place["55.0%"][1]
    assert place["55.0%"][0] - place["mountain"][1] < 0.7 * (swatch - place["55.0%"][1])


def test_the_count_of_the_rest_has_no_swatch():
    image = draw(areas(*(f"class {number}" for number in range(MAX_CLASSES + 2))))
    assert not (image == 255).all(-1).any()  # paler than the paper


def test_the_largest_of_many_and_a_count_of_the_rest(written):
    count = MAX_CLASSES + 7
    fractions = [0.01] * MAX_CLASSES + [0.6 / 7] * 7
    draw(areas(*[f"class {i}" for i in range(count)], fractions=fractions))
    assert "+ 7 more" in texts(written)
    assert "60.0%" in texts(written)
    assert f"class {MAX_CLASSES - 1}" in texts(written)
    assert f"class {MAX_CLASSES}" not in texts(written)


def test_a_long_name_ends_in_an_ellipsis_and_fills_the_line(written):
    draw(areas("x" * 3000, "sky"), (20, 300))
    (text, left, right, _) = next(piece for piece in written if piece[0].startswith("xx"))
    assert text.endswith("...")
    assert right - left > 150


def test_unlabelled_has_an_empty_swatch():
    image = draw_legend([ClassArea(UNLABELED, "unlabelled", 5, 1.0, 0.1)], palette(2), (50, 300))
    colors = {tuple(c) for c in image.reshape(-1, 3).tolist()}
    assert not colors & {tuple(c) for c in palette(2).tolist()}
    frame = np.s_[9:22, 6:19]  # of letters of 12 pixels: below a margin of 6 and a quarter of them
    swatch = image[frame]
    assert (swatch[1:-1, 1:-1] == PAPER).all()
    for side in (swatch[0], swatch[-1], swatch[:, 0], swatch[:, -1]):
        assert (side == legend._FAINT).all()


@pytest.mark.parametrize("left", [20, 20.0, 33.28125, 7.75])
@pytest.mark.parametrize("text", ["sky", "12.3%", "jÅgW", "<0.1%", "f"])
def test_kept_letters_look_as_pillow_writes_them(text, left):
    font = legend._font(None, 15)
    expected = Image.new("RGB", (120, 50), PAPER)
    ImageDraw.Draw(expected).text((left, 30), text, (9, 80, 160), font, "ls")
    for _ in range(2):  # when first written, and again
        written = Image.new("RGB", (120, 50), PAPER)
        legend._write(written, left, 30, text, font, (9, 80, 160))
        np.testing.assert_array_equal(np.asarray(written), np.asarray(expected))


class TestFonts:
    @pytest.fixture(autouse=True)
    def bare_machine(self, monkeypatch):
        monkeypatch.setattr(legend, "_FALLBACK_FONTS", ())

    def test_names_that_no_font_can_draw_are_escaped(self, written):
        draw(areas("sky", "天空", "café 🏠", "Straße"))
        expected = {"sky", r"\u5929\u7a7a", r"cafe \U0001f3e0", r"Stra\xdfe"}
        assert expected <= set(texts(written))

    def test_control_characters_never_reach_the_picture(self, written):
        draw(areas("a\nb\x1b[31m"))
        assert r"a\nb\x1b[31m" in texts(written)

    def test_another_font_is_used_where_there_is_one(self, written, monkeypatch):
        monkeypatch.setattr(legend, "_FALLBACK_FONTS", ("missing.ttf", "DejaVuSans.ttf"))
        if not legend._exists("DejaVuSans.ttf"):
            pytest.skip("DejaVu is not installed here")
        draw(areas("небо"))
        assert "небо" in texts(written)
