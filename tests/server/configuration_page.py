"""Writes docs/configuration.md: ``python -m tests.server.configuration_page``; ``test_configuration`` says when that is due.

Tables, keys, types and defaults are those of the dataclasses; what a key means is what their docstrings say.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from inspect import cleandoc
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from opensslcmp.server.settings import CertificateFile, KeyPlace, ListedCertificate, Settings

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs" / "configuration.md"

INTRODUCTION = """\
# Configuration

<!-- Written by `python -m tests.server.configuration_page` from the settings themselves. -->

`opensslcmp.toml` in the CA's directory configures the whole server; `opensslcmp serve DIR --config FILE` takes another file
instead. Everything has a default, so there need not be one. Options on the command line win over the file.
[examples/opensslcmp.toml](../examples/opensslcmp.toml) is one to begin with.

```sh
opensslcmp serve my-ca --check
```

says what is wrong, by file, line and key, all at once, and ends with exit code 7 then; else it says what was found. A server
checks the same when it starts:

```text
error: my-ca/opensslcmp.toml:7: [profiles.device] validty_days is not known; did you mean validity_days?
my-ca/opensslcmp.toml:12: [rules] off has no such rule: message_time_is_ner; did you mean message_time_is_near?
```

SIGHUP to `opensslcmp serve` reads the file again, with the certificates and keys that it names. Messages under way end as
they began. What cannot be read changes nothing: the log says why, and the old settings stay. Changes of [server], [store],
[audit], [metrics], [announce] and of the path of `crl_url` need a restart; the log names them.

The `ca` commands read `opensslcmp.toml` in the CA's directory: keep it there when it has [store] or a `key`.

Paths are relative to the directory of the file. Names of certificates, in `subjects` and `tls_subjects`, are written as RFC
4514 does, most specific first (`CN=device-1,O=Example`); each value may have `*`, `?` and `[...]` as in a shell, and a name
matches when it has exactly these attributes.

A request comes to `/.well-known/cmp`, or to `/.well-known/cmp/p/NAME` for [labels.NAME] (RFC 9811, 3.4). With any label in
the file, a path with another one gets an error message with badRequest; it is a PKIMessage, so that clients can tell it
from a server that is not there. Who may ask passes [authorisation] first and the label's lists then.
"""


def words_of(kind: Any) -> str:
    """A type, as the file has it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in {Union, types.UnionType}:
        return words_of(next(each for each in inner if each is not types.NoneType))
    if origin in {tuple, frozenset}:
        return f"array of {words_of(inner[0])}"
    if origin is Literal:
        return " or ".join(f'`"{each}"`' for each in inner)
    if kind is CertificateFile:
        return "path of certificates"
    if kind is ListedCertificate:
        return "path of a certificate, or SHA-256"
    if kind is KeyPlace:
        return "path or URI of a key"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(f'`"{each.value}"`' for each in kind)
    known = {str: "string", int: "whole number", float: "number", bool: "true or false", Path: "path"}
    return known.get(kind, "name")


def default_of(field: Field[Any]) -> str:
    """A default, as the file would have it."""
    factory: Any = field.default_factory
    value = factory() if field.default is MISSING else field.default
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, frozenset | tuple):
        found = sorted(map(str, value))
        return (
            ", ".join(found) if len(found) <= 5 else "all there are" if field.name in {"key_types", "digests"} else ""
        )
    return f"{value:g}" if isinstance(value, float) else str(value)


def attributes_of(schema: type[Any]) -> dict[str, str]:
    """What the docstrings of a dataclass, and of those that it is made from, say of each field."""
    found: dict[str, str] = {}
    for each in reversed(schema.__mro__):
        # cleandoc, because CPython 3.13 dedents docstrings itself.
        section = re.search(r"^Attributes:\n(.*?)(?:\n\n|\Z)", cleandoc(each.__doc__ or ""), re.MULTILINE | re.DOTALL)
        if section is None:
            continue
        for names, text in re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", section[1], re.MULTILINE):
            for name in names.split(", "):
                found[name] = " ".join(text.split()).replace("``", "`")
    return found


def tables(schema: type[Any] = Settings, name: str = "") -> Iterator[tuple[str, type[Any]]]:
    """Each table and its dataclass, in order."""
    yield name, schema
    kinds = get_type_hints(schema)
    for each in fields(schema):
        kind = kinds[each.name]
        inner = get_args(kind)
        if get_origin(kind) in {Union, types.UnionType}:
            kind = next(one for one in inner if one is not types.NoneType)
        if get_origin(kind) is Mapping or (
            isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Mapping)
        ):
            yield from tables(inner[1], f"{name}.{each.name}.NAME".lstrip("."))
        elif is_dataclass(kind) and isinstance(kind, type) and not hasattr(kind, "from_toml"):
            yield from tables(kind, f"{name}.{each.name}".lstrip("."))


def keys(schema: type[Any], name: str) -> Iterator[tuple[str, str, str, str]]:
    """Key, type, default and meaning of each key that is no table."""
    inside = {each for each, _ in tables(schema)}
    kinds = get_type_hints(schema)
    meanings = attributes_of(schema)
    for each in fields(schema):
        if each.name in inside or f"{each.name}.NAME" in inside or (each.name == "name" and name.endswith("NAME")):
            continue
        yield each.name, words_of(kinds[each.name]), default_of(each), meanings[each.name]


def page() -> str:
    """docs/configuration.md."""
    parts = [INTRODUCTION]
    for name, schema in tables():
        first = " ".join((schema.__doc__ or "").partition("\n\n")[0].split()).replace("``", "`")
        heading = f"\n## [{name}]\n\n{first}\n" if name else "\n## Before the first table\n"
        rows = [
            f"| `{key}` | {kind} | {f'`{default}`' if default else ''} | {text[:1].upper()}{text[1:]} |".replace(
                "`{", "`{"
            )
            for key, kind, default, text in keys(schema, name)
        ]
        if rows:
            parts.append("\n".join([heading, "| key | value | default | |", "|---|---|---|---|", *rows, ""]))
    return "".join(parts)


if __name__ == "__main__":
    DOCUMENT.write_text(page(), encoding="utf-8")
