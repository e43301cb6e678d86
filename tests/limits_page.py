"""Writes docs/limits.md: ``python -m tests.limits_page``. ``test_limits_page`` fails when that is due.

Names, defaults and what they mean come from the classes that hold them, so that the page cannot say otherwise.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from opensslcmp.asn1 import Limits
from opensslcmp.client.context import Context
from opensslcmp.client.failover import Retry
from opensslcmp.context.keys import KeyBounds
from opensslcmp.context.protection import MacLimits
from opensslcmp.server.front import Bounds
from opensslcmp.server.responder import Responder
from opensslcmp.server.throttle import RateLimits

PAGE = Path(__file__).parents[1] / "docs" / "limits.md"

# Heading, the class, and what the page says before the table: who is bounded, and where that is set.
KINDS: list[tuple[str, type[Any], str]] = [
    (
        "Connections of a server",
        Bounds,
        "Of each worker of `opensslcmp serve`, before a message is read: `[server]` in `opensslcmp.toml`.",
    ),
    (
        "The form of a message",
        Limits,
        "At both ends, before anything is decoded that C code would see: `Responder(limits=)`, `Context(limits=)`.",
    ),
    (
        "What a MAC may cost",
        MacLimits,
        "At both ends, before it is computed: `Responder(mac_limits=)`, `Context(mac_limits=)`.",
    ),
    ("Keys that verify", KeyBounds, "At both ends, before any arithmetic."),
    (
        "How often somebody may ask",
        RateLimits,
        "Of each worker, before a MAC or a signature is verified: `[limits.rate]`.",
    ),
    (
        "How long a server waits and remembers",
        Responder,
        "`Responder`, and `[limits]` in `opensslcmp.toml`; how many transactions may be open is a rule ([rules.md](rules.md)).",
    ),
    ("How long a client waits", Context, "`Context`."),
    ("How often a client asks again", Retry, "`Context(retry=)`."),
]


def explained(kind: type[Any]) -> dict[str, str]:
    """What the docstring of a class says of its attributes or arguments."""
    text = inspect.cleandoc(kind.__doc__ or "")
    section = re.search(r"^(?:Attributes|Args):\n(.*?)(?:\n\n|\n(?=\S)|\Z)", text, re.MULTILINE | re.DOTALL)
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \w)", section[1] if section else ""):
        names, colon, meaning = entry.strip().partition(": ")
        if colon:
            found |= {name.strip(): " ".join(meaning.split()) for name in names.split(",")}
    return found


def values(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    """What can be set, with its default: all of a dataclass, and the numbers among a class's arguments."""
    if is_dataclass(kind):
        for field in fields(kind):
            if not isinstance(field.default, bool) and field.default is not MISSING:
                yield field.name, field.default
        return
    for name, parameter in inspect.signature(kind).parameters.items():
        if (
            isinstance(parameter.default, (int, float))
            and not isinstance(parameter.default, bool)
            and name != "validity_days"
        ):
            yield name, parameter.default


def shown(value: Any) -> str:
    """A default as people read it."""
    if isinstance(value, frozenset):
        return ", ".join(str(each) for each in sorted(value, key=str))
    if isinstance(value, float):
        return f"{value:g}" if value < 1e5 else f"{value:.0f}"
    return str(value)


def page() -> str:
    """docs/limits.md."""
    lines = [
        "# Limits",
        "",
        "Each bound on what others can make us do, with its default: made from the code, by `python -m tests.limits_page`.",
        "Sizes are in bytes, times in seconds.",
    ]
    for heading, kind, where in KINDS:
        meanings = explained(kind)
        lines += ["", f"## {heading}", "", where, "", "| name | default | what it bounds |", "|---|---|---|"]
        for name, value in values(kind):
            meaning = meanings.get(name, "").replace("|", "\\|").replace("``", "`")
            lines.append(f"| `{name}` | {shown(value)} | {meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
