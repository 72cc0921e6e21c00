"""`ovseg export-model`: a model's network as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ovseg_cli.cli import console
from ovseg_cli.cli.options import common_options, vocabulary_options
from ovseg_cli.cli.suffixed import Suffixed
from ovseg_cli.errors import UsageError
from ovseg_cli.printable import quantity
from ovseg_cli.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ovseg_cli.segmenter import Model

_LONG = ("config",)  # of a file's metadata, too long to be shown


@click.command("export-model", short_help="A model's network as an ONNX file.")
@click.argument("name", metavar="MODEL")
@click.option(
    "--to",
    type=click.Choice(["onnx"]),
    required=True,
    help="The format.  pip install 'ovseg-cli[onnx]'",
)
@click.option(
    "-o",
    "--output",
    type=Suffixed(".onnx"),
    metavar="FILE",
    help="The file.  [default: MODEL.onnx]",
)
@click.option(
    "--size",
    type=click.IntRange(32, 4096),
    metavar="N",
    help="Shorter side, in pixels, at which the file says to show it photos; it takes others, too.",
)
@click.option(
    "--proposals",
    type=click.Choice(["queries", "grid"]),
    help="What is classified: trained mask proposals, or every patch for itself.  [default: the "
    "model's own]",
)
@vocabulary_options(required=False)
@click.option("--overwrite", is_flag=True, help="Replace the files if they are there.")
@common_options
def command(
    name: str,
    to: str,
    output: Path | None,
    size: int | None,
    proposals: str | None,
    vocabulary: Vocabulary | None,
    overwrite: bool,
) -> None:
    """Write the network of MODEL as an ONNX file (opset 17), and say what goes in and out.

    Inputs are images and text features, outputs mask logits and class logits, or patch logits;
    number of images, height, width and number of names are open. The text encoder is not in it:
    with --classes, --vocab or --preset its features of those names are written beside, as
    FILE.text.npz: text_features (phrases, channels), class_of (phrases,) and names.

    \b
    Example:
      ovseg export-model mini --to onnx -o mini.onnx --classes "sky, road, car|automobile"
      ovseg segment photos --classes "sky, road" --runtime mini.onnx
    """
    import numpy as np

    from ovseg_cli import weights
    from ovseg_cli.loading import load_model
    from ovseg_cli.onnx_export import described, export
    from ovseg_cli.whole_files import atomic_path

    entry = weights.find(name)
    file = output or Path(f"{Path(entry.path).stem}.{to}")
    text_file = file.with_name(f"{file.name}.text.npz")
    for path in (file, text_file) if vocabulary else (file,):
        if path.exists() and not overwrite:
            raise UsageError(f"{path} is there already: choose another -o, or --overwrite")
    model = load_model(name, "cpu", "fp32", size=size, proposals=proposals)
    # Before anything is written: a name may be too long for the model.
    text = None if vocabulary is None else _text(model, vocabulary)
    content = export(model.network, model.config.proposals, entry)
    with atomic_path(file) as partial:
        partial.write_bytes(content)
    for fact, value in described(content).items():
        if fact not in _LONG:
            console.data(f"{fact}: {value}")
    console.note(f"{file}: {len(content) / 1e6:.1f} MB; onnxruntime gives what the model gives")
    if text is not None:
        with atomic_path(text_file) as partial, partial.open("wb") as stream:
            np.savez(stream, **text)
        phrases = len(text["class_of"])
        console.note(f"{text_file}: {quantity(phrases, 'phrase')} of {len(text['names'])} names")


def _text(model: Model, vocabulary: Vocabulary) -> dict[str, Any]:
    """Arrays by name: the features of some names, as the exported file takes them."""
    import numpy as np

    from ovseg_cli.segmenter import Segmenter

    counts = [len(entry.phrases) for entry in vocabulary.classes]
    return {
        "text_features": Segmenter(model, vocabulary).phrase_features(),
        "class_of": np.repeat(np.arange(len(counts)), counts),
        "names": np.array(vocabulary.names),
    }
