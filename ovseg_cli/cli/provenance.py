"""What a run says about where its results come from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ovseg_cli import __version__
from ovseg_cli.cli.compute import Compute
from ovseg_cli.exports import VOCABULARY
from ovseg_cli.run_folder.journal import run_fingerprint
from ovseg_cli.segmentation import ClassArea
from ovseg_cli.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ovseg_cli.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class Provenance:
    """The model, the names and the options that results depend on."""

    segmenter: Segmenter
    compute: Compute
    vocabulary: Vocabulary  # without `other`
    other: str | None
    threshold: float | None

    def fingerprint(self, **more: Any) -> str:
        """A short name for all that the outputs depend on, beside the input.

        The device is left out, so that a run begun on one machine can go on on another.
        """
        pictured = [entry.name for entry in self.vocabulary.classes if entry.pictured]
        return run_fingerprint(
            {
                "version": __version__,
                "model": self.segmenter.model.checksum,
                "precision": self.segmenter.model.precision,
                **self.compute.decisive(),
                "classes": [entry.phrases for entry in self.vocabulary.classes],
                **({"pictured": pictured} if pictured else {}),  # whose words do not count
                "other": self.other,
                "threshold": self.threshold,
                **more,
            }
        )

    def metadata(self) -> dict[str, str]:
        """What a label map says about its origin."""
        model = self.segmenter.model
        return {
            "Software": f"ovseg {__version__}",
            "Model": f"{model.name} sha256:{model.checksum}",
            VOCABULARY: json.dumps(list(self.segmenter.vocabulary.names)),
        }

    def report(self, status: str, arguments: Iterable[str], **options: Any) -> dict[str, Any]:
        """The head of a run.json."""
        model = self.segmenter.model
        return {
            "version": __version__,
            "command": shlex.join(["ovseg", *arguments]),
            "status": status,
            "model": {"name": model.name, "checksum": model.checksum},
            "device": str(model.device),
            "precision": model.precision,
            "options": {
                "classes": len(self.segmenter.vocabulary),
                "other": self.other,
                "threshold": self.threshold,
                **self.compute.record(),
                **options,
            },
        }


def moment(seconds: float) -> str:
    """A time since 1970 as run.json has it."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def areas_record(areas: Iterable[ClassArea]) -> list[dict[str, Any]]:
    """The classes of a picture as --json has them."""
    return [
        {
            "id": area.class_id,
            "name": area.name,
            "pixels": area.pixels,
            "fraction": round(area.fraction, 9),
            "mean_confidence": round(area.mean_confidence, 6),
        }
        for area in areas
    ]
