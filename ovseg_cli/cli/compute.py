"""The options that say which model runs, where and how."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ovseg_cli import vocabulary_files
from ovseg_cli.cli.options import Command, Real, read_exemplars
from ovseg_cli.errors import UsageError
from ovseg_cli.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ovseg_cli.exemplars import Exemplar
    from ovseg_cli.scoring import MaskSource
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
    proposals: str | None = None  # what is classified, see `ProposalsType`; None = its own
    tile: int | None = None  # side of the windows in which it sees large photos; None = whole
    overlap: float = 0.25  # of the windows, a share of their side
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

        model, proposals, runtime = self.model, self.proposals, self.runtime
        if model not in weights.names() and os.path.isfile(model):
            model = str(Path(model).absolute())
        for kind in (MASK_FILES, SAM):
            if proposals is not None and proposals.startswith(kind):
                proposals = kind + str(Path(proposals.removeprefix(kind)).absolute())
        if runtime not in ("torch", "onnx"):
            runtime = str(Path(runtime).absolute())
        exemplars = tuple(
            replace(
                shown, picture=shown.picture.absolute(), mask=shown.mask and shown.mask.absolute()
            )
            for shown in self.exemplars
        )
        return replace(self, model=model, proposals=proposals, exemplars=exemplars, runtime=runtime)

    def require_model(self) -> None:
        """Raise UsageError where the model is not here."""
        from ovseg_cli import weights

        weights.find(self.model)

    def segmenter(
        self, vocabulary: Vocabulary, *, other: str | None = None, threshold: float | None = None
    ) -> Segmenter:
        """The model, loaded, with a vocabulary."""
        from ovseg_cli import loading, segmenter

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
            from ovseg_cli.regions import find_regions

            return find_regions
        if self.proposals is not None and self.proposals.startswith(MASK_FILES):
            from ovseg_cli.mask_files import MaskFiles

            return MaskFiles(Path(self.proposals.removeprefix(MASK_FILES)))
        if self.proposals is not None and self.proposals.startswith(SAM):
            from ovseg_cli.loading import choose_device
            from ovseg_cli.sam_masks import SamMasks

            checkpoint = Path(self.proposals.removeprefix(SAM))
            return SamMasks(checkpoint, str(choose_device(self.device)))
        return None

    def record(self) -> dict[str, Any]:
        """What of this changes the results, besides the model and its precision."""
        return {
            "size": self.size,
            "quality": self.quality,
            "proposals": self.proposals,
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

    def _engine(self) -> str:
        """What the passes are made by; a file counts by what is in it."""
        if self.runtime == "onnx":
            return self.runtime
        from ovseg_cli.weights import file_digest

        return f"onnx sha256:{file_digest(Path(self.runtime))}"

    def _shown(self) -> list[list[str]]:
        return [[entry.name, str(entry.picture), entry.digest()] for entry in self.exemplars]


def listed(vocabulary: Vocabulary) -> list[str]:
    """The classes as they are typed, synonyms behind '|'."""
    return ["|".join(entry.phrases) for entry in vocabulary.classes]


class ProposalsType(click.ParamType):
    """auto (None), queries, grid, regions, file:DIR or sam:DIR."""

    name = "proposals"

    def convert(self, value: Any, param: Any, ctx: Any) -> str | None:
        """Check what was typed."""
        if value in (None, "auto"):
            return None
        folder = value.startswith((MASK_FILES, SAM)) and value not in (MASK_FILES, SAM)
        if folder or value in ("queries", "grid", "regions"):
            return str(value)
        known = f"auto, queries, grid, regions, {MASK_FILES}DIR, {SAM}DIR"
        self.fail(f"{value!r} is none of {known}", param, ctx)


class RivalsType(click.ParamType):
    """none, a preset or @FILE as a Vocabulary."""

    name = "rivals"

    def convert(self, value: Any, param: Any, ctx: Any) -> Vocabulary | None:
        """Check what was typed."""
        if value in (None, "none"):
            return None
        if value.startswith("@"):
            return vocabulary_files.read(value[1:])
        return vocabulary_files.preset(value)


def model_option(command: Command) -> Command:
    """--model; the command gets `model`, a name or a path."""
    return click.option(
        "-m",
        "--model",
        metavar="NAME|PATH",
        default="mini",
        show_default=True,
        help="A model of 'ovseg models list', or a file.",
    )(command)


def compute_options(command: Command) -> Command:
    """The options of `Compute`; the command gets `compute`."""

    @model_option
    @click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda", "mps"]),
        default="auto",
        show_default=True,
        help="Where the model runs.",
    )
    @click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
        default="auto",
        show_default=True,
        help="Numbers the model computes with.",
    )
    @click.option(
        "--size",
        type=click.IntRange(32, 4096),
        metavar="N",
        help="Shorter side, in pixels, at which the model sees a photo: more shows small things, "
        "takes longer, and may fit the model worse.  [default: the model's own]",
    )
    @click.option(
        "--quality",
        type=click.Choice(["fast", "high"]),
        help="How often the model looks at a photo: once (fast); or at three sizes, and at each in "
        "a mirror, too (high), which takes several times as long.  [default: the model's own; "
        "'mini' looks at the photo and at its mirror image, smaller]",
    )
    @click.option(
        "--proposals",
        type=ProposalsType(),
        metavar="auto|queries|grid|regions|file:DIR|sam:DIR",
        default="auto",
        show_default=True,
        help="What is classified: trained mask proposals (queries); every patch for itself (grid); "
        "superpixels, merged where they are alike (regions); or the masks in DIR/PHOTO.png, whose "
        "pixels are ids, or DIR/PHOTO.json, as SAM and COCO write them; or what the "
        "Segment-Anything model finds that transformers keeps in DIR (sam:DIR).",
    )
    @click.option(
        "--attention",
        type=click.Choice(["severed", "mask", "csa", "self", "neighbour"]),
        help="What the visual encoder's last layer does instead of mixing patches: each keeps its "
        "own value; looks where its masks do; or at patches like it, as SCLIP, ClearCLIP and "
        "NACLIP have it.  [default: the model's own]",
    )
    @click.option(
        "--last-block",
        type=click.Choice(["full", "reduced"]),
        help="Whether that layer keeps its residual and MLP.  [default: reduced with self and "
        "neighbour, as published, else full]",
    )
    @click.option(
        "--tile",
        type=click.IntRange(64, 4096),
        metavar="N",
        help="Show the model large photos in windows of N pixels, for details: with --size 1280, "
        "say, --tile 320.  [default: the whole photo at once]",
    )
    @click.option(
        "--overlap",
        type=Real(0, 0.9),
        metavar="F",
        help="With --tile: how much of a window the next one sees again; there the two are "
        f"blended.  [default: {Compute.overlap}]",
    )
    @click.option(
        "--refine",
        type=click.Choice(["none", "pamr"]),
        default="none",
        show_default=True,
        help="Let labels follow the photo's edges: pixel-adaptive mask refinement.",
    )
    @click.option(
        "--templates",
        metavar="NAME|FILE",
        help="Prompts into which each name is put: "
        f"{', '.join(vocabulary_files.template_sets())}, "
        "or a file with one a line, {} for the name. Their features are averaged.  "
        "[default: what the model was trained with]",
    )
    @click.option(
        "--exemplar",
        multiple=True,
        metavar="NAME=PICTURE[:MASK|:X,Y,W,H]",
        help="Show a class by a picture, beside its words or, where NAME is none of the classes, "
        "instead: the part that MASK (a picture) or a box of pixels marks. May be repeated.",
    )
    @click.option(
        "--rivals",
        type=RivalsType(),
        metavar="PRESET|@FILE",
        help="Let these names compete for pixels, too: what they win gets none of your classes but "
        "--other, if given, else stays unlabelled. Names that mean one of your classes are left "
        "out.",
    )
    @click.option(
        "--runtime",
        metavar="torch|onnx|FILE.onnx",
        default="torch",
        show_default=True,
        help="What computes the model's passes: PyTorch, or onnxruntime on the CPU, for which the "
        "model is exported once into the user's folder, or is read from a file of 'ovseg "
        "export-model'. pip install 'ovseg-cli[onnx]'.",
    )
    @wraps(command)
    def with_compute(
        *args: Any,
        model: str,
        device: str,
        precision: str,
        size: int | None,
        quality: str | None,
        proposals: str | None,
        attention: str | None,
        last_block: str | None,
        tile: int | None,
        overlap: float | None,
        refine: str,
        templates: str | None,
        exemplar: tuple[str, ...],
        rivals: Vocabulary | None,
        runtime: str,
        **options: Any,
    ) -> Any:
        if overlap is not None and tile is None:
            raise UsageError("--overlap without --tile N: there are no windows to overlap")
        compute = Compute(
            model,
            device,
            precision,
            size=size,
            quality=quality,
            proposals=proposals,
            tile=tile,
            overlap=Compute.overlap if overlap is None else overlap,
            refine=refine,
            templates=None if templates is None else vocabulary_files.templates(templates),
            attention=attention,
            last_block=last_block,
            exemplars=read_exemplars(exemplar),
            rivals=rivals,
            runtime=runtime,
        )
        return command(*args, compute=compute, **options)

    return with_compute  # type: ignore[return-value]
