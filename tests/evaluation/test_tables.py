"""CSV files of what was counted."""

import csv

import numpy as np

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.evaluation.run import Evaluation
from ovseg_cli.evaluation.tables import write_classes, write_photos


def counted():
    evaluation = Evaluation(3, IGNORE)
    truth = np.array([[0, 0, 1, 1]])
    evaluation.add("good", truth, truth, np.full((1, 4), 0.75, np.float32))
    evaluation.add("half", truth, np.array([[0, 0, 0, -1]]), None)
    return evaluation


def rows(file):
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def test_a_row_per_class(tmp_path):
    write_classes(tmp_path / "new/c.csv", ["sky", 'a "b", c', "never"], counted())
    assert rows(tmp_path / "new/c.csv") == [
        ["class", "iou", "boundary_iou", "accuracy", "true_pixels", "predicted_pixels"],
        ["sky", "0.800000", "0.800000", "1.000000", "4", "5"],
        ['a "b", c', "0.500000", "0.500000", "0.500000", "4", "2"],
        ["never", "", "", "", "0", "0"],
    ]


def test_a_row_per_photo_worst_first(tmp_path):
    write_photos(tmp_path / "p.csv", counted())
    assert rows(tmp_path / "p.csv") == [
        ["photo", "mIoU", "pixel_accuracy", "mean_confidence"],
        ["half", "0.333333", "0.500000", ""],
        ["good", "1.000000", "1.000000", "0.750000"],
    ]
