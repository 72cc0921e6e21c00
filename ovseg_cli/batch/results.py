"""What becomes of the inputs of a run."""

from dataclasses import dataclass, field

from ovseg_cli.media.inputs import ImageInput
from ovseg_cli.run_folder.journal_entry import Entry


@dataclass(frozen=True)
class ImageResult:
    """What became of one input."""

    image: ImageInput
    status: str  # "done", "skipped" (finished by an earlier run) or "failed"
    entry: Entry | None = None  # what is noted of it, unless it failed
    seconds: float = 0.0  # reading, its share of the model's time, writing
    reason: str = ""  # why it failed


@dataclass
class RunReport:
    """Counts of a run; `exit_code` is what the command ends with."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)  # path, reason

    def add(self, result: ImageResult) -> None:
        """Count one more input."""
        self.done += result.status == "done"
        self.skipped += result.status == "skipped"
        if result.status == "failed":
            self.failed += 1
            self.failures.append((result.image.name, result.reason))

    @property
    def exit_code(self) -> int:
        """0, or 1 where an input failed."""
        return 1 if self.failed else 0
