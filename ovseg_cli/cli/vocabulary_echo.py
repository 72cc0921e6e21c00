"""Shows how class names were understood."""

from __future__ import annotations

from ovseg_cli.cli import console
from ovseg_cli.rivals import competing
from ovseg_cli.vocabulary import Vocabulary, printable

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
    if other is not None:
        console.note(f'"{printable(other)}" takes what fits none of the names')
    if rivals is not None:
        own = vocabulary if other is None else Vocabulary(vocabulary.classes[:-1])
        echo_rivals(rivals, own, other)


def echo_rivals(rivals: Vocabulary, own: Vocabulary, other: str | None) -> None:
    """How many names compete that are no classes."""
    count = len(competing(rivals, own))
    what = "stays unlabelled" if other is None else f'is "{printable(other)}"'
    left_out = len(rivals) - count
    console.note(
        f"{count} more name{'' if count == 1 else 's'} to compete with: what they win {what}"
        + (f"; {left_out} left out, which mean one of the classes" if left_out else "")
    )
