"""Shows how class names were understood."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ovseg_cli.cli import console
from ovseg_cli.names.rivals import competing
from ovseg_cli.names.scripts import NOT_LATIN, without_latin
from ovseg_cli.printable import printable, quantity
from ovseg_cli.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ovseg_cli.segmenter import Model

_SHOWN = 40  # class names


def echo_vocabulary(
    vocabulary: Vocabulary, other: str | None, rivals: Vocabulary | None = None
) -> None:
    """Before the work, so that a wrong comma is seen."""
    shown = []
    for class_id, entry in enumerate(vocabulary.classes[:_SHOWN]):
        kind = f" ({printable(' > '.join(entry.parents))})" if entry.parents else ""
        shown.append(f"{class_id} {'|'.join(map(printable, entry.phrases))}{kind}")
    if len(vocabulary) > _SHOWN:
        shown.append(f"... {len(vocabulary) - _SHOWN} more")
    noun = "class" if len(vocabulary) == 1 else "classes"
    console.note(f"{len(vocabulary)} {noun}: {', '.join(shown)}")
    own = vocabulary if other is None else Vocabulary(vocabulary.classes[:-1])
    _warn_of_other_scripts(own)
    if other is not None:
        console.note(f'"{printable(other)}" takes what fits none of the names')
    if rivals is not None:
        echo_rivals(rivals, own, other)


def _warn_of_other_scripts(vocabulary: Vocabulary) -> None:
    named = (entry for entry in vocabulary.classes if not entry.pictured)
    found = [entry.name for entry in named if without_latin(entry.phrases)]
    if found:
        others = f", as {len(found) - 1} more" if len(found) > 1 else ""
        console.warning(f'"{printable(found[0])}" has no Latin letter{others}: {NOT_LATIN}')


def echo_rivals(rivals: Vocabulary, own: Vocabulary, other: str | None) -> None:
    """How many names compete that are no classes."""
    count = len(competing(rivals, own))
    what = "stays unlabelled" if other is None else f'is "{printable(other)}"'
    left_out = len(rivals) - count
    console.note(
        f"{quantity(count, 'more name')} to compete with: what they win {what}"
        + (f"; {left_out} left out, which mean one of the classes" if left_out else "")
    )


def warn_of_other(model: Model, other: str | None, rivals: Vocabulary | None) -> None:
    """Where --other can take next to nothing, say so, and what serves instead."""
    if other is not None and not rivals and not model.knows_other:
        console.warning(
            f"{model.name} has learnt nothing of what fits none of the names, so that hardly a "
            f'pixel becomes "{printable(other)}": --threshold or --rivals serve for that'
        )
