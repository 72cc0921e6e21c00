"""Photos in, label maps out: a model, a vocabulary's text features, scores to labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ovseg_cli.class_features import class_features
from ovseg_cli.errors import UsageError
from ovseg_cli.exemplars import Exemplar
from ovseg_cli.frame import Frame
from ovseg_cli.model.label_map import label_map
from ovseg_cli.model.network import Network
from ovseg_cli.model.own_settings import own_settings
from ovseg_cli.model.score_map import ScoreMap, full_scores
from ovseg_cli.outside_masks import MaskSource
from ovseg_cli.scoring import OVERLAP, Scorer
from ovseg_cli.segmentation import UNLABELED, Segmentation
from ovseg_cli.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ovseg_cli.model.config import ModelConfig

Photo: TypeAlias = str | Path | Image.Image | np.ndarray


class Model:
    """A network on its device, ready for photos and any names."""

    def __init__(
        self,
        network: Network,
        name: str,
        checksum: str,
        device: torch.device,
        precision: str,
        attention: str | None = None,
    ) -> None:
        """attention: what the user wants of the last layer, where it is not the model's own."""
        self.name = name
        self.attention = attention
        self.checksum = checksum
        self.device = device
        self.precision = precision
        # Weights stay float32: rounding them once instead of in every pass took 1.06 times as long.
        self.network = network.to(device).to(memory_format=torch.channels_last)

    @property
    def config(self) -> ModelConfig:
        """The network's sizes."""
        return self.network.config

    @property
    def knows_other(self) -> bool:
        """Whether it has learnt what fits none of the names; a CLIP as it is has not."""
        return bool(self.network.text.non_object_embedding.any())

    def segment(
        self,
        image: Photo,
        names: Sequence[str] | Vocabulary,
        *,
        other: str | None = None,
        threshold: float | None = None,
        tile: int | None = None,
        overlap: float = OVERLAP,
        refine: bool = False,
        masks: MaskSource | None = None,
        exemplars: Sequence[Exemplar] = (),
        rivals: Sequence[str] | Vocabulary | None = None,
    ) -> Segmentation:
        """Label every pixel of a photo.

        image: a path, a PIL image, or an H×W×3 uint8 RGB array; the rest as of `Segmenter`.
        Raises InputError for a photo that cannot be read.
        """
        segmenter = Segmenter(
            self,
            names,
            other=other,
            threshold=threshold,
            tile=tile,
            overlap=overlap,
            refine=refine,
            masks=masks,
            exemplars=exemplars,
            rivals=rivals,
        )
        return segmenter(image)

    def scores(self, image: Photo, names: Sequence[str] | Vocabulary) -> Tensor:
        """The classes' scores S of a photo: (K, H, W) float32 at its own size, on the CPU.

        S[k] is the sum over regions n of p[n, k] times n's share of the pixel (`score_map`). With
        mask proposals S is not normalised and may exceed 1. A large JPEG is decoded in full, so
        that its scores are those of its pixels.
        """
        segmenter = Segmenter(self, names)
        frame = _frame(image)
        with torch.inference_mode(), own_settings(self.device):
            (scores,) = segmenter.score_maps([frame])
            found = full_scores(scores, frame.size_hw)[:-1].cpu()
        return found.clone()  # one that may be changed, and used where gradients are wanted


