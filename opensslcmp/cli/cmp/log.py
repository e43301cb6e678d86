"""What is told, and where: reports to stdout, as ``openssl cmp`` does it, and why it failed to stderr.

Library messages at every level go to stdout in openssl-cmp(1) 3.0 and 3.5, and so do information and warnings of the
program; its own errors go to stderr.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from opensslcmp.context.client import logger

__all__ = ["Log"]

_ERROR, _WARNING, _INFO = 3, 4, 6
_WORDS = {50: "critical", 40: "error", 30: "warning", 20: "info", 10: "DEBUG", 5: "TRACE"}


class Log:
    """Tells as much as its verbosity lets it, on the scale of ``-verbosity``."""

    def __init__(self, verbosity: int = _INFO) -> None:
        self.verbosity = verbosity

    def info(self, text: str) -> None:
        """Tell what is done."""
        if self.verbosity >= _INFO:
            self.out("info", text)

    def warn(self, text: str) -> None:
        """Tell what may not be as wished."""
        if self.verbosity >= _WARNING:
            self.out("warning", text)

    def error(self, text: str) -> None:
        """Tell why it failed."""
        if self.verbosity >= _ERROR:
            print(f"CMP error: {_harmless(text)}", file=sys.stderr, flush=True)

    def out(self, level: str, text: str) -> None:
        """One line on stdout."""
        print(f"CMP {level}: {_harmless(text)}", flush=True)

    @contextmanager
    def of_library(self) -> Iterator[None]:
        """Tell what OpenSSL says meanwhile."""
        handler = _Handler(self)
        level, propagate = logger.level, logger.propagate
        logger.addHandler(handler)
        logger.setLevel(1)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


class _Handler(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.out(_WORDS.get(record.levelno, "info"), record.getMessage())


def _harmless(text: str) -> str:
    """Texts of a peer are shown too: nothing that a terminal would obey."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
