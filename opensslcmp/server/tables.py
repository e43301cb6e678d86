"""TOML into frozen dataclasses, with errors that name file, line and key, all of a file at once.

A table is a dataclass, and a key is one of its fields; nothing else has to be said to have it read, checked, documented
(docs/configuration.md) and offered by "did you mean". To add a table to ``opensslcmp.toml``, write

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Audit:
        \"\"\"Where the audit line goes.

        Attributes:
            file: that lines are added to; none: no audit.
            max_bytes: after which a new file is begun.
        \"\"\"

        file: Path | None = None
        max_bytes: int = 100_000_000

and give ``settings.Settings`` a field of it: ``audit: Audit = Audit()``, and a line in its docstring. That is all.

=============================  =====================================================================================
annotation                     in the file
=============================  =====================================================================================
``str``, ``int``, ``bool``     itself; a bool is no int
``float``                      a number, finite
``Path``                       a string; relative to the file's directory
an ``Enum``                    the value of a member when that is a string, else its name in lower case
``Literal["a", "b"]``          one of them
``tuple[T, ...]``              an array
``frozenset[T]``               an array, in any order
``T | None``                   as ``T``; absent means None where the default says so
a class with ``from_toml``     whatever ``from_toml(value, directory)`` takes; its ``ValueError`` says what is wrong
a dataclass                    a table
``Mapping[str, dataclass]``    a table of tables; one that has a field ``name`` gets the table's name there
=============================  =====================================================================================

What the types do not say, ``__post_init__`` checks. It raises ``ValueError`` whose text begins with the field's name
(``max_bytes is not positive``), so that the line is found; or ``WrongValue``, which names the key by itself and so may
be about another table; ``refuse`` raises several of these at once.

Source: https://toml.io/en/v1.0.0
"""

from __future__ import annotations

import math
import re
import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

__all__ = ["Problem", "SettingsError", "WrongValue", "WrongValues", "load_tables", "near", "refuse", "url_problem"]

T = TypeVar("T")
_Key = tuple[str, ...]


class WrongValue(ValueError):
    """A value that the types allow and the meaning does not; to be raised by ``__post_init__``.

    Args:
        text: what is wrong, in words that follow the key: "is not positive".
        key: where, from this table on: ``"labels", "factory", "profiles"``.
    """

    def __init__(self, text: str, *key: str) -> None:
        super().__init__(f"{'.'.join(key)} {text}" if key else text)
        self.key = key
        self.words = text


class WrongValues(ValueError):
    """Several of these.

    Attributes:
        errors: each.
    """

    def __init__(self, errors: Iterable[WrongValue]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(map(str, self.errors)))


def refuse(errors: Iterable[WrongValue]) -> None:
    """Return when there are none.

    Raises:
        WrongValues: there are.
    """
    found = tuple(errors)
    if found:
        raise WrongValues(found)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that is wrong in a file.

    Attributes:
        file: that it stands in.
        line: counted from 1; None when the file has none for it.
        key: tables and key, outermost first; the key is empty when the table as a whole is meant.
        text: what is wrong, in words that follow the key.
    """

    file: Path
    line: int | None
    key: _Key
    text: str

    def __str__(self) -> str:
        """``FILE:LINE: [table] key what is wrong``."""
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        *table, key = self.key or ("",)
        words = [f"[{'.'.join(table)}]" if table else "", key, self.text]
        return f"{place}: {' '.join(each for each in words if each)}"


class SettingsError(ValueError):
    """A file of settings that cannot be used.

    Attributes:
        problems: all that is wrong in it, in the order of its lines.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda each: each.line or 0))
        super().__init__("\n".join(map(str, self.problems)))


def load_tables(path: Path, schema: type[T]) -> T:
    """What a TOML file says, as the dataclass that says what it may.

    Raises:
        SettingsError: it is no TOML, or has keys or values that are not known.
        OSError: the file cannot be read.
    """
    try:
        text = path.read_bytes().decode()
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", str(error), re.DOTALL)
        line = int(at[2]) if at and at[2] else text.count("\n") + 1
        raise SettingsError([Problem(file=path, line=line, key=(), text=at[1] if at else str(error))]) from None
    except UnicodeDecodeError:
        raise SettingsError([Problem(file=path, line=None, key=(), text="is not UTF-8")]) from None
    reader = _Reader(path, _lines_of(text))
    made = reader.table(schema, found, ())
    if reader.problems:
        raise SettingsError(reader.problems)
    assert isinstance(made, schema)
    return made


