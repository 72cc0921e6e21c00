"""The class names by which a photo is divided: parsing, checking, presets."""

import codecs
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

from ovseg_cli.errors import VocabularyError

_COMMENT = re.compile(r"(^|\s)#.*")  # a '#' inside a word ("C#") belongs to the name
MOST_CLASSES = 100_000  # of a YAML file, whose references can multiply what it says
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))  # take no place in a line
_JOINERS = "\u200c\u200d"  # format characters that Persian, Hindi and emoji need


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
                f"class names are given as a list, not as one text: {_quoted(classes)}"
            )
        parsed = tuple(map(_class_name, classes))
        _check(parsed, range(len(parsed)), "position")
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
    return Vocabulary(text.split(","))


def read(path: str | Path) -> Vocabulary:
    """Read a UTF-8 file with one class a line, synonyms after '|', comments after '#'.

    A line that ends in a colon is no class but what the lines indented below it are kinds of. In a
    file whose name ends in .yaml or .yml that is a mapping: `vehicle: [car, bus, truck]`.
    """
    text, shown = _read_text(path, "class names"), printable(str(path))
    if Path(path).suffix.lower() in (".yaml", ".yml"):
        return _parse_yaml(text, shown)
    return _parse_lines(text, shown)


def presets() -> tuple[str, ...]:
    """The names of the vocabularies that come with the package, sorted."""
    return _listed("presets")


def preset(name: str) -> Vocabulary:
    """The class names of a public benchmark, in the order of its train ids."""
    if name not in presets():
        raise VocabularyError(f"unknown preset {_quoted(name)}; there are: {', '.join(presets())}")
    file = resources.files("ovseg_cli") / "presets" / f"{name}.txt"
    return _parse_lines(file.read_text(encoding="utf-8"), f"preset {name}")


def template_sets() -> tuple[str, ...]:
    """The names of the sets of prompt templates that come with the package, sorted."""
    return _listed("templates")


def templates(name_or_path: str) -> tuple[str, ...]:
    """The prompt templates of a set, or of a UTF-8 file with one a line, comments after '#'.

    Raises VocabularyError where there is neither, and for a line without "{}".
    """
    if name_or_path in template_sets():
        file = resources.files("ovseg_cli") / "templates" / f"{name_or_path}.txt"
        text = file.read_text(encoding="utf-8")
    else:
        text = _read_text(name_or_path, "prompt templates", f"; sets: {', '.join(template_sets())}")
    lines = [_COMMENT.sub("", line).strip() for line in text.splitlines()]
    found = tuple(line for line in lines if line)
    wrong = [line for line in found if line.count("{}") != 1]
    if wrong or not found:
        raise VocabularyError(
            f"{printable(name_or_path)}: every prompt template needs '{{}}' once, where the name "
            f"goes" + (f", unlike {_quoted(wrong[0])}" if wrong else "; there is none")
        )
    return found


def printable(text: str) -> str:
    """The text with control, direction and undecodable characters as \\x.., for terminals."""
    if text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def _listed(folder: str) -> tuple[str, ...]:
    files = (entry.name for entry in (resources.files("ovseg_cli") / folder).iterdir())
    return tuple(sorted(name.removesuffix(".txt") for name in files if name.endswith(".txt")))


def _read_text(path: str | Path, content: str, remedy: str = "") -> str:
    shown = printable(str(path))
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VocabularyError(f"cannot read the {content} in {shown}: {reason}{remedy}") from error
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16")  # as PowerShell redirects
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise VocabularyError(f"{shown} line {line}: not UTF-8; save the file as UTF-8") from error


def _parse_lines(text: str, source: str) -> Vocabulary:
    rows = []  # number of the line, depth, content
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        content = _COMMENT.sub("", line.expandtabs())
        if content.strip():
            rows.append((number, len(content) - len(content.lstrip()), content.strip()))
    classes, numbers = [], []
    above: list[tuple[int, str]] = []  # depth and name of what the line at hand may belong to
    for position, (number, depth, content) in enumerate(rows):
        if "," in content:
            raise VocabularyError(
                f"{source} line {number}: {_quoted(content)} holds a comma; "
                "write one class a line and synonyms as 'car|automobile'"
            )
        above = [(other, name) for other, name in above if other < depth]
        if content.endswith(":") and content != ":":
            if position + 1 == len(rows) or rows[position + 1][1] <= depth:
                raise VocabularyError(
                    f"{source} line {number}: nothing is indented below {_quoted(content)}"
                )
            above.append((depth, content[:-1].rstrip()))
        else:
            classes.append(_class_name(content, tuple(name for _, name in above)))
            numbers.append(number)
    return _checked(classes, numbers, "line", source)


