"""The areas of classes as journals note them, in few bytes: there may be millions."""

from collections.abc import Iterable, Sequence

from ovseg_cli.segmentation import UNLABELED, ClassArea, class_name

NotedAreas = tuple[tuple[int, int, float], ...]  # class id, pixels, mean confidence

_REAL = (float, int)


def noted(areas: Iterable[ClassArea]) -> NotedAreas:
    """The areas of one picture as a journal has them."""
    return tuple((area.class_id, area.pixels, round(area.mean_confidence, 6)) for area in areas)


def class_areas(areas: NotedAreas, size: int, names: Sequence[str]) -> list[ClassArea]:
    """What was noted as `Segmentation.areas` gave it, of a picture of so many pixels.

    names: of the classes, by id.
    """
    return [
        ClassArea(class_id, class_name(class_id, names), pixels, pixels / size, confidence)
        for class_id, pixels, confidence in areas
    ]


def are_sound(areas: NotedAreas, size: int) -> bool:
    """Whether the values can be those of a picture of so many pixels.

    A disk or somebody else may have changed them: they may be anything that JSON holds.
    """
    try:
        for class_id, pixels, mean in areas:  # a loop: generators take three times as long
            whole = type(class_id) is int and type(pixels) is int and isinstance(mean, _REAL)
            if not (whole and class_id >= UNLABELED and 1 <= pixels <= size and 0 <= mean < 2):
                return False
    except (TypeError, ValueError):  # no list, or not of three values each
        return False
    return True


def ids_fit(areas: NotedAreas, classes: int) -> bool:
    """Whether the ids are those of so many classes."""
    return all(class_id < classes for class_id, _, _ in areas)
