"""Options that several commands share: decorators that hand a command ready values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from ovseg_cli import vocabulary_files
from ovseg_cli.cli import console
from ovseg_cli.cli.option_types import BatchSize, ErrorLimitType, Named, Place, Real, ShardType
from ovseg_cli.errors import UsageError, VocabularyError
from ovseg_cli.printable import printable
from ovseg_cli.vocabulary import Vocabulary, parse

if TYPE_CHECKING:
    from ovseg_cli.exemplars import Exemplar

Command = TypeVar("Command", bound=Callable[..., Any])

max_pixels_option = partial(click.option, "--max-pixels", type=click.IntRange(1), metavar="N")


def typed_options() -> dict[str, str]:
    """The options on the command line of the command that runs: as values are called, as typed."""
    context = click.get_current_context()
    return {
        parameter.name: parameter.opts[-1]
        for parameter in context.command.params
        if parameter.name is not None
        and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    }


def read_exemplars(texts: Sequence[str]) -> tuple[Exemplar, ...]:
    """What --exemplar names."""
    if not texts:
        return ()
    from ovseg_cli.exemplars import parse_exemplar

    return tuple(map(parse_exemplar, texts))


def with_shown(vocabulary: Vocabulary | None, exemplars: Sequence[Exemplar]) -> Vocabulary | None:
    """The vocabulary with the classes that only pictures show."""
    if not exemplars:
        return vocabulary
    from ovseg_cli.exemplars import with_exemplars

    return with_exemplars(vocabulary, exemplars)


AUTO = "auto"  # in --classes: names are proposed


def vocabulary_options(required: bool = True, auto: bool = False) -> Callable[[Command], Command]:
    """--classes, --vocab and --preset; the command gets `vocabulary`.

    It is None where none is given and none is required, or (auto) where they are to be proposed.
    """
    proposed = " 'auto' proposes names by what is seen: a start, to be edited." if auto else ""

    def add(command: Command) -> Command:
        @click.option(
            "--classes",
            metavar="NAMES",
            help="Class names, separated by commas; 'car|automobile' are synonyms of one class. "
            f"@FILE reads them from a file.{proposed}",
        )
        @click.option(
            "--vocab",
            metavar="FILE",
            help="Class names from a file, or - for standard input: one class a line, '#' starts "
            "a comment; below 'vehicle:' may stand what are kinds of it, indented; or YAML or JSON "
            "(.yaml, .json).",
        )
        @click.option(
            "--preset",
            metavar="NAME",
            help=f"Class names of a public benchmark: {', '.join(vocabulary_files.presets())}.",
        )
        @wraps(command)
        def with_vocabulary(
            *args: Any, classes: str | None, vocab: str | None, preset: str | None, **options: Any
        ) -> Any:
            if vocab == "-" or (classes or "").strip() == "@-":
                _require_one_reader(options)
            wanted = classes is not None and classes.strip() == AUTO
            if wanted and not auto:
                raise UsageError(
                    f"--classes {AUTO} is for names by photos, which 'ovseg vocab propose' looks at"
                )
            vocabulary = None
            shown = options.get("exemplar", ())
            if not wanted or vocab or preset:
                vocabulary = _vocabulary(classes, vocab, preset, required and not shown)
                vocabulary = with_shown(vocabulary, read_exemplars(shown))
            return command(*args, vocabulary=vocabulary, **options)

        return with_vocabulary  # type: ignore[return-value]

    return add


def with_other(vocabulary: Vocabulary, other: str | None) -> Vocabulary:
    """The vocabulary with the class of --other, if any; raises UsageError where it can be none."""
    if other is None:
        return vocabulary
    try:
        return vocabulary.with_class(other)
    except VocabularyError as error:
        raise UsageError(f"--other {printable(other)}: {error}") from error


def outcome_options(output: str) -> Callable[[Command], Command]:
    """--other, --threshold and --output; the command gets them by these names.

    output: the folder where none is given.
    """
    made = (
        click.option(
            "--other",
            type=Named(),
            metavar="NAME",
            help="Add a class that takes what fits none of the names.",
        ),
        threshold_option,
        click.option(
            "-o",
            "--output",
            type=Place(),
            metavar="OUT",
            default=output,
            show_default=True,
            help="Folder for the results.",
        ),
    )

    def add(command: Command) -> Command:
        for option in reversed(made):
            command = option(command)
        return command

    return add


threshold_option = click.option(
    "--threshold",
    type=Real(0, 1),
    metavar="T",
    help="Leave pixels unlabelled whose confidence is below T (0 to 1).",
)
batch_size_option = click.option(
    "--batch-size",
    type=BatchSize(),
    metavar="auto|N",
    default="auto",
    show_default=True,
    help="Pictures of like size that the model sees at once.",
)


def work_options(command: Command) -> Command:
    """--batch-size, --workers, --shard and --max-errors; the command gets them by these names."""
    for option in (
        click.option(
            "--max-errors",
            type=ErrorLimitType(),
            metavar="N|P%",
            help="End the run once N inputs, or P percent of them, have failed; what is finished "
            "stays, and --resume goes on.",
        ),
        click.option(
            "--shard",
            type=ShardType(),
            metavar="I/N|slurm",
            help="Only the I-th (1 to N) of N disjoint parts of the inputs, of about equal bytes; "
            "'slurm' takes I and N from the task of a Slurm array job. Parts may share an output "
            "folder if all are run with --resume; 'ovseg merge' joins them.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(1, 256),
            default=None,
            metavar="N",
            help="Threads that read and write files.  [default: a thread per core, at most 8]",
        ),
        batch_size_option,
    ):
        command = option(command)
    return command


def common_options(command: Command) -> Command:
    """--quiet and --debug, which set up the console."""
    for option in (
        click.option(
            "--debug",
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=lambda ctx, param, value: console.set_debug(value),
            help="Show tracebacks and what the library logs.",
        ),
        click.option(
            "-q",
            "--quiet",
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=lambda ctx, param, value: console.set_quiet(value),
            help="Say nothing but warnings and errors.",
        ),
    ):
        command = option(command)
    return command


def _require_one_reader(options: Mapping[str, Any]) -> None:
    """Raise UsageError where the inputs are on standard input, too, of which names are read."""
    for parameter in click.get_current_context().command.params:
        given = options.get(parameter.name or "")
        if isinstance(parameter, click.Argument) and isinstance(given, tuple) and "-" in given:
            raise UsageError(
                "standard input cannot hold both the class names and the inputs: put the names "
                "into a file"
            )


def _vocabulary(
    classes: str | None, vocab: str | None, preset: str | None, required: bool
) -> Vocabulary | None:
    given = [
        name
        for name, value in (("--classes", classes), ("--vocab", vocab), ("--preset", preset))
        if value is not None
    ]
    if not given and not required:
        return None
    if not given:
        raise UsageError(
            'no class names: give them as --classes "sky, road, car", --vocab FILE or --preset NAME'
        )
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other: name the classes in one way")
    if preset is not None:
        return vocabulary_files.preset(preset)
    if vocab is not None:
        return vocabulary_files.read(vocab)
    assert classes is not None
    return listed_names(classes)


def listed_names(text: str) -> Vocabulary:
    """Names separated by commas, or those in the file of @FILE."""
    shown = text.lstrip()
    return vocabulary_files.read(shown[1:]) if shown.startswith("@") else parse(text)
