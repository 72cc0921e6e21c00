"""How right the label maps of a finished run are, photo by photo, where labels are at hand."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import numpy as np

from ovseg_cli.data.pixel_set import BACKGROUND, PixelSet, read_ids
from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.evaluation.confusion import ConfusionMatrix
from ovseg_cli.exports import UNLABELED_16, label_kind
from ovseg_cli.printable import printable, some_of
from ovseg_cli.run_folder.finished_run import FinishedPhoto, FinishedRun
from ovseg_cli.segmentation import UNLABELED
from ovseg_cli.vocabulary import comparable


@dataclass
class Accuracy:
    """IoU of the photos that have labels; filled by `measure`."""

    data: PixelSet  # pixels of what the run has no name for may be among those of its other
    classes: Mapping[int, int]  # class id of the run -> position in the set
    not_named: tuple[str, ...]  # classes of the set for which the run has no name
    counted: tuple[int, ...]  # positions that the mean is over: background, too, as in `ovseg eval`
    matrix: ConfusionMatrix
    # REL -> mIoU, classes that occur; NaN where the run has a name for none of them.
    photos: dict[str, float] = field(default_factory=dict)
    other_size: list[str] = field(default_factory=list)  # REL of photos unlike their labels
    unread: dict[str, str] = field(default_factory=dict)  # REL -> why a label map cannot be read
    strangers: Counter[int] = field(default_factory=Counter)  # see `PixelSet.strangers`

    @property
    def labelled(self) -> int:
        """How many photos have labels, those among them that are left out."""
        return len(self.photos) + len(self.other_size) + len(self.unread)

    def undefined(self) -> dict[str, str]:
        """Why photos that have labels have no IoU, in a few words, by REL."""
        without = (rel for rel, iou in self.photos.items() if math.isnan(iou))
        return (
            dict.fromkeys(without, "none of the classes")
            | dict.fromkeys(self.other_size, "labels of another size")
            | dict.fromkeys(self.unread, "labels that cannot be read")
        )

    def iou(self) -> dict[int, float]:
        """IoU by class id of the run over all photos, NaN for a class that never occurs."""
        values = self.matrix.iou()
        return {mine: float(values[theirs]) for mine, theirs in self.classes.items()}

    def mean_iou(self) -> float:
        """Over all photos together, as `ovseg eval` counts; NaN for none."""
        return self.matrix.mean_iou(self.counted)


def begin(run: FinishedRun, data: PixelSet) -> Accuracy:
    """Match the classes; raises UsageError where none is the same or there is no label map."""
    if run.photos and not any(photo.labels for photo in run.photos):
        raise UsageError(
            f"{printable(str(run.out))} has no label maps to compare with --data: "
            "segment with labels among --save"
        )
    run.require_loose_labels("compared")
    positions = {comparable(name): position for position, name in enumerate(data.names)}
    classes: dict[int, int] = {}
    for class_id, entry in enumerate(run.classes):
        words = map(comparable, entry.phrases)
        found = [positions[word] for word in words if word in positions]
        if found:  # no phrase is that of two classes
            classes[class_id] = found[0]
    if not classes:
        raise UsageError(
            f"no class of the run is one of {printable(data.name)}: it has "
            f"{some_of([entry.name for entry in run.classes], 8)}; "
            f"the set has {some_of(data.names, 8)}"
        )
    named = set(classes.values())
    others = [class_id for class_id in _other_classes(run) if class_id not in classes]
    if data.has_other or others:
        data = _with_others(data, named)
    if data.has_other:
        classes |= dict.fromkeys(others, data.other)
    return Accuracy(
        data=data,
        classes=classes,
        not_named=tuple(name for i, name in enumerate(data.names) if i not in named),
        counted=(*named, data.other) if data.has_other else tuple(named),
        matrix=ConfusionMatrix(len(data.names) + data.has_other),
    )


def measure(run: FinishedRun, accuracy: Accuracy) -> Iterator[None]:
    """Compare each photo that has labels; yields after every photo of the set.

    As in `ovseg eval --only` with the names that the run has, too: where the set has background or
    the run a class for what fits none of its names, pixels of the other classes are background,
    as is what is unlabelled. Elsewhere they count against the class they were given, and their
    own is left out of the mean.
    """
    data = accuracy.data
    table = np.full(UNLABELED_16 + 1, UNLABELED, np.int32)  # id in the label map -> position
    for mine, theirs in accuracy.classes.items():
        table[mine] = theirs
    if data.has_other:
        table[np.iinfo(label_kind(len(run.classes))).max] = data.other
    matched = match(run.photos, data.keys)
    for key in data.keys:
        photo = matched.get(key)
        if photo is not None and photo.labels is not None:
            rel = photo.entry.rel
            try:
                stored, prediction = data.stored_labels(key), table[read_ids(photo.labels)]
            except InputError as error:
                accuracy.unread[rel] = str(error)
            else:
                if stored.shape != prediction.shape:
                    accuracy.other_size.append(rel)
                else:
                    single = ConfusionMatrix(accuracy.matrix.classes)
                    single.add(data.labels_of(stored), prediction, data.ignore)
                    accuracy.matrix.counts += single.counts
                    accuracy.strangers += data.strangers(stored)
                    accuracy.photos[rel] = single.mean_iou(accuracy.counted)
        yield


def match(photos: Sequence[FinishedPhoto], keys: Sequence[str]) -> dict[str, FinishedPhoto]:
    """The photo of each key: the one whose REL it is, else the only one whose file's stem it is.

    No photo is that of two keys: what several claim by its stem is that of none of them.
    """
    by_rel = {photo.entry.rel: photo for photo in photos}
    matched = {key: by_rel[key] for key in keys if key in by_rel}
    by_stem: dict[str, list[FinishedPhoto]] = defaultdict(list)
    for photo in photos:
        by_stem[PurePosixPath(photo.name).stem].append(photo)
    others = [(key, PurePosixPath(key).name) for key in keys if key not in by_rel]
    claims = Counter(stem for _, stem in others)
    for key, stem in others:
        alike = by_stem.get(stem, [])
        if len(alike) == claims[stem] == 1 and alike[0].entry.rel not in matched:
            matched[key] = alike[0]
    return matched


def _other_classes(run: FinishedRun) -> list[int]:
    """The classes that take what fits none of the names: --other, and one named background."""
    options = run.record.get("options")
    other = options.get("other") if isinstance(options, dict) else None
    asked = comparable(other.split("|")[0]) if isinstance(other, str) else BACKGROUND
    names = [comparable(entry.name) for entry in run.classes]
    return [class_id for class_id, name in enumerate(names) if name in (asked, BACKGROUND)]


def _with_others(data: PixelSet, named: Collection[int]) -> PixelSet:
    """The same positions, with the pixels of those that are not `named` in `data.other`."""
    rest = (number for i, number in enumerate(data.ids) if i not in named)
    return replace(data, other_ids=(*data.other_ids, *rest))
