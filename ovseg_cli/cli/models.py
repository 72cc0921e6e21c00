"""`ovseg models`: what can be loaded, from where, with which licence and checksum."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ovseg_cli.cli import console
from ovseg_cli.cli.options import common_options
from ovseg_cli.errors import CheckpointError
from ovseg_cli.vocabulary import printable

if TYPE_CHECKING:
    from ovseg_cli.weights import ModelEntry


@click.group("models", short_help="List, show, import, verify and remove models.")
def command() -> None:
    """List, show, import, verify and remove models."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON object per model.")
@common_options
def list_models(as_json: bool) -> None:
    """List the models that can be loaded by name."""
    from ovseg_cli import weights

    for entry in weights.available():
        if as_json:
            console.json_line(_record(entry))
        else:
            size = f"{entry.size_bytes / 1e6:.1f} MB"
            console.data(f"{entry.name:<12} {size:>10}  {entry.licence:<16} {entry.description}")


@command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@common_options
def show_model(name: str, as_json: bool) -> None:
    """Show where a model is, its licence and its checksum."""
    from ovseg_cli import weights

    _show(weights.find(name), as_json)


@command.command("import")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Under which name the model can be loaded.")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Sizes that the checkpoint's tensors do not tell.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@common_options
def import_model(checkpoint: Path, name: str, config_path: Path | None, as_json: bool) -> None:
    """Turn a checkpoint of the DeOP authors' format, or a CLIP, into a model that can be loaded.

    CHECKPOINT is a file with a dict that holds "model", or one with the tensors of a CLIP with a
    ViT as open_clip stores them. No code in it is run.
    """
    from ovseg_cli import weights

    _show(weights.import_checkpoint(checkpoint, name, config_path), as_json)


@command.command("verify")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@common_options
def verify_models(names: tuple[str, ...]) -> int:
    """Check that models are as they were saved; without a NAME, all of them.

    Exit code 1 where one is damaged.
    """
    from ovseg_cli import weights

    entries = [weights.find(name) for name in names] or weights.available()
    damaged = 0
    for entry in entries:
        try:
            weights.verify(entry)
        except CheckpointError as error:
            console.error(f"{printable(entry.name)}: {error}")
            damaged += 1
        else:
            console.data(f"{entry.name}: intact")
    return 1 if damaged else 0


@command.command("remove")
@click.argument("name")
@common_options
def remove_model(name: str) -> None:
    """Delete an imported model."""
    from ovseg_cli import weights

    entry = weights.remove(name)
    console.note(f"removed {entry.path} ({entry.size_bytes / 1e6:.1f} MB)")


@command.command("path")
@click.argument("name")
@common_options
def model_path(name: str) -> None:
    """Print where a model's file is."""
    from ovseg_cli import weights

    console.data(str(weights.find(name).path))


def _show(entry: "ModelEntry", as_json: bool) -> None:
    record = _record(entry)
    if as_json:
        console.json_line(record)
        return
    width = max(map(len, record))
    for key, value in record.items():
        console.data(f"{key:<{width}}  {value}")


def _record(entry: "ModelEntry") -> dict[str, Any]:
    return asdict(entry) | {"path": str(entry.path)}
