"""All that reads bytes from elsewhere, with valid files of each kind to begin from."""

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import mock_segmenter
import numpy as np
from fuzz import mutations
from PIL import Image

from ovseg_cli import png
from ovseg_cli.errors import InputError
from ovseg_cli.frame import Frame
from ovseg_cli.media.images import read_image, read_opacity

Read = Callable[[], object]


@dataclass(frozen=True)
class Reader:
    """How a kind of file is made, changed and read."""

    prepare: Callable[[Path], Read]  # writes valid files; gives what reads them
    pattern: str = "*"  # of the files that are changed, below the folder

    def files(self, folder: Path) -> list[str]:
        """The files that are changed."""
        return [
            path.relative_to(folder).as_posix()
            for path in sorted(folder.glob(self.pattern))
            if path.is_file() and "out" not in path.relative_to(folder).parts[:1]
        ]

    def mutate(self, name: str) -> mutations.Mutation:
        """What changes a file of that name."""
        if name.endswith((".json", ".jsonl", ".ovseg-files")):
            return mutations.of_json
        if name.endswith((".txt", ".yaml", ".toml", ".csv")):
            return mutations.of_text
        return mutations.of_safetensors if name.endswith(".safetensors") else mutations.of_bytes


def picture(size_hw: tuple[int, int] = (24, 36)) -> Image.Image:
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    return Image.fromarray(np.stack([4 * x, 200 - 6 * y, 2 * x + 2 * y], axis=-1).astype(np.uint8))


def each(paths: Iterable[Path], read: Callable[[Path], object]) -> Read:
    """Reads the files that are not as they were; all of them where all are."""
    valid = {path: path.read_bytes() for path in paths}

    def read_changed() -> None:
        changed = [path for path, data in valid.items() if path.read_bytes() != data]
        for path in changed or valid:
            read(path)

    return read_changed


def _images(folder: Path) -> Read:
    photo = picture()
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    ids = np.asarray(photo)[..., 0]
    kinds = {
        "a.jpg": (photo, {"exif": exif}),
        "progressive.jpg": (photo, {"progressive": True}),
        "cmyk.jpg": (photo.convert("CMYK"), {}),
        "grey.jpg": (photo.convert("L"), {"comment": b"a comment"}),
        "a.png": (photo, {"exif": exif}),
        "16.png": (Image.fromarray(ids.astype(np.uint16) * 200), {}),
        "palette.png": (photo.quantize(16), {"transparency": 3}),
        "alpha.png": (photo.convert("RGBA"), {}),
        "a.gif": (photo, {"save_all": True, "append_images": [photo.rotate(180)]}),
        "a.webp": (photo, {"exif": exif}),
        "lossless.webp": (photo.convert("RGBA"), {"lossless": True}),
        "a.bmp": (photo, {}),
        "palette.bmp": (photo.quantize(16), {}),
        "a.ppm": (photo, {}),
        "a.jp2": (photo, {}),
        "a.avif": (photo, {}),
        "a.tif": (photo, {"exif": exif}),
        "lab.tif": (photo.convert("RGB").convert("LAB"), {}),
        "float.tif": (Image.fromarray(ids.astype(np.float32)), {}),
        **{
            f"{name}.tif": (photo, {"compression": name})
            for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
        },
        "group4.tif": (photo.convert("1"), {"compression": "group4"}),
    }
    for name, (image, options) in kinds.items():
        if Path(name).suffix in Image.registered_extensions():
            image.save(folder / name, **options)
    if importlib.util.find_spec("pi_heif"):
        shutil.copy(Path(__file__).parents[1] / "media/turned.heic", folder)

    def read(path: Path) -> None:
        read_image(path)
        read_opacity(path)

    return each(folder.iterdir(), read)


def _videos(folder: Path) -> Read:
    import av

    from ovseg_cli.media.video import open_video

    for name, codec in (
        *(("a.mp4", "libx264"), ("a.mkv", "ffv1"), ("a.avi", "mjpeg"), ("a.webm", "libvpx")),
        *(("a.mpg", "mpeg2video"), ("a.gif", "gif"), ("a.mov", "qtrle"), ("a.ts", "mpeg4")),
    ):
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = stream.codec_context.codec.video_formats[0].name
            for index in range(4):
                frame = av.VideoFrame.from_image(picture((48, 64)).rotate(10 * index))
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))

    def read(path: Path) -> None:
        with open_video(str(path)) as video:
            for frame in video.frames():
                if frame.index >= 20:
                    break

    return each(folder.iterdir(), read)


