"""The picture of a confusion matrix, looked at cell by cell."""

import numpy as np

from ovseg_cli.evaluation.matrix_picture import MOST, draw_confusion
from ovseg_cli.legend import PAPER

CELL, MARGIN = 30, 14


def corners(picture, rows, columns):
    """The colour of each cell beside its upper left corner, where no digit is: (R, C, 3)."""
    pixels = np.asarray(picture)
    height, width = pixels.shape[:2]
    top, left = height - MARGIN - rows * CELL, width - MARGIN - columns * CELL
    return pixels[top + 1 : height - MARGIN : CELL, left + 1 : width - MARGIN : CELL].astype(int)


def test_the_darker_the_larger_the_share_of_the_row():
    counts = np.array([[8, 2, 0, 0], [1, 0, 3, 0], [0, 0, 0, 0]])
    cells = corners(draw_confusion(counts, ["sky", "sea", "never"]), 3, 3)
    light = cells.sum(-1)
    assert light[0, 0] < light[0, 1] < light[0, 2] == 3 * 255
    assert light[1, 2] < light[1, 0] < light[1, 1] == 3 * 255
    assert (cells[2] == PAPER).all()  # empty: a class without true pixels
    full = corners(draw_confusion(np.array([[1, 0]]), ["sky"]), 1, 1)
    assert full.tolist() == [[[8, 48, 107]]]


def test_each_column_bears_its_own_name():
    """Written upwards: the long name stands above the second column and its like beside its row."""
    picture = np.asarray(draw_confusion(np.eye(2, 3, dtype=int), ["i", "MMMMMM"])).astype(int)
    height, width = picture.shape[:2]
    top, left = height - MARGIN - 2 * CELL, width - MARGIN - 2 * CELL
    dark = (picture < 100).all(-1)
    above = dark[:top, left : left + 2 * CELL].reshape(top, 2, CELL).sum((0, 2))
    beside = dark[top : top + 2 * CELL, :left].reshape(2, CELL, left).sum((1, 2))
    assert 0 < 5 * above[0] < above[1]
    assert 0 < 5 * beside[0] < beside[1]
    assert dark[top - MARGIN - 12 : top, left + CELL : left + 2 * CELL].any()  # it begins there


def test_what_is_unlabelled_gets_a_column_where_there_is_any():
    cells = corners(draw_confusion(np.array([[1, 0, 9], [0, 1, 0]]), ["sky", "sea"]), 2, 3)
    assert cells.sum(-1).argmin(1).tolist() == [2, 1]


def test_of_many_classes_the_most_frequent_and_one_column_for_the_others():
    classes = MOST + 20
    counts = np.zeros((classes, classes + 1), int)
    counts[np.arange(classes), np.arange(classes)] = np.arange(1, classes + 1)
    counts[classes - 1, 0] = 1000  # the most frequent is taken for the rarest
    picture = draw_confusion(counts, [f"name {k}" for k in range(classes)])
    cells = corners(picture, MOST, MOST + 1).sum(-1)
    assert cells[0].argmin() == MOST
    assert cells[1:].argmin(1).tolist() == list(range(1, MOST))


def test_long_and_foreign_names_do_not_make_it_wider_without_end():
    plain = draw_confusion(np.eye(2, 3, dtype=int), ["sky", "sea"])
    long = draw_confusion(np.eye(2, 3, dtype=int), ["a name that never ends " * 9, "天\n<b>"])
    assert plain.width < long.width < 350
    assert np.asarray(long).min() < 100
