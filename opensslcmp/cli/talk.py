"""What is said: results to stdout, talk to stderr."""

from __future__ import annotations

import json
import sys
from typing import Any

__all__ = ["give", "give_json", "say"]


def say(*text: str) -> None:
    """Words for a person, to stderr."""
    print(*map(_harmless, text), file=sys.stderr, flush=True)


def _harmless(text: str) -> str:
    """Texts of a peer are shown too: nothing that a terminal would obey."""
    return "".join(each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in text)


def give(result: str | bytes) -> None:
    """A result, to stdout, as it is."""
    if isinstance(result, bytes):
        sys.stdout.flush()
        sys.stdout.buffer.write(result)
        sys.stdout.buffer.flush()
    else:
        sys.stdout.write(result)
        sys.stdout.flush()


def give_json(result: Any) -> None:
    """A result for machines, to stdout."""
    give(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
