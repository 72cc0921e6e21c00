"""Files to be written whose name says what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ovseg_cli.cli.option_types import Place
from ovseg_cli.errors import UsageError


class Suffixed(Place):
    """A file of one kind: by another name it could take the place of what somebody keeps there."""

    def __init__(self, suffix: str) -> None:
        """suffix: as of `Path.suffix`, in small letters."""
        super().__init__(path_type=Path, dir_okay=False)
        self.suffix = suffix

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Check what was typed."""
        file = Path(super().convert(value, param, ctx))
        if file.suffix.lower() != self.suffix:
            option = param.opts[-1] if param else "a file"
            raise UsageError(
                f"{option} {file}: what is written there is {self.suffix[1:].upper()}; give it a "
                f"name that ends in {self.suffix}"
            )
        return file
