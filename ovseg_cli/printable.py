"""Foreign text as terminals, logs and messages may show it."""

import unicodedata
from collections.abc import Sequence

_JOINERS = "\u200c\u200d"  # format characters that Persian, Hindi and emoji need


def printable(text: str) -> str:
    """For terminals: control, direction and undecodable characters are escaped, as \\x1b."""
    if text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def quoted(phrase: str) -> str:
    """For messages: on one line, and not longer than a line."""
    shown = printable(phrase)
    return f'"{shown}"' if len(shown) <= 60 else f'"{shown[:57]}..."'


def quantity(count: int, noun: str) -> str:
    """As "1 photo", "2 photos"; for nouns whose plural takes an s."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def some_of(texts: Sequence[str], most: int = 5) -> str:
    """The first few, printable, with commas between, and how many more there are."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(map(printable, texts[:most])) + more


def is_control(character: str) -> bool:
    """Whether a character is none that is seen, but acts on those around it or splits lines."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(character: str) -> str:
    if is_control(character) and character not in _JOINERS:
        return character.encode("unicode_escape").decode("ascii")
    return character