def _vocabularies(folder: Path) -> Read:
    from ovseg_cli import vocabulary_files

    (folder / "names.txt").write_text("# names\nsky\nvehicle:\n  car | automobile\n  bus\nC#\n")
    (folder / "kinds.yaml").write_text(
        "vehicle: [car, bus]\nplant:\n  tree: &t [oak, elm]\nx: sky\n"
    )
    (folder / "kinds.json").write_text('{"vehicle": ["car", "b\\u00fcs"], "x": "sky"}')
    (folder / "templates.txt").write_text("a photo of a {}.\na {} in the street\n")

    def read(path: Path) -> None:
        if path.stem == "templates":
            vocabulary_files.templates(str(path))
        else:
            vocabulary_files.read(path)

    return each(folder.iterdir(), read)


def _training(folder: Path) -> Read:
    """The recipes of all stages, as far as they are read before any data is."""
    from ovseg_cli.training.config import from_table, read_toml
    from ovseg_cli.training.stages import STAGES, Recipe

    for path in (Path(__file__).resolve().parents[2] / "weights").glob("*.toml"):
        (folder / path.name).write_bytes(path.read_bytes())

    def read(path: Path) -> None:
        recipe = from_table(Recipe, read_toml(path), str(path))
        name = next((name for name in STAGES if name in path.stem), "deop")
        from_table(STAGES[name][-2], recipe.stage, str(path), "stage")

    return each(folder.iterdir(), read)


def _checkpoints(folder: Path) -> Read:
    """Files of other programs, through `ovseg models import`."""
    import torch
    from safetensors.torch import save_file
    from small_models import openai_style_state, san_authors_state

    from ovseg_cli.importing import import_checkpoint

    # Small enough for edits to meet more than tensors' values.
    state = {name: value.half() for name, value in openai_style_state().items()}
    torch.save(state, folder / "zip.pt")
    torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "a.safetensors")
    torch.save({"model": san_authors_state()}, folder / "san.pt")

    heads = {"visual_heads": 2, "text_heads": 2}

    def read(path: Path) -> None:
        options = heads | ({"side_heads": 2} if path.stem == "san" else {})
        import_checkpoint(path, "foreign", options)

    return each(folder.iterdir(), read)


def _checkpoint_options(folder: Path) -> Read:
    from small_models import openai_style_state, san_authors_state

    from ovseg_cli.importing import read_options
    from ovseg_cli.model.foreign import convert_any

    options = {"visual_heads": 2, "text_heads": 2, "min_size": 64, "pixel_mean": [1, 2, 3]}
    clip = {"severance": "gps", "severed_layers": [1], "reduced": False, "gelu": "quick"}
    (folder / "clip.json").write_text(json.dumps(options | clip))
    (folder / "san.json").write_text(json.dumps(options | {"side_heads": 2, "clip_scale": 0.5}))
    states = {"clip": openai_style_state(), "san": san_authors_state()}
    return each(folder.iterdir(), lambda path: convert_any(states[path.stem], read_options(path)))


def _models(folder: Path) -> Read:
    """Model files of ours, as `ovseg models verify` and `ovseg segment --model` take them."""
    import torch
    from small_models import PYRAMID, SMALL_SAN

    from ovseg_cli import weights
    from ovseg_cli.loading import load_model
    from ovseg_cli.model.build import build

    torch.manual_seed(1)
    for name, config in (("pyramid", PYRAMID), ("san", SMALL_SAN)):
        checkpoint = weights.Checkpoint(config, build(config).state_dict(), "a model", "none")
        weights.save(checkpoint, folder / f"{name}.safetensors", half=True)

    def read(path: Path) -> None:
        try:
            weights.verify(weights.entry_of(path))
        finally:
            load_model(path, device="cpu")

    return each(folder.iterdir(), read)