def near(word: str, known: Iterable[str]) -> str:
    """A "did you mean" with those of ``known`` that are near, else all of them when they are few."""
    names = sorted(known)
    close = get_close_matches(word, names, 3)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f" (there are {', '.join(names)})" if 0 < len(names) <= 12 else ""


def url_problem(url: str) -> str | None:
    """What is wrong with the URL of a document that certificates point to, in words that follow the key; or None."""
    # Nothing that TOML or an IA5String would need to have escaped.
    if not url.isascii() or not url.isprintable() or set(url) & set(' "\\<>^`{|}'):
        return "is not a URL"
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https", "ldap", "ldaps"} or not parts.hostname:
        return "is not a URL such as http://ca.example/crl"
    if parts.path in {"", "/"} or parts.path.startswith("/.well-known/cmp"):
        return "has no path of its own, such as http://ca.example/crl"
    return None


class _Wrong(Exception):
    """A value that is not of its field's type."""


_BAD = object()
"""In place of a value whose problem was written down."""


class _Reader:
    """Turns what was parsed into dataclasses, and collects what is wrong."""

    def __init__(self, path: Path, lines: Mapping[_Key, int]) -> None:
        self.problems: list[Problem] = []
        self._path = path
        self._lines = lines

    def wrong(self, key: _Key, text: str) -> Any:
        """Write a problem down, at the line of the key or of the nearest table around it."""
        line = next((self._lines[key[:end]] for end in range(len(key), 0, -1) if key[:end] in self._lines), None)
        self.problems.append(Problem(file=self._path, line=line, key=key, text=text))
        return _BAD

    def table(self, schema: type[Any], found: Mapping[str, Any], key: _Key, **given: Any) -> Any:
        """One dataclass, or ``_BAD``."""
        kinds = get_type_hints(schema)
        known = [each.name for each in fields(schema) if each.init and each.name not in given]
        values = dict(given)
        for name, value in found.items():
            if name in known:
                values[name] = self.value(kinds[name], value, (*key, name))
            else:
                values[name] = self.wrong((*key, name), f"is not known{near(name, known)}")
        for each in fields(schema):
            needed = each.init and each.default is MISSING and each.default_factory is MISSING
            if needed and each.name not in values:
                values[each.name] = self.wrong((*key, each.name), "is missing")
        if any(value is _BAD for value in values.values()):
            return _BAD
        try:
            return schema(**values)
        except WrongValues as several:
            for one in several.errors:
                self._meaning(one, known, key)
        except ValueError as error:
            self._meaning(error, known, key)
        return _BAD

    def _meaning(self, error: Exception, known: list[str], key: _Key) -> None:
        if isinstance(error, WrongValue):
            self.wrong((*key, *error.key), error.words)
            return
        name, _, words = str(error).partition(" ")
        if name in known:
            self.wrong((*key, name), words)
        else:
            self.wrong((*key, ""), str(error))

    def value(self, kind: Any, value: Any, key: _Key) -> Any:
        """One value of this type, or ``_BAD``."""
        origin, inner = get_origin(kind), get_args(kind)
        if origin in {Union, types.UnionType}:
            return self.value(next(each for each in inner if each is not types.NoneType), value, key)
        if is_dataclass(kind) and isinstance(kind, type) and not hasattr(kind, "from_toml"):
            return self.table(kind, value, key) if isinstance(value, dict) else self.wrong(key, "is not a table")
        if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
            return self._tables(inner[1], value, key)
        try:
            return self._plain(kind, origin, inner, value)
        except _Wrong as error:
            return self.wrong(key, str(error))

    def _tables(self, schema: type[Any], value: Any, key: _Key) -> Any:
        if not isinstance(value, dict) or not all(isinstance(each, dict) for each in value.values()):
            return self.wrong(key, f"is not a table of tables, such as [{'.'.join(key)}.NAME]")
        named = any(each.name == "name" for each in fields(schema))
        made = {
            name: self.table(schema, each, (*key, name), **({"name": name} if named else {}))
            for name, each in value.items()
        }
        return _BAD if any(each is _BAD for each in made.values()) else types.MappingProxyType(made)

    def _plain(self, kind: Any, origin: Any, inner: tuple[Any, ...], value: Any) -> Any:
        if origin in {tuple, frozenset}:
            if not isinstance(value, list):
                raise _Wrong("is not an array")
            made = [self._plain(inner[0], get_origin(inner[0]), get_args(inner[0]), each) for each in value]
            if origin is frozenset and len(set(made)) < len(made):
                raise _Wrong("has something twice")
            return origin(made)
        if origin is Literal:
            return _chosen(value, {each: each for each in inner})
        if hasattr(kind, "from_toml"):
            return self._own(kind, value)
        if issubclass(kind, Enum):
            return _chosen(value, {e.value if isinstance(e.value, str) else e.name.lower(): e for e in kind})
        if issubclass(kind, Path):
            if not isinstance(value, str) or not value or "\0" in value:
                raise _Wrong("is not a path")
            return self._path.parent / value
        if kind is float:
            if type(value) not in {int, float} or not math.isfinite(value):
                raise _Wrong("is not a number")
            return float(value)
        if type(value) is not kind:
            raise _Wrong(f"is not {_WORDS[kind]}")
        return value

    def _own(self, kind: Any, value: Any) -> Any:
        try:
            return kind.from_toml(value, self._path.parent)
        except OSError as error:
            raise _Wrong(f"cannot be read: {error.filename}: {error.strerror}") from None
        except ValueError as error:
            raise _Wrong(str(error)) from None


