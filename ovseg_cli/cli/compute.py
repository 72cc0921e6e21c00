"""Which model runs, where and how: what a command was asked for, and the segmenter made of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovseg_cli.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ovseg_cli.exemplars import Exemplar
    from ovseg_cli.outside_masks import MaskSource
    from ovseg_cli.segmenter import Segmenter

MASK_FILES, SAM = "file:", "sam:"  # before a folder in --proposals


@dataclass(frozen=True)
class Compute:
    """Which model runs, where and how."""

    model: str  # a name or a path
    device: str  # "auto", "cpu", "cuda" or "mps"
    precision: str  # "auto", "fp32", "bf16" or "fp16"
    size: int | None = None  # shorter side at which it sees a photo; None = its own
    quality: str | None = None  # "fast" or "high"; None = the model's own
    proposals: str | None = None  # what is classified, see --proposals; None = its own
    tile: int | None = None  # side of the windows in which it sees large photos; None = whole
    overlap: float = 0.25  # of the windows, a share of their side; `scoring.OVERLAP`
    refine: str = "none"  # or "pamr"
    templates: tuple[str, ...] | None = None  # prompts with "{}" for a name; None = the model's own
    attention: str | None = None  # of the visual encoder's last layer, one of ATTENTIONS
    last_block: str | None = None  # "full" or "reduced"
    exemplars: tuple[Exemplar, ...] = ()  # pictures of classes
    rivals: Vocabulary | None = None  # names that compete, but are no classes
    runtime: str = "torch"  # or "onnx", or a file of `ovseg export-model`

    def absolute(self) -> Compute:
        """The same for a process with another working folder."""
        from ovseg_cli import weights

        model, runtime = self.model, self.runtime
        if model not in weights.names() and os.path.isfile(model):
            model = str(Path(model).absolute())
        if runtime not in ("torch", "onnx"):
            runtime = str(Path(runtime).absolute())
        exemplars = tuple(
            replace(
                shown, picture=shown.picture.absolute(), mask=shown.mask and shown.mask.absolute()
            )
            for shown in self.exemplars
        )
        proposals = self._proposals(Path.absolute)
        return replace(self, model=model, proposals=proposals, exemplars=exemplars, runtime=runtime)

    def require_model(self) -> None:
        """Raise UsageError where the model is not here."""
        from ovseg_cli import weights

        weights.find(self.model)

    def segmenter(
        self, vocabulary: Vocabulary, *, other: str | None = None, threshold: float | None = None
    ) -> Segmenter:
        """The model, loaded, with a vocabulary.

        Raises UsageError, before that takes its time, for a picture of none of the classes.
        """
        from ovseg_cli import loading, segmenter

        if self.exemplars:
            from ovseg_cli.exemplars import require_classes

            require_classes(vocabulary, self.exemplars)
        masks = self._mask_source()
        model = loading.load_model(
            self.model,
            self.device,
            self.precision,
            size=self.size,
            proposals=None if masks else self.proposals,
            attention=self.attention,
            last_block=self.last_block,
            runtime=self.runtime,
            quality=self.quality,
        )
        return segmenter.Segmenter(
            model,
            vocabulary.with_templates(self.templates),
            other=other,
            threshold=threshold,
            tile=self.tile,
            overlap=self.overlap,
            refine=self.refine == "pamr",
            masks=masks,
            exemplars=self.exemplars,
            rivals=self.rivals,
        )

    def _mask_source(self) -> MaskSource | None:
        """Where regions come from instead of the model."""
        if self.proposals == "regions":
            from ovseg_cli.masks.regions import find_regions

            return find_regions
        if self.proposals is not None and self.proposals.startswith(MASK_FILES):
            from ovseg_cli.masks.mask_files import MaskFiles

            return MaskFiles(Path(self.proposals.removeprefix(MASK_FILES)))
        if self.proposals is not None and self.proposals.startswith(SAM):
            from ovseg_cli.loading import choose_device
            from ovseg_cli.masks.sam_masks import SamMasks

            checkpoint = Path(self.proposals.removeprefix(SAM))
            return SamMasks(checkpoint, str(choose_device(self.device)))
        return None

    def record(self) -> dict[str, Any]:
        """What of this changes the results, besides the model and its precision."""
        return {
            "size": self.size,
            "quality": self.quality,
            "proposals": self._proposals(Path.resolve),
            "tile": self.tile,
            "overlap": None if self.tile is None else self.overlap,
            "refine": self.refine,
            "templates": self.templates,
            "attention": self.attention,
            "last_block": self.last_block,
            **({"exemplars": self._shown()} if self.exemplars else {}),
            **({"rivals": listed(self.rivals)} if self.rivals else {}),
            **({"runtime": self._engine()} if self.runtime != "torch" else {}),
        }

    def decisive(self) -> dict[str, Any]:
        """The same without where pictures lie: they count by what is in them."""
        record = self.record()
        if self.exemplars:
            record["exemplars"] = [[name, *rest] for name, _, *rest in record["exemplars"]]
        return record

    def _proposals(self, find: Callable[[Path], Path]) -> str | None:
        """With the path of masks or of a SAM as `find` has it."""
        for kind in (MASK_FILES, SAM):
            if self.proposals is not None and self.proposals.startswith(kind):
                return kind + str(find(Path(self.proposals.removeprefix(kind))))
        return self.proposals

    def _engine(self) -> str:
        """What the passes are made by; a file counts by what is in it."""
        if self.runtime == "onnx":
            return self.runtime
        from ovseg_cli.weights import file_digest

        return f"onnx sha256:{file_digest(Path(self.runtime))}"

    def _shown(self) -> list[list[Any]]:
        """Of each picture the class, the file, what is in it and, if given, the box."""
        return [
            [shown.name, str(shown.picture), shown.digest(), *([shown.box] if shown.box else [])]
            for shown in self.exemplars
        ]


def listed(vocabulary: Vocabulary) -> list[str]:
    """The classes as they are typed, synonyms behind '|'."""
    return ["|".join(entry.phrases) for entry in vocabulary.classes]