def _masks(folder: Path) -> Read:
    from ovseg_cli.masks.mask_files import MaskFiles

    ids = np.arange(24 * 36, dtype=np.uint16).reshape(24, 36) // 100
    Image.fromarray(ids.astype(np.uint8)).save(folder / "8.png")
    Image.fromarray(ids * 300).save(folder / "16.png")
    masks = [{"size": [24, 36], "counts": [0, 8, 856]}, {"size": [24, 36], "counts": "08hj0"}]
    (folder / "sam.json").write_text(json.dumps([{"segmentation": mask} for mask in masks]))
    (folder / "coco.json").write_text(json.dumps({"annotations": masks[:1]}))
    source, features = MaskFiles(folder), np.ones((1, 1, 1), np.float32)
    pixels = np.zeros((24, 36, 3), np.uint8)
    return each(
        folder.iterdir(), lambda path: source(Frame(pixels, source=path.name), features, (12, 18))
    )


def _sam_folders(folder: Path) -> Read:
    """A Segment-Anything model as transformers keeps it."""
    from small_models import save_small_sam

    from ovseg_cli.masks.sam_masks import SamMasks

    save_small_sam(folder)
    return lambda: SamMasks(folder, "cpu")


def _graphs(folder: Path) -> Read:
    """Files of `ovseg export-model`, with the numbers of a graph left as they are or not."""
    import torch
    from small_models import PLAIN

    from ovseg_cli import weights
    from ovseg_cli.model.build import build
    from ovseg_cli.onnx_export import export
    from ovseg_cli.onnx_runtime import Graph

    torch.manual_seed(1)
    network = build(PLAIN)
    model = folder / "model.safetensors"
    weights.save(weights.Checkpoint(PLAIN, network.state_dict(), "a model", "none"), model)
    (folder / "plain.onnx").write_bytes(export(network, "grid", weights.entry_of(model)))
    images, text = torch.zeros(1, 3, 32, 48), torch.ones(2, PLAIN.joint_width)
    return lambda: Graph(folder / "plain.onnx")(images, text)


def _labelled(folder: Path) -> Read:
    """A labelled data set, and the label maps that another program has made of it."""
    from ovseg_cli.data.pixel_set import read_pixel_set
    from ovseg_cli.evaluation.predictions import PredictionFiles

    ids = np.arange(24 * 36).reshape(24, 36) // 300
    for name in ("images", "labels", "made"):
        (folder / name).mkdir()
    (folder / "classes.json").write_text('{"0": "background", "1": "sky", "2": "road"}')
    (folder / "val.txt").write_text("a\nb\n")
    for key in "ab":
        picture().save(folder / "images" / f"{key}.jpg")
        Image.fromarray(ids.astype(np.uint8)).save(folder / "labels" / f"{key}.png")
        content = png.encoded_map(ids.astype(np.uint8), {"Vocabulary": '["sky", "road", "rest"]'})
        (folder / "made" / f"{key}.png").write_bytes(content)

    def read() -> None:
        data = read_pixel_set(folder, "val")
        made = PredictionFiles(folder / "made", data)
        for key in data.keys:
            made(key, data.load(key)[0])

    return read


def _label_files(folder: Path) -> Read:
    """Those of Pascal Context and of ADE20K's full release."""
    from scipy.io import savemat

    from ovseg_cli.data.stored_labels import label_map_of_mat, objects_of_ade

    savemat(folder / "a.mat", {"LabelMap": np.arange(600, dtype=np.uint16).reshape(20, 30)})
    picture().save(folder / "a_seg.png")
    return each(
        folder.iterdir(),
        lambda path: (label_map_of_mat if path.suffix == ".mat" else objects_of_ade)(path),
    )


