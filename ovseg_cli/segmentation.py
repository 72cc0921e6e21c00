"""What a model says about one photo, whatever way it was predicted."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ovseg_cli.vocabulary import Vocabulary

_BAND = 1 << 20  # pixels counted at a time
UNLABELED = -1  # label of a pixel that no class took; the 255 of a PNG is chosen in exports


def class_name(class_id: int, names: Sequence[str]) -> str:
    """What tables and pages call a class, or the pixels without one; names: by id."""
    return "unlabelled" if class_id == UNLABELED else names[class_id]


def percentage(share: float) -> str:
    """A share, 0..1, as tables and legends tell it: what is there is not told as nothing."""
    return "<0.1%" if 0 < share < 0.001 else f"{share:.1%}"


@dataclass(frozen=True)
class ClassArea:
    """How much of one photo a class covers."""

    class_id: int  # UNLABELED for the pixels without a class
    name: str
    pixels: int
    fraction: float  # of the photo's pixels, 0..1
    mean_confidence: float  # over the class's pixels, 0..1


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A label and a confidence for every pixel of one photo."""

    labels: np.ndarray  # (H, W) int32 class ids, UNLABELED where no class was taken
    confidence: np.ndarray  # (H, W) float32 in [0, 1], of the best class (also where unlabelled)
    vocabulary: Vocabulary  # position = class id

    def __post_init__(self) -> None:
        if self.labels.ndim != 2 or self.labels.dtype != np.int32:
            raise ValueError(f"labels are H×W int32, not {self.labels.shape} {self.labels.dtype}")
        if self.confidence.shape != self.labels.shape or self.confidence.dtype != np.float32:
            raise ValueError(
                f"confidence must be {self.labels.shape} float32 like the labels, "
                f"not {self.confidence.shape} {self.confidence.dtype}"
            )
        if self.labels.size:
            lowest, highest = int(self.labels.min()), int(self.labels.max())
            if lowest < UNLABELED or highest >= len(self.vocabulary):
                limits = f"{UNLABELED}..{len(self.vocabulary) - 1}"
                raise ValueError(f"labels lie in {limits}, not {lowest}..{highest}")

    def areas(self) -> list[ClassArea]:
        """The classes that occur, by id, the unlabelled pixels (if any) last.

        Counted once: labels that are changed by hand belong into a `dataclasses.replace` of this.
        """
        return list(self._areas)

    @cached_property
    def _areas(self) -> list[ClassArea]:
        pixels = np.zeros(len(self.vocabulary) + 1, np.int64)
        confidence = np.zeros(len(pixels))
        rows = max(1, _BAND // self.labels.shape[1])
        for top in range(0, len(self.labels), rows):
            labels = self.labels[top : top + rows].ravel()
            # Runs of one label: there are far fewer of them than pixels.
            starts = np.append(0, np.flatnonzero(labels[1:] != labels[:-1]) + 1)
            lengths = np.diff(starts, append=len(labels))
            values = self.confidence[top : top + rows].ravel()
            sums = np.add.reduceat(values, starts, dtype=np.float64)
            np.add.at(pixels, labels[starts] + 1, lengths)
            np.add.at(confidence, labels[starts] + 1, sums)
        ids = [*(np.flatnonzero(pixels[1:]).tolist()), *([UNLABELED] if pixels[0] else [])]
        return [
            ClassArea(
                class_id=class_id,
                name=class_name(class_id, self.vocabulary.names),
                pixels=int(pixels[class_id + 1]),
                fraction=float(pixels[class_id + 1] / self.labels.size),
                mean_confidence=min(1.0, float(confidence[class_id + 1] / pixels[class_id + 1])),
            )
            for class_id in ids
        ]
