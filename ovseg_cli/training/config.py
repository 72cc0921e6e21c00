"""A training stage's TOML file."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from ovseg_cli.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Kind = TypeVar("Kind")


def read_toml(path: Path, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """The file's tables, with `section.key=value` overrides (values in TOML's own syntax).

    A file that begins with `base = "OTHER.toml"` says only what is otherwise than in that file
    beside it. Raises UsageError.
    """
    values = _with_base(path)
    for override in overrides:
        key, sign, value = override.partition("=")
        if not sign:
            raise UsageError(f"--set {override}: expected section.key=value")
        *sections, last = key.strip().split(".")
        table = values
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise UsageError(f"--set {override}: {section} is no section of {path}")
        table[last] = _value(override, value)
    return values


def _value(override: str, text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except ValueError:
        return text.strip()  # a bare word is a string
    except RecursionError as error:
        raise UsageError(f"--set {override[:60]}...: it is nested too deeply") from error
    if len(parsed) > 1:
        raise UsageError(f"--set {override}: one value at a time; --set may be given again")
    return parsed["value"]


def _with_base(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """above: the files that name this one as their base, resolved."""
    try:
        values = tomllib.loads(path.read_text("utf-8-sig"))  # as editors on Windows begin it
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # also of numbers with thousands of digits
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{path} is not valid TOML: it is nested too deeply") from error
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise UsageError(f"{path}: base: {base!r} is not the name of a file")
    place = path.resolve()  # there are many ways to a file, with "..", or by links
    if place in above:
        raise UsageError(f"{path} is its own base")
    return _merged(_with_base(path.parent / base, (*above, place)), values)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if both else value
    return merged


def from_table(kind: type[Kind], values: Any, file: str, key: str = "") -> Kind:
    """A dataclass from a TOML table, nested ones too; "none" stands for what may be absent.

    file, key: where the table stands. Raises UsageError, which begins with them, for an unknown or
    missing key and a bad value.
    """
    where = f"{file}: {key}" if key else file
    if not isinstance(values, dict):
        raise UsageError(f"{where}: {values!r} is not a table")
    hints = typing.get_type_hints(kind)
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise UsageError(
            f"{where}: unknown {', '.join(unknown)}; known: {', '.join(sorted(fields))}"
        )
    missing = [
        name
        for name, entry in fields.items()
        if name not in values
        and entry.default is dataclasses.MISSING
        and entry.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UsageError(f"{where}: {', '.join(missing)} must be given")
    built = {
        name: _convert(hints[name], value, file, f"{key}.{name}" if key else name)
        for name, value in values.items()
    }
    try:
        return kind(**built)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


def _convert(hint: Any, value: Any, file: str, key: str) -> Any:
    if isinstance(hint, types.UnionType):  # `float | None`
        if value == "none":  # TOML has no word for it, and a base may give a value
            return None
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_table(hint, value, file, key)  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, list):
        if inner[-1] is not Ellipsis and len(value) != len(inner):
            raise UsageError(f"{file}: {key}: {value!r} does not have {len(inner)} entries")
        return tuple(_convert(inner[0], entry, file, key) for entry in value)
    if origin is dict and isinstance(value, dict):
        return {name: _convert(inner[1], v, file, f"{key}.{name}") for name, v in value.items()}
    if hint is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise UsageError(f"{file}: {key}: the number is too large") from None
    if hint is Any or type(value) is hint:
        return value
    raise UsageError(f"{file}: {key}: {value!r} is not a {getattr(hint, '__name__', hint)}")
