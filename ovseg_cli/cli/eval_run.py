"""What `ovseg eval` does: open the set, count, and show or write what was counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovseg_cli.cli import console, eval_files
from ovseg_cli.cli.compute import Compute
from ovseg_cli.cli.eval_compare import Variant, require_runnable, variants
from ovseg_cli.cli.eval_names import own_names, renamed
from ovseg_cli.cli.vocabulary_echo import echo_rivals, warn_of_other
from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.printable import quantity

if TYPE_CHECKING:
    from ovseg_cli.data.pixel_set import PixelSet
    from ovseg_cli.evaluation.run import Evaluation, Predict
    from ovseg_cli.vocabulary import ClassName


@dataclass(frozen=True)
class Request:
    """The options of the command."""

    data: Path
    benchmark_name: str | None
    split: str | None
    predictions: Path | None
    prediction_ids: str  # "names", "position" or "file"
    unseen: str | None
    only: str | None
    rename: str | None
    threshold: float | None
    tune: bool
    compared: tuple[str, ...]
    csv_file: Path | None
    photos_file: Path | None
    confusion: Path | None
    worst_dir: Path | None
    worst: int
    as_json: bool
    compute: Compute

    def __post_init__(self) -> None:
        """Raises UsageError for options that exclude each other."""
        of_model = {
            "--tune": self.tune,
            "--compare": self.compared,
            "--threshold": self.threshold is not None,
            "--rename": self.rename is not None,
        }
        for option, given, others, reason in (
            ("--predictions", self.predictions, of_model, "no model is asked"),
            ("--compare", self.compared, self.targets, "there are several results"),
            ("--tune", self.tune, {"--threshold": self.threshold is not None}, "it finds one"),
        ):
            wrong = [other for other, value in others.items() if value]
            if given and wrong:
                raise UsageError(f"{option} and {wrong[0]} exclude each other: {reason}")

    @property
    def targets(self) -> dict[str, Path]:
        """The files and folders to be written, by their options."""
        places = {
            eval_files.CLASSES: self.csv_file,
            eval_files.PHOTOS: self.photos_file,
            eval_files.CONFUSION: self.confusion,
            eval_files.WORST: self.worst_dir,
        }
        return {option: place for option, place in places.items() if place is not None}


@dataclass(frozen=True)
class Subject:
    """The labelled photos and the names they are scored by."""

    photos: PixelSet
    whole: PixelSet  # the same photos with all names of the set
    split: str
    names: tuple[str, ...]  # of all classes that count; background, if any, is the last
    words: list[str | ClassName]  # what the model is told for them, without background
    unseen: list[int]


def run(request: Request) -> int:
    """Evaluate as asked, and say and write the result. Returns the exit code."""
    chosen = variants(request.compute, request.compared)
    eval_files.check(request.targets)
    subject = _opened(request)
    if request.compared:
        return _compare(request, subject, chosen)
    evaluation = _counted(request, subject, request.compute)
    try:
        _show(request, subject, evaluation)
    finally:  # a reader of the scores that goes away does not cost the files
        written = eval_files.write(request.targets, subject.photos, subject.names, evaluation)
    return 0 if written and not evaluation.failures else 1


def _opened(request: Request) -> Subject:
    from ovseg_cli.data.benchmarks import benchmark, open_benchmark
    from ovseg_cli.data.pixel_set import BACKGROUND, read_pixel_set
    from ovseg_cli.vocabulary_files import preset

    entry = benchmark(request.benchmark_name) if request.benchmark_name else None
    split = request.split or (entry.splits[0] if entry else "val")
    root = request.data
    whole = open_benchmark(entry, root, split) if entry else read_pixel_set(root, split)
    whole.require_files()
    photos = whole
    if request.only is not None:
        photos = whole.only(own_names("--only", request.only))
    if request.unseen is not None:
        unseen = own_names("--unseen", request.unseen)
    else:  # a benchmark's may not be among the names that --only leaves
        unseen = entry.unseen if entry and request.only is None else ()
    return Subject(
        photos=photos,
        whole=whole,
        split=split,
        names=(*photos.names, BACKGROUND) if photos.has_other else photos.names,
        words=renamed(photos, preset(entry.classes).classes if entry else (), request.rename),
        unseen=photos.positions(unseen),
    )


def _counted(request: Request, subject: Subject, compute: Compute) -> Evaluation:
    """All photos predicted and counted, with a bar; what failed is named on standard error."""
    from ovseg_cli.evaluation.predictions import PredictionFiles
    from ovseg_cli.evaluation.run import Evaluation, evaluate
    from ovseg_cli.evaluation.threshold import ConfidenceCounts

    photos, classes = subject.photos, len(subject.names)
    background = photos.other if photos.has_other else None
    evaluation = Evaluation(
        classes,
        photos.ignore,
        keep_worst=request.worst if request.worst_dir else 0,
        confidences=ConfidenceCounts(classes, background) if request.tune else None,
    )
    predict = _predict(request, subject, compute)
    with console.progress(len(photos.keys)) as progress:
        for key in evaluate(predict, photos, evaluation):
            if key in evaluation.failures:
                console.error(evaluation.failures[key])
            progress.advance()
    _tell_left_out(evaluation, photos)
    doubt = predict.doubt(evaluation.matrix.counts) if isinstance(predict, PredictionFiles) else ""
    if doubt:
        console.warning(doubt)
    return evaluation


def _tell_left_out(evaluation: Evaluation, photos: PixelSet) -> None:
    """Say which photos and ids do not count; raises InputError or UsageError where none does."""
    from ovseg_cli.data.pixel_set import unknown_ids

    if not evaluation.photos:
        raise InputError(f"{photos.name}: none of its {len(photos.keys)} photos could be scored")
    if evaluation.failures:
        console.warning(
            f"{photos.name}: {len(evaluation.failures)} of {len(photos.keys)} photos could not be "
            "scored: the scores are of the others"
        )
    pixels = int(evaluation.matrix.counts.sum())
    warning = unknown_ids(photos.name, pixels, evaluation.strangers)
    if warning:
        console.warning(warning)


def _predict(request: Request, subject: Subject, compute: Compute) -> Predict:
    if request.predictions is not None:
        from ovseg_cli.evaluation.predictions import PredictionFiles

        ids = request.prediction_ids
        return PredictionFiles(request.predictions, subject.photos, ids=ids, whole=subject.whole)
    from ovseg_cli.data.pixel_set import BACKGROUND
    from ovseg_cli.evaluation.run import by_model
    from ovseg_cli.vocabulary import Vocabulary

    other = BACKGROUND if subject.photos.has_other else None
    words = Vocabulary(subject.words)
    if compute.rivals is not None:
        echo_rivals(compute.rivals, words, other)
    segmenter = compute.segmenter(words, other=other, threshold=request.threshold)
    warn_of_other(segmenter.model, other, compute.rivals)
    return by_model(segmenter)


def _scores(subject: Subject, evaluation: Evaluation) -> dict[str, float]:
    """All measures that are one number, by their names in the output."""
    scores = evaluation.scores()
    if subject.unseen:
        scores |= evaluation.unseen_scores(subject.unseen)
    if evaluation.confidences is not None:
        scores["best_threshold"], scores["mIoU_at_best_threshold"] = evaluation.confidences.best()
    return scores


def _show(request: Request, subject: Subject, evaluation: Evaluation) -> None:
    from ovseg_cli.evaluation.region_sizes import SIZES

    iou = dict(zip(subject.names, evaluation.matrix.iou().tolist(), strict=True))
    boundary = dict(zip(subject.names, evaluation.boundary.iou().tolist(), strict=True))
    regions = evaluation.regions
    sizes = [f"accuracy_{size}" for size in SIZES]
    scores = _scores(subject, evaluation)
    scores |= dict(zip(sizes, regions.accuracy().tolist(), strict=True))
    if request.as_json:
        record: dict[str, Any] = {"data": subject.photos.name, "split": subject.split}
        record |= _without_nan(scores)
        record["regions"] = dict(zip(SIZES, regions.regions.tolist(), strict=True))
        record |= {"iou": _without_nan(iou), "boundary_iou": _without_nan(boundary)}
        record["failures"] = evaluation.failures
        console.json_line(record)
    else:
        for name, value in {**iou, **scores}.items():
            console.data(f"{name:<24} {value:.4f}")
    _show_table(subject, evaluation)


def _show_table(subject: Subject, evaluation: Evaluation) -> None:
    from ovseg_cli.evaluation.tables import decimals
    from ovseg_cli.segmentation import percentage

    matrix = evaluation.matrix
    measures = (matrix.iou(), evaluation.boundary.iou(), matrix.accuracy())
    total = max(1, int(matrix.counts.sum()))
    sides = (matrix.counts.sum(1), matrix.counts.sum(0)[: matrix.classes])
    columns = [[decimals(value, 3) for value in measure.tolist()] for measure in measures]
    columns += [[percentage(pixels / total) for pixels in side.tolist()] for side in sides]
    scores = evaluation.scores()
    means = [decimals(scores[name], 3) for name in ("mIoU", "boundary_mIoU", "mean_accuracy")]
    console.table(
        f"{subject.photos.name}, {subject.split}: {quantity(len(evaluation.photos), 'photo')}",
        ["class", "IoU", "boundary IoU", "accuracy", "true", "predicted"],
        [*zip(subject.names, *columns, strict=True), ["mean", *means, "", ""]],
    )


def _compare(request: Request, subject: Subject, chosen: Sequence[Variant]) -> int:
    """One line of scores for each way of running the model. Returns the exit code."""
    require_runnable(chosen)
    results: list[dict[str, Any]] = []
    code = 0
    try:
        for variant in chosen:
            console.note(f"{variant.label} ...")
            evaluation = _counted(request, subject, variant.compute)
            code = 1 if evaluation.failures else code
            results.append({**variant.values, **_without_nan(_scores(subject, evaluation))})
    finally:  # what is counted is shown, whatever ended the rest
        if results:
            _show_compared(request, subject, results)
    return code


def _show_compared(request: Request, subject: Subject, results: list[dict[str, Any]]) -> None:
    columns = list(results[0])
    rows = [[_cell(result[name]) for name in columns] for result in results]
    if request.as_json:
        record = {"data": subject.photos.name, "split": subject.split, "compare": results}
        console.json_line(record)
    else:
        for row in (columns, *rows):
            console.data(*row)
    titles = [name.replace("_", " ") for name in columns]  # so that they wrap between words
    console.table(f"{subject.photos.name}, {subject.split}", titles, rows)


def _cell(value: str | float | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.4f}"


def _without_nan(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: None if value != value else value for name, value in values.items()}
