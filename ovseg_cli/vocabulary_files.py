"""Class names and prompt templates out of files, and those that come with the package."""

import codecs
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import resources
from itertools import islice
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from ovseg_cli.errors import VocabularyError
from ovseg_cli.json_files import once, parse_json
from ovseg_cli.printable import printable, quoted
from ovseg_cli.vocabulary import ClassName, Vocabulary, check_classes, class_name

_LINE_BREAK = re.compile("[\n\r\v\f\x85\u2028\u2029]")
_COMMENT = re.compile(r"(^|\s)#.*")  # a '#' inside a word ("C#") belongs to the name
MOST_CLASSES = 100_000  # of a YAML file, whose references can multiply what it says


def read(path: str | Path) -> Vocabulary:
    """Read a UTF-8 file with one class a line, synonyms after '|', comments after '#'; or '-'.

    '-' is for standard input.
    A line that ends in a colon is no class but what the lines indented below it are kinds of. In a
    file whose name ends in .yaml, .yml or .json that is a mapping: `vehicle: [car, bus, truck]`.
    """
    if not str(path).strip():
        raise VocabularyError("the file of class names has an empty name; is a variable not set?")
    suffix, shown = Path(path).suffix.lower(), _shown(path)
    if suffix in (".csv", ".tsv"):
        raise VocabularyError(
            f"{shown}: class names are not read from tables: write one name a line into a .txt file"
        )
    text = _read_text(path, "class names")
    if suffix in (".yaml", ".yml"):
        return _parse_yaml(text, shown)
    if suffix == ".json":
        return _parse_json(text, shown)
    return _parse_lines(text, shown)


def presets() -> tuple[str, ...]:
    """The names of the vocabularies that come with the package, sorted."""
    return _listed("presets")


def preset(name: str) -> Vocabulary:
    """The class names of a public benchmark, in the order of its train ids."""
    if name not in presets():
        raise VocabularyError(f"unknown preset {quoted(name)}; there are: {', '.join(presets())}")
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
            f"goes" + (f", unlike {quoted(wrong[0])}" if wrong else "; there is none")
        )
    return found


def _listed(folder: str) -> tuple[str, ...]:
    files = (entry.name for entry in (resources.files("ovseg_cli") / folder).iterdir())
    return tuple(sorted(name.removesuffix(".txt") for name in files if name.endswith(".txt")))


def _shown(path: str | Path) -> str:
    return "standard input" if str(path) == "-" else printable(str(path))


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise ValueError("it is closed")
    return sys.stdin.buffer.read()


def _read_text(path: str | Path, content: str, remedy: str = "") -> str:
    shown = _shown(path)
    try:
        data = _standard_input() if str(path) == "-" else Path(path).read_bytes()
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
                f"{source} line {number}: {quoted(content)} holds a comma; "
                "write one class a line and synonyms as 'car|automobile'"
            )
        above = [(other, name) for other, name in above if other < depth]
        if content.endswith(":") and content != ":":
            if position + 1 == len(rows) or rows[position + 1][1] <= depth:
                raise VocabularyError(
                    f"{source} line {number}: nothing is indented below {quoted(content)}"
                )
            above.append((depth, content[:-1].rstrip()))
        else:
            classes.append(class_name(content, tuple(name for _, name in above)))
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
                        f"{source} line {line}: {quoted(key.value)} stands there again; put all "
                        "that belongs to it in one place"
                    )
                seen.add(key.value)
            return node

    try:
        return _nested(yaml.load(text, Loader), source)
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise VocabularyError(f"{source}: not valid YAML: {error}") from error
    except RecursionError as error:
        raise VocabularyError(f"{source}: not valid YAML: it is nested too deeply") from error


def _parse_json(text: str, source: str) -> Vocabulary:
    try:
        content = parse_json(text, once) if text.strip() else None
    except JSONDecodeError as error:
        raise VocabularyError(f"{source}: not valid JSON: {error}") from error
    except ValueError as error:  # a name that stands there twice, or more than is read
        raise VocabularyError(f"{source}: {error}") from error
    return _nested(content, source)


def _nested(content: Any, source: str) -> Vocabulary:
    """The classes of a file that nests mappings and lists; None = it holds nothing."""
    leaves = () if content is None else _leaves(content, (), source)
    classes = list(islice(leaves, MOST_CLASSES + 1))
    if len(classes) > MOST_CLASSES:  # a few lines whose references each repeat the one before
        raise VocabularyError(f"{source}: it holds more than {MOST_CLASSES} classes")
    return _checked(classes, range(1, len(classes) + 1), "position", source)


def _leaves(content: Any, parents: tuple[str, ...], source: str) -> Iterator[ClassName]:
    """The classes of YAML or JSON in order: mappings lead to kinds, lists and texts are classes.

    Raises VocabularyError for what leads to none. So references that multiply it end at once.
    """
    if isinstance(content, dict):
        for name, inner in content.items():
            if not isinstance(name, str) or inner in (None, [], {}):
                raise VocabularyError(f"{source}: {quoted(str(name))} leads to no class names")
            yield from _leaves(inner, (*parents, name), source)
    elif isinstance(content, list):
        for inner in content:
            if inner in (None, [], {}):
                raise VocabularyError(f"{source}: an entry of a list holds no class name")
            if isinstance(inner, str):  # a name of its own, which may hold a comma
                yield class_name(inner, parents)
            else:
                yield from _leaves(inner, parents, source)
    elif isinstance(content, str):
        if "," in content:  # as in the lines of other files: most often brackets are missing
            raise VocabularyError(
                f"{source}: {quoted(content)} holds a comma: write several classes as [car, bus]"
            )
        yield class_name(content, parents)
    else:  # YAML reads no, off and 3 as something else
        raise VocabularyError(f"{source}: {quoted(str(content))} is no text: put it in quotes")


def _checked(
    classes: Sequence[ClassName], numbers: Sequence[int], kind: str, source: str
) -> Vocabulary:
    for entry, number in zip(classes, numbers, strict=True):
        for phrase in (*entry.phrases, *entry.parents):
            if _LINE_BREAK.search(phrase):
                raise VocabularyError(
                    f"{source}: class name {quoted(phrase)} at {kind} {number} holds a line break: "
                    "make it several classes, or leave the break out"
                )
    try:
        check_classes(classes, numbers, kind)
    except VocabularyError as error:
        raise VocabularyError(f"{source}: {error}") from None
    return Vocabulary(classes)
