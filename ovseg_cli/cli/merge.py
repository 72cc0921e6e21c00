"""`ovseg merge`: the parts of a divided run become one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ovseg_cli.cli import console
from ovseg_cli.cli.derived import discard_derived
from ovseg_cli.cli.option_types import Place
from ovseg_cli.cli.options import common_options
from ovseg_cli.errors import UsageError
from ovseg_cli.printable import printable, quantity

if TYPE_CHECKING:
    from ovseg_cli.run_folder.merging import Merged


@click.command("merge", short_help="Join the parts of a run divided by --shard.")
@click.argument("outs", nargs=-1, required=True, metavar="OUT...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=Place(path_type=Path),
    help="Folder for the joined result.  [default: OUT, where all parts are in one]",
)
@click.option(
    "--files",
    type=click.Choice(["none", "copy", "link"]),
    default="none",
    show_default=True,
    help="Bring overlays, label maps and the like over, too: as copies, or as hard links, which "
    "need no room but the same disk.",
)
@click.option("--overwrite", is_flag=True, help="Remove an earlier run's results from DIR first.")
@common_options
def command(outs: tuple[Path, ...], output: Path | None, files: str, overwrite: bool) -> int:
    """Join what `ovseg segment --shard I/N` has left in OUT, one folder or several.

    Writes stats.csv, summary.csv, parents.csv, classes.json and run.json as if the run had not been
    divided. Nothing is written unless the parts fit: all N are there and finished, each input is in
    exactly one of them, and model, class names and options are the same.

    \b
    Exit codes: 0 all done, 1 some photos had failed (run.json names them), 2 wrong usage,
    parts that do not fit among it.

    \b
    Example:
      ovseg merge part-*/ -o whole
    """
    from ovseg_cli.run_folder import merging
    from ovseg_cli.run_folder.run_lock import WHOLE, holding

    merged = merging.merge(outs)
    folders = {part.out for part in merged.parts}
    if output is None and len(folders) > 1:
        raise UsageError("the parts are in several folders: name one for the result with -o")
    target = output or folders.pop()
    if any(_is_same(target, part.out) for part in merged.parts):
        if files != "none" or overwrite or len(folders) > 1:
            raise UsageError(f"{target} holds a part itself: name another folder with -o")
        with holding(target, WHOLE):
            return _write(merged, target)
    with holding(target, WHOLE):
        _fill(merged, target, files, overwrite)
        return _write(merged, target)


def _is_same(folder: Path, other: Path) -> bool:
    return folder.exists() and folder.samefile(other)


def _fill(merged: Merged, target: Path, files: str, overwrite: bool) -> None:
    """Make a folder of results that the journal of the joined run, and maybe its files, are in."""
    from ovseg_cli.run_folder import merging
    from ovseg_cli.run_folder.output import OutputFolder

    folder = OutputFolder(target, [])
    if not overwrite and folder.holds_results():
        raise UsageError(
            f"{printable(str(target))} holds results already: --overwrite replaces them, -o names "
            "another folder"
        )
    folder.check(resume=True, overwrite=overwrite)
    if files != "none":
        merging.check_results(merged)
    folder.open(merged.vocabulary, run="", metadata={}, overwrite=overwrite)
    if overwrite:
        discard_derived(target)
    folder.close()
    with console.progress(len(merged.names)) as progress:
        for _ in merging.write_photos(merged, target, files=files):
            progress.advance()


def _write(merged: Merged, target: Path) -> int:
    """Write the tables and run.json; returns the exit code."""
    import shlex

    from ovseg_cli.json_files import write_json
    from ovseg_cli.run_folder import merging
    from ovseg_cli.run_folder.layout import REPORT

    merging.write_tables(merged, target)
    arguments = click.get_current_context().obj or ()
    report = merged.report(shlex.join(["ovseg", *arguments]))
    write_json(target / REPORT, report)
    failed, done = len(report["failures"]), sum(1 for _ in merged.done())
    console.note(
        f"{quantity(len(merged.parts), 'part')} joined: {quantity(done, 'photo')}"
        + (f", {failed} failed (see {REPORT})" if failed else "")
        + f": {target}"
    )
    return 1 if failed else 0
