"""The command line and the configuration file, as one set of values.

Source: openssl-cmp(1), openssl(1) for the form of options, config(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from opensslcmp.cli.cmp.log import Log
from opensslcmp.cli.cmp.table import OPTIONS, Option
from opensslcmp.cli.exits import InputError, UsageError
from opensslcmp.context.config import Config, default_config_path
from opensslcmp.errors import OpenSSLError

__all__ = ["Arguments", "items", "parse"]


@dataclass
class Arguments:
    """What was asked for.

    Attributes:
        values: name of an option -> its value; flags are True; lists are tuples.
        config: the configuration file, or None.
    """

    values: dict[str, str | int | tuple[str, ...]] = field(default_factory=dict)
    config: Config | None = None

    def has(self, name: str) -> bool:
        """Whether the option was given; a flag, whether it is on."""
        _known(name)
        return bool(self.values[name] is not False) if name in self.values else False

    def text(self, name: str) -> str | None:
        """The value of an option that takes text; None without it."""
        _known(name)
        value = self.values.get(name)
        return value if isinstance(value, str) else None

    def number(self, name: str, default: int = 0) -> int:
        """The value of an option that takes a number."""
        _known(name)
        value = self.values.get(name, default)
        return value if isinstance(value, int) else default

    def several(self, name: str) -> tuple[str, ...]:
        """The values of an option that may be repeated."""
        _known(name)
        value = self.values.get(name, ())
        return value if isinstance(value, tuple) else ()

    def path(self, name: str) -> Path | None:
        """The value of an option that names a file to write."""
        value = self.text(name)
        return None if value is None else Path(value)


def _known(name: str) -> None:
    assert name in OPTIONS, name


def items(text: str | None) -> list[str]:
    """The items of a list with commas and/or white space, in which a backslash keeps a comma.

    >>> items("a.pem, b.pem c.pem")
    ['a.pem', 'b.pem', 'c.pem']
    """
    return [item.replace("\\,", ",") for item in re.findall(r"(?:\\.|[^,\s\\])+", text or "")]


def parse(arguments: Sequence[str], log: Log) -> Arguments:
    """What the command line says, and the configuration file where it says nothing.

    Raises:
        UsageError: an option is unknown, lacks its value, or has one that is none of its kind.
        InputError: the configuration file cannot be read, or lacks a section that was named.
    """
    given = Arguments()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word in {"-", "--"}:
            raise UsageError(f"Extra argument: {word}")
        name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        option = OPTIONS.get(name)
        if option is None:
            raise UsageError(f"Unknown option: {word}")
        if option.kind == "mock":
            raise UsageError(f"-{name} is an option of the mock server; opensslcmp serve is a server")
        if option.kind == "flag":
            if equals:
                raise UsageError(f"Option -{name} does not take a value")
            given.values[name] = True
            continue
        if not equals:
            if not rest:
                raise UsageError(f"Option -{name} needs a value")
            value = rest.pop(0)
        _set(given, option, value)
    if "help" in given.values:
        return given
    if "verbosity" in given.values:
        log.verbosity = given.number("verbosity")
    _configure(given, log)
    return given


def _set(given: Arguments, option: Option, value: str) -> None:
    if option.kind == "text":
        given.values[option.name] = value
    elif option.kind == "list":
        given.values[option.name] = (*given.several(option.name), value)
    else:
        given.values[option.name] = _number(option, value)


def _number(option: Option, text: str) -> int:
    try:
        # As strtol(3) with base 0 reads numbers.
        value = int(text, 8) if re.fullmatch(r"[-+]?0[0-7]+", text) else int(text, 0)
    except ValueError:
        raise UsageError(f'Can\'t parse "{text}" as a number') from None
    least = {"count": 0, "positive": 1}.get(option.kind)
    if least is not None and value < least:
        raise UsageError(f"-{option.name} must be at least {least}")
    if option.name == "verbosity" and value > 8:
        raise UsageError(f"logging verbosity level {value} out of range (0 .. 8)")
    return value


def _configure(given: Arguments, log: Log) -> None:
    """Read the configuration file, and take from it what the command line left open."""
    path, named = given.text("config"), given.text("section")
    by_default = path is None
    if path is None:
        path = default_config_path()
    if not path:
        return
    section = "cmp" if named is None else named or "default"
    log.info(f"using section(s) '{section}' of OpenSSL configuration file '{path}'")
    try:
        given.config = config = Config(path)
    except OpenSSLError as error:
        if by_default and not os.path.exists(path) and "OPENSSL_CONF" not in os.environ:
            return
        raise InputError(str(error)) from None
    sections = items(section)
    for each in sections:
        if each not in config:
            if named is not None:
                raise InputError(f"no [{each}] section found in config file '{path}'")
            log.info(f"no [{each}] section found in config file '{path}'; only [default] and the unnamed section count")
    for option in OPTIONS.values():
        if not option.in_config or option.name in given.values:
            continue
        value = next(
            (found for each in reversed(sections) if (found := config.get(each, option.name)) is not None), None
        )
        if value is None:
            continue
        if option.kind == "mock":
            continue
        if option.kind == "flag":
            given.values[option.name] = _number(option, value) != 0
        elif value or option.kind == "text":
            _set(given, option, value)
    log.verbosity = given.number("verbosity", log.verbosity)