def _shards(folder: Path) -> Read:
    from ovseg_cli.data.image_set import read_image_set

    (folder / "classes.json").write_text('{"0": {"names": ["cat"]}, "1": {"names": ["dog"]}}')
    buffer = io.BytesIO()
    picture((8, 8)).save(buffer, "WEBP")
    for number, form in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        with tarfile.open(folder / f"train-{number}.tar.gz", "w:gz", format=form) as shard:
            for name, content in (("a.webp", buffer.getvalue()), ("a.cls", b"1")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return lambda: read_image_set(folder, "train")


def _runs(folder: Path) -> Read:
    """What `ovseg segment` has left, as its report, its exports and --resume read it."""
    import shutil

    from finished_runs import MadeRun, blobs

    from ovseg_cli.cli.report import PAGE
    from ovseg_cli.exports import select
    from ovseg_cli.formats import FORMATS, export
    from ovseg_cli.formats.labelled import LabelledRun
    from ovseg_cli.formats.options import ExportOptions
    from ovseg_cli.media.inputs import ImageInput
    from ovseg_cli.report.page import write_page
    from ovseg_cli.report.thumbnails import write_thumbnails
    from ovseg_cli.run_folder.finished_run import read_run
    from ovseg_cli.run_folder.output import OutputFolder
    from ovseg_cli.run_folder.tables import areas_of
    from ovseg_cli.vocabulary import ClassName

    names = [ClassName("sky"), ClassName("road", parents=("ground",)), ClassName("car")]
    made = MadeRun(folder, names, save=("labels", "overlay"))
    made.add("a", blobs((24, 36))).add("b/c", blobs((24, 36), seed=1))
    made.record(options={"exif": True}, failures=[{"path": "x.jpg", "reason": "empty"}])
    # Changed below another name: what is below "out" may be written.
    run = folder.rename(folder.with_name("run"))
    folder.mkdir()
    (run / "out").rename(folder / "run")
    (folder / "run" / "stats.csv").write_text(
        "image,width,height,class_id,class,pixels,fraction,mean_confidence\n"
        "a.png,36,24,0,sky,864,1.0,0.5\n"
    )
    out, vocabulary = folder / "run", made.vocabulary
    images = [ImageInput(str(photo), rel) for rel, photo in made.photos.items()]
    formats = [FORMATS[name] for name in ("masks", "voc", "coco", "svg", "label-studio", "yolo")]

    def read() -> None:
        for step in (report, exports, resumed):
            step()

    def report() -> None:
        found = read_run(out)
        small = list(write_thumbnails(found, folder / "out" / "report-files"))
        write_page(folder / "out" / PAGE, found, small, None)

    def exports() -> None:
        for entry in formats:
            export(LabelledRun(out), entry, folder / "out" / entry.name, ExportOptions())

    def resumed() -> None:
        copy = folder / "out" / "resumed"  # which the run writes to
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(out, copy)
        output = OutputFolder(copy, select(["labels"], vocabulary))
        output.check(resume=True, overwrite=False)
        output.open(vocabulary, run="run", metadata={})
        for image, entry in zip(images, output.finished(images), strict=True):
            if entry is not None:
                areas_of(entry, vocabulary)
                assert entry.rel == image.rel
        output.write_tables(images, vocabulary)
        output.close()

    return read


def _clips(folder: Path) -> Read:
    """What an interrupted `ovseg video` has left, gone on with."""
    import shutil
    from fractions import Fraction

    from ovseg_cli.clips.folder import ClipFolder
    from ovseg_cli.clips.state import Origin
    from ovseg_cli.segmentation import Segmentation
    from ovseg_cli.vocabulary import Vocabulary

    names, origin = Vocabulary(["sky", "road"]), Origin("/clips/a.mp4", 1234, 99, "run")
    labels = np.zeros((48, 64), np.int32)
    segmentation = Segmentation(labels, np.ones((48, 64), np.float32), names)
    pixels = np.asarray(picture((48, 64)))

    def clip(out: Path) -> ClipFolder:
        return ClipFolder(out, "a", ("overlay", "labels=video", "stats"), names)

    begun = clip(folder / "run")
    begun.open(origin, {}, Fraction(10))
    for index in range(3):
        begun.write(Frame(pixels, index, index / 10), segmentation, False)
    begun.close()
    begun.write_report({"status": "interrupted"}, origin)

    def read() -> None:
        shutil.rmtree(folder / "out", ignore_errors=True)
        shutil.copytree(folder / "run", folder / "out")
        gone_on = clip(folder / "out")
        if not gone_on.finished(origin, audio=True):
            gone_on.open(origin, {}, Fraction(10))
            gone_on.write(Frame(pixels, 3, 0.3), segmentation, False)
            gone_on.finish()

    return read


def _paths(folder: Path) -> Read:
    """A list of photos, as `ovseg segment -` takes it."""
    from ovseg_cli.cli.segment_inputs import find

    (folder / "list.txt").write_text("photos/a.jpg\nphotos/*.png\n../b.jpg\n")
    (folder / "null.txt").write_bytes(b"photos/a.jpg\0b\n.jpg\0")
    (folder / "out" / "photos").mkdir(parents=True)
    for name in ("a.jpg", "b.png"):
        picture().save(folder / "out" / "photos" / name)
    os.chdir(folder / "out")

    def read(path: Path) -> None:
        sys.stdin = io.TextIOWrapper(io.BytesIO(path.read_bytes()))
        for image in find(("-",), False, path.stem == "null", [path.parent / "labels"]):
            inside = Path("/out", image.rel)
            if ".." in inside.parts or inside.parts[:2] != ("/", "out"):
                raise AssertionError(f"results outside: {image.rel!r}")

    return each(folder.glob("*.txt"), read)


def _tars(folder: Path) -> Read:
    """Photos that stay in their archive."""
    from ovseg_cli.storage.tar_photos import tar_photos

    buffer = io.BytesIO()
    picture((8, 8)).save(buffer, "PNG")
    for name, form in (("gnu.tar", tarfile.GNU_FORMAT), ("pax.tar", tarfile.PAX_FORMAT)):
        with tarfile.open(folder / name, "w", format=form) as archive:
            for inner in ("a.png", "deep/" + "b" * 120 + ".png", "a.json"):
                member = tarfile.TarInfo(inner)
                member.size = len(buffer.getvalue())
                buffer.seek(0)
                archive.addfile(member, buffer)

    def read(path: Path) -> None:
        for photo in tar_photos(str(path)):
            if ".." in photo.path.parts or not photo.path.is_relative_to(path):
                raise AssertionError(f"outside: {photo.path}")
            with suppress(InputError):
                read_image(photo)

    return each(folder.iterdir(), read)


def _parts(folder: Path) -> Read:
    """The parts of a divided run, as `ovseg merge` reads them."""
    from ovseg_cli.run_folder.merging import merge, write_photos, write_tables

    photos = folder / "out" / "photos"
    photos.mkdir(parents=True)
    for name in ("a.png", "b.png", "c.png"):
        picture().save(photos / name)
    for number in ("1", "2"):
        command = ["segment", str(photos), "--classes", "sky,road", "-o", str(folder / number)]
        program = [sys.executable, mock_segmenter.__file__, *command, "--shard", f"{number}/2"]
        subprocess.run(program, check=True, capture_output=True)

    def read() -> None:
        merged = merge([folder / "1", folder / "2"])
        list(write_photos(merged, folder / "out" / "merged", files="copy"))
        write_tables(merged, folder / "out" / "merged")
        merged.report("ovseg merge")

    return read


def _baselines(folder: Path) -> Read:
    from ovseg_cli.benchmark.baseline import Baseline, store
    from ovseg_cli.benchmark.figure import LOWER, Figure

    figure = Figure("a.b", "a figure", 1.5, "s", LOWER)
    store(folder / "a.json", [figure], {"cpu": "one"}, {"photos": 3})

    def read(path: Path) -> None:
        baseline = Baseline(path)
        baseline.differences({"cpu": "two"}, {})
        baseline.compare(figure, 0.1)

    return each(folder.iterdir(), read)


READERS = {
    "images": Reader(_images),
    "videos": Reader(_videos),
    "vocabularies": Reader(_vocabularies),
    "training": Reader(_training),
    "checkpoints": Reader(_checkpoints),
    "checkpoint-options": Reader(_checkpoint_options),
    "models": Reader(_models),
    "masks": Reader(_masks),
    "sam-folders": Reader(_sam_folders),
    "graphs": Reader(_graphs, "*.onnx"),
    "labelled": Reader(_labelled, "**/*"),
    "label-files": Reader(_label_files),
    "shards": Reader(_shards),
    "runs": Reader(_runs, "run/**/*"),
    "clips": Reader(_clips, "run/**/*"),
    "paths": Reader(_paths),
    "tars": Reader(_tars),
    "parts": Reader(_parts, "[12]/**/*"),
    "baselines": Reader(_baselines),
}
