"""Small files that claim, or unpack to, far more than they are: refused, or read in bounds."""

import io
import json
import socket
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from finished_runs import MadeRun
from PIL import Image
from small_models import PYRAMID

from ovseg_cli import exemplars, vocabulary_files, weights
from ovseg_cli.data import stored_labels
from ovseg_cli.data.image_set import read_image_set
from ovseg_cli.data.pixel_set import read_pixel_set
from ovseg_cli.errors import CheckpointError, InputError, UsageError, VocabularyError
from ovseg_cli.formats.labelled import LabelledRun
from ovseg_cli.frame import Frame
from ovseg_cli.importing import read_tensors
from ovseg_cli.masks import mask_files
from ovseg_cli.masks.mask_files import MOST, MaskFiles
from ovseg_cli.media.images import MAX_PIXELS, read_image, read_values
from ovseg_cli.media.picture_formats import HEAVY_PIXELS
from ovseg_cli.media.video import open_video
from ovseg_cli.model.build import build
from ovseg_cli.report.thumbnails import write_thumbnails
from ovseg_cli.run_folder.finished_run import read_run

# What Pillow and torch say about such files; the command line silences it, too.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

FEATURES = np.ones((1, 1, 1), np.float32)
MEASURE = """
import sys
from pathlib import Path
from ovseg_cli.media.images import read_image

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

read_image(sys.argv[1])  # libraries are loaded
for path in sys.argv[1:]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak()
    height, width = read_image(path).size_hw
    print(path, (peak() - before) / (height * width))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_the_largest_photo_of_every_kind_takes_less_than_2_gb(tmp_path):
    """Measured on smaller ones, by the pixel. A WebP or JPEG 2000 of one colour is 2 kB."""
    size = (3000, 2000)
    for name, mode, options in (
        *(("rgba.png", "RGBA", {}), ("la.png", "LA", {}), ("16.png", "I;16", {})),
        *(("f.tif", "F", {"compression": "tiff_adobe_deflate"}), ("cmyk.jpg", "CMYK", {})),
        *(("p.gif", "P", {}), ("a.jpg", "RGB", {"progressive": True})),
        *(("rgba.webp", "RGBA", {"lossless": True, "method": 0}), ("a.jp2", "RGB", {})),
    ):
        Image.new(mode, size).save(tmp_path / name, **options)
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, *sorted(map(str, tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    found = dict(line.rsplit(" ", 1) for line in ran.stdout.splitlines())
    assert len(found) == 9
    for path, taken in found.items():
        kind = Image.registered_extensions()[Path(path).suffix]
        assert float(taken) * HEAVY_PIXELS.get(kind, MAX_PIXELS) < 2e9, (path, taken)


def test_heavy_formats_have_a_lower_limit_unless_another_is_asked_for(tmp_path, monkeypatch):
    Image.new("RGB", (100, 100)).save(tmp_path / "a.jp2")
    monkeypatch.setitem(HEAVY_PIXELS, "JPEG2000", 9999)
    with pytest.raises(InputError, match="--max-pixels 10000"):
        read_image(tmp_path / "a.jp2")
    with pytest.raises(InputError, match="too many"):
        read_values(tmp_path / "a.jp2")
    assert read_image(tmp_path / "a.jp2", max_pixels=10_000).size_hw == (100, 100)


def chunk(kind, data):
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_chunk_of_a_png_that_unpacks_to_far_more(tmp_path, kind):
    packed = zlib.compress(bytes(150_000_000), 9)
    body = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[kind] + packed
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3)).save(buffer, "PNG")
    data = buffer.getvalue()
    (tmp_path / "a.png").write_bytes(data[:33] + chunk(kind, body) + data[33:])
    before = _resident()
    try:
        assert read_image(tmp_path / "a.png").size_hw == (3, 4)
    except InputError as error:
        assert "damaged" in str(error)
    assert _resident() - before < 50e6


def _resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("tag", [270, 273, 279, 258, 330, 34665, 50341])
def test_a_tag_of_a_tiff_that_claims_billions_of_values(tmp_path, tag):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3)).save(buffer, "TIFF")
    data = bytearray(buffer.getvalue())
    (where,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[where : where + 2])
    data[where : where + 2] = struct.pack("<H", count)
    data[where + 2 + 12 : where + 14 + 12] = struct.pack("<HHII", tag, 4, 2**31 - 1, 8)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(InputError):
        read_image(tmp_path / "a.tif")


def tiled_tiff(side, tile_side):
    """A grey TIFF of side×side black pixels, within one tile."""
    packed = zlib.compress(bytes(tile_side**2), 9)
    numbers = {256: side, 257: side, 258: 8, 259: 8, 262: 1, 277: 1}
    numbers |= {322: tile_side, 323: tile_side, 324: 8, 325: len(packed)}
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in numbers.items())
    start = struct.pack("<2sHI", b"II", 42, 8 + len(packed))
    return start + packed + struct.pack("<H", len(numbers)) + tags + bytes(4)


def test_a_tile_of_a_tiff_that_is_far_larger_than_the_picture(tmp_path):
    for name, tile_side in (("a.tif", 512), ("b.tif", 8192)):
        (tmp_path / name).write_bytes(tiled_tiff(64, tile_side))
    assert read_image(tmp_path / "a.tif").size_hw == (64, 64)
    for read in (read_image, read_values):
        with pytest.raises(InputError, match="its tiles of 8192×8192 pixels are far larger"):
            read(tmp_path / "b.tif")


def test_a_mask_of_an_exemplar_has_a_lower_limit(tmp_path, monkeypatch):
    Image.new("L", (6, 4), 9).save(tmp_path / "a.png")
    monkeypatch.setattr(exemplars, "MOST_PIXELS", 23)
    shown = exemplars.Exemplar("mug", tmp_path / "a.png", tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"a\.png: 6×4 pixels are too many"):
        shown.load()
    monkeypatch.setattr(exemplars, "MOST_PIXELS", 24)
    assert shown.load()[1].all()


class TestMasks:
    def read(self, folder, content, size_hw=(4, 6)):
        (folder / "one.json").write_text(json.dumps(content))
        frame = Frame(np.zeros((*size_hw, 3), np.uint8), source="one.jpg")
        return MaskFiles(folder)(frame, FEATURES, size_hw)

    def test_a_size_that_is_not_the_photo_s_is_refused_before_it_is_unpacked(self, tmp_path):
        with pytest.raises(InputError, match="are 1000000×1000000 pixels, not 6×4"):
            self.read(tmp_path, [{"size": [10**6, 10**6], "counts": [10**12]}])

    @pytest.mark.parametrize(
        "counts", [[2**62, 2**62, 2**62, 2**62, 24], [10**30], "o" * 100_000, [[24]], [1e30]]
    )
    def test_runs_beyond_the_mask(self, tmp_path, counts):
        with pytest.raises(InputError, match="cannot be read"):
            self.read(tmp_path, [{"size": [4, 6], "counts": counts}])

    def test_more_masks_than_any_photo_has(self, tmp_path):
        with pytest.raises(InputError, match=f"more than {MOST}"):
            self.read(tmp_path, [{"size": [4, 6], "counts": [24]}] * (MOST + 1))
        ids = np.arange(100 * 100, dtype=np.uint16).reshape(100, 100)
        Image.fromarray(ids).save(tmp_path / "noise.png")
        frame = Frame(np.zeros((100, 100, 3), np.uint8), source="noise.jpg")
        with pytest.raises(InputError, match="more than"):
            MaskFiles(tmp_path)(frame, FEATURES, (100, 100))

    def test_more_pixels_than_they_can_have_together(self, tmp_path, monkeypatch):
        monkeypatch.setattr(mask_files, "MOST_PIXELS", 3 * 4 * 6)
        assert len(self.read(tmp_path, [{"size": [4, 6], "counts": [0, 24]}] * 3)) == 3
        with pytest.raises(InputError, match="are 4, more than 3 for a photo of 6×4 pixels"):
            self.read(tmp_path, [{"size": [4, 6], "counts": [0, 24]}] * 4)

    def test_more_masks_than_there_is_room_for_at_the_network_s_size(self, tmp_path, monkeypatch):
        content = [{"size": [4, 6], "counts": [0, 24]}] * 4
        (tmp_path / "one.json").write_text(json.dumps(content))
        frame = Frame(np.zeros((4, 6, 3), np.uint8), source="one.jpg")
        monkeypatch.setattr(mask_files, "MOST_SEEN", 4 * 40 * 60)
        assert len(MaskFiles(tmp_path)(frame, FEATURES, (40, 60))) == 4
        with pytest.raises(
            InputError, match="4, more than 3 for .* seen at 61×40 .* smaller --size"
        ):
            MaskFiles(tmp_path)(frame, FEATURES, (40, 61))


def test_references_in_yaml_that_multiply(tmp_path):
    lines = ["a: &a [sky, sky, sky, sky, sky, sky, sky, sky, sky, sky]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    (tmp_path / "names.yaml").write_text("\n".join(lines))  # a thousand million names
    with pytest.raises(VocabularyError, match="more than 100000"):
        vocabulary_files.read(tmp_path / "names.yaml")


def test_a_shard_that_unpacks_to_far_more(tmp_path):
    (tmp_path / "classes.json").write_text('{"0": {"names": ["cat"]}}')
    with tarfile.open(tmp_path / "train-0.tar.gz", "w:gz", compresslevel=9) as shard:
        member = tarfile.TarInfo("a.webp")
        member.size = 200_000_000
        shard.addfile(member, open("/dev/zero", "rb"))  # noqa: SIM115
    with pytest.raises(UsageError, match="would unpack to more than 200 MB"):
        read_image_set(tmp_path, "train")


def test_pictures_in_a_shard_that_unpack_to_far_more(tmp_path):
    (tmp_path / "classes.json").write_text('{"0": {"names": ["cat"]}}')
    buffer = io.BytesIO()
    Image.new("RGB", (6000, 5000)).save(buffer, "WEBP", lossless=True, method=0)
    with tarfile.open(tmp_path / "train-0.tar.gz", "w:gz") as shard:
        member = tarfile.TarInfo("a.webp")
        member.size = len(buffer.getvalue())
        buffer.seek(0)
        shard.addfile(member, buffer)
    with pytest.raises(UsageError, match="far larger"):
        read_image_set(tmp_path, "train")


def test_links_in_a_shard_are_passed_over(tmp_path):
    (tmp_path / "classes.json").write_text('{"0": {"names": ["cat"]}}')
    with tarfile.open(tmp_path / "train-0.tar.gz", "w:gz") as shard:
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "a.cls")):
            member = tarfile.TarInfo("a.cls")
            member.type, member.linkname = kind, target
            shard.addfile(member)
    with pytest.raises(UsageError, match="0 pictures and 0 class"):
        read_image_set(tmp_path, "train")


def test_a_label_map_of_matlab_s_is_refused_unread(tmp_path, monkeypatch):
    from scipy.io import savemat

    savemat(tmp_path / "a.mat", {"LabelMap": np.zeros((50, 60), np.uint8)}, do_compression=True)
    assert stored_labels.label_map_of_mat(tmp_path / "a.mat").shape == (50, 60)
    monkeypatch.setattr(stored_labels, "MAX_PIXELS", 2999)
    with pytest.raises(InputError, match="a label map of"):
        stored_labels.label_map_of_mat(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(1).expand(1 << 40), "the file holds a part"),
        (torch.empty(1 << 40, device="meta"), "not a plain tensor"),
        (torch.sparse_coo_tensor([[1]], [1.0], (1 << 40,)), "not a plain tensor"),
        (torch.zeros(2, dtype=torch.complex128), "numbers of a kind"),
    ],
)
def test_tensors_that_are_said_to_be_larger_than_the_file(tmp_path, tensor, message):
    torch.save({"a": tensor}, tmp_path / "c.pt")
    assert (tmp_path / "c.pt").stat().st_size < 10_000
    with pytest.raises(CheckpointError, match=message):
        read_tensors(tmp_path / "c.pt")


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("visual", "context_layers", 10**9),
        ("text", "width", 10**12),
        ("text", "width", -8),
        ("visual", "context_heads", 0),
        ("input", "min_size", "x"),
        ("input", "pixel_mean", [1e30, 0, 0]),
        ("input", "scales", []),
        ("input", "scales", [1.0, 0.0]),
        ("input", "scales", [1e6]),
        ("other_weight", "scale", 0.0),
        ("other_weight", "power", -0.1),
        ("other_weight", "power", 1e300),
        ("other_weight", "power", "x"),
        (None, "other_weight", 1.0),
    ],
)
def test_a_model_file_that_describes_no_model(tmp_path, part, key, value):
    path = tmp_path / "m.safetensors"
    weights.save(weights.Checkpoint(PYRAMID, build(PYRAMID).state_dict()), path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    about = json.loads(header["__metadata__"]["ovseg"])
    config = about["config"] if part is None else about["config"][part]
    config[key] = value
    header["__metadata__"]["ovseg"] = json.dumps(about)
    changed = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(changed)) + changed + data[8 + length :])
    from ovseg_cli.loading import load_model

    with pytest.raises(CheckpointError, match=r"m\.safetensors"):
        load_model(path, device="cpu")


def test_a_frame_of_a_video_that_is_too_large(tmp_path, monkeypatch):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    monkeypatch.setattr("ovseg_cli.media.stream.MAX_PIXELS", 64 * 48 - 1)
    with (
        pytest.raises(InputError, match="64×48 pixels: it is too large"),
        open_video(str(tmp_path / "a.mkv")) as opened,
    ):
        list(opened.frames())


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4", "list.ffconcat", "list.sdp"])
def test_a_local_file_does_not_make_ffmpeg_ask_the_network(tmp_path, name):
    """Playlists name other files; only the address that a user types may be asked."""
    pytest.importorskip("av")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n"
        concat = f"ffconcat version 1.0\nfile {address}\n"
        (tmp_path / name).write_text(concat if "concat" in name else playlist)
        with (
            pytest.raises(InputError),
            open_video(str(tmp_path / name)) as opened,
        ):
            list(opened.frames())
        with pytest.raises(TimeoutError):
            server.accept()


def test_names_in_lists_that_no_file_system_can_have(tmp_path):
    (tmp_path / "classes.json").write_text('{"0": "sky"}')
    for name in ("x" * 3000, "a\0b", "../" * 2000):
        (tmp_path / "val.txt").write_text(name)
        with pytest.raises(UsageError, match="has no photo"):
            read_pixel_set(tmp_path, "val").load(name)


def test_a_label_map_far_larger_than_its_run_says_is_refused_unread(tmp_path):
    """Nothing follows its header: were it decoded, it would be called damaged."""
    run = MadeRun(tmp_path, ["sky", "road"]).add("a", np.zeros((2, 2), np.int32))
    label_map = run.out / "labels" / "a.png"
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", b""), (b"IEND", b"")]
    label_map.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )
    entry = (run.out / ".ovseg" / "journal.jsonl").read_text()
    values = json.loads(entry)
    values["files"]["labels"]["labels/a.png"] = label_map.stat().st_size
    (run.out / ".ovseg" / "journal.jsonl").write_text(json.dumps(values) + "\n")
    (photo,) = LabelledRun(run.out)
    with pytest.raises(InputError, match="not the label map that the run has written"):
        photo.labels()


def test_an_overlay_far_larger_than_its_run_says_is_left_out_unread(tmp_path):
    """A progressive JPEG, whose decoder holds it whole at whatever scale: here of 4000x4000."""
    run = MadeRun(tmp_path, ["sky", "road"], save=("labels", "overlay"))
    run.add("a", np.zeros((60, 60), np.int32))
    overlay = run.out / "overlays" / "a.jpg"
    for size in ((4000, 4000), (60, 60)):
        Image.new("RGB", size).save(overlay, progressive=True)
        (small,) = write_thumbnails(read_run(run.out), tmp_path / f"files-{size[0]}")
        assert not small.overlay and small.photo


@pytest.mark.parametrize("start", ["[]", "[[]]", "[~]", "[{}]"])
def test_references_in_yaml_that_multiply_nothing(tmp_path, start):
    lines = [f"a0: &a0 {start}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 13)]
    (tmp_path / "names.yaml").write_text("\n".join(lines))
    with pytest.raises(VocabularyError, match="no class name"):
        vocabulary_files.read(tmp_path / "names.yaml")
