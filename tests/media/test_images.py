import contextlib
import io
import os
import random
import struct
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from ovseg_cli.errors import InputError
from ovseg_cli.frame import Frame
from ovseg_cli.media.images import MAX_PIXELS, frame_of, read_image
from ovseg_cli.media.picture_formats import FORMATS

# What Pillow says about damaged metadata; the command line silences it, too.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

TURNS = {  # EXIF orientation -> what a viewer has to do with the stored pixels (EXIF 2.3, 4.6.4)
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


def saved(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


class TestKinds:
    def test_frame(self, tmp_path, photo):
        path = saved(tmp_path / "a.png", photo)
        frame = read_image(path)
        assert isinstance(frame, Frame)
        assert frame.pixels.dtype == np.uint8
        assert frame.pixels.flags.writeable  # torch.from_numpy warns where it is not
        assert frame.source == str(path)
        np.testing.assert_array_equal(frame.pixels, photo)

    @pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp", "jp2", "gif", "avif"])
    def test_formats(self, tmp_path, photo, suffix):
        if f".{suffix}" not in Image.registered_extensions():
            pytest.skip(f"this Pillow cannot write {suffix}")
        options = {"lossless": True} if suffix == "webp" else {}
        path = saved(tmp_path / f"a.{suffix}", photo, **options)
        lossy = suffix in ("avif", "gif")
        difference = np.abs(read_image(path).pixels.astype(int) - photo)
        assert difference.mean() <= (12 if lossy else 0)

    def test_every_odd_kind_looks_like_the_photo(self, odd_images, photo):
        grey = np.asarray(Image.fromarray(photo).convert("L"))[..., None].repeat(3, axis=2)
        red = photo[..., :1].repeat(3, axis=2)
        expected = {
            "grey.png": grey,
            "grey-alpha.png": grey,
            "grey16.png": red,
            "float.tif": red,
            "bilevel.png": np.asarray(Image.fromarray(photo).convert("1").convert("RGB")),
        }
        tolerance = {"cmyk.jpg": 8, "float.tif": 1, "animated.gif": 6}
        for name, path in odd_images.items():
            if name == "transparent-palette.png":
                continue
            pixels = read_image(path).pixels.astype(int)
            limit = tolerance.get(name, 6 if "palette" in name else 0)
            assert np.abs(pixels - expected.get(name, photo)).mean() <= limit, name

    def test_16_bit_values_are_scaled_not_clipped(self, tmp_path):
        values = np.array([[0, 128, 257, 32768, 65278, 65535]], np.uint16)
        path = saved(tmp_path / "a.png", values)
        expected = [round(int(v) / 257) for v in values[0]]
        assert read_image(path).pixels[0, :, 0].tolist() == expected

    @pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
    def test_16_bit_dark_photo_stays_dark(self, tmp_path, suffix):
        values = np.full((2, 2), 200, np.uint16)
        path = tmp_path / f"a.{suffix}"
        if suffix == "pgm":
            path.write_bytes(b"P5 2 2 65535\n" + values.astype(">u2").tobytes())
        else:
            saved(path, values)
        assert read_image(path).pixels.max() == 1

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([0.0, 0.5, 1.0], [0, 128, 255]),
            ([0.0, 100.0, 255.0], [0, 100, 255]),
            ([0.0, 25700.0, 65535.0], [0, 100, 255]),
            ([-1.0, 0.0, 1.0], [0, 128, 255]),
            ([0.0, 1e9, np.inf], [0, 255, 0]),
            ([np.nan, 0.25, 1.0], [0, 64, 255]),
            ([7.0, 7.0, 7.0], [7, 7, 7]),
        ],
    )
    def test_floats(self, tmp_path, values, expected):
        path = saved(tmp_path / "a.tif", np.array([values], np.float32))
        assert read_image(path).pixels[0, :, 1].tolist() == expected

    def test_floats_in_a_portable_float_map(self, tmp_path):
        """PFM, from the bottom up: a kind of PPM, whose other kinds have whole numbers only."""
        values = np.array([[0.5, 0.25], [1.0, 0.0]], "<f4")
        (tmp_path / "a.pfm").write_bytes(b"Pf\n2 2\n-1.0\n" + values.tobytes())
        assert read_image(tmp_path / "a.pfm").pixels[..., 0].tolist() == [[255, 0], [128, 64]]

    def test_32_bit_integers(self, tmp_path):
        path = saved(tmp_path / "a.tif", np.array([[0, 257 * 100, 65535]], np.int32))
        assert read_image(path).pixels[0, :, 2].tolist() == [0, 100, 255]
        path = saved(tmp_path / "b.tif", np.array([[-1000, 0, 1000]], np.int32))
        assert read_image(path).pixels[0, :, 2].tolist() == [0, 128, 255]

    def test_transparency_lies_over_white(self, tmp_path, photo):
        alpha = np.zeros(photo.shape[:2], np.uint8)
        alpha[:, 10:] = 255
        alpha[0, :] = 51
        path = saved(tmp_path / "a.png", np.dstack([photo, alpha]))
        share = alpha[..., None] / 255
        expected = photo * share + 255 * (1 - share)
        assert np.abs(read_image(path).pixels - expected).max() <= 1

    def test_pictures_of_several_strips_are_put_together_again(self, tmp_path, photo, monkeypatch):
        """What is converted is, a part at a time: transparency, and more than 8 bits."""
        alpha = np.full(photo.shape[:2], 255, np.uint8)
        clear = saved(tmp_path / "a.png", np.dstack([photo, alpha]))
        deep = saved(tmp_path / "b.png", photo[..., 0].astype(np.uint16) * 257)
        monkeypatch.setattr("ovseg_cli.media.conversion._STRIP", 3 * photo.shape[1])
        np.testing.assert_array_equal(read_image(clear).pixels, photo)
        np.testing.assert_array_equal(read_image(deep).pixels, photo[..., :1].repeat(3, -1))

    def test_transparent_palette_entry_is_white(self, tmp_path):
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 40, 50, 60])
        image.putpixel((1, 0), 1)
        image.save(tmp_path / "a.png", transparency=0)
        assert read_image(tmp_path / "a.png").pixels[0].tolist() == [[255] * 3, [40, 50, 60]]

    def test_transparent_colour_of_an_rgb_png(self, tmp_path):
        array = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
        path = saved(tmp_path / "a.png", array, transparency=(1, 2, 3))
        assert read_image(path).pixels[0].tolist() == [[255] * 3, [4, 5, 6]]

    def test_lab(self, tmp_path):
        colors = np.array([[[255, 0, 0], [0, 128, 0], [30, 30, 30], [250, 250, 250]]], np.uint8)
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(Image.fromarray(colors), srgb, lab, outputMode="LAB")
        image.save(tmp_path / "a.tif")
        assert np.abs(read_image(tmp_path / "a.tif").pixels.astype(int) - colors).max() <= 6

    @pytest.mark.parametrize("name", ["animated.gif", "animated.webp", "pages.tif"])
    def test_the_first_picture_counts(self, odd_images, photo, name):
        pixels = read_image(odd_images[name]).pixels.astype(int)
        assert np.abs(pixels - photo).mean() < np.abs(pixels - (255 - photo)).mean()