_WORDS = {str: "a string", int: "a whole number", bool: "true or false"}


def _chosen(value: Any, known: Mapping[str, Any]) -> Any:
    if not isinstance(value, str):
        raise _Wrong(f"is not one of {', '.join(known)}")
    if value not in known:
        raise _Wrong(f"is not one of {', '.join(known)}: {value}")
    return known[value]


# -- where keys stand: tomllib does not tell -------------------------------------------------------------------------

_TOKEN = re.compile(
    r'(?P<text>"""(?:\\[\s\S]|[^\\])*?"{3,5}|'
    r"'''[\s\S]*?'{3,5}|"
    r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*')"
    r"|(?P<skip>\#[^\n]*|[ \t\r]+)|(?P<mark>[\n\[\]{}=,.])|(?P<bare>[^\s\[\]{}=,.\"'#]+)"
)


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Kind, text and line of what a TOML document is made of."""
    line = 1
    for found in _TOKEN.finditer(text):
        if found.lastgroup != "skip":
            yield found.lastgroup or "", found[0], line
        line += found[0].count("\n")


def _lines_of(text: str) -> dict[_Key, int]:
    """The line of each key and table of a document that ``tomllib`` has read."""
    tokens = list(_tokens(text))
    lines: dict[_Key, int] = {}
    place = 0
    at: _Key = ()

    def peek() -> str:
        return tokens[place][1] if place < len(tokens) else ""

    def name(end: str) -> _Key:
        """The dotted key from here to ``end``, which is passed."""
        nonlocal place
        parts = []
        while peek() != end:
            kind, token, _ = tokens[place]
            if kind != "mark":
                parts.append(tomllib.loads(f"k = {token}")["k"] if kind == "text" else token)
            place += 1
        place += 1
        return tuple(parts)

    def note(key: _Key, line: int) -> None:
        for end in range(1, len(key) + 1):
            lines.setdefault(key[:end], line)

    def value(key: _Key) -> None:
        """Pass a value, and look for keys in it."""
        nonlocal place
        opening = peek()
        if opening not in {"[", "{"}:
            while peek() not in {"\n", ",", "]", "}", ""}:
                place += 1
            return
        closing = "]" if opening == "[" else "}"
        place += 1
        while peek() != closing:
            if peek() in {"\n", ","}:
                place += 1
            elif opening == "[":
                value(key)
            else:
                line = tokens[place][2]
                inner = (*key, *name("="))
                note(inner, line)
                value(inner)
        place += 1

    while place < len(tokens):
        line = tokens[place][2]
        if peek() == "\n":
            place += 1
        elif peek() == "[":
            at = name("]")
            note(at, line)
            place += peek() == "]"
        else:
            key = (*at, *name("="))
            note(key, line)
            value(key)
    return lines
