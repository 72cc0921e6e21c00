"""The class names by which a photo is divided: parsing and checking."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ovseg_cli.errors import VocabularyError
from ovseg_cli.printable import is_control, quoted

_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))  # take no place in a line


@dataclass(frozen=True)
class ClassName:
    """One class: what it is called, and what else it may be called."""

    name: str
    synonyms: tuple[str, ...] = ()  # without the name itself
    parents: tuple[str, ...] = ()  # what it is a kind of, the most general first
    pictured: bool = False  # known by pictures alone, whatever its name

    @property
    def phrases(self) -> tuple[str, ...]:
        """The name and then its synonyms."""
        return (self.name, *self.synonyms)


@dataclass(frozen=True, init=False)
class Vocabulary:
    """The classes in order: position = class id. Hashable, so that text features can be cached.

    A class given as a string may hold synonyms, "car|automobile". Raises VocabularyError where
    there is no class, a name or synonym is blank, or one occurs twice (in whatever case).
    """

    classes: tuple[ClassName, ...]
    templates: tuple[str, ...] | None = None  # prompts with "{}" for the name; None = the model's

    def __init__(
        self, classes: Iterable[str | ClassName], templates: Iterable[str] | None = None
    ) -> None:
        if isinstance(classes, str):
            raise VocabularyError(
                f"class names are given as a list, not as one text: {quoted(classes)}"
            )
        parsed = tuple(map(class_name, classes))
        check_classes(parsed, range(len(parsed)), "position")
        prompts = None if templates is None else tuple(templates)
        if prompts is not None and (not prompts or any(t.count("{}") != 1 for t in prompts)):
            raise VocabularyError("every prompt template needs '{}' once, where the name goes")
        object.__setattr__(self, "classes", parsed)
        object.__setattr__(self, "templates", prompts)

    def __len__(self) -> int:
        return len(self.classes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of every class, by id."""
        return tuple(entry.name for entry in self.classes)

    @cached_property
    def parents(self) -> tuple[tuple[str, ...], ...]:
        """What every class is a kind of, by id."""
        return tuple(entry.parents for entry in self.classes)

    def with_class(self, name: str) -> "Vocabulary":
        """The same vocabulary with one more class, which gets the last id."""
        return Vocabulary((*self.classes, name), self.templates)

    def with_templates(self, templates: Iterable[str] | None) -> "Vocabulary":
        """The same classes, their names put into these prompts; None = the model's own."""
        return Vocabulary(self.classes, templates)


def parse(text: str) -> Vocabulary:
    """Read names as typed on a command line: "sky, road, car|automobile"."""
    if not text.strip():
        raise VocabularyError("no class names given: name at least one, such as 'sky, road'")
    if "," not in text and len(text.strip().splitlines()) > 1:  # as "$(cat names.txt)" gives it
        raise VocabularyError(
            "the class names stand on several lines without a comma: write them as 'sky, road', or "
            "give their file as --vocab FILE, which has a class a line"
        )
    return Vocabulary(text.split(","))


def class_name(entry: str | ClassName, parents: tuple[str, ...] = ()) -> ClassName:
    if isinstance(entry, ClassName):
        name = _text(entry.name).strip()
        synonyms = tuple(word.strip() for word in _texts(entry.synonyms, "synonyms"))
        return replace(
            entry, name=name, synonyms=synonyms, parents=_texts(entry.parents, "parents")
        )
    name, *others = (word.strip() for word in _text(entry).split("|"))
    return ClassName(name, tuple(others), parents)


def _text(name: object) -> str:
    if not isinstance(name, str):
        raise VocabularyError(f"a class name is text, not {type(name).__name__}")
    return name


def _texts(given: Iterable[str], what: str) -> tuple[str, ...]:
    """What was given in whatever sequence; one text would fall into its letters."""
    if isinstance(given, str):
        raise VocabularyError(f"{what} are given as a tuple, not as one text: {quoted(given)}")
    return tuple(map(_text, given))


def check_classes(classes: Sequence[ClassName], numbers: Sequence[int], kind: str) -> None:
    """Raise for classes that cannot be used; numbers and kind say where each one stands."""
    if not classes:
        raise VocabularyError("no class names given: name at least one")
    seen: dict[str, list[tuple[str, int]]] = {}
    for entry, number in zip(classes, numbers, strict=True):
        for phrase in entry.phrases:
            undecodable = "\0" in phrase or any("\ud800" <= letter <= "\udfff" for letter in phrase)
            if undecodable:
                raise VocabularyError(
                    f"class name {quoted(phrase)} at {kind} {number} is not text in UTF-8"
                )
            if _is_blank(phrase):
                what = "a synonym" if entry.name and phrase is not entry.name else "the class name"
                raise VocabularyError(
                    f"{what} at {kind} {number} is blank: a separator too many, "
                    "or no quotes around the list?"
                )
            seen.setdefault(comparable(phrase), []).append((phrase, number))
        for kind_of in entry.parents:
            if _is_blank(kind_of) or "|" in kind_of:
                raise VocabularyError(
                    f"{quoted(entry.name)} at {kind} {number} is a kind of {quoted(kind_of)}, "
                    "which is no single name"
                )
    repeated = [places for places in seen.values() if len(places) > 1]
    if repeated:
        places = repeated[0]
        shown = ", ".join(str(number) for _, number in places[:4])
        raise VocabularyError(
            f"class name {quoted(places[0][0])} occurs {len(places)} times "
            f"({kind}s {shown}{', ...' if len(places) > 4 else ''}); "
            "each name or synonym may occur once, whatever its case"
            + (f" ({len(repeated) - 1} more occur twice)" if len(repeated) > 1 else "")
        )


def comparable(phrase: str) -> str:
    """Equal for phrases that a reader, or a tokenizer, would not tell apart."""
    shown = phrase.translate(_UNSEEN)
    return " ".join(unicodedata.normalize("NFKC", shown).casefold().split())


def _is_blank(phrase: str) -> bool:
    return all(unicodedata.category(c)[0] == "Z" or is_control(c) for c in phrase)