class Segmenter:
    """A model with a vocabulary: text features are computed once, then any number of photos."""

    def __init__(
        self,
        model: Model,
        vocabulary: Sequence[str] | Vocabulary,
        *,
        other: str | None = None,
        threshold: float | None = None,
        tile: int | None = None,
        overlap: float = OVERLAP,
        refine: bool = False,
        masks: MaskSource | None = None,
        exemplars: Sequence[Exemplar] = (),
        rivals: Sequence[str] | Vocabulary | None = None,
    ) -> None:
        """other: name of a class that takes the pixels for which the model's non-object mass R
        outweighs the names' scores together (see `label_map`); threshold: pixels whose confidence
        S_k / (Σ_k S_k + R) falls below it stay unlabelled; tile: the network sees what is larger,
        after resizing, in windows of so many pixels (rounded up to what it can take), each
        overlapping the next by the share `overlap`, 0..0.9; refine: let labels follow the photo's
        edges (see `model.pamr`); masks: where the regions come from instead of the model (see
        `regions`, `mask_files`); pixels that none of them covers stay unlabelled; exemplars:
        pictures of some classes, beside their words or, of classes that are `pictured`, instead of
        them; rivals: names that compete for pixels, too, those aside that mean a class of the
        vocabulary (see `rivals.competing`); what they win belongs to `other` or stays unlabelled,
        and their scores count in the sum Σ_k S_k.
        Raises VocabularyError for a name the model cannot read, UsageError for a threshold, tile
        or overlap out of range and for a picture that cannot be used, TypeError for exemplars that
        are none.
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise UsageError(f"a threshold lies between 0 and 1, not at {threshold}")
        if model.network.looks_at_masks and not model.network.has_regions and masks is None:
            raise UsageError(
                "the attention mask needs masks, and this model has no mask proposals of its own: "
                "--proposals regions or file:DIR"
            )
        if model.attention is not None and masks is None and not model.network.names_by_patches:
            raise UsageError(
                f"{model.attention} is for patches, and class tokens name the queries of this "
                "model: add --proposals grid, regions or file:DIR, or leave out --attention"
            )
        vocabulary = _vocabulary(vocabulary)
        self.model = model
        self.vocabulary = vocabulary if other is None else vocabulary.with_class(other)
        self.other = other is not None
        self.threshold = threshold
        self._scorer = Scorer(
            model.network,
            model.device,
            model.precision,
            tile=tile,
            overlap=overlap,
            refine=refine,
            masks=masks,
        )
        self._names = len(vocabulary)
        with own_settings(model.device):
            self._text = class_features(
                model.network.text,
                vocabulary,
                model.checksum,
                self._scorer,
                _exemplars(exemplars),
                None if rivals is None else _vocabulary(rivals),
            )

    def __call__(self, image: Photo | Frame) -> Segmentation:
        """Segment one photo: a path, a PIL image, an H×W×3 uint8 RGB array or a Frame.

        Raises InputError for a photo that cannot be read.
        """
        return self.segment([_frame(image, self.input_size)])[0]

    def phrase_features(self) -> np.ndarray:
        """What stands for the classes, in order: rows (P, C), the vocabulary's dimensions.

        Of each class first its name and synonyms, unit rows, unless it is `pictured`; then, where
        exemplars show it, the mean of its pictures, which is of no certain length.
        """
        own = self._text.only(range(self._names))
        found: np.ndarray = own.features.cpu().numpy()
        return found

    def input_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Height and width at which the network sees a photo: equal ones can share a batch."""
        return self._scorer.input_size(size_hw)

    @torch.inference_mode()
    def segment(self, frames: Sequence[Frame]) -> list[Segmentation]:
        """Segment photos of one input size in one pass; each result depends on its photo alone."""
        return [
            self.segmentation(scores, frame)
            for scores, frame in zip(self.score_maps(frames), frames, strict=True)
        ]

    @torch.inference_mode()
    def score_maps(self, frames: Sequence[Frame]) -> list[ScoreMap]:
        """The scores of photos of one input size, at the network's own resolution."""
        with own_settings(self.model.device):
            return self._scorer.score_maps(frames, self._text)

    @torch.inference_mode()
    def segmentation(self, scores: ScoreMap, frame: Frame) -> Segmentation:
        """The labels of a photo by its scores."""
        weight = self.model.config.other_weight(self._text.classes) if self.other else None
        with own_settings(self.model.device):
            labels, confidence = label_map(scores, frame.size_hw, weight)
        if self._text.classes > self._names:  # rivals
            labels[labels >= self._names] = self._names if self.other else UNLABELED
        if self.threshold is not None:
            labels[confidence < self.threshold] = UNLABELED
        return Segmentation(labels.cpu().numpy(), confidence.cpu().numpy(), self.vocabulary)


def _vocabulary(names: Sequence[str] | Vocabulary) -> Vocabulary:
    return names if isinstance(names, Vocabulary) else Vocabulary(names)


def _exemplars(given: Sequence[Exemplar]) -> Sequence[Exemplar]:
    """What was given; raises TypeError for one alone, and for what is none."""
    listed = not isinstance(given, str) and isinstance(given, Sequence)
    wrong = [entry for entry in given if not isinstance(entry, Exemplar)] if listed else [given]
    if wrong:
        raise TypeError(
            'exemplars are a list such as [ovseg_cli.Exemplar("mug", "mug.png")], not '
            + ("a list with " if listed else "")
            + type(wrong[0]).__name__
        )
    return given


def _frame(
    image: Any, seen_at: Callable[[tuple[int, int]], tuple[int, int]] | None = None
) -> Frame:
    """seen_at: see `read_image`."""
    if isinstance(image, Frame):
        return image
    if isinstance(image, np.ndarray):
        return Frame(image)
    from ovseg_cli.media.images import frame_of, read_image

    if isinstance(image, Image.Image):
        return frame_of(image)
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image), seen_at=seen_at)
    kind = type(image).__name__
    raise TypeError(f"an image is a path, a PIL image or an H×W×3 uint8 RGB array, not a {kind}")
