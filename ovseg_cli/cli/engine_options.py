"""The options that say on which machines a run computes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from ovseg_cli.cli.option_types import counted
from ovseg_cli.cli.options import Command
from ovseg_cli.errors import UsageError
from ovseg_cli.run_folder.shard import Shard

if TYPE_CHECKING:
    from ovseg_cli.formats import Format
    from ovseg_cli.storage.destination import Destination


class Bytes(click.ParamType):
    """A number of bytes, as 500MB or 2GB."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Check what was typed."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([0-9]+)\s*([kMGT]?)B?", value, re.IGNORECASE)
        number = counted(found[1]) if found else 0
        if not found or not number:
            self.fail(f"{value[:40]!r} is no size such as 500MB or 2GB", param, ctx)
        return number * 1000 ** " kmgt".index(found[2].lower() or " ")


tar_size_option = click.option(
    "--tar-size",
    type=Bytes(),
    metavar="SIZE",
    help="Write tar shards of about this size, such as 1GB, as WebDataset reads them, instead of a "
    "file for each result: OUT/ovseg-000000.tar with KEY.labels.png, KEY.overlay.jpg, KEY.json.",
)


def choose_place(
    where: str, tar_bytes: int | None, *, shard: Shard | None, formats: Sequence[Format], show: bool
) -> Destination:
    """Where results go; raises UsageError where something else that was asked for cannot follow."""
    from ovseg_cli.storage.destination import Destination

    place = Destination(where, tar_bytes)
    kind = "an object store" if place.is_store else "tar shards" if tar_bytes else ""
    if kind and formats:
        raise UsageError(
            f"--save {formats[0].name} is made of label maps in a folder, not in {kind}: leave it "
            "out, and make it with ovseg export from a copy in a folder"
        )
    if kind and show:
        raise UsageError(f"--show shows overlays in a folder, not in {kind}")
    if place.is_store and shard is not None:
        raise UsageError(
            "parts made with --shard agree through files in OUT, which a store cannot do: give "
            "each part its inputs and an OUT of its own, or use --engine ray"
        )
    return place


@dataclass(frozen=True)
class Engine:
    """On which machines a run computes."""

    name: str = "local"  # or "ray"
    address: str | None = None  # of a Ray cluster
    actors: int | None = None  # processes that hold the model


def engine_options(command: Command) -> Command:
    """--engine, --address and --ray-actors; the command gets `engine`."""

    @click.option(
        "--engine",
        "name",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Compute in this process, or in several with Ray Data (pip install 'ovseg-cli[ray]'): "
        "on this machine, or on a cluster.",
    )
    @click.option(
        "--address",
        metavar="HOST:PORT",
        help="The Ray cluster, or 'auto' for the one this machine belongs to.  [default: "
        "RAY_ADDRESS, else one is started on this machine]",
    )
    @click.option(
        "--ray-actors",
        "actors",
        type=click.IntRange(1),
        metavar="N",
        help="Processes that hold the model.  [default: one for each GPU, else for every four "
        "cores]",
    )
    @wraps(command)
    def with_engine(
        *args: Any, name: str, address: str | None, actors: int | None, **options: Any
    ) -> Any:
        for option, value in (("--address", address), ("--ray-actors", actors)):
            if name == "local" and value is not None:
                raise UsageError(f"{option} goes with --engine ray")
        return command(*args, engine=Engine(name, address, actors), **options)

    return with_engine  # type: ignore[return-value]
