"""What is made of a run's results by other commands, and goes when they do."""

from collections.abc import Collection
from pathlib import Path

from ovseg_cli.run_folder.layout import EXPORTS, PAGE


def discard_derived(out: Path) -> None:
    """Remove the page and the exports of results that are gone, as far as that is possible.

    They would tell of photos and classes that are not there any more.
    """
    from ovseg_cli.formats import discard_exports
    from ovseg_cli.report.page import discard_page

    discard_page(out / PAGE)
    discard_exports(out / EXPORTS)


def outdated(out: Path, formats: Collection[str]) -> list[str]:
    """What of that is there although results have come since; formats: what was written anew."""
    from ovseg_cli.run_folder.earlier_results import exported

    exports = (place.name for place in exported(out / EXPORTS))
    older = [f"{EXPORTS}/{name}" for name in exports if name not in formats]
    return [*([PAGE] if (out / PAGE).exists() else []), *older]
