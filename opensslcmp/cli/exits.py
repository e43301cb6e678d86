"""The exit codes, in one table.

======  ===========  =====================================================================
code    name         means
======  ===========  =====================================================================
0       OK           done
1       INTERNAL     the program failed where it should not; the message says how
2       USAGE        options are missing, wrong or contradict each other
3       REJECTED     the server said no; its status, failInfo and text are shown
4       NO_ANSWER    no answer arrived: connection, HTTP, TLS, or not in time
5       UNTRUSTED    the protection of an answer is not valid, or not of someone trusted
6       BAD_MESSAGE  a message breaks a rule of CMP
7       INPUT        a file, key, certificate or secret cannot be used
8       UNSUPPORTED  the linked OpenSSL, or a package, lacks what was asked for
9       SOME_FAILED  of several certificates, some failed; what became of each is shown
130     INTERRUPTED  Ctrl-C
======  ===========  =====================================================================
"""

from __future__ import annotations

from enum import IntEnum

from opensslcmp.errors import (
    BadMessage,
    CMPError,
    OpenSSLError,
    ProtectionError,
    Rejected,
    TransportError,
    Unsupported,
)

__all__ = ["Exit", "InputError", "UsageError", "exit_code"]


class Exit(IntEnum):
    """Exit codes; the module's docstring says what they mean."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    REJECTED = 3
    NO_ANSWER = 4
    UNTRUSTED = 5
    BAD_MESSAGE = 6
    INPUT = 7
    UNSUPPORTED = 8
    SOME_FAILED = 9
    INTERRUPTED = 130


class UsageError(Exception):
    """Options are missing, wrong or contradict each other."""


class InputError(Exception):
    """A file, key, certificate or secret that was named cannot be used."""


# The first that fits: subclasses before their bases.
_CODES: tuple[tuple[type[BaseException], Exit], ...] = (
    (UsageError, Exit.USAGE),
    (InputError, Exit.INPUT),
    (Rejected, Exit.REJECTED),
    (TransportError, Exit.NO_ANSWER),
    (BadMessage, Exit.BAD_MESSAGE),
    (ProtectionError, Exit.UNTRUSTED),
    (Unsupported, Exit.UNSUPPORTED),
    (ImportError, Exit.UNSUPPORTED),
    (OpenSSLError, Exit.INPUT),
    (CMPError, Exit.INTERNAL),
    (OSError, Exit.INPUT),
    (ValueError, Exit.USAGE),
    (KeyboardInterrupt, Exit.INTERRUPTED),
)


def exit_code(error: BaseException) -> Exit:
    """The exit code for what was raised."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.INTERNAL)
