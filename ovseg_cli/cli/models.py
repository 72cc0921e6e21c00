"""`ovseg models`: what can be loaded, from where, with which licence and checksum."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ovseg_cli.cli import console
from ovseg_cli.cli.options import common_options
from ovseg_cli.errors import CheckpointError, NetworkError, UsageError
from ovseg_cli.printable import printable

if TYPE_CHECKING:
    from ovseg_cli.catalogue import Published
    from ovseg_cli.weights import ModelEntry


@click.group("models", short_help="List, show, download, import, verify and remove models.")
def command() -> None:
    """List, show, download, import, verify and remove models."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON object per model.")
@common_options
def list_models(as_json: bool) -> None:
    """List the models that are here, then those that can be had.

    A hyphen before the size: the model is not here yet.
    """
    from ovseg_cli import weights
    from ovseg_cli.catalogue import catalogue

    here = weights.available()
    names = {entry.name for entry in here}
    records = [_record(entry) for entry in here]
    records += [_offer(entry) for entry in catalogue() if entry.name not in names]
    if as_json:
        for record in records:
            console.json_line(record)
        return
    rows = [(r["name"], _size(r), r["licence"], r["description"]) for r in records]
    name, size, licence, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    for row in rows:
        console.data(f"{row[0]:<{name}}  {row[1]:>{size}}  {row[2]:<{licence}}  {row[3]}")


def _size(record: dict[str, Any]) -> str:
    known = f"{record['size_bytes'] / 1e6:.1f} MB" if record["size_bytes"] else "? MB"
    return known if record["here"] else f"- {known}"


@command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@common_options
def show_model(name: str, as_json: bool) -> None:
    """Show what a model is, where it is or how to get it, its licence, checksum and accuracy."""
    from ovseg_cli.catalogue import lookup

    here = _here(name)
    _show(_record(here) if here else _offer(lookup(name)), as_json)


@command.command("download")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object of the model.")
@common_options
def download_model(name: str, as_json: bool) -> None:
    """Fetch a model of the catalogue, or open_clip:ARCH/PRETRAINED.

    Its address, size and licence are said first. A download that breaks off goes on when the
    command is repeated. Proxies are taken from HTTPS_PROXY and its like, the folder from
    OVSEG_HOME, a mirror of the hub from HF_ENDPOINT.

    \b
    Examples:
      ovseg models download clip-vit-b-16
      ovseg models download open_clip:ViT-B-32/laion2b_s34b_b79k
    """
    from ovseg_cli import download
    from ovseg_cli.catalogue import lookup

    here = _here(name)
    if here:
        console.note(f"{printable(name)} is here already")
        _show(_record(here), as_json)
        return
    published = lookup(name)
    remote = download.ask(published)
    size = f"{remote.size_bytes / 1e6:.1f} MB" if remote.size_bytes else "of unknown size"
    console.note(f"{name}: {remote.url}, {size}; licence: {published.licence}")
    if published.sha256 is None and remote.sha256 is None:
        console.warning("nobody states this file's SHA-256: only its form is checked")
    with _alone(name), console.progress(remote.size_bytes or 0, unit="B") as bar:
        try:
            entry = download.obtain(published, remote, lambda done, total: bar.move_to(done))
        except CheckpointError as error:  # what the server sends is no fault of the command's
            raise NetworkError(str(error)) from error
    _show(_told(published) | _record(entry), as_json)


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
    """Turn a checkpoint of DeOP's or SAN's authors, or a CLIP, into a model that can be loaded.

    CHECKPOINT is a file with a dict that holds "model", or one with the tensors of a CLIP with a
    ViT as open_clip stores them. No code in it is run. A NAME of the catalogue has the catalogue's
    sizes, where FILE.json does not say others.
    """
    from ovseg_cli.importing import import_checkpoint, read_options

    options = _known_options(name) | (read_options(config_path) if config_path else {})
    _show(_record(import_checkpoint(checkpoint, name, options)), as_json)


@command.command("verify")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@common_options
def verify_models(names: tuple[str, ...]) -> int:
    """Check that models are as they were saved; without a NAME, all of them.

    Exit code 1 where one is damaged.
    """
    from ovseg_cli import weights

    damaged = 0
    for name in names or weights.names():
        try:
            weights.verify(weights.find(name))
        except CheckpointError as error:
            console.error(f"{printable(name)}: {error}")
            damaged += 1
        else:
            console.data(f"{name}: intact")
    return 1 if damaged else 0


@command.command("remove")
@click.argument("name")
@common_options
def remove_model(name: str) -> None:
    """Delete an imported model."""
    from ovseg_cli import weights

    console.note(f"removed {weights.remove(name)}")


@command.command("path")
@click.argument("name")
@common_options
def model_path(name: str) -> None:
    """Print where a model's file is."""
    from ovseg_cli import weights

    console.data(str(weights.find(name).path))


def _known_options(name: str) -> dict[str, Any]:
    """What tensors do not tell of a model of the catalogue; nothing for another name."""
    from ovseg_cli.catalogue import lookup

    try:
        known = lookup(name).options
    except UsageError:
        return {}
    if known:
        told = ", ".join(f"{key} {value}" for key, value in known.items())
        console.note(f"{name}: {told}, as the catalogue has it")
    return dict(known)


def _here(name: str) -> "ModelEntry | None":
    """The model, if it is here and can be read; no other model's file is looked at."""
    from ovseg_cli import weights

    try:
        return weights.find(name)
    except UsageError:
        return None
    except CheckpointError as error:
        console.warning(str(error))
        return None


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Download a model while the block runs: one process at a time, for all go on with one file."""
    from ovseg_cli import weights
    from ovseg_cli.run_folder.run_lock import holding

    with ExitStack() as stack:
        try:
            downloads = weights.home() / "downloads"
            stack.enter_context(holding(downloads, weights.place_of(name).stem))
        except UsageError as error:
            if error.__cause__ is not None:  # the folder cannot be written, nobody is there
                raise
            raise UsageError(
                f"{name} is being downloaded by another process: wait for its end"
            ) from error
        yield


def _show(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.json_line(record)
        return
    shown = {key: value for key, value in record.items() if value not in (None, "")}
    width = max(map(len, shown))
    for key, value in shown.items():
        console.data(f"{key:<{width}}  {value}")


def _record(entry: "ModelEntry") -> dict[str, Any]:
    """Of a model that is here; what the catalogue knows of it stands beside.

    Not where only the name is the same, as of a file that was imported or trained under it.
    """
    from ovseg_cli.catalogue import catalogue

    known = [
        _told(published)
        for published in catalogue()
        if published.name == entry.name
        and (entry.bundled or entry.description == published.description)
    ]
    about = known[0] if known else {}
    return about | asdict(entry) | {"path": str(entry.path), "here": True}


def _offer(published: "Published") -> dict[str, Any]:
    """Of a model that is not here."""
    return _told(published) | {
        "name": published.name,
        "description": published.description,
        "path": None,
        "size_bytes": published.size_bytes,
        "licence": published.licence,
        "bundled": False,
        "checksum": None,
        "here": False,
        "download": list(published.urls),
        "by_hand": published.by_hand,
    }


def _told(published: "Published") -> dict[str, Any]:
    return {
        "architecture": published.architecture,
        "source": published.source,
        "accuracy": published.accuracy,
    }