class TestOrientation:
    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
    @pytest.mark.parametrize("value", TURNS)
    def test_applied_unless_refused(self, tmp_path, photo, suffix, value):
        exif = Image.Exif()
        exif[0x0112] = value
        options = {"quality": 95} if suffix == "jpg" else {}
        if suffix == "webp":
            options = {"lossless": True}
        path = saved(tmp_path / f"a.{suffix}", photo, exif=exif, **options)
        for wanted, flag in ((TURNS[value](photo), True), (photo, False)):
            pixels = read_image(path, exif=flag).pixels
            assert pixels.shape == wanted.shape
            assert np.abs(pixels.astype(int) - wanted).mean() <= (3 if suffix == "jpg" else 0)

    @pytest.mark.parametrize("value", [0, 9, 300])
    def test_nonsense_is_ignored(self, tmp_path, photo, value):
        exif = Image.Exif()
        exif[0x0112] = value
        path = saved(tmp_path / "a.png", photo, exif=exif)
        np.testing.assert_array_equal(read_image(path).pixels, photo)

    @pytest.mark.parametrize("exif", [True, False])
    @pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
    def test_a_png_whose_pixels_are_damaged_is_no_photo(self, tmp_path, share, exif):
        noise = np.random.default_rng(3).integers(0, 256, (40, 50, 3), np.uint8)
        path = tmp_path / "a.png"
        Image.fromarray(noise).save(path)
        content = bytearray(path.read_bytes())
        content[int(share * len(content))] ^= 0xFF
        path.write_bytes(content)
        with pytest.raises(InputError, match="a.png"):
            read_image(path, exif=exif)

    def test_damaged_exif_does_not_cost_the_photo(self, tmp_path, photo):
        path = saved(tmp_path / "a.png", photo, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\1\x12")
        np.testing.assert_array_equal(read_image(path).pixels, photo)


class TestRefused:
    def test_broken_files_fail_by_name_with_the_reason(self, broken_images):
        for name, (path, reason) in broken_images.items():
            with pytest.raises(InputError, match=f"{name}: .*({reason})") as caught:
                read_image(path)
            assert "\n" not in str(caught.value)

    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match="No such file"):
            read_image(tmp_path / "missing.jpg")

    def test_folder(self, tmp_path):
        with pytest.raises(InputError, match="a folder, not an image"):
            read_image(tmp_path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
    def test_a_pipe_does_not_block(self, tmp_path):
        os.mkfifo(tmp_path / "a.jpg")
        with pytest.raises(InputError, match="device or pipe"):
            read_image(tmp_path / "a.jpg")

    def test_name_with_control_characters(self, tmp_path):
        path = tmp_path / "a\n\x1b[2J.jpg"
        path.write_bytes(b"")
        with pytest.raises(InputError) as caught:
            read_image(path)
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize("path", ["a\0b", "x" * 5000])
    def test_impossible_path(self, path):
        with pytest.raises(InputError):
            read_image(path)

    def test_limit_is_exact_and_can_be_raised(self, tmp_path):
        path = saved(tmp_path / "a.png", np.zeros((10, 20, 3), np.uint8))
        assert read_image(path, max_pixels=200).size_hw == (10, 20)
        with pytest.raises(InputError, match=r"20×10 pixels .*--max-pixels 200"):
            read_image(path, max_pixels=199)

    def test_the_option_is_named_with_the_command_that_has_it(self, tmp_path):
        path = saved(tmp_path / "a.png", np.zeros((10, 20, 3), np.uint8))
        with pytest.raises(InputError, match="'ovseg segment' --max-pixels 200$"):
            read_image(path, max_pixels=199)

    def test_own_limit_and_not_pillow_s(self, tmp_path, monkeypatch, recwarn):
        """Pillow warns above its limit and refuses above twice that."""
        path = saved(tmp_path / "a.png", np.zeros((1500, 2000, 3), np.uint8))
        for limit in (2_000_000, 1_200_000):
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
            assert read_image(path).size_hw == (1500, 2000)
        assert not recwarn.list

    def test_the_bomb_is_not_decoded(self, broken_images, monkeypatch):
        monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
        with pytest.raises(InputError, match=f"limit of {MAX_PIXELS} pixels"):
            read_image(broken_images["bomb.png"][0])

    def test_no_program_is_started_for_postscript(self, tmp_path):
        (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
        with pytest.raises(InputError, match="not an image"):
            read_image(tmp_path / "a.jpg")

    @pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tif", "bmp"])
    def test_cut_anywhere(self, tmp_path, photo, suffix):
        """A cut file is an InputError, or the whole photo where no pixels were cut off."""
        data = saved(tmp_path / f"whole.{suffix}", photo).read_bytes()
        whole = read_image(tmp_path / f"whole.{suffix}").pixels
        path = tmp_path / f"cut.{suffix}"
        for length in range(0, len(data), max(1, len(data) // 60)):
            path.write_bytes(data[:length])
            try:
                frame = read_image(path)
            except InputError:
                continue
            np.testing.assert_array_equal(frame.pixels, whole)


def test_any_bytes_give_a_frame_or_an_input_error(tmp_path, photo):
    rng = random.Random(7)
    exif = Image.Exif()
    exif[0x0112] = 6
    originals = []
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000"):
        buffer = io.BytesIO()
        Image.fromarray(photo).save(buffer, kind, **({"exif": exif} if kind != "PPM" else {}))
        originals.append(buffer.getvalue())
    path = tmp_path / "mutant"
    outcomes = set()
    for turn in range(800):
        data = bytearray(originals[turn % len(originals)])
        for _ in range(rng.choice((1, 2, 8))):
            where = rng.randrange(min(len(data), rng.choice((40, 400, 10**6))))
            data[where] = rng.choice((0, 1, 127, 255, rng.randrange(256)))
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        path.write_bytes(data)
        try:
            outcomes.add(type(read_image(path, max_pixels=1_000_000)))
        except InputError as error:
            outcomes.add(type(error))
    assert outcomes == {Frame, InputError}


def test_reading_in_threads(tmp_path, odd_images, broken_images):
    expected = {path: read_image(path).pixels for path in odd_images.values()}
    wrong = []

    def work():
        for _ in range(5):
            for path, pixels in expected.items():
                if not np.array_equal(read_image(path).pixels, pixels):
                    wrong.append(path)
            for path, _ in broken_images.values():
                with contextlib.suppress(InputError):
                    wrong.append(read_image(path))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_16_bit_rgb_png(tmp_path):
    """Pillow cannot write these: three 16-bit channels, made by hand."""
    values = np.array([[[0, 257 * 7, 65535], [257 * 200, 256, 257]]], ">u2")
    raw = b"\0" + values.tobytes()

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(png + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))
    expected = values.astype(float) / 257
    assert np.abs(read_image(tmp_path / "a.png").pixels - expected).max() <= 1


class TestPhones:
    """HEIC, by an extra."""

    @pytest.fixture
    def turned(self):
        """Made with pillow-heif: 64×48 pixels, the left half red, to be turned clockwise."""
        return Path(__file__).parent / "turned.heic"

    @pytest.mark.parametrize("exif", [True, False])
    def test_it_is_upright(self, turned, exif):
        pytest.importorskip("pi_heif")
        pixels = read_image(turned, exif=exif).pixels.astype(int)
        assert pixels.shape == (64, 48, 3)
        assert np.abs(pixels[:28] - (220, 30, 30)).max() < 12
        assert np.abs(pixels[-28:] - (30, 60, 220)).max() < 12

    def test_without_the_extra_it_is_said_what_lacks(self, turned, monkeypatch):
        monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
        monkeypatch.setitem(sys.modules, "pi_heif", None)
        with pytest.raises(InputError, match=r"turned\.heic: a HEIC picture.*ovseg-cli\[heic\]"):
            read_image(turned)

    def test_one_that_is_cut_off(self, turned, tmp_path):
        pytest.importorskip("pi_heif")
        for end in range(8, turned.stat().st_size, 40):
            (tmp_path / "a.heic").write_bytes(turned.read_bytes()[:end])
            with pytest.raises(InputError, match=r"a\.heic: "):
                read_image(tmp_path / "a.heic")


@pytest.mark.parametrize(
    "start",
    [
        *(b"\0\0\0\x20ftyp" + brand for brand in (b"isom", b"mp42", b"qt  ", b"M4V ")),
        *(b"\x1aE\xdf\xa3", b"RIFF\0\0\0\0AVI LIST"),
    ],
)
def test_a_film_is_called_one(tmp_path, start):
    (tmp_path / "a.jpg").write_bytes(start + bytes(40))
    with pytest.raises(InputError, match="'ovseg video' takes it"):
        read_image(tmp_path / "a.jpg")


def test_all_formats_have_a_reader():
    optional = {"AVIF", "WEBP", "JPEG2000", "HEIF"}  # left out of some builds of Pillow
    assert set(FORMATS) - optional <= set(Image.OPEN)


class TestReduced:
    """JPEG files of which a network needs less: a copy at a part of their size, the rest later."""

    SEEN = (64, 96)  # what the network of these tests wants

    @pytest.fixture
    def scene(self):
        """Smooth, so that scaled decoding and averaging of the whole can agree; 600×900."""
        coarse = np.random.default_rng(5).integers(0, 256, (7, 10, 3), np.uint8)
        return np.asarray(Image.fromarray(coarse).resize((900, 600), Image.Resampling.BICUBIC))

    def read(self, path, seen=SEEN, **options):
        return read_image(path, seen_at=lambda size_hw: seen, **options)

    def same_picture(self, view, whole, limit=4):
        """Whether a view shows the whole of a photo: the photo averaged to its size."""
        small = Image.fromarray(whole).resize(view.shape[1::-1], Image.Resampling.BOX)
        return np.abs(view.astype(int) - np.asarray(small)).mean() < limit

    @pytest.mark.parametrize(
        ("seen", "divided"), [((64, 96), 4), ((37, 56), 8), ((150, 225), 2), ((151, 226), 1)]
    )
    def test_the_copy_is_at_least_twice_as_large_as_needed(self, tmp_path, scene, seen, divided):
        frame = self.read(saved(tmp_path / "a.jpg", scene, quality=95), seen)
        assert frame.view.shape == (600 // divided, 900 // divided, 3)
        assert frame.size_hw == (600, 900)
        assert self.same_picture(frame.view, scene)

    def test_pixels_are_those_of_the_photo_decoded_whole(self, tmp_path, scene):
        path = saved(tmp_path / "a.jpg", scene)
        frame, whole = self.read(path), read_image(path)
        assert frame.source == whole.source == str(path)
        np.testing.assert_array_equal(frame.pixels, whole.pixels)
        assert frame.pixels is frame.pixels  # decoded once
        assert frame.pixels.flags.writeable

    def test_pixels_are_there_when_the_file_is_not(self, tmp_path, scene):
        path = saved(tmp_path / "a.jpg", scene)
        whole, frame = read_image(path).pixels, self.read(path)
        path.unlink()
        np.testing.assert_array_equal(frame.pixels, whole)

    @pytest.mark.parametrize("orientation", TURNS)
    def test_orientation(self, tmp_path, scene, orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = saved(tmp_path / "a.jpg", scene[:400], exif=exif)
        upright = TURNS[orientation](scene[:400])
        frame = self.read(path, (50, 50))
        assert frame.view.shape[:2] == tuple(side // 4 for side in upright.shape[:2])
        assert frame.size_hw == upright.shape[:2] == frame.pixels.shape[:2]
        assert self.same_picture(frame.view, upright)
        ignored = self.read(path, (50, 50), exif=False)
        assert ignored.size_hw == (400, 900)
        assert self.same_picture(ignored.view, scene[:400])

    def test_the_need_is_of_the_photo_as_it_stands_upright(self, tmp_path, scene):
        exif = Image.Exif()
        exif[0x0112] = 6
        asked = []

        def seen_at(size_hw):
            asked.append(size_hw)
            return size_hw[0] // 8, size_hw[1] // 8

        path = saved(tmp_path / "a.jpg", scene, exif=exif)
        assert read_image(path, seen_at=seen_at).view.shape[:2] == (225, 150)
        assert asked == [(900, 600)]

    @pytest.mark.parametrize(("height", "width"), [(593, 897), (599, 895), (600, 893)])
    def test_the_last_part_of_a_block_does_not_stretch_the_picture(
        self, tmp_path, scene, height, width
    ):
        ramp = np.linspace(0, 255, width).astype(np.uint8)[None, :, None]
        path = saved(tmp_path / "a.jpg", np.broadcast_to(ramp, (height, width, 3)), quality=95)
        view = self.read(path, (37, 55)).view
        assert view.shape[1] == round(width / 8)
        places = (np.arange(view.shape[1]) + 0.5) / view.shape[1]
        assert np.abs(view[view.shape[0] // 2, :, 1] - 255 * places).max() < 3

    @pytest.mark.parametrize("mode", ["L", "CMYK"])
    @pytest.mark.parametrize("progressive", [False, True])
    def test_kinds(self, tmp_path, scene, mode, progressive):
        path = tmp_path / "a.jpg"
        Image.fromarray(scene).convert(mode).save(path, progressive=progressive, quality=95)
        frame = self.read(path)
        assert frame.view.shape == (150, 225, 3)
        assert self.same_picture(frame.view, read_image(path).pixels)
        np.testing.assert_array_equal(frame.pixels, read_image(path).pixels)

    @pytest.mark.parametrize("progressive", [False, True])
    def test_truncated_files_fail_by_name(self, tmp_path, scene, progressive):
        path = saved(tmp_path / "a.jpg", scene, progressive=progressive)
        content = path.read_bytes()
        for share in (0.3, 0.9):
            path.write_bytes(content[: int(share * len(content))])
            with pytest.raises(InputError, match="a.jpg: .*truncated"):
                self.read(path)

    def test_other_formats_and_sizes_without_need_are_decoded_whole(self, tmp_path, scene):
        png = self.read(saved(tmp_path / "a.png", scene))
        small = self.read(saved(tmp_path / "a.jpg", scene[:100, :150]))
        plain = read_image(saved(tmp_path / "b.jpg", scene))
        for frame in (png, small, plain):
            assert frame.view is frame.pixels
            assert type(frame) is Frame

    def test_a_file_larger_than_its_pixels_is_not_kept(self, tmp_path, scene):
        path = saved(tmp_path / "a.jpg", scene)
        with path.open("ab") as file:
            file.write(bytes(600 * 900))  # as phones append a clip
        frame = self.read(path)
        assert type(frame) is Frame
        np.testing.assert_array_equal(
            frame.pixels, read_image(saved(tmp_path / "b.jpg", scene)).pixels
        )

    def test_max_pixels_are_those_of_the_photo(self, tmp_path, scene):
        with pytest.raises(InputError, match="900×600"):
            self.read(saved(tmp_path / "a.jpg", scene), max_pixels=539_999)


class TestPicturesInMemory:
    """What Pillow has opened is converted as the file itself would be, and not turned."""

    @pytest.mark.parametrize(
        ("mode", "suffix"),
        [
            *(("RGB", "png"), ("RGBA", "png"), ("LA", "png"), ("L", "png"), ("1", "png")),
            *(("I;16", "png"), ("I;16", "tif"), ("F", "tif"), ("CMYK", "jpg"), ("P", "png")),
        ],
    )
    def test_as_its_file(self, tmp_path, mode, suffix):
        draw = np.random.default_rng(0)
        if mode == "I;16":
            picture = Image.fromarray(draw.integers(0, 65536, (20, 30), np.uint16))
        elif mode == "F":
            picture = Image.fromarray(draw.random((20, 30), np.float32))
        else:
            picture = Image.fromarray(draw.integers(0, 256, (20, 30, 4), np.uint8), "RGBA")
            picture = picture if mode == "RGBA" else picture.convert(mode)
        options = {"transparency": 3} if mode == "P" else {}
        picture.save(tmp_path / f"a.{suffix}", **options)
        expected = read_image(tmp_path / f"a.{suffix}").pixels
        with Image.open(tmp_path / f"a.{suffix}") as image:
            np.testing.assert_array_equal(frame_of(image).pixels, expected)
            assert image.mode in (mode, "I")  # it is still the caller's
            image.load()
        assert len(np.unique(expected)) > (1 if mode == "1" else 20)  # neither black nor white

    def test_it_is_not_turned(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
        assert read_image(tmp_path / "a.jpg").size_hw == (30, 20)
        with Image.open(tmp_path / "a.jpg") as image:
            assert frame_of(image).size_hw == (20, 30)

    def test_bands_of_a_kind_that_is_not_read_are_no_damage(self, tmp_path):
        """Three bands of 32-bit floating-point numbers, as programs for maps write them."""
        rasterio = pytest.importorskip("rasterio")
        with rasterio.open(
            *(tmp_path / "a.tif", "w"), "GTiff", 4, 3, 3, dtype="float32", photometric="RGB"
        ) as file:
            file.write(np.ones((3, 3, 4), np.float32))
        with pytest.raises(InputError, match="cannot be read: save it as 8-bit RGB"):
            read_image(tmp_path / "a.tif")

    def test_a_damaged_one(self, tmp_path):
        Image.effect_noise((90, 90), 50).save(tmp_path / "a.png")
        data = (tmp_path / "a.png").read_bytes()
        with (
            Image.open(io.BytesIO(data[: len(data) // 2])) as image,
            pytest.raises(InputError, match="truncated"),
        ):
            frame_of(image)


@pytest.mark.parametrize(
    "content", [b"x", b"BM", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0"]
)
def test_the_beginnings_of_files_are_said_in_plain_words(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.jpg: .*(truncated|too few for an image)"):
        read_image(tmp_path / "a.jpg")