def _parse_yaml(text: str, source: str) -> Vocabulary:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a name that stands twice in one mapping: only the last would count."""

        def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
            node = super().compose_mapping_node(anchor)
            seen: set[str] = set()
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                if key.tag == "tag:yaml.org,2002:merge":  # multiplies what it merges
                    line = key.start_mark.line + 1
                    raise VocabularyError(f'{source} line {line}: "<<" is no class name')
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise VocabularyError(
                        f"{source} line {line}: {_quoted(key.value)} stands there again; "
                        "put all that belongs to it in one place"
                    )
                seen.add(key.value)
            return node

    try:
        content = yaml.load(text, Loader)
        leaves = () if content is None else _leaves(content, (), source)
        classes = list(islice(leaves, MOST_CLASSES + 1))
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise VocabularyError(f"{source}: not valid YAML: {error}") from error
    except RecursionError as error:
        raise VocabularyError(f"{source}: not valid YAML: it is nested too deeply") from error
    if len(classes) > MOST_CLASSES:  # a few lines whose references each repeat the one before
        raise VocabularyError(f"{source}: it holds more than {MOST_CLASSES} classes")
    return _checked(classes, range(1, len(classes) + 1), "position", source)


def _leaves(content: Any, parents: tuple[str, ...], source: str) -> Iterator[ClassName]:
    """The classes of a YAML file in order: mappings lead to kinds, lists and texts are classes.

    Raises VocabularyError for what leads to none. So references that multiply it end at once.
    """
    if isinstance(content, dict):
        for name, inner in content.items():
            if not isinstance(name, str) or inner in (None, [], {}):
                raise VocabularyError(f"{source}: {_quoted(str(name))} leads to no class names")
            yield from _leaves(inner, (*parents, name), source)
    elif isinstance(content, list):
        for inner in content:
            if inner in (None, [], {}):
                raise VocabularyError(f"{source}: an entry of a list holds no class name")
            yield from _leaves(inner, parents, source)
    elif isinstance(content, str):
        yield _class_name(content, parents)
    else:  # YAML reads no, off and 3 as something else
        raise VocabularyError(f"{source}: {_quoted(str(content))} is no text: put it in quotes")


def _checked(
    classes: Sequence[ClassName], numbers: Sequence[int], kind: str, source: str
) -> Vocabulary:
    try:
        _check(classes, numbers, kind)
    except VocabularyError as error:
        raise VocabularyError(f"{source}: {error}") from None
    return Vocabulary(classes)


def _class_name(entry: str | ClassName, parents: tuple[str, ...] = ()) -> ClassName:
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
        raise VocabularyError(f"{what} are given as a tuple, not as one text: {_quoted(given)}")
    return tuple(map(_text, given))


def _check(classes: Sequence[ClassName], numbers: Sequence[int], kind: str) -> None:
    """Raise for classes that cannot be used; numbers and kind say where each one stands."""
    if not classes:
        raise VocabularyError("no class names given: name at least one")
    seen: dict[str, list[tuple[str, int]]] = {}
    for entry, number in zip(classes, numbers, strict=True):
        for phrase in entry.phrases:
            undecodable = "\0" in phrase or any("\ud800" <= letter <= "\udfff" for letter in phrase)
            if undecodable:
                raise VocabularyError(
                    f"class name {_quoted(phrase)} at {kind} {number} is not text in UTF-8"
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
                    f"{_quoted(entry.name)} at {kind} {number} is a kind of {_quoted(kind_of)}, "
                    "which is no single name"
                )
    repeated = [places for places in seen.values() if len(places) > 1]
    if repeated:
        places = repeated[0]
        shown = ", ".join(str(number) for _, number in places[:4])
        raise VocabularyError(
            f"class name {_quoted(places[0][0])} occurs {len(places)} times "
            f"({kind}s {shown}{', ...' if len(places) > 4 else ''}); "
            "each name or synonym may occur once, whatever its case"
            + (f" ({len(repeated) - 1} more occur twice)" if len(repeated) > 1 else "")
        )


def comparable(phrase: str) -> str:
    """Equal for phrases that a reader, or a tokenizer, would not tell apart."""
    shown = phrase.translate(_UNSEEN)
    return " ".join(unicodedata.normalize("NFKC", shown).casefold().split())


def _is_blank(phrase: str) -> bool:
    return all(unicodedata.category(c)[0] == "Z" or _is_control(c) for c in phrase)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(character: str) -> str:
    if _is_control(character) and character not in _JOINERS:
        return character.encode("unicode_escape").decode("ascii")
    return character


def _quoted(phrase: str) -> str:
    """For messages: on one line, and not longer than a line."""
    shown = printable(phrase)
    return f'"{shown}"' if len(shown) <= 60 else f'"{shown[:57]}..."'
